"""Containers: one request at a time, files kept and restored, interpreters that end and are told of, owners apart.

Most run over a session that executes the code in this process, with a dictionary for its files, and a real store.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from belljar import IsolationUnavailable, Limits, Outcome, Pool
from belljar.errors import (
    AtCapacity,
    BadRequest,
    BelljarError,
    Expired,
    FileError,
    HostError,
    SandboxFailed,
    SessionClosed,
    TooLarge,
    UnknownItem,
)
from belljar.execution import Event, Execution, FileInfo, Output, Result
from belljar.model import Container
from belljar.sandbox.watchdog import processor_seconds
from belljar.server import container_files, container_lease
from belljar.server.container_lease import Lease
from belljar.server.containers import IDLE, RESTARTED, Containers
from belljar.server.files import FileStore
from belljar.server.settings import Keep
from belljar.store.store import Room, Store

ME, OTHER = "me", "other"
PNG = b"\x89PNG picture"


class Folder(dict[str, bytes]):
    """Files; each change has a time of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[str, float] = {}

    def __setitem__(self, path: str, data: bytes) -> None:
        super().__setitem__(path, data)
        self.times[path] = float(max(self.times.values(), default=0.0) + 1)

    def snapshot(self) -> dict[str, tuple[int, float]]:
        return {path: (len(data), self.times[path]) for path, data in self.items()}


class FakeSession:
    """Runs code in this process, where `files`, `show`, `session` and what earlier code left are known."""

    def __init__(self, pool: FakePool, memory: int | None) -> None:
        self.pool, self.memory = pool, memory
        self.files = Folder()
        self.known: dict[str, tuple[int, float]] = {}
        self.alive = True
        self.closed = self.visible = False
        self.blind = False  # shows no file though there are some
        self.shown: list[Result] = []
        self.outcome = Outcome.OK
        self.interrupted, self.ended = asyncio.Event(), asyncio.Event()
        self.state: dict[str, Any] = {"files": self.files, "show": self.show, "session": self}

    def show(self, data: bytes, kind: str = "image/png") -> None:
        self.shown.append(Result(data={kind: data}))

    async def stream(self, code: str, *, timeout: float | None = None) -> AsyncGenerator[Event, None]:  # noqa: ASYNC109
        if not self.alive:
            raise SessionClosed("dead")
        self.shown, self.outcome, finished = [], Outcome.OK, False
        try:
            if code == "wait":
                self.pool.running += 1
                self.pool.most = max(self.pool.most, self.pool.running)
                await asyncio.sleep(0.001)
                self.pool.running -= 1
            elif code in ("hang", "stubborn"):
                yield Output(stream="stdout", text="on")
                await (self.interrupted if code == "hang" else self.ended).wait()
                self.files["late"] = b"1"
            else:
                exec(code, self.state)
            finished = True
        finally:
            if not finished:
                await self.close()
        before, self.known = self.known, self.files.snapshot()
        changed = [info for info in self.listing() if before.get(info.path) != (info.size, info.modified)]
        text = self.state.pop("say", "")
        yield Execution(outcome=self.outcome, stdout=text, files=tuple(changed), results=tuple(self.shown))

    def listing(self) -> list[FileInfo]:
        if self.blind:
            return []
        return [
            FileInfo(path=path, size=len(data), type="text/plain", modified=self.files.times[path])
            for path, data in sorted(self.files.items())
        ]

    async def list_files(self) -> tuple[FileInfo, ...]:
        self.check()
        return tuple(self.listing())

    async def write_file(self, path: str, data: bytes) -> None:
        self.check()
        if path == "forbidden":
            raise FileError("forbidden: no")
        self.files[path] = data
        self.known = self.files.snapshot()

    async def read_file(self, path: str) -> bytes:
        self.check()
        if self.blind:
            raise SandboxFailed("the sandbox is blind")
        if path not in self.files:
            raise FileError(f"{path}: no such file")
        return self.files[path]

    async def remove_file(self, path: str) -> None:
        self.check()
        self.files.pop(path, None)

    async def interrupt(self) -> None:
        self.interrupted.set()

    async def close(self) -> None:
        self.alive, self.closed = False, True
        self.ended.set()
        self.pool.owned.discard(self)

    def check(self) -> None:
        if self.closed:
            raise SessionClosed("closed")


