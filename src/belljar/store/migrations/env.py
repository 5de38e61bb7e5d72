"""What Alembic runs to migrate a store: in the transaction of the connection that `belljar.store.database` gives it.

Promises: nothing is committed here. Not covered: Alembic's own command line, and scripts without a database.
"""

from alembic import context

from belljar.store.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, version_table=VERSION_TABLE
)
context.run_migrations()
