"""The first tables. A revision says what was made then: it never changes, and uses nothing of the package."""

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    _make_answers()
    _make_conversations()
    _make_files()
    _make_containers()
    op.create_table(
        "held",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
    )


def _make_answers() -> None:
    op.create_table(
        "answers",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("previous", sa.Text),
        sa.Column("ended", sa.Boolean, nullable=False),
        sa.Column("lease", sa.Double, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("expires", sa.Double, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("dialect", sa.Text, nullable=False),
        sa.Column("conversation", sa.Text),
        sa.Column("container", sa.Text),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("events", sa.LargeBinary, nullable=False),
    )
    op.create_index("answers_owner", "answers", ["owner", "ended", "expires"])
    op.create_index("answers_ended", "answers", ["ended", "expires"])


def _make_conversations() -> None:
    op.create_table(
        "conversations",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("expires", sa.Double, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("container", sa.Text),
        sa.Column("metadata", sa.LargeBinary, nullable=False),
    )
    op.create_index("conversations_owner", "conversations", ["owner", "expires"])
    op.create_index("conversations_expires", "conversations", ["expires"])
    op.create_table(
        "items",
        sa.Column("conversation", sa.Text, sa.ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("conversation", "id", name="items_id"),
    )


def _make_files() -> None:
    op.create_table(
        "files",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("expires", sa.Double, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("title", sa.Text),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("blob", sa.Text, nullable=False),
    )
    op.create_index("files_created", "files", ["owner", "created", "id"])
    op.create_index("files_expires", "files", ["expires"])
    op.create_index("files_blob", "files", ["blob"])


def _make_containers() -> None:
    op.create_table(
        "containers",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("active", sa.Double, nullable=False),
        sa.Column("idle", sa.Double, nullable=False),
        sa.Column("ends", sa.Double, nullable=False),
        sa.Column("memory", sa.BigInteger),
        sa.Column("executions", sa.BigInteger, nullable=False),
        sa.Column("auto", sa.Boolean, nullable=False),
        sa.Column("expired", sa.Boolean, nullable=False),
        sa.Column("settings", sa.LargeBinary, nullable=False),
    )
    op.create_index("containers_created", "containers", ["owner", "created", "id"])
    op.create_index("containers_ends", "containers", ["expired", "ends"])
    op.create_table(
        "container_files",
        sa.Column("container", sa.Text, sa.ForeignKey("containers.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("modified", sa.Double, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("shown", sa.Boolean, nullable=False),
        sa.Column("blob", sa.Text, nullable=False),
        sa.UniqueConstraint("container", "path", name="container_files_path"),
    )
    op.create_index("container_files_created", "container_files", ["container", "created", "id"])
    op.create_index("container_files_blob", "container_files", ["blob"])