class FakePool:
    """Makes such sessions."""

    def __init__(self, max_sandboxes: int = 16, wait: float = 5.0) -> None:
        self.max_sandboxes, self.wait, self.limits = max_sandboxes, wait, Limits(files_bytes=1 << 20)
        self.owned: set[FakeSession] = set()
        self.is_short = False
        self.on_pressure: Any = None
        self.running = self.most = self.made = 0

    def check_memory(self, memory: int | None) -> None:
        if memory is not None and memory > 4 << 30:
            raise BadRequest("too much: max_memory")

    def limits_with(self, memory: int) -> Limits:
        return Limits(memory=memory)

    async def acquire(self, memory: int | None = None) -> FakeSession:
        if len(self.owned) >= self.max_sandboxes and self.on_pressure is not None:
            self.on_pressure()
            await asyncio.sleep(0.01)
        if len(self.owned) >= self.max_sandboxes:
            raise AtCapacity("full")
        self.made += 1
        session = FakeSession(self, memory)
        self.owned.add(session)
        return session


class World:
    """Containers over a store, with a clock that can be moved."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder, self.options = folder, options
        self.now = 1_700_000_000.0
        self.pool = FakePool(**{name: options[name] for name in ("max_sandboxes", "wait") if name in options})
        self.open()

    def open(self) -> None:
        self.store = Store(self.folder, room=self.options.get("room"), clock=lambda: self.now)
        self.uploads = FileStore(self.store)
        keep = Keep(kept_sandboxes=self.options.get("kept"))
        self.containers = Containers(self.store, self.pool, self.uploads, keep, clock=lambda: self.now)  # type: ignore[arg-type]

    async def close(self) -> None:
        await self.containers.close()
        await self.store.close()

    async def restart(self) -> None:
        await self.close()
        self.open()

    async def lease(self, identity: str | None = None, owner: str = ME, **wanted: Any) -> Lease:
        source = await self.containers.source(owner, Container(id=identity, **wanted))
        self.last = source.id
        return await source.acquire()

    async def run(
        self,
        code: str,
        identity: str | None = None,
        owner: str = ME,
        attached: Sequence[tuple[str, bytes]] = (),
        **wanted: Any,
    ) -> Execution:
        """One request with one execution."""
        lease = await self.lease(identity, owner, **wanted)
        try:
            for path, data in attached:
                await lease.write_file(path, data)
            return await lease.run(code)
        finally:
            await lease.close()

    async def kept(self, identity: str, owner: str = ME) -> dict[str, bytes]:
        """What the store has of a container's files."""
        rows = await self.store.containers.files(identity)
        return {row.path: await self.store.blobs.read(row.blob) for row in rows}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    opened = World(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
async def worlds(tmp_path: Path) -> AsyncIterator[Any]:
    opened: list[World] = []

    def make(**options: Any) -> World:
        opened.append(World(tmp_path / str(len(opened)), **options))
        return opened[-1]

    yield make
    for each in opened:
        await each.close()


# --- one container ----------------------------------------------------------------------------------------------------


async def test_variables_and_files_are_there_for_the_next_request(world: World) -> None:
    first = await world.run("x = 41; files['a/b.txt'] = b'one'")
    (info,) = first.files
    assert (info.path, info.size, len(info.id or "")) == ("a/b.txt", 3, 24)
    identity = world.last
    source = await world.containers.source(ME, Container(id=identity))
    assert [(each.path, each.id) for each in source.files] == [("a/b.txt", info.id)]
    second = await world.run("say = f'{x + 1} {files}'", identity)
    assert (second.stdout, second.stderr, second.files) == ("42 {'a/b.txt': b'one'}", "", ())
    assert world.pool.made == 1


async def test_a_file_keeps_its_id_when_it_changes_and_loses_it_when_it_goes(world: World) -> None:
    first = await world.run("files['a'] = b'1'; files['b'] = b'2'")
    second = await world.run("files['a'] = b'3'; del files['b']", world.last)
    assert [info.id for info in second.files] == [first.files[0].id]
    assert await world.kept(world.last) == {"a": b"3"}
    third = await world.run("files['b'] = b'4'", world.last)
    assert third.files[0].id not in (None, first.files[1].id)


async def test_what_is_told_is_in_the_store(world: World) -> None:
    lease = await world.lease()
    async for event in lease.stream("files['a'] = b'1'"):
        assert isinstance(event, Execution)
        assert await world.kept(world.last) == {"a": b"1"}
        row = await world.store.containers.get(ME, world.last)
        assert row is not None
        assert (row.executions, row.auto) == (1, True)
    await lease.close()


async def test_a_container_is_made_when_it_is_used(world: World) -> None:
    source = await world.containers.source(ME, Container())
    assert await world.store.containers.page(ME) == ([], False)
    lease = await source.acquire()
    await lease.close()
    with pytest.raises(UnknownItem):
        await world.containers.get(ME, source.id)


async def test_after_a_restart_the_files_are_there_again_and_it_is_said_once(world: World) -> None:
    first = await world.run("x = 1; files['a/b'] = b'one'; files['c'] = b''")
    identity = world.last
    await world.restart()
    lease = await world.lease(identity)
    events = [event async for event in lease.stream("say = f'{globals().get(\"x\")} {sorted(files.items())}'")]
    assert events[0] == Output(stream="stderr", text=RESTARTED)
    execution = events[-1]
    assert isinstance(execution, Execution)
    assert execution.stdout == "None [('a/b', b'one'), ('c', b'')]"
    assert (execution.stderr, execution.stderr_bytes, execution.files) == (RESTARTED, len(RESTARTED), ())
    assert (await lease.run("pass")).stderr == ""
    changed = await lease.run("files['a/b'] = b'two'")
    assert changed.files[0].id == first.files[0].id
    await lease.close()


async def test_an_interpreter_that_ended_is_followed_by_a_fresh_one(world: World) -> None:
    dead = await world.run(
        "x = 1; files['a'] = b'1'; session.alive = False; session.outcome = type(session.outcome).EXITED"
    )
    assert (dead.outcome, [info.path for info in dead.files]) == (Outcome.EXITED, ["a"])
    assert not world.pool.owned or all(not session.alive for session in world.pool.owned)
    fresh = await world.run("say = f'{globals().get(\"x\")} {dict(files)}'", world.last)
    assert (fresh.stdout, fresh.stderr) == ("None {'a': b'1'}", RESTARTED)
    assert (await world.run("pass", world.last)).stderr == ""


async def test_a_sandbox_that_shows_nothing_loses_nothing(world: World) -> None:
    await world.run("files['a'] = b'1'")
    await world.run("session.blind = True", world.last)
    assert await world.kept(world.last) == {"a": b"1"}
    await world.run("session.blind = False; del files['a']", world.last)
    assert await world.kept(world.last) == {}


@pytest.mark.parametrize("way", ["closes", "is cancelled"])
async def test_a_client_that_leaves_interrupts_the_code_and_no_more(world: World, way: str) -> None:
    await world.run("x = 1; files['a'] = b'1'")
    lease = await world.lease(world.last)
    events = lease.stream("hang")
    assert isinstance(await anext(events), Output)
    if way == "closes":
        await events.aclose()
    else:
        task = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert not lease.alive
    await lease.close()
    again = await world.run("say = f'{x} {dict(files)}'", world.last)  # waits for the end of the other
    assert (again.stdout, again.stderr) == ("1 {'a': b'1', 'late': b'1'}", "")
    assert await world.kept(world.last) == {"a": b"1", "late": b"1"}


async def test_code_that_does_not_end_when_its_client_leaves_is_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container_lease, "PATIENCE", 0.01)
    await world.run("x = 1; files['a'] = b'1'")
    lease = await world.lease(world.last)
    events = lease.stream("stubborn")
    assert isinstance(await anext(events), Output)
    await events.aclose()
    await lease.close()
    again = await world.run("say = str(dict(files))", world.last)
    assert (again.stdout, again.stderr) == ("{'a': b'1'}", RESTARTED)


