"""Kept answers.

Promises: seen by their owners alone; bounded in bytes and number: of whoever holds most, the one that expires first
goes first, if it has ended. Those that are being written stay, while their writer renews the lease.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, func, insert, literal, or_, select, update

from belljar.errors import UnknownItem
from belljar.store.access import Access
from belljar.store.bounds import ANSWERS, holding, make_room, over, weigh
from belljar.store.rows import AnswerRow
from belljar.store.schema import answers, columns

_COLUMNS = columns(answers, AnswerRow)
_THIS = (answers.c.id == bindparam("this")) & (answers.c.owner == bindparam("whose"))
_INSERT = insert(answers)
_GET = select(*_COLUMNS).where(_THIS, answers.c.expires > bindparam("now"))
_OLD = select(answers.c.size, func.length(answers.c.events).label("length")).where(_THIS).with_for_update()
_SAVED = ("conversation", "container", "expires", "events", "ended", "lease")
_SAVE = update(answers).where(_THIS).values({name: bindparam(name) for name in (*_SAVED, "size")})


class Answers:
    """The answers of a store."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def add(self, row: AnswerRow) -> None:
        """Keep an answer; others may have to go for it."""

        def work(connection: Connection) -> bool:
            connection.execute(_INSERT, _values(row))
            weigh(connection, ANSWERS, row.owner, row.size, 1)
            return self._must_fit(connection)

        if await self._access.write(work):
            await self.make_room()

    async def get(self, owner: str, id: str) -> AnswerRow | None:
        """An answer of this owner that has not expired."""

        def work(connection: Connection) -> AnswerRow | None:
            found = connection.execute(_GET, {"this": id, "whose": owner, "now": self._access.clock()}).first()
            return None if found is None else AnswerRow(**found._mapping)

        return await self._access.read(work)

    async def chain(self, owner: str, id: str) -> list[AnswerRow]:
        """An answer and all that it goes on from, the oldest first. Raises UnknownItem: one of them is gone."""
        step = answers.alias()
        first = select(answers.c.id, answers.c.previous, literal(0).label("depth")).where(answers.c.id == id)
        links = first.cte("links", recursive=True)
        links = links.union_all(
            select(step.c.id, step.c.previous, links.c.depth + 1).where(step.c.id == links.c.previous)
        )
        query = self._seen(owner).join(links, links.c.id == answers.c.id).order_by(links.c.depth.desc())

        def work(connection: Connection) -> list[AnswerRow]:
            return [AnswerRow(**found._mapping) for found in connection.execute(query)]

        rows = await self._access.read(work)
        if not rows or rows[-1].id != id:
            raise UnknownItem(f"there is no {id[:80]!r} here; it may have expired")
        expected: str | None = None
        for row in rows:
            if row.previous != expected:
                raise UnknownItem(f"there is no {row.previous!r} here; it may have expired, and others go on from it")
            expected = row.id
        return rows

    async def save(self, row: AnswerRow) -> bool:
        """Keep what there is of an answer now: its events, state and lease, not its request. False: it is gone."""
        values = {name: getattr(row, name) for name in _SAVED} | {"this": row.id, "whose": row.owner}

        def work(connection: Connection) -> tuple[bool, bool]:
            old = connection.execute(_OLD, values).first()
            if old is None:
                return False, False
            more = len(row.events) - int(old.length)
            connection.execute(_SAVE, values | {"size": old.size + more})
            weigh(connection, ANSWERS, row.owner, more, 0)
            return True, self._must_fit(connection)

        saved, too_much = await self._access.write(work)
        if too_much:
            await self.make_room()
        return saved

    async def renew(self, ids: Iterable[str], lease: float) -> None:
        """Say that answers are still being written: until `lease` at least."""
        await self._set(ids, "lease", lease)

    async def touch(self, ids: Iterable[str], expires: float) -> None:
        """Let answers stay until `expires` at least."""
        await self._set(ids, "expires", expires)

    async def _set(self, ids: Iterable[str], name: str, value: float) -> None:
        wanted = list(ids)
        if not wanted:
            return
        query = update(answers).where(answers.c.id.in_(wanted), answers.c[name] < value).values({name: value})
        await self._access.write(lambda connection: connection.execute(query).rowcount)

    async def delete(self, owner: str, id: str) -> bool:
        """Delete an answer; False where there is none."""

        def work(connection: Connection) -> bool:
            mine = delete(answers).where(answers.c.id == id, answers.c.owner == owner)
            found = connection.execute(mine.returning(answers.c.size, answers.c.expires)).first()
            if found is None:
                return False
            weigh(connection, ANSWERS, owner, -found.size, -1)
            return bool(found.expires > self._access.clock())

        return await self._access.write(work)

    async def count(self) -> int:
        """How many there are, of all owners."""
        return (await self._access.read(lambda connection: holding(connection, ANSWERS)))[1]

    # --- bounds ---

    async def make_room(self) -> None:
        """Delete what is too much."""
        await self._access.write(self._make_room)

    async def sweep(self) -> None:
        """Delete what has expired and is not being written."""
        now = self._access.clock()
        expired = answers.c.expires <= now, or_(answers.c.ended, ~answers.c.ended & (answers.c.lease < now))

        def work(connection: Connection) -> None:
            query = delete(answers).where(*expired).returning(answers.c.owner, answers.c.size)
            for found in sorted(connection.execute(query).all()):
                weigh(connection, ANSWERS, found.owner, -found.size, -1)

        await self._access.write(work)
        await self.make_room()

    def _must_fit(self, connection: Connection) -> bool:
        """Make room, if there is too much. True where that needs a transaction of its own, for fear of deadlocks."""
        room = self._access.room
        too_much = over(connection, ANSWERS, room.answers_bytes, room.answers)
        if too_much and connection.dialect.name != "postgresql":
            self._make_room(connection)
            return False
        return too_much

    def _make_room(self, connection: Connection) -> int:
        room, now = self._access.room, self._access.clock()
        may_go = answers.c.ended, ~answers.c.ended & (answers.c.lease < now)
        return make_room(connection, answers, ANSWERS, room.answers_bytes, room.answers, may_go)

    def _seen(self, owner: str) -> Select[Any]:
        return select(*_COLUMNS).where(answers.c.owner == owner, answers.c.expires > self._access.clock())


def orphan(connection: Connection) -> None:
    """Say that nobody writes what has not ended: when nobody else can have the database open."""
    connection.execute(update(answers).where(~answers.c.ended).values(lease=0.0))


def _values(row: AnswerRow) -> dict[str, object]:
    return {name: getattr(row, name) for name in AnswerRow.__struct_fields__} | {"size": row.size}
