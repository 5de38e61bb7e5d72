"""Containers and their files. What runs in them is not known here.

Promises: seen by their owners alone; files are bounded together with those of clients: what is too much is refused. A
container that nobody has used for its `idle` seconds is expired: it is still found, with `expired` True, for
`Room.forget` seconds, and its files are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace
from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, true, update

from belljar.errors import TooLarge, UnknownItem
from belljar.store.access import Access, carry_through, turn
from belljar.store.bounds import CONTAINERS, has_too_many, holding, weigh
from belljar.store.files import check_room
from belljar.store.rows import ContainerFileRow, ContainerRow
from belljar.store.schema import columns, container_files, containers, words

GRACE = 60.0  # seconds after its end in which an expired container's files stay, for who is just using it
FORGOTTEN_AT_ONCE = 1_000

_COLUMNS = columns(containers, ContainerRow)
_FILE_COLUMNS = columns(container_files, ContainerFileRow)
_INSERT, _INSERT_FILE = insert(containers), insert(container_files)
_UPDATED = ("name", "active", "idle", "memory", "executions", "settings", "expired")


class Containers:
    """The containers of a store."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def add(self, row: ContainerRow) -> None:
        """Keep a container. Raises TooLarge: there are too many that have not expired, of this owner or of all."""
        values = {name: getattr(row, name) for name in ContainerRow.__struct_fields__}

        def work(connection: Connection) -> bool:
            connection.execute(_INSERT, values | {"ends": row.active + row.idle})
            weigh(connection, CONTAINERS, row.owner, 0, 1)
            return has_too_many(connection, CONTAINERS, row.owner, self._access.room.containers)

        if await self._access.write(work) and not await self._forget_some():
            await self.delete(row.owner, row.id)
            raise TooLarge("there are too many containers; delete others first")

    async def get(self, owner: str, id: str) -> ContainerRow | None:
        """A container of this owner. One that has expired has `expired` True."""

        def work(connection: Connection) -> ContainerRow | None:
            found = connection.execute(select(*_COLUMNS).where(_mine(owner, id))).first()
            return None if found is None else self._row(found)

        return await self._access.read(work)

    async def page(
        self,
        owner: str,
        after: str | None = None,
        limit: int = 20,
        ascending: bool = False,
        name: str | None = None,
    ) -> tuple[list[ContainerRow], bool]:
        """Containers of this owner, the newest first if not `ascending`, and whether there are more; expired ones too.

        Raises UnknownItem: `after` is none of theirs.
        """

        def work(connection: Connection) -> tuple[list[ContainerRow], bool]:
            query = turn(connection, containers, containers.c.owner == owner, after, limit, ascending)
            found = connection.execute(query.where(containers.c.name == name if name is not None else true()))
            rows = [self._row(each) for each in found]
            return rows[:limit], len(rows) > limit

        return await self._access.read(work)

    async def update(self, row: ContainerRow) -> bool:
        """Keep a container as it is now (not its id, owner and time of creation). False: it is gone.

        One that is expired in the store stays so: its files are gone.
        """
        values = {name: getattr(row, name) for name in _UPDATED}

        def work(connection: Connection) -> bool:
            values["expired"] = row.expired or containers.c.expired
            query = update(containers).where(_mine(row.owner, row.id)).values(**values, ends=row.active + row.idle)
            return connection.execute(query).rowcount > 0

        return await self._access.write(work)

    async def delete(self, owner: str, id: str) -> bool:
        """Delete a container with its files; False where there is none."""
        return await carry_through(self._delete(owner, id))

    async def _delete(self, owner: str, id: str) -> bool:
        def work(connection: Connection) -> list[str] | None:
            if not _hold(connection, _mine(owner, id)):
                return None
            gone = _drop_files(connection, owner, container_files.c.container == id)
            connection.execute(delete(containers).where(containers.c.id == id))
            weigh(connection, CONTAINERS, owner, 0, -1)
            return gone

        gone = await self._access.write(work)
        await self._access.blobs.delete(gone or ())
        return gone is not None

    async def held(self, owner: str | None) -> int:
        """Bytes of the files in an owner's containers, or in all."""
        return (await self._access.read(lambda connection: holding(connection, CONTAINERS, owner)))[0]

    # --- files, of a container that the caller knows to be its own ---

    async def files(self, id: str) -> list[ContainerFileRow]:
        """All files of a container, the oldest first."""
        query = select(*_FILE_COLUMNS).where(container_files.c.container == id)
        query = query.order_by(container_files.c.created, container_files.c.id)
        return await self._access.read(
            lambda connection: [ContainerFileRow(**found._mapping) for found in connection.execute(query)]
        )

    async def page_files(
        self, id: str, after: str | None = None, limit: int = 20, ascending: bool = False
    ) -> tuple[list[ContainerFileRow], bool]:
        """Files of a container, the newest first if not `ascending`, and whether there are more.

        Raises UnknownItem: there is no file `after`.
        """
        of = container_files.c.container == id

        def work(connection: Connection) -> tuple[list[ContainerFileRow], bool]:
            found = connection.execute(turn(connection, container_files, of, after, limit, ascending))
            rows = [ContainerFileRow(**each._mapping) for each in found]
            return rows[:limit], len(rows) > limit

        return await self._access.read(work)

    async def file(self, id: str, file_id: str) -> ContainerFileRow | None:
        """A file of a container."""
        query = select(*_FILE_COLUMNS).where(container_files.c.container == id, container_files.c.id == file_id)

        def work(connection: Connection) -> ContainerFileRow | None:
            found = connection.execute(query).first()
            return None if found is None else ContainerFileRow(**found._mapping)

        return await self._access.read(work)

    async def put_files(self, id: str, rows: Sequence[ContainerFileRow], gone: Sequence[str] = ()) -> None:
        """Keep files, whose blobs have been written, in the place of those with their paths; forget the paths `gone`.

        All of it or nothing. Raises UnknownItem: the container is gone or expired; TooLarge. Where it raises, the
        blobs are the caller's to delete.
        """
        await carry_through(self._put_files(id, rows, gone))

    async def _put_files(self, id: str, rows: Sequence[ContainerFileRow], gone: Sequence[str]) -> None:
        new = {words(row.path): row for row in rows}
        paths = [*new, *map(words, gone)]

        def work(connection: Connection) -> list[str]:
            found = _hold(connection, (containers.c.id == id) & ~containers.c.expired)
            if found is None:
                raise UnknownItem(f"there is no container {id[:80]!r} here; it may have expired")
            of = container_files.c.container == id
            blobs = _drop_files(connection, found.owner, of & container_files.c.path.in_(paths))
            if new:
                names = ContainerFileRow.__struct_fields__
                values = [{name: getattr(row, name) for name in names} | {"container": id} for row in new.values()]
                connection.execute(_INSERT_FILE, values)
                weigh(connection, CONTAINERS, found.owner, sum(row.size for row in new.values()), 0)
                check_room(connection, self._access.room, found.owner)
                count = connection.execute(select(func.count()).select_from(container_files).where(of)).scalar_one()
                if count > self._access.room.container_files:
                    raise TooLarge(f"a container may have {self._access.room.container_files:,} files at most")
            kept = {row.blob for row in new.values()}
            unused = {row.blob for row in rows} - kept  # of two rows with the same path the later one stays
            return [name for name in blobs if name not in kept] + sorted(unused)

        await self._access.blobs.delete(await self._access.write(work))

    async def delete_file(self, id: str, file_id: str) -> bool:
        """Delete a file of a container and its content; False where there is none."""
        return await carry_through(self._delete_file(id, file_id))

    async def _delete_file(self, id: str, file_id: str) -> bool:
        which = (container_files.c.container == id) & (container_files.c.id == file_id)

        def work(connection: Connection) -> list[str]:
            found = _hold(connection, containers.c.id == id)
            return _drop_files(connection, found.owner, which) if found else []

        gone = await self._access.write(work)
        await self._access.blobs.delete(gone)
        return bool(gone)

    # --- bounds ---

    async def sweep(self) -> None:
        """Expire what nobody uses, and forget what expired long ago."""
        now = self._access.clock()
        query = select(containers.c.id, containers.c.owner)
        ended = query.where(~containers.c.expired, containers.c.ends <= now - GRACE)
        for found in await self._access.read(lambda connection: connection.execute(ended).all()):
            await carry_through(self._expire(found.id, found.owner, now))
        old = query.where(containers.c.expired, containers.c.ends <= now - self._access.room.forget)
        for found in await self._access.read(lambda connection: connection.execute(old).all()):
            await self.delete(found.owner, found.id)

    async def _expire(self, id: str, owner: str, now: float) -> None:
        def work(connection: Connection) -> list[str]:
            if not _hold(connection, (containers.c.id == id) & (containers.c.ends <= now - GRACE)):
                return []
            connection.execute(update(containers).where(containers.c.id == id).values(expired=True))
            return _drop_files(connection, owner, container_files.c.container == id)

        await self._access.blobs.delete(await self._access.write(work))

    async def _forget_some(self) -> bool:
        """Forget those that expired first, before their time. False: there were none."""
        query = select(containers.c.id, containers.c.owner).where(containers.c.expired)
        query = query.order_by(containers.c.ends).limit(FORGOTTEN_AT_ONCE)
        found = await self._access.read(lambda connection: connection.execute(query).all())
        for each in found:
            await self.delete(each.owner, each.id)
        return bool(found)

    def _row(self, found: Row[Any]) -> ContainerRow:
        row = ContainerRow(**{name: found._mapping[name] for name in ContainerRow.__struct_fields__})
        return replace(row, expired=row.expired or row.active + row.idle <= self._access.clock())


def _mine(owner: str, id: str) -> ColumnElement[bool]:
    return (containers.c.id == id) & (containers.c.owner == owner)


def _hold(connection: Connection, which: ColumnElement[bool]) -> Row[Any, Any] | None:
    """Lock a container until the transaction ends."""
    query = select(containers.c.id, containers.c.owner).where(which).with_for_update()
    return connection.execute(query).first()


def _drop_files(connection: Connection, owner: str, which: ColumnElement[bool]) -> list[str]:
    """Delete rows of files; the blobs that are to be deleted after the commit."""
    query = delete(container_files).where(which).returning(container_files.c.size, container_files.c.blob)
    gone = connection.execute(query).all()
    if gone:
        weigh(connection, CONTAINERS, owner, -sum(found.size for found in gone), 0)
    return [found.blob for found in gone]
