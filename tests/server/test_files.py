"""Uploaded files: whole and in pieces, apart by owner, bounded, and gone in time."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from belljar.errors import BadRequest, ClientError, TooLarge, UnknownItem
from belljar.model import File, FileRef, Image, Request
from belljar.server import files as module
from belljar.server.files import FileStore, Stored


@pytest.fixture
def store() -> Iterator[FileStore]:
    made = FileStore(max_file=100, max_owned=150, max_all=250, max_files=4)
    yield made
    made.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its first item is the time."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    return now


def add(store: FileStore, owner: str = "a", data: bytes = b"hello", **more: Any) -> Stored:
    return store.add(owner, "f.txt", "text/plain", data, **more)


def test_a_file_is_seen_by_its_owner_alone(store: FileStore) -> None:
    file = add(store)
    assert store.get("a", file.id) == file
    assert store.read(file) == b"hello"
    assert (file.size, file.digest) == (5, hashlib.sha256(b"hello").digest())
    assert store.get("b", file.id) is None
    assert not store.delete("b", file.id)
    assert store.list("b") == []
    assert store.delete("a", file.id)
    assert store.get("a", file.id) is None
    assert not file.path.exists()


def test_the_newest_comes_first(store: FileStore, clock: list[float]) -> None:
    first = add(store)
    clock[0] += 1
    second = add(store)
    assert store.list("a") == [second, first]


def test_files_expire(store: FileStore, clock: list[float]) -> None:
    file = add(store)
    clock[0] += module.LIFETIME - 1
    assert store.get("a", file.id) is not None
    clock[0] += 1
    assert store.get("a", file.id) is None
    assert not file.path.exists()


def test_sizes_are_bounded(store: FileStore) -> None:
    with pytest.raises(TooLarge):
        add(store, data=b"x" * 101)
    add(store, data=b"x" * 100)
    with pytest.raises(TooLarge):
        add(store, data=b"x" * 51)
    add(store, "b", b"x" * 100)
    with pytest.raises(TooLarge):
        add(store, "c", b"x" * 51)
    add(store, "c", b"x" * 50)


def test_numbers_are_bounded(store: FileStore) -> None:
    files = [add(store) for _ in range(3)]
    store.begin("a", "f", "text/plain")
    with pytest.raises(TooLarge):
        add(store)
    store.delete("a", files[0].id)
    add(store)


async def test_pieces(store: FileStore) -> None:
    upload = store.begin("a", "f.txt", "text/plain", size=10, title="My file", file_id="mine")
    assert store.list("a") == []
    await store.append(upload, 0, b"hello")
    with pytest.raises(BadRequest, match="have come"):
        store.finish(upload)
    with pytest.raises(BadRequest, match="begins at byte 5"):
        await store.append(upload, 0, b"hello")
    with pytest.raises(BadRequest, match="this is more"):
        await store.append(upload, 5, b"too much")
    await store.append(store.upload(upload.id), 5, b"world")
    file = store.finish(upload)
    assert (file.id, file.title, store.read(file)) == ("mine", "My file", b"helloworld")
    assert file.digest == hashlib.sha256(b"helloworld").digest()
    with pytest.raises(UnknownItem):
        store.upload(upload.id)
    with pytest.raises(BadRequest, match="already"):
        store.begin("a", "f.txt", "text/plain", file_id="mine")
    store.begin("b", "f.txt", "text/plain", file_id="mine")


async def test_what_was_announced_is_held(store: FileStore) -> None:
    store.begin("a", "f", "text/plain", size=100)
    with pytest.raises(TooLarge):
        store.begin("a", "f", "text/plain", size=51)
    unknown = store.begin("a", "f", "text/plain")
    await store.append(unknown, 0, b"x" * 50)
    with pytest.raises(TooLarge):
        await store.append(unknown, 50, b"x")


async def test_uploads_are_given_up(store: FileStore, clock: list[float]) -> None:
    upload = store.begin("a", "f", "text/plain", size=10)
    await store.append(upload, 0, b"x")
    clock[0] += module.PATIENCE
    with pytest.raises(UnknownItem):
        store.upload(upload.id)
    assert not upload.path.exists()
    with pytest.raises(ClientError):
        await store.append(upload, 1, b"x")


async def test_two_pieces_at_once(store: FileStore) -> None:
    upload = store.begin("a", "f", "text/plain", size=10)
    results = await asyncio.gather(
        store.append(upload, 0, b"aaaaa"), store.append(upload, 0, b"bbbbb"), return_exceptions=True
    )
    assert sum(isinstance(result, BadRequest) for result in results) == 1
    await store.append(upload, 5, b"ccccc")
    assert store.read(store.finish(upload)) in (b"aaaaaccccc", b"bbbbbccccc")


# media type, as told with the reference, with code -> kinds of parts
PARTS: list[tuple[str, str | None, bool, list[type]]] = [
    ("text/csv", None, True, [File]),
    ("text/csv", None, False, [File]),
    ("image/png", None, False, [Image]),
    ("image/png", None, True, [Image, File]),
    ("application/octet-stream", "image/png", False, [Image]),
]


@pytest.mark.parametrize(("kind", "told", "code", "parts"), PARTS)
async def test_parts(store: FileStore, kind: str, told: str | None, code: bool, parts: list[type]) -> None:
    file = store.add("a", "f.x", kind, b"data")
    request = Request(model="m", messages=(), owner="a", builtin=("python",) if code else ())
    found = await store.parts(request, FileRef(uri=f"http://h/v1beta/files/{file.id}", media_type=told))
    assert [type(part) for part in found] == parts
    assert {part.data for part in found if isinstance(part, File | Image)} == {b"data"}
    assert {part.media_type for part in found if isinstance(part, File | Image)} == {told or kind}


async def test_others_files_cannot_be_used(store: FileStore) -> None:
    file = add(store)
    for owner, name in (("b", file.id), ("a", "nope"), ("a", "")):
        with pytest.raises(BadRequest, match="no uploaded file"):
            await store.parts(Request(model="m", messages=(), owner=owner), FileRef(uri=f"files/{name}"))


def test_a_file_that_goes_while_it_is_read(store: FileStore) -> None:
    file = add(store)
    store.delete("a", file.id)
    with pytest.raises(BadRequest, match="is gone"):
        store.read(file)


def test_closing_deletes_everything(store: FileStore) -> None:
    file, upload = add(store), store.begin("a", "f", "text/plain")
    folder: Path = file.path.parent
    store.close()
    assert not folder.exists()
    assert store.list("a") == []
    with pytest.raises(UnknownItem):
        store.upload(upload.id)
