"""What all parts of the store share: the database, opened when it is first needed, the blobs, the bounds, the time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, or_, select

from belljar.errors import UnknownItem
from belljar.store.blobs import Blobs
from belljar.store.bounds import Room
from belljar.store.database import Database, Work

T = TypeVar("T")
_running: set[asyncio.Task[Any]] = set()


@dataclass(frozen=True, kw_only=True)
class Access:
    """`opened` gives the database, opening it if need be; `clock` is in seconds since 1970."""

    opened: Callable[[], Awaitable[Database]]
    blobs: Blobs
    room: Room
    clock: Callable[[], float]

    async def read(self, work: Work[T]) -> T:
        """See Database.read."""
        return await (await self.opened()).read(work)

    async def write(self, work: Work[T]) -> T:
        """See Database.write."""
        return await (await self.opened()).write(work)


async def carry_through(work: Coroutine[Any, Any, T]) -> T:
    """Await what must not stop half-way: it goes on though the caller be cancelled."""
    task = asyncio.ensure_future(work)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return await asyncio.shield(task)


def turn(
    connection: Connection, table: Table, of: ColumnElement[bool], after: str | None, limit: int, ascending: bool
) -> Select[Any]:
    """A query for a page of a table, by time of creation: one row more than `limit`, to see whether there are more.

    Raises UnknownItem: there is no row `after`.
    """
    created, identity = table.c.created, table.c.id
    query = select(table).where(of)
    if after is not None:
        place = connection.execute(select(created, identity).where(of, identity == after)).first()
        if place is None:
            raise UnknownItem(f"there is no {after[:80]!r} here to go on after")
        beyond = created > place.created if ascending else created < place.created
        aside = identity > place.id if ascending else identity < place.id
        query = query.where(or_(beyond, and_(created == place.created, aside)))
    ways = (created.asc(), identity.asc()) if ascending else (created.desc(), identity.desc())
    return query.order_by(*ways).limit(limit + 1)
