"""Files of clients.

Promises: seen by their owners alone; bounded, for one owner and for all, together with the files of containers: what
is too much is refused. The content of what is deleted or has expired is deleted with it.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, delete, insert, select, true

from belljar.errors import BadRequest, TooLarge
from belljar.store.access import Access, carry_through, turn
from belljar.store.bounds import CONTAINERS, FILES, Room, has_too_many, holding, weigh
from belljar.store.rows import FileRow
from belljar.store.schema import columns, files

_COLUMNS = columns(files, FileRow)
_INSERT = insert(files)


class Files:
    """The files of a store."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def add(self, row: FileRow) -> None:
        """Keep a file, whose blob has been written. Raises TooLarge; BadRequest: the id is taken.

        Where it raises, the blob is the caller's to delete.
        """
        await carry_through(self._add(row))

    async def _add(self, row: FileRow) -> None:
        values = {name: getattr(row, name) for name in FileRow.__struct_fields__}
        of_id = (files.c.owner == row.owner) & (files.c.id == row.id)

        def work(connection: Connection) -> list[str]:
            gone = _drop(connection, of_id & (files.c.expires <= self._access.clock()))
            weigh(connection, FILES, row.owner, row.size, 1)
            if connection.execute(select(files.c.id).where(of_id)).first():
                raise BadRequest(f"there is a file {row.id!r} already", param="file.name")
            check_room(connection, self._access.room, row.owner)
            connection.execute(_INSERT, values)
            return gone

        await self._access.blobs.delete(await self._access.write(work))

    async def get(self, owner: str, id: str) -> FileRow | None:
        """A file of this owner that has not expired."""

        def work(connection: Connection) -> FileRow | None:
            found = connection.execute(select(*_COLUMNS).where(self._seen(owner), files.c.id == id)).first()
            return None if found is None else FileRow(**found._mapping)

        return await self._access.read(work)

    async def page(
        self,
        owner: str,
        after: str | None = None,
        limit: int = 10_000,
        ascending: bool = False,
        purpose: str | None = None,
    ) -> tuple[list[FileRow], bool]:
        """Files of this owner, the newest first if not `ascending`, and whether there are more.

        Raises UnknownItem: `after` is none of theirs.
        """
        of = self._seen(owner)

        def work(connection: Connection) -> tuple[list[FileRow], bool]:
            query = turn(connection, files, of, after, limit, ascending)
            found = connection.execute(query.where(files.c.purpose == purpose if purpose is not None else true()))
            rows = [FileRow(**{name: each._mapping[name] for name in FileRow.__struct_fields__}) for each in found]
            return rows[:limit], len(rows) > limit

        return await self._access.read(work)

    async def delete(self, owner: str, id: str) -> bool:
        """Delete a file and its content; False where there is none."""
        return await carry_through(self._delete(self._seen(owner) & (files.c.id == id)))

    async def held(self, owner: str | None) -> tuple[int, int]:
        """Bytes and number of an owner's files, or of all owners' (None); without those of containers."""
        return await self._access.read(lambda connection: holding(connection, FILES, owner))

    async def sweep(self) -> None:
        """Delete what has expired."""
        await carry_through(self._delete(files.c.expires <= self._access.clock()))

    async def _delete(self, which: ColumnElement[bool]) -> bool:
        gone = await self._access.write(lambda connection: _drop(connection, which))
        await self._access.blobs.delete(gone)
        return bool(gone)

    def _seen(self, owner: str) -> ColumnElement[bool]:
        return (files.c.owner == owner) & (files.c.expires > self._access.clock())


def check_room(connection: Connection, room: Room, owner: str) -> None:
    """Raises TooLarge where there is more than may be, of an owner or of all."""
    owned = sum(holding(connection, kind, owner)[0] for kind in (FILES, CONTAINERS))
    every = sum(holding(connection, kind)[0] for kind in (FILES, CONTAINERS))
    if owned > room.owner_files_bytes or every > room.files_bytes:
        raise TooLarge("there is no room for this file; delete others first")
    if has_too_many(connection, FILES, owner, room.files):
        raise TooLarge("there is no room for more files; delete others first")


def _drop(connection: Connection, which: ColumnElement[bool]) -> list[str]:
    """Delete rows; the blobs that are to be deleted after the commit."""
    query = delete(files).where(which).returning(files.c.owner, files.c.size, files.c.blob)
    gone = sorted(connection.execute(query).all())
    for found in gone:
        weigh(connection, FILES, found.owner, -found.size, -1)
    return [found.blob for found in gone]
