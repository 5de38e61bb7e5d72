"""What must outlive a request: answers, conversations, files and containers, in SQLite or PostgreSQL.

`store.Store` is the way in, `rows` are its values. Only the server's row imports it: SQLAlchemy takes its time.
"""
