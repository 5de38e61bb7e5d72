"""Kept conversations and their items.

Promises: seen by their owners alone; bounded in bytes and number: of whoever holds most, the one that expires first
goes first. Items keep their order, also where several are appended at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, true, update

from belljar.errors import BadRequest, UnknownItem
from belljar.store.access import Access
from belljar.store.bounds import CONVERSATIONS, make_room, over, weigh
from belljar.store.rows import ConversationRow, ItemRow
from belljar.store.schema import columns, conversations, items

WEIGHT = 500  # bytes that a conversation takes beside its metadata and items
ITEM_WEIGHT = 100

_COLUMNS = columns(conversations, ConversationRow)
_ITEM_COLUMNS = columns(items, ItemRow)
_INSERT, _INSERT_ITEM = insert(conversations), insert(items)


class Conversations:
    """The conversations of a store."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def add(self, row: ConversationRow) -> None:
        """Keep a conversation; others may have to go for it."""
        values = {name: getattr(row, name) for name in ConversationRow.__struct_fields__}
        size = WEIGHT + len(row.metadata)

        def work(connection: Connection) -> bool:
            connection.execute(_INSERT, values | {"size": size})
            weigh(connection, CONVERSATIONS, row.owner, size, 1)
            return self._must_fit(connection)

        if await self._access.write(work):
            await self.make_room()

    async def get(self, owner: str, id: str) -> ConversationRow | None:
        """A conversation of this owner that has not expired."""

        def work(connection: Connection) -> ConversationRow | None:
            found = connection.execute(select(*_COLUMNS).where(self._mine(owner, id))).first()
            return None if found is None else ConversationRow(**found._mapping)

        return await self._access.read(work)

    async def update(self, row: ConversationRow) -> bool:
        """Keep its metadata, container and expiry as they are now. False: it is gone."""

        def work(connection: Connection) -> bool:
            mine = self._mine(row.owner, row.id)
            old = connection.execute(select(func.length(conversations.c.metadata)).where(mine).with_for_update())
            length = old.scalar()
            if length is None:
                return False
            self._grow(connection, row.owner, row.id, len(row.metadata) - int(length))
            values = {"metadata": row.metadata, "container": row.container, "expires": row.expires}
            connection.execute(update(conversations).where(mine).values(**values))
            return True

        return await self._access.write(work)

    async def delete(self, owner: str, id: str) -> bool:
        """Delete a conversation with its items; False where there is none."""

        def work(connection: Connection) -> bool:
            query = delete(conversations).where(self._mine(owner, id)).returning(conversations.c.size)
            size = connection.execute(query).scalar()
            if size is not None:
                weigh(connection, CONVERSATIONS, owner, -size, -1)
            return size is not None

        return await self._access.write(work)

    # --- items ---

    async def append(
        self,
        owner: str,
        id: str,
        new: Sequence[tuple[str, bytes]],
        container: str | None = None,
        expires: float | None = None,
    ) -> None:
        """Add items (id, body) at its end; with them its container and expiry, where they are given.

        Raises UnknownItem: there is no such conversation; BadRequest: it has an item of that id.
        """
        changes: dict[str, Any] = {"container": container, "expires": expires}
        changes = {name: value for name, value in changes.items() if value is not None}

        def work(connection: Connection) -> bool:
            mine = self._mine(owner, id)
            self._hold(connection, owner, id)
            if changes:
                connection.execute(update(conversations).where(mine).values(**changes))
            last = connection.execute(select(func.max(items.c.position)).where(items.c.conversation == id)).scalar()
            _refuse_twins(connection, id, [identity for identity, _ in new])
            rows = [
                {"conversation": id, "position": position, "id": identity, "body": body}
                for position, (identity, body) in enumerate(new, 0 if last is None else last + 1)
            ]
            if rows:
                connection.execute(_INSERT_ITEM, rows)
                self._grow(connection, owner, id, sum(len(body) + ITEM_WEIGHT for _, body in new))
            return self._must_fit(connection)

        if await self._access.write(work):
            await self.make_room()

    async def page(
        self, owner: str, id: str, after: str | None = None, limit: int = 20, ascending: bool = False
    ) -> tuple[list[ItemRow], bool]:
        """Items in their order, or backwards, and whether there are more.

        Raises UnknownItem: there is no such conversation, or no item `after` in it.
        """

        def work(connection: Connection) -> tuple[list[ItemRow], bool]:
            self._check(connection, owner, id)
            query = select(*_ITEM_COLUMNS).where(items.c.conversation == id)
            place = items.c.position
            if after is not None:
                mark = select(place).where(items.c.conversation == id, items.c.id == after)
                position = connection.execute(mark).scalar()
                if position is None:
                    raise UnknownItem(f"there is no item {after[:80]!r} in this conversation")
                query = query.where(place > position if ascending else place < position)
            query = query.order_by(place.asc() if ascending else place.desc()).limit(limit + 1)
            rows = [ItemRow(**found._mapping) for found in connection.execute(query)]
            return rows[:limit], len(rows) > limit

        return await self._access.read(work)

    async def item(self, owner: str, id: str, item_id: str) -> ItemRow | None:
        """One item. Raises UnknownItem: there is no such conversation."""

        def work(connection: Connection) -> ItemRow | None:
            self._check(connection, owner, id)
            query = select(*_ITEM_COLUMNS).where(items.c.conversation == id, items.c.id == item_id)
            found = connection.execute(query).first()
            return None if found is None else ItemRow(**found._mapping)

        return await self._access.read(work)

    async def remove(self, owner: str, id: str, item_id: str) -> bool:
        """Delete an item; False where there is none. Raises UnknownItem: there is no such conversation."""

        def work(connection: Connection) -> bool:
            self._hold(connection, owner, id)
            query = delete(items).where(items.c.conversation == id, items.c.id == item_id)
            length = connection.execute(query.returning(func.length(items.c.body))).scalar()
            if length is not None:
                self._grow(connection, owner, id, -int(length) - ITEM_WEIGHT)
            return length is not None

        return await self._access.write(work)

    # --- bounds ---

    async def make_room(self) -> None:
        """Delete what is too much."""
        await self._access.write(self._make_room)

    async def sweep(self) -> None:
        """Delete what has expired."""
        expired = conversations.c.expires <= self._access.clock()

        def work(connection: Connection) -> None:
            query = delete(conversations).where(expired).returning(conversations.c.owner, conversations.c.size)
            for found in sorted(connection.execute(query).all()):
                weigh(connection, CONVERSATIONS, found.owner, -found.size, -1)

        await self._access.write(work)
        await self.make_room()

    def _mine(self, owner: str, id: str) -> ColumnElement[bool]:
        c = conversations.c
        return (c.id == id) & (c.owner == owner) & (c.expires > self._access.clock())

    def _check(self, connection: Connection, owner: str, id: str) -> None:
        if connection.execute(select(conversations.c.id).where(self._mine(owner, id))).first() is None:
            raise UnknownItem(f"there is no conversation {id[:80]!r} here; it may have expired")

    def _hold(self, connection: Connection, owner: str, id: str) -> None:
        """Lock a conversation until the transaction ends. Raises UnknownItem."""
        query = select(conversations.c.id).where(self._mine(owner, id)).with_for_update()
        if connection.execute(query).first() is None:
            raise UnknownItem(f"there is no conversation {id[:80]!r} here; it may have expired")

    @staticmethod
    def _grow(connection: Connection, owner: str, id: str, more: int) -> None:
        size = conversations.c.size + more
        connection.execute(update(conversations).where(conversations.c.id == id).values(size=size))
        weigh(connection, CONVERSATIONS, owner, more, 0)

    def _must_fit(self, connection: Connection) -> bool:
        """Make room, if there is too much. True where that needs a transaction of its own, for fear of deadlocks."""
        room = self._access.room
        too_much = over(connection, CONVERSATIONS, room.conversations_bytes, room.conversations)
        if too_much and connection.dialect.name != "postgresql":
            self._make_room(connection)
            return False
        return too_much

    def _make_room(self, connection: Connection) -> int:
        room = self._access.room
        most = room.conversations_bytes, room.conversations
        return make_room(connection, conversations, CONVERSATIONS, *most, [true()])


def _refuse_twins(connection: Connection, id: str, identities: Sequence[str]) -> None:
    """Raises BadRequest where ids are given twice, or are there already."""
    there = connection.execute(select(items.c.id).where(items.c.conversation == id, items.c.id.in_(identities)))
    twin = there.scalars().first()
    if twin is None and len(set(identities)) < len(identities):
        twin = next(each for each in identities if identities.count(each) > 1)
    if twin is not None:
        raise BadRequest(f"there is an item {twin[:80]!r} in this conversation already")