async def test_what_nobody_heard_is_told_again(world: World) -> None:
    await world.run("pass")
    identity = world.last
    await world.restart()
    lease = await world.lease(identity)
    events = lease.stream("pass")
    assert await anext(events) == Output(stream="stderr", text=RESTARTED)
    await events.aclose()
    await lease.close()
    assert (await world.run("pass", identity)).stderr == RESTARTED
    assert (await world.run("pass", identity)).stderr == ""


async def test_a_new_container_goes_on_when_its_first_interpreter_has_ended(world: World) -> None:
    source = await world.containers.source(ME, Container())
    unused = await source.acquire()
    await unused.close()
    assert not world.containers._homes
    first = await source.acquire()
    await first.run("files['a'] = b'1'; session.alive = False")
    await first.close()
    second = await source.acquire()
    told = await second.run("say = str(dict(files))")
    assert (told.stdout, told.stderr) == ("{'a': b'1'}", RESTARTED)
    await second.close()


async def test_pictures_are_kept_as_files_that_no_sandbox_has(world: World) -> None:
    first = await world.run(f"show(b'x', 'text/html'); show({PNG!r}); show(b'jpeg', 'image/jpeg')")
    names = [info.path for info in first.pictures]
    assert names == [f"cfile_{first.pictures[0].id}.png", f"cfile_{first.pictures[1].id}.jpg"]
    assert await world.kept(world.last) == dict(zip(names, [PNG, b"jpeg"], strict=True))
    assert (await world.containers.source(ME, Container(id=world.last))).files == ()
    identity = world.last
    await world.restart()
    assert (await world.run("say = str(dict(files))", identity)).stdout == "{}"
    assert len(await world.kept(identity)) == 2


