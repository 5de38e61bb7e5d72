"""Uploaded files: whole and in pieces, apart by owner, bounded, and gone in time."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from belljar.errors import BadRequest, ClientError, TooLarge, UnknownItem
from belljar.model import File, FileRef, Image, Request
from belljar.server import files as module
from belljar.server.files import FileStore, Upload
from belljar.server.settings import Keep
from belljar.store.rows import FileRow
from belljar.store.store import Room, Store

ROOM = Room(owner_files_bytes=150, files_bytes=250, files=16)  # four for each owner
KEEP = Keep(keep_file=100, keep_hours=48)
LIFETIME = 48 * 3600.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its first item is the time."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    return now


@pytest.fixture
async def kept(clock: list[float]) -> AsyncIterator[Store]:
    made = Store(None, room=ROOM, clock=lambda: clock[0])
    yield made
    await made.close()


@pytest.fixture
def store(kept: Store) -> FileStore:
    return FileStore(kept, KEEP)


async def add(store: FileStore, owner: str = "a", data: bytes = b"hello", **more: Any) -> FileRow:
    return await store.add(owner, "f.txt", "text/plain", data, **more)


async def listed(store: FileStore, owner: str = "a") -> list[FileRow]:
    return list((await store.page(owner))[0])


async def test_a_file_is_seen_by_its_owner_alone(store: FileStore) -> None:
    file = await add(store)
    assert await store.get("a", file.id) == file
    assert await store.read(file) == b"hello"
    assert (file.size, file.digest) == (5, hashlib.sha256(b"hello").digest())
    assert await store.get("b", file.id) is None
    assert not await store.delete("b", file.id)
    assert await listed(store, "b") == []
    assert await store.delete("a", file.id)
    assert await store.get("a", file.id) is None
    assert not store.path(file).exists()


async def test_the_newest_comes_first(store: FileStore, clock: list[float]) -> None:
    first = await add(store)
    clock[0] += 1
    second = await add(store)
    assert await listed(store) == [second, first]
    assert await store.page("a", None, 1) == ([second], True)
    assert await store.page("a", second.id, 1) == ([first], False)
    assert await store.page("a", None, 1, ascending=True) == ([first], True)


async def test_files_expire(store: FileStore, clock: list[float]) -> None:
    file = await add(store)
    clock[0] += LIFETIME - 1
    assert await store.get("a", file.id) is not None
    clock[0] += 1
    assert await store.get("a", file.id) is None


async def test_a_lifetime_of_its_own(store: FileStore) -> None:
    for wanted, seconds in ((None, LIFETIME), (3600.0, 3600.0), (2 * LIFETIME, LIFETIME)):
        file = await store.finish(await store.begin("a", "f", "text/plain", lifetime=wanted))
        assert file.expires - file.created == seconds


async def test_sizes_are_bounded(store: FileStore) -> None:
    with pytest.raises(TooLarge):
        await add(store, data=b"x" * 101)
    await add(store, data=b"x" * 100)
    with pytest.raises(TooLarge):
        await add(store, data=b"x" * 51)
    await add(store, "b", b"x" * 100)
    with pytest.raises(TooLarge):
        await add(store, "c", b"x" * 51)
    await add(store, "c", b"x" * 50)


async def test_numbers_are_bounded(store: FileStore) -> None:
    files = [await add(store) for _ in range(3)]
    await store.begin("a", "f", "text/plain")
    with pytest.raises(TooLarge):
        await add(store)
    await store.delete("a", files[0].id)
    await add(store)


async def test_pieces(store: FileStore) -> None:
    upload = await store.begin("a", "f.txt", "text/plain", size=10, title="My file", file_id="mine")
    assert await listed(store) == []
    await store.append(upload, 0, b"hello")
    with pytest.raises(BadRequest, match="have come"):
        await store.finish(upload)
    with pytest.raises(BadRequest, match="begins at byte 5"):
        await store.append(upload, 0, b"hello")
    with pytest.raises(BadRequest, match="this is more"):
        await store.append(upload, 5, b"too much")
    await store.append(store.upload(upload.id), 5, b"world")
    file = await store.finish(upload)
    assert (file.id, file.title, await store.read(file)) == ("mine", "My file", b"helloworld")
    assert file.digest == hashlib.sha256(b"helloworld").digest()
    with pytest.raises(UnknownItem):
        store.upload(upload.id)
    with pytest.raises(BadRequest, match="already"):
        await store.begin("a", "f.txt", "text/plain", file_id="mine")
    await store.begin("b", "f.txt", "text/plain", file_id="mine")


async def test_a_stream_of_pieces(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE", 8)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(7):
            yield b"hello"
        if not whole:
            raise ConnectionError

    for whole in (True, False):
        upload = await store.begin("a", "f.txt", "text/plain")
        if whole:
            await store.take(upload, 0, pieces())
            assert (await store.finish(upload)).size == 35
        else:
            with pytest.raises(ConnectionError):
                await store.take(upload, 0, pieces())
            assert upload.received == 30  # what was written stays, so that the rest can follow


async def test_the_same_name_twice_at_once(store: FileStore) -> None:
    uploads = [await store.begin("a", "f.txt", "text/plain", file_id="mine") for _ in range(2)]
    results = await asyncio.gather(*(store.finish(upload) for upload in uploads), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["BadRequest", "FileRow"]
    assert len(await listed(store)) == 1


async def test_one_key_cannot_take_the_uploads_of_others(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OWN_UPLOADS", 1)
    upload = await store.begin("a", "f", "text/plain")
    with pytest.raises(TooLarge, match="finish other uploads"):
        await store.begin("a", "f", "text/plain")
    await store.begin("b", "f", "text/plain")
    await store.finish(upload)
    await store.begin("a", "f", "text/plain")


async def test_what_was_announced_is_held(store: FileStore) -> None:
    await store.begin("a", "f", "text/plain", size=100)
    with pytest.raises(TooLarge):
        await store.begin("a", "f", "text/plain", size=51)
    unknown = await store.begin("a", "f", "text/plain")
    await store.append(unknown, 0, b"x" * 50)
    with pytest.raises(TooLarge):
        await store.append(unknown, 50, b"x")


async def test_uploads_are_given_up(store: FileStore, clock: list[float]) -> None:
    upload = await store.begin("a", "f", "text/plain", size=10)
    await store.append(upload, 0, b"x")
    clock[0] += module.PATIENCE
    with pytest.raises(UnknownItem):
        store.upload(upload.id)
    assert not upload.path.exists()
    with pytest.raises(ClientError):
        await store.append(upload, 1, b"x")
    with pytest.raises(ClientError):
        await store.finish(await _given_up(store))


async def _given_up(store: FileStore) -> module.Upload:
    upload = await store.begin("a", "f", "text/plain")
    store.give_up(upload)
    return upload


async def test_two_pieces_at_once(store: FileStore) -> None:
    upload = await store.begin("a", "f", "text/plain", size=10)
    results = await asyncio.gather(
        store.append(upload, 0, b"aaaaa"), store.append(upload, 0, b"bbbbb"), return_exceptions=True
    )
    assert sum(isinstance(result, BadRequest) for result in results) == 1
    await store.append(upload, 5, b"ccccc")
    assert await store.read(await store.finish(upload)) in (b"aaaaaccccc", b"bbbbbccccc")


async def test_who_is_cancelled_leaves_no_half_piece(store: FileStore) -> None:
    upload = await store.begin("a", "f", "text/plain")
    task = asyncio.create_task(store.append(upload, 0, b"aaaaa"))
    while not upload.busy:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    while upload.busy:
        await asyncio.sleep(0.001)
    await store.append(upload, upload.received, b"bbbbb")
    assert await store.read(await store.finish(upload)) in (b"aaaaabbbbb", b"bbbbb")


# media type, as told with the reference, with code -> kinds of parts
PARTS: list[tuple[str, str | None, bool, list[type]]] = [
    ("text/csv", None, True, [File]),
    ("text/csv", None, False, [File]),
    ("image/png", None, False, [Image]),
    ("image/png", None, True, [Image, File]),
    ("application/octet-stream", "image/png", False, [Image]),
]


async def test_parts(store: FileStore) -> None:
    for kind, told, code, parts in PARTS:
        file = await store.add("a", "f.x", kind, b"data")
        request = Request(model="m", messages=(), owner="a", builtin=("python",) if code else ())
        found = await store.parts(request, FileRef(uri=f"http://h/v1beta/files/{file.id}", media_type=told))
        assert [type(part) for part in found] == parts
        assert {part.data for part in found if isinstance(part, File | Image)} == {b"data"}
        assert {part.media_type for part in found if isinstance(part, File | Image)} == {told or kind}
        await store.delete("a", file.id)


# how files are called, and which one is meant
NAMES = [
    ("file-mine", "mine"),
    ("mine", "mine"),
    ("files/mine", "mine"),
    ("http://h/v1/files/mine/", "mine"),
    ("files/file-mine", "file-mine"),
    ("files/file-other", "other"),
]


async def test_names(store: FileStore) -> None:
    for name in ("mine", "file-mine", "other"):
        await store.finish(await store.begin("a", name, "text/plain", file_id=name))
    for uri, meant in NAMES:
        assert (await store.find(Request(model="m", messages=(), owner="a"), FileRef(uri=uri))).id == meant, uri


async def test_others_files_cannot_be_used(store: FileStore) -> None:
    file = await add(store)
    for owner, name in (("b", file.id), ("a", "nope"), ("a", "")):
        with pytest.raises(BadRequest, match="no uploaded file"):
            await store.parts(Request(model="m", messages=(), owner=owner), FileRef(uri=f"files/{name}"))


async def test_a_file_that_goes_while_it_is_read(store: FileStore) -> None:
    file = await add(store)
    await store.delete("a", file.id)
    with pytest.raises(BadRequest, match="is gone"):
        await store.read(file)


async def test_closing_forgets_uploads_and_keeps_files(kept: Store, store: FileStore) -> None:
    file, upload = await add(store), await store.begin("a", "f", "text/plain")
    await store.close()
    assert not upload.path.exists()
    with pytest.raises(UnknownItem):
        store.upload(upload.id)
    assert await FileStore(kept, KEEP).get("a", file.id) == file


async def begun(store: Store, pieces: int) -> tuple[FileStore, Upload, list[Upload]]:
    """An upload whose parts have come."""
    files = FileStore(store)
    upload = await files.begin("me", "big", "text/plain", size=pieces * module.PIECE)
    parts = [await files.begin_part(upload) for _ in range(pieces)]
    for part in parts:
        await files.append_part(upload, part, bytes(module.PIECE))
    return files, upload, parts


async def test_an_upload_that_is_being_completed_is_not_ended_by_asking_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    files, upload, parts = await begun(store, 4)
    names = [part.id for part in parts]
    first = asyncio.create_task(files.join(upload, names))
    await asyncio.sleep(0)
    with pytest.raises(BadRequest, match="already"):
        await files.join(upload, names)
    await first
    assert (await files.finish(upload)).size == 4 * module.PIECE
    await store.close()


async def test_an_upload_that_is_cancelled_while_it_is_completed_is_unknown(tmp_path: Path) -> None:
    store = Store(tmp_path)
    files, upload, parts = await begun(store, 2)
    parts[1].path.unlink()
    with pytest.raises(UnknownItem):
        await files.join(upload, [part.id for part in parts])
    await store.close()
