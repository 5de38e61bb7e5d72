"""The tables of the store. `REVISION` is the migration that makes them, and must be the newest one.

Columns are named as the fields in `belljar.store.rows`; beside them, `size` is what a row takes of the room, and `ends`
is when a container expires. `held` has running totals, changed in the same transaction as what they count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

REVISION = "1"
VERSION_TABLE = "belljar_version"

metadata = MetaData()


def words(text: str) -> str:
    """A text as databases take it: what UTF-8 cannot say, and NUL, which PostgreSQL refuses, are replaced."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


class Words(TypeDecorator[str]):
    """Text, see `words`."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """What is sent to the database."""
        return None if value is None else words(value)


def _text(name: str, *more: Any, nullable: bool = False, **options: Any) -> Column[Any]:
    return Column(name, Words, *more, nullable=nullable, **options)


def _time(name: str) -> Column[Any]:
    return Column(name, Double, nullable=False)


def _bytes(name: str) -> Column[Any]:
    return Column(name, LargeBinary, nullable=False)


def _number(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, BigInteger, nullable=nullable)


def _flag(name: str) -> Column[Any]:
    return Column(name, Boolean, nullable=False)


answers = Table(
    "answers",
    metadata,
    _text("id", primary_key=True),
    _text("owner"),
    _text("previous", nullable=True),
    _flag("ended"),
    _time("lease"),
    _time("created"),
    _time("expires"),
    _number("size"),
    _text("dialect"),
    _text("conversation", nullable=True),
    _text("container", nullable=True),
    _text("path"),
    _bytes("body"),
    _bytes("events"),
    Index("answers_owner", "owner", "ended", "expires"),
    Index("answers_ended", "ended", "expires"),
)

conversations = Table(
    "conversations",
    metadata,
    _text("id", primary_key=True),
    _text("owner"),
    _time("created"),
    _time("expires"),
    _number("size"),
    _text("container", nullable=True),
    _bytes("metadata"),
    Index("conversations_owner", "owner", "expires"),
    Index("conversations_expires", "expires"),
)

items = Table(
    "items",
    metadata,
    _text("conversation", ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    _text("id"),
    _bytes("body"),
    UniqueConstraint("conversation", "id", name="items_id"),
)

files = Table(
    "files",
    metadata,
    _text("owner", primary_key=True),
    _text("id", primary_key=True),
    _time("created"),
    _time("expires"),
    _number("size"),
    _text("name"),
    _text("title", nullable=True),
    _text("media_type"),
    _text("purpose"),
    _bytes("digest"),
    _text("blob"),
    Index("files_created", "owner", "created", "id"),
    Index("files_expires", "expires"),
    Index("files_blob", "blob"),
)

containers = Table(
    "containers",
    metadata,
    _text("id", primary_key=True),
    _text("owner"),
    _text("name"),
    _time("created"),
    _time("active"),
    _time("idle"),
    _time("ends"),
    _number("memory", nullable=True),
    _number("executions"),
    _flag("auto"),
    _flag("expired"),
    _bytes("settings"),
    Index("containers_created", "owner", "created", "id"),
    Index("containers_ends", "expired", "ends"),
)

container_files = Table(
    "container_files",
    metadata,
    _text("container", ForeignKey("containers.id", ondelete="CASCADE"), primary_key=True),
    _text("id", primary_key=True),
    _text("path"),
    _number("size"),
    _time("created"),
    _time("modified"),
    _text("source"),
    _flag("shown"),
    _text("blob"),
    UniqueConstraint("container", "path", name="container_files_path"),
    Index("container_files_created", "container", "created", "id"),
    Index("container_files_blob", "blob"),
)

held = Table(
    "held",
    metadata,
    _text("kind", primary_key=True),
    _text("owner", primary_key=True),
    _number("bytes"),
    _number("number"),
)


def columns(table: Table, row: type[msgspec.Struct]) -> Sequence[Column[Any]]:
    """Those columns of a table that a row's class has as fields."""
    return [table.c[name] for name in row.__struct_fields__]