async def test_the_oldest_pictures_make_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_files, "MOST_SHOWN", 3)
    first = await world.run("files['a'] = b''; show(b'1'); show(b'2')")
    await world.run("show(b'3'); show(b'4')", world.last)
    assert sorted((await world.kept(world.last)).values()) == [b"", b"2", b"3", b"4"]
    last = await world.run("[show(b'%d' % n) for n in range(9)]", world.last)
    assert [len(first.pictures), len(last.pictures)] == [2, 3]
    assert sorted((await world.kept(world.last)).values()) == [b"", b"6", b"7", b"8"]


# --- a client's files -------------------------------------------------------------------------------------------------


async def test_an_attached_file_is_kept_and_not_given_again_as_it_was(world: World) -> None:
    sent = [("in.csv", b"1,2")]
    first = await world.run("say = files['in.csv'].decode()", attached=sent)
    assert (first.stdout, first.files) == ("1,2", ())
    (row,) = await world.store.containers.files(world.last)
    assert (row.path, row.source) == ("in.csv", "user")
    await world.run("files['in.csv'] += b',3'", world.last, attached=sent)
    assert (await world.run("say = files['in.csv'].decode()", world.last, attached=sent)).stdout == "1,2,3"
    identity = world.last
    await world.restart()  # what the client sent is remembered, too
    assert (await world.run("say = files['in.csv'].decode()", identity, attached=sent)).stdout == "1,2,3"
    assert (await world.run("say = files['in.csv'].decode()", identity, attached=[("in.csv", b"new")])).stdout == "new"
    assert await world.kept(identity) == {"in.csv": b"new"}


async def test_uploaded_files_are_copied_into_it(world: World) -> None:
    file = await world.uploads.add(ME, "in.csv", "text/csv", b"1,2")
    path = f"file-{file.id}-in.csv"
    source = await world.containers.source(ME, Container(files=(file.id,)))
    assert [(info.path, info.size) for info in source.files] == [(path, 3)]
    assert (await world.run(f"say = files[{path!r}].decode()", files=(file.id,))).stdout == "1,2"
    await world.uploads.delete(ME, file.id)
    assert await world.kept(world.last) == {path: b"1,2"}
    with pytest.raises(BadRequest, match=f"file-{file.id}"):
        await world.containers.source(ME, Container(files=(file.id,)))
    theirs = await world.uploads.add(OTHER, "x", "text/plain", b"")
    with pytest.raises(BadRequest):
        await world.containers.source(ME, Container(files=(theirs.id,)))


async def test_a_container_made_with_files_has_them(world: World) -> None:
    file = await world.uploads.add(ME, "in.csv", "text/csv", b"1,2")
    row = await world.containers.create(ME, "mine", files=[file.id, file.id])
    assert await world.kept(row.id) == {f"file-{file.id}-in.csv": b"1,2"}
    assert world.pool.made == 0
    first = await world.run("say = str(list(files))", row.id)
    assert (first.stdout, first.stderr) == (f"['file-{file.id}-in.csv']", "")  # fresh, but nothing has run before
    with pytest.raises(TooLarge):
        await world.containers.add_file(row, "large", bytes((1 << 20) - 2))
    again = await world.containers.create(ME, "mine")
    with pytest.raises(FileError):
        await world.containers.add_file(again, "../x", b"")


