"""How much the store holds, of whom, and who makes room.

Promises: totals are exact, because they change with what they count, and cheap: one row for each owner and kind. What
makes room is what expires first, of whoever holds most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Table, delete, func, select, text

from belljar.store.schema import held, words

ANSWERS, CONVERSATIONS, FILES, CONTAINERS = "answers", "conversations", "files", "containers"
SHARE = 4  # of the number of files and of containers, an owner may have one part of so many
AT_ONCE = 200  # rows that make room in one transaction
MAKING_ROOM = 0x62656C6D  # PostgreSQL's advisory lock: one server at a time

_WEIGH = text(
    "INSERT INTO held AS h (kind, owner, bytes, number) VALUES (:kind, :owner, :bytes, :number) "
    "ON CONFLICT (kind, owner) DO UPDATE SET bytes = h.bytes + excluded.bytes, number = h.number + excluded.number"
)
_ALL = text("SELECT coalesce(sum(bytes), 0), coalesce(sum(number), 0) FROM held WHERE kind = :kind")
_OWNED = text("SELECT bytes, number FROM held WHERE kind = :kind AND owner = :owner")


@dataclass(frozen=True, kw_only=True)
class Room:
    """Bounds of a store: bytes and numbers, of all owners where nothing else is said; `forget` in seconds."""

    answers_bytes: int = 1 << 30
    answers: int = 100_000
    conversations_bytes: int = 256 << 20
    conversations: int = 100_000
    owner_files_bytes: int = 2 << 30  # of one owner, with the files of containers
    files_bytes: int = 8 << 30  # with the files of containers
    files: int = 100_000
    containers: int = 100_000
    container_files: int = 1_000  # of one container
    forget: float = 48 * 3600.0  # an expired container is remembered for so long


def weigh(connection: Connection, kind: str, owner: str, more_bytes: int, more: int) -> None:
    """Count what was added (or, below 0, is gone)."""
    connection.execute(_WEIGH, {"kind": kind, "owner": words(owner), "bytes": more_bytes, "number": more})


def holding(connection: Connection, kind: str, owner: str | None = None) -> tuple[int, int]:
    """Bytes and number of a kind: of an owner, or of all."""
    if owner is None:
        found = connection.execute(_ALL, {"kind": kind}).first()
    else:
        found = connection.execute(_OWNED, {"kind": kind, "owner": words(owner)}).first()
    return (int(found[0]), int(found[1])) if found else (0, 0)


def share_of(owner: str, most: int) -> int:
    """What an owner may have of a number of all. Who is the only one, as there are no keys, may have all."""
    return max(1, most // SHARE) if owner else most


def has_too_many(connection: Connection, kind: str, owner: str, most: int) -> bool:
    """Whether there are more of a kind than may be, or more of this owner's than leaves room for others."""
    return holding(connection, kind)[1] > most or holding(connection, kind, owner)[1] > share_of(owner, most)


def over(connection: Connection, kind: str, most_bytes: int, most: int) -> bool:
    """Whether there is more of a kind than may be."""
    size, number = holding(connection, kind)
    return size > most_bytes or number > most


def make_room(
    connection: Connection, table: Table, kind: str, most_bytes: int, most: int, may_go: Sequence[ColumnElement[bool]]
) -> int:
    """Delete rows until there is room, and say how many: what expires first, of whoever holds most.

    `may_go` are conditions of which an index finds the first row quickly, tried in their order.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(MAKING_ROOM)))
    richest = select(held.c.owner).where(held.c.kind == kind).order_by(held.c.bytes.desc()).limit(1)
    oldest = select(table.c.id, table.c.owner, table.c.size).order_by(table.c.expires).limit(1)
    of_richest = oldest.where(table.c.owner == richest.scalar_subquery())
    queries = [query.where(condition) for query in (of_richest, oldest) for condition in may_go]
    for done in range(AT_ONCE):
        if not over(connection, kind, most_bytes, most):
            return done
        found = next(filter(None, (connection.execute(query).first() for query in queries)), None)
        if found is None:
            return done
        if connection.execute(delete(table).where(table.c.id == found.id)).rowcount:
            weigh(connection, kind, found.owner, -found.size, -1)
    return AT_ONCE
