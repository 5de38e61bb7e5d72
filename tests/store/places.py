"""What tests of the store share: places where stores are opened, a time that tests set, rows."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from belljar.model import new_id
from belljar.store.rows import AnswerRow, ContainerFileRow, ContainerRow, ConversationRow, FileRow
from belljar.store.store import Room, Store

HOUR = 3600.0


class Clock:
    """A time that tests set."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Place:
    """Where stores are opened, one after the other or side by side, with one clock."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder, self.url, self.clock = folder, url, Clock()
        self._stores: list[Store] = []

    async def open(self, **room: Any) -> Store:
        store = Store(self.folder, self.url, Room(**room), clock=self.clock)
        self._stores.append(store)
        await store.open()
        return store

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


def blobs_in(store: Store) -> set[str]:
    return set(store.blobs.names())


def answer(clock: Clock, owner: str = "ann", **changes: Any) -> AnswerRow:
    fields: dict[str, Any] = {
        "id": new_id(""),
        "owner": owner,
        "dialect": "responses",
        "created": clock.now,
        "expires": clock.now + HOUR,
        "path": "/v1/responses",
        "body": b'{"input": "Hi"}',
    }
    return AnswerRow(**fields | changes)


def conversation(clock: Clock, owner: str = "ann", **changes: Any) -> ConversationRow:
    fields: dict[str, Any] = {"id": new_id(""), "owner": owner, "created": clock.now, "expires": clock.now + HOUR}
    return ConversationRow(**fields | changes)


def container(clock: Clock, owner: str = "ann", **changes: Any) -> ContainerRow:
    now = clock.now
    fields: dict[str, Any] = {
        "id": new_id(""),
        "owner": owner,
        "name": "c",
        "created": now,
        "active": now,
        "idle": 60.0,
    }
    return ContainerRow(**fields | changes)


async def file(store: Store, clock: Clock, owner: str = "ann", data: bytes = b"x", **changes: Any) -> FileRow:
    """A row for a file whose content has been written, not yet added."""
    fields: dict[str, Any] = {
        "id": new_id(""),
        "owner": owner,
        "name": "data.csv",
        "media_type": "text/csv",
        "size": len(data),
        "digest": hashlib.sha256(data).digest(),
        "created": clock.now,
        "expires": clock.now + HOUR,
        "blob": await store.blobs.write(data),
    }
    return FileRow(**fields | changes)


async def contained(
    store: Store, clock: Clock, inside: str, path: str, data: bytes = b"x", **changes: Any
) -> ContainerFileRow:
    """A row for a file of a container whose content has been written, not yet put."""
    fields: dict[str, Any] = {
        "id": new_id(""),
        "container": inside,
        "path": path,
        "size": len(data),
        "created": clock.now,
        "modified": 1.5,
        "blob": await store.blobs.write(data),
    }
    return ContainerFileRow(**fields | changes)