async def test_a_file_added_or_deleted_from_outside_reaches_the_interpreter(world: World) -> None:
    await world.run("files['mine'] = b''")
    row = await world.containers.find(ME, world.last)
    file = await world.containers.add_file(row, "in.csv", b"1,2")
    assert (file.path, file.size, file.source) == ("in.csv", 3, "user")
    lease = await world.lease(world.last)  # also while somebody uses it
    other = await world.containers.add_file(row, "b", b"")
    assert (await lease.run("say = str(sorted(files))")).stdout == "['b', 'in.csv', 'mine']"
    await world.containers.delete_file(row, file.id)
    assert (await lease.run("say = str(sorted(files))")).stdout == "['b', 'mine']"
    await lease.close()
    with pytest.raises(UnknownItem, match=f"cfile_{file.id}"):
        await world.containers.file(row, file.id)
    with pytest.raises(UnknownItem):
        await world.containers.delete_file(row, file.id)
    assert world.containers.path(await world.containers.file(row, other.id)).read_bytes() == b""
    files, more = await world.containers.page_files(row, None, 1, ascending=True)
    assert (len(files), more) == (1, True)


# --- bounds -----------------------------------------------------------------------------------------------------------


async def test_too_many_files_are_told_of(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_files, "MOST_FILES", 3)
    first = await world.run("files.__setitem__('0', b''); [files.__setitem__(str(n), b'') for n in range(1, 5)]")
    assert first.stderr == "[2 files were not kept: a container keeps 3]\n"
    assert [info.id is None for info in first.files] == [False, False, False, True, True]
    assert sorted(await world.kept(world.last)) == ["0", "1", "2"]
    second = await world.run("files['0'] = b'new'", world.last)
    assert (second.stderr, await world.kept(world.last)) == ("", {"0": b"new", "1": b"", "2": b""})


async def test_files_that_are_too_large_together_are_not_even_written(world: World) -> None:
    first = await world.run("for n in range(9): files[str(n)] = bytes(400 << 10)")
    assert first.stderr == "[7 files were not kept: a container keeps 1,048,576 bytes of them]\n"
    assert sorted(await world.kept(world.last)) == ["0", "1"]
    assert len(list(world.store.blobs.names())) == 2
    second = await world.run("del files['0']; files['1'] = b''", world.last)
    assert second.stderr == ""
    assert sorted(await world.kept(world.last)) == ["1", "2", "3"]


async def test_files_in_the_place_of_others_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_files, "MOST_FILES", 2)
    await world.run("files['a'] = files['b'] = b''")
    second = await world.run("files.clear(); files['c'] = files['d'] = b''", world.last)
    assert (second.stderr, sorted(await world.kept(world.last))) == ("", ["c", "d"])


async def test_a_path_that_no_index_takes_is_told_of(world: World) -> None:
    first = await world.run("files['/'.join(['f' * 250] * 5)] = files['a'] = b''")
    assert first.stderr == "[1 files were not kept: a container keeps none of paths over 1,024 bytes]\n"
    assert list(await world.kept(world.last)) == ["a"]


async def test_files_that_grow_while_they_are_read_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def read_file(self: FakeSession, path: str) -> bytes:
        return bytes(700 << 10)

    monkeypatch.setattr(FakeSession, "read_file", read_file)
    await world.run("for n in range(9): files[str(n)] = b'small'")
    assert len(await world.kept(world.last)) == len(list(world.store.blobs.names())) == 1


async def test_what_cannot_be_written_leaves_no_blob(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    write, asked = world.store.blobs.write, []

    async def fail(data: bytes) -> str:
        asked.append(len(data))
        if len(asked) > 1:
            raise HostError("the disk is full")
        return await write(data)

    monkeypatch.setattr(world.store.blobs, "write", fail)
    first = await world.run("for n in range(3): files[str(n)] = b''")
    assert "the disk is full" in first.stderr
    assert (len(asked), list(world.store.blobs.names())) == (3, [])


async def test_a_file_that_cannot_be_restored_is_told_of_and_stays(world: World) -> None:
    await world.run("files['a'] = b'1'; files['forbidden'] = b'2'")
    await world.restart()
    second = await world.run("say = str(sorted(files))", world.last)
    assert second.stdout == "['a']"
    assert second.stderr == RESTARTED + "[1 files could not be restored, and are not here]\n"
    assert await world.kept(world.last) == {"a": b"1", "forbidden": b"2"}
    await world.run("files['forbidden'] = b'3'", world.last)
    await world.run("del files['forbidden']", world.last)
    assert await world.kept(world.last) == {"a": b"1"}


async def test_a_file_does_not_take_the_place_of_a_folder(world: World) -> None:
    await world.run("files['d/x'] = b''")
    await world.restart()
    row = await world.containers.find(ME, world.last)
    with pytest.raises(FileError):
        await world.containers.add_file(row, "d", b"")


@pytest.mark.parametrize("deleting", [False, True])
async def test_a_client_that_leaves_while_a_file_is_changed_leaves_no_half(world: World, deleting: bool) -> None:
    await world.run("files['a'] = b'1'")
    row = await world.containers.find(ME, world.last)
    (file,) = await world.store.containers.files(row.id)

    async def change(number: int) -> None:
        if deleting:
            await world.containers.delete_file(row, file.id)
        else:
            await world.containers.add_file(row, f"b{number}", b"22")

    for steps in range(6):
        work = asyncio.create_task(change(steps))
        await asyncio.sleep(steps * 0.0005)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    await world.containers.add_file(row, "last", b"")  # after what is still under way
    kept = await world.run("say = str(sorted(files))", world.last)
    rows = await world.store.containers.files(row.id)
    assert kept.stdout == str(sorted(each.path for each in rows))
    assert {each.blob for each in rows} == set(world.store.blobs.names())


async def test_an_upload_that_cannot_be_there_does_not_cost_the_variables(world: World) -> None:
    await world.run("x = 1")
    upload = await world.uploads.add(ME, "u.csv", "text/csv", b"12")
    source = await world.containers.source(ME, Container(id=world.last, files=(upload.id,)))
    await world.uploads.delete(ME, upload.id)
    with pytest.raises(BadRequest):
        await source.acquire()
    assert (await world.run("say = str(x)", world.last)).stdout == "1"


async def test_what_the_store_has_no_room_for_is_told_of(worlds: Any) -> None:
    world = worlds(room=Room(owner_files_bytes=10, files_bytes=100))
    await world.run("files['a'] = b'1'")
    over = await world.run("files['b'] = bytes(20)", world.last)
    assert "could not be kept" in over.stderr
    assert [info.id for info in over.files] == [None]
    assert await world.kept(world.last) == {"a": b"1"}
    assert (await world.run("say = str(sorted(files)); del files['b']", world.last)).stdout == "['a', 'b']"
    assert (await world.run("files['c'] = b'2'", world.last)).stderr == ""


async def test_a_container_that_cannot_be_kept_is_none(worlds: Any) -> None:
    world = worlds(room=Room(containers=1))
    await world.run("pass")
    lease = await world.lease()
    with pytest.raises(TooLarge):
        await lease.run("pass")
    assert not lease.alive
    await lease.close()
    with pytest.raises(UnknownItem):
        await world.lease(world.last)
    assert world.containers.facts == {"containers": 1, "idle": 1}


async def test_memory_is_what_was_asked_for(world: World) -> None:
    source = await world.containers.source(ME, Container(memory=2 << 30))
    assert source.limits.memory == 2 << 30
    lease = await source.acquire()
    await lease.run("pass")
    await lease.close()
    (session,) = world.pool.owned
    assert session.memory == 2 << 30
    await world.restart()
    await world.run("pass", source.id)
    assert {session.memory for session in world.pool.owned} == {2 << 30}
    with pytest.raises(BadRequest, match="max_memory"):
        await world.containers.source(ME, Container(memory=8 << 30))


# --- who uses it, and when --------------------------------------------------------------------------------------------


async def test_one_request_at_a_time(world: World) -> None:
    await world.run("n = 0")
    identity = world.last

    async def use() -> None:
        lease = await world.lease(identity)
        await lease.run("wait")
        await lease.run("n += 1")
        await lease.close()

    await asyncio.gather(*(use() for _ in range(20)))
    assert (await world.run("say = str(n)", identity)).stdout == "20"
    assert (world.pool.most, world.pool.made) == (1, 1)


async def test_who_waits_too_long_is_told(worlds: Any) -> None:
    world = worlds(wait=0.02)
    lease = await world.lease()
    await lease.run("pass")
    with pytest.raises(AtCapacity, match="used by another request"):
        await world.lease(world.last)
    await lease.close()
    await lease.close()
    with pytest.raises(SessionClosed):
        await lease.run("pass")
    await world.run("pass", world.last)


async def test_owners_are_apart(world: World) -> None:
    await world.run("files['a'] = b'1'")
    identity = world.last
    row = await world.containers.find(ME, identity)
    for name in (identity, "0" * 24, ""):
        for work in (
            world.containers.source(OTHER, Container(id=name)),
            world.containers.get(OTHER, name),
            world.containers.find(OTHER, name),
            world.containers.delete(OTHER, name),
        ):
            with pytest.raises(UnknownItem, match="not found"):
                await work
    assert (await world.containers.source(OTHER, Container(seen=(identity,)))).id != identity
    assert await world.containers.page(OTHER, None, 10, ascending=False) == ([], False)
    assert [each.id for each in (await world.containers.page(ME, None, 10, ascending=False))[0]] == [row.id]


async def test_an_automatic_container_is_the_last_living_one_that_was_seen(world: World) -> None:
    seen = []
    for _ in range(3):
        await world.run("pass")
        seen.append(world.last)
    await world.containers.delete(ME, seen[2])
    source = await world.containers.source(ME, Container(seen=(*seen, "nonsense")))
    assert source.id == seen[1]


async def test_deleting_ends_what_runs_in_it(world: World) -> None:
    await world.run("files['a'] = b'1'")
    identity = world.last
    lease = await world.lease(identity)
    waiting = asyncio.create_task(world.lease(identity))
    await asyncio.sleep(0.01)
    await world.containers.delete(ME, identity)
    assert not lease.alive
    await lease.close()
    with pytest.raises(UnknownItem):
        await waiting
    with pytest.raises(UnknownItem):
        await world.lease(identity)
    await asyncio.sleep(0)
    assert not world.pool.owned
    assert list((world.folder / "blobs").glob("[!p]*")) == []


# --- its end ----------------------------------------------------------------------------------------------------------


async def test_what_nobody_uses_expires(world: World) -> None:
    await world.run("files['a'] = b'1'")
    identity = world.last
    world.now += IDLE - 1
    assert not (await world.containers.get(ME, identity)).expired  # to ask is to use
    world.now += IDLE - 1
    await world.containers.sweep()
    assert len(world.pool.owned) == 1
    world.now += 2
    with pytest.raises(Expired, match=r"^Container is expired\.$"):
        await world.containers.source(ME, Container(id=identity))
    await world.containers.sweep()
    await asyncio.sleep(0)
    assert not world.pool.owned
    assert await world.kept(identity) == {}
    assert (await world.containers.get(ME, identity)).expired
    assert [row.expired for row in (await world.containers.page(ME, None, 10, ascending=False))[0]] == [True]
    with pytest.raises(Expired):
        await world.containers.find(ME, identity)
    assert (await world.containers.source(ME, Container(seen=(identity,)))).id != identity
    await world.containers.delete(ME, identity)


async def test_what_is_in_use_does_not_expire(world: World) -> None:
    lease = await world.lease()
    await lease.run("files['a'] = b'1'")
    for _ in range(3):
        world.now += IDLE / 2
        await world.containers.sweep()
        await world.store.sweep()
    assert (await lease.run("say = str(list(files))")).stdout == "['a']"
    await lease.close()
    assert await world.kept(world.last) == {"a": b"1"}
    await world.run("pass", world.last)


async def test_its_last_use_is_known_after_a_restart(world: World) -> None:
    row = await world.containers.create(ME, "mine", idle=60.0)
    for _ in range(3):
        world.now += 50
        await world.run("pass", row.id)
    await world.restart()
    world.now += 50
    assert not (await world.containers.get(ME, row.id)).expired
    world.now += 61
    with pytest.raises(Expired):
        await world.lease(row.id)


# --- interpreters that nobody uses ------------------------------------------------------------------------------------


async def test_the_longest_idle_interpreter_makes_room(worlds: Any) -> None:
    world = worlds(kept=2)
    names = []
    for owner in (OTHER, ME, ME):
        await world.run("x = 1", owner=owner)
        names.append((owner, world.last))
    assert world.containers.facts == {"containers": 2, "idle": 2}
    told = [(await world.run("pass", name, owner)).stderr for owner, name in (names[2], names[0])]
    assert told == ["", ""]  # the first of whoever had most went
    assert (await world.run("pass", names[1][1])).stderr == RESTARTED


async def test_idle_interpreters_make_room_for_who_waits(worlds: Any) -> None:
    world = worlds(max_sandboxes=2, kept=2)
    for _ in range(2):
        await world.run("x = 1")
    assert len(world.pool.owned) == 2
    lease = await world.lease()
    assert (await lease.run("pass")).ok
    world.pool.is_short = True  # somebody waits: nothing stays
    await lease.close()
    await asyncio.sleep(0)
    assert len(world.pool.owned) == 1


async def test_none_is_kept_where_none_may_be(worlds: Any) -> None:
    world = worlds(kept=0)
    await world.run("files['a'] = b'1'")
    await asyncio.sleep(0)
    assert not world.pool.owned
    assert (await world.run("say = str(dict(files))", world.last)).stdout == "{'a': b'1'}"


async def test_a_file_that_cannot_be_put_there_is_an_error_and_leaves_no_lease(world: World) -> None:
    lease = await world.lease()
    with pytest.raises(FileError):
        await lease.write_file("forbidden", b"")
    await lease.run("files['a'] = b'1'")
    await lease.close()
    row = await world.containers.find(ME, world.last)
    with pytest.raises(BelljarError):
        await world.containers.add_file(row, "forbidden", b"")
    assert await world.kept(world.last) == {"a": b"1"}


def test_what_children_computed_that_have_ended_counts() -> None:
    code = "(n=0; while [ $((n+=1)) -lt 200000 ]; do :; done); echo; read n"
    with subprocess.Popen(["/bin/sh", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert processor_seconds([process.pid])[0] > 0.02


# --- with real sandboxes ----------------------------------------------------------------------------------------------


async def check_calm(world: World) -> None:
    """An idle interpreter that computes is ended, another is not."""
    await world.run("x = 1")
    calm = world.last
    await world.run("import threading\nthreading.Thread(target=lambda: [n for n in iter(int, 1)]).start()")
    busy = world.last
    await asyncio.sleep(0.2)  # what the executions themselves took is over
    await world.containers.sweep()
    await asyncio.sleep(0.8)
    await world.containers.sweep()
    assert (await world.run("pass", busy)).stderr == RESTARTED
    assert (await world.run("x", calm)).text == "1"
    for name in (calm, busy):
        await world.containers.delete(ME, name)


async def test_real_sandboxes(tmp_path: Path) -> None:
    world = World(tmp_path, kept=4)
    try:
        async with Pool(preload=(), zygotes=1, ready=1, max_sandboxes=4) as pool:
            world.pool = pool  # type: ignore[assignment]
            world.open()
            await check_calm(world)
            first = await world.run("import os; x = 41; os.mkdir('a'); open('a/b.txt', 'w').write('one')")
            assert [info.path for info in first.files] == ["a/b.txt"]
            assert (await world.run("x + 1", world.last)).text == "42"
            ended = await world.run("open('c', 'w').write('two'); os._exit(3)", world.last)
            assert ended.outcome is Outcome.EXITED
            identity = world.last
            assert await world.kept(identity) == {"a/b.txt": b"one", "c": b"two"}
            again = await world.run(
                "import os; 'x' in globals(), open('a/b.txt').read(), sorted(os.listdir())", identity
            )
            assert (again.text, again.stderr, again.files) == ("(False, 'one', ['a', 'c'])", RESTARTED, ())
            row = await world.containers.find(ME, identity)
            (file,) = [each for each in await world.store.containers.files(identity) if each.path == "c"]
            await world.containers.delete_file(row, file.id)
            await world.restart()
            after = await world.run("import os; sorted(os.listdir())", identity)
            assert (after.text, after.stderr) == ("['a']", RESTARTED)
            await world.close()
            assert pool.facts["in_use"] == 0
    except IsolationUnavailable as error:
        pytest.skip(f"NOT TESTED: {error}")
