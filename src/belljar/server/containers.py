"""Containers: sessions with a name, whose interpreter and files are there for the next request.

Promises: a container is seen by its owner alone and used by one request at a time; who waits for it longer than for a
sandbox gets AtCapacity; what an answer was told of its files is in the store before it is told. At most `kept` idle
interpreters are alive, those make room as soon as somebody waits for a sandbox, and none may keep a processor busy;
where one has ended, the next execution runs in a fresh one with the same files and says so. What nobody uses for its
time expires, and its files are gone. Not covered: several servers over one store that use one container at the same
time: each has an interpreter of its own, and sees the files as they were when that began.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from belljar.dialects.attached import own_name
from belljar.errors import AtCapacity, BadRequest, BelljarError, Expired, FileError, TooLarge, UnknownItem
from belljar.execution import FileInfo
from belljar.model import Container, new_id
from belljar.sandbox.base import Limits
from belljar.sandbox.files import guess_type, relative
from belljar.sandbox.pool import Pool
from belljar.server.container_files import MOST_FILES, Home, describe, give, read_digests, remember, restore
from belljar.server.container_idle import idle_ones, next_to_go, restless_ones
from belljar.server.container_lease import ContainerSource, Lease
from belljar.server.files import FileStore
from belljar.server.settings import Keep
from belljar.store.access import carry_through
from belljar.store.rows import ContainerFileRow, ContainerRow, FileRow
from belljar.store.store import Store

IDLE = 20 * 60.0  # seconds after which a container expires that nobody uses
TOUCH = 5.0  # seconds for which the store need not be told that a container is in use
PERIOD = 10.0  # seconds between two looks at what has expired
SHARE = 4  # of the pool's sandboxes, one part of so many may be idle interpreters
MOST_SEEN = 20  # containers of a conversation that are looked for, the last ones
AT_ONCE = 8  # files of all containers that are in memory on their way into the store
AUTO = "auto"  # the name of those that requests make
RESTARTED = (
    "[The container's interpreter had ended (the server was restarted, it was idle and made room for others, or its "
    "last code ended it): this ran in a fresh one. Files were restored, variables were not.]\n"
)
log = logging.getLogger(__name__)

__all__ = ["ContainerSource", "Containers"]


class Containers:
    """All containers of a server. Use it inside one event loop."""

    def __init__(
        self,
        store: Store,
        pool: Pool,
        files: FileStore,
        keep: Keep | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` gives seconds since 1970."""
        self._store, self._pool, self._files, self._clock = store, pool, files, clock
        kept = (keep or Keep()).kept_sandboxes
        self._kept = max(1, pool.max_sandboxes // SHARE) if kept is None else kept
        self._homes: dict[str, Home] = {}
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._chores: set[asyncio.Task[Any]] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._closed = False
        pool.on_pressure = self._make_room

    # --- for requests -------------------------------------------------------------------------------------------------

    async def source(self, owner: str, wanted: Container) -> ContainerSource:
        """The container that a request wants. Raises UnknownItem, Expired; BadRequest: no such memory or file."""
        self._pool.check_memory(wanted.memory)
        uploads = [await self._upload(owner, name) for name in wanted.files]
        row = await self._find_wanted(owner, wanted)
        kept = [] if row is None else await self._store.containers.files(row.id)
        files = [describe(each) for each in kept if not each.shown]
        there = {info.path for info in files}
        files += [_announce(upload) for upload in uploads if path_of(upload) not in there]
        chosen = row or self._new_row(owner, AUTO, wanted.memory)
        limits = self.limits_of(chosen)
        return ContainerSource(self._lease, chosen, limits, files, uploads, is_new=row is None)

    async def _find_wanted(self, owner: str, wanted: Container) -> ContainerRow | None:
        if wanted.id is not None:
            return await self.find(owner, wanted.id)
        for seen in islice(dict.fromkeys(reversed(wanted.seen)), MOST_SEEN):
            with contextlib.suppress(UnknownItem, Expired):
                return await self.find(owner, seen)
        return None

    async def _upload(self, owner: str, name: str) -> FileRow:
        file = await self._files.get(owner, name)
        if file is None:
            raise BadRequest(f"there is no uploaded file 'file-{name[:80]}': it may have expired", param="file_ids")
        return file

    def _new_row(self, owner: str, name: str, memory: int | None, idle: float = IDLE) -> ContainerRow:
        now = self._clock()
        return ContainerRow(
            id=new_id(""), owner=owner, name=name, created=now, active=now, idle=idle, memory=memory, auto=True
        )

    def limits_of(self, row: ContainerRow) -> Limits:
        """What the session of a container may use."""
        limits = self._pool.limits
        return limits if row.memory is None else self._pool.limits_with(row.memory)

    async def _lease(self, source: ContainerSource) -> Lease:
        home = self._enter(source.row, is_new=source.is_new)
        try:
            await self._wait_for(home)
            try:
                await self._furnish(home, source)
            except BaseException:
                home.lock.release()
                raise
        except BaseException:
            self._leave(home)
            raise
        return Lease(
            self._store,
            home,
            on_start=lambda: self._on_start(home, source),
            on_close=lambda: self._on_close(home),
            spawn=self._do,
        )

    async def _wait_for(self, home: Home) -> None:
        try:
            async with asyncio.timeout(self._pool.wait):
                await home.lock.acquire()
        except TimeoutError:
            raise AtCapacity(
                f"at capacity: the container is used by another request, and was not free within {self._pool.wait:g} s"
            ) from None

    async def _furnish(self, home: Home, source: ContainerSource) -> None:
        """See that it has an interpreter and all its files."""
        await self._load(home)
        self._check(home)
        if home.session is not None and not home.session.alive:
            self._drop(home)
        fresh = home.session is None
        if home.session is None:
            home.session = await self._pool.acquire(home.row.memory)
        try:
            if fresh:
                home.notice = RESTARTED if home.row.executions else ""
                async with home.keeping:
                    await restore(home, self._store)
            for upload in source.uploads:
                path = path_of(upload)
                if path not in home.rows and path not in home.given:
                    await give(home, path, await self._files.read(upload))
        except BaseException:
            if fresh:
                self._drop(home)  # the next one tries again, rather than run without its files
            raise

    def _on_start(self, home: Home, source: ContainerSource) -> None:
        """Code begins to run: a container that has run code before must be known as such."""
        source.is_new = False
        first = home.row.executions == 0
        home.row = replace(home.row, executions=home.row.executions + 1, active=self._clock())
        if home.is_new:
            home.is_new = home.changed = False
            home.filing = self._do(self._store.containers.add(home.row))
        elif first or home.changed:
            home.filing = self._do(self._update(home))

    def _on_close(self, home: Home) -> None:
        """A lease has ended: the interpreter stays, as far as there is room."""
        home.row = replace(home.row, active=self._clock())
        home.idle_since, home.used = time.monotonic(), None
        home.lock.release()
        if home.end is not None:
            self._end(home, home.end)
        elif home.session is not None and (home.is_new or not home.session.alive):
            self._drop(home)
        self._leave(home)
        surplus = len(idle_ones(self._homes.values())) - self._kept
        for _ in range(max(surplus, int(self._pool.is_short))):
            self._make_room()

    # --- for APIs -----------------------------------------------------------------------------------------------------

    async def find(self, owner: str, identity: str) -> ContainerRow:
        """A container that can be used. Raises UnknownItem, Expired."""
        row = await self.get(owner, identity)
        if row.expired:
            raise Expired("Container is expired.")
        return row

    async def get(self, owner: str, identity: str) -> ContainerRow:
        """A container, an expired one too. To ask for it counts as use. Raises UnknownItem."""
        row = await self._store.containers.get(owner, identity)
        if row is None:
            raise _no_container(identity)
        row = self._as_it_is(row)
        if not row.expired:
            self._touch(row)
        return row

    async def page(
        self, owner: str, after: str | None, limit: int, *, ascending: bool, name: str | None = None
    ) -> tuple[list[ContainerRow], bool]:
        """Some of an owner's containers, and whether there are more. Raises UnknownItem: `after` is none of them."""
        rows, more = await self._store.containers.page(owner, after, limit, ascending, name=name)
        return [self._as_it_is(row) for row in rows], more

    async def create(
        self,
        owner: str,
        name: str,
        *,
        idle: float = IDLE,
        memory: int | None = None,
        files: Sequence[str] = (),
    ) -> ContainerRow:
        """A new container with copies of uploaded files; `idle` in seconds. Raises BadRequest, TooLarge."""
        self._pool.check_memory(memory)
        uploads = {path_of(file): file for file in [await self._upload(owner, each) for each in files]}
        row = replace(self._new_row(owner, name, memory, idle), auto=False)
        await self._store.containers.add(row)
        try:
            for path, upload in uploads.items():
                await self.add_file(row, path, await self._files.read(upload))
        except BelljarError:
            await self._store.containers.delete(owner, row.id)
            raise
        return row

    async def delete(self, owner: str, identity: str) -> None:
        """End a container and forget it and its files. Raises UnknownItem."""
        if not await self._store.containers.delete(owner, identity):
            raise _no_container(identity)
        home = self._homes.get(identity)
        if home is not None:
            self._end(home, UnknownItem("the container was deleted"))

    async def add_file(self, row: ContainerRow, path: str, data: bytes) -> ContainerFileRow:
        """Put a file of the client's into a container, and into its interpreter. Raises FileError, TooLarge."""
        return await carry_through(self._add_file(row, path, data))

    async def _add_file(self, row: ContainerRow, path: str, data: bytes) -> ContainerFileRow:
        home = self._enter(row)
        try:
            async with home.keeping:
                await self._load(home)
                self._check(home)
                path = relative(path)
                others = [each for each in home.rows.values() if each.path != path and not each.shown]
                if any(each.path.startswith(path + "/") for each in others):
                    raise FileError(f"{path}: there is a folder of this name")
                if sum(each.size for each in others) + len(data) > self.most_bytes:
                    raise TooLarge(f"a container takes {self.most_bytes:,} bytes of files")
                if len(others) >= MOST_FILES:
                    raise TooLarge(f"a container takes {MOST_FILES:,} files")
                return await remember(home, self._store, path, data)
        finally:
            self._leave(home)

    async def add_upload(self, row: ContainerRow, name: str) -> ContainerFileRow:
        """Put a copy of an uploaded file into a container. Raises BadRequest, FileError, TooLarge."""
        upload = await self._upload(row.owner, name)
        return await self.add_file(row, path_of(upload), await self._files.read(upload))

    async def file(self, row: ContainerRow, identity: str) -> ContainerFileRow:
        """A file of a container. Raises UnknownItem."""
        found = await self._store.containers.file(row.id, identity)
        if found is None:
            raise _no_file(row, identity)
        return found

    async def page_files(
        self, row: ContainerRow, after: str | None, limit: int, *, ascending: bool
    ) -> tuple[list[ContainerFileRow], bool]:
        """Some of a container's files, and whether there are more. Raises UnknownItem: `after` is none of them."""
        return await self._store.containers.page_files(row.id, after, limit, ascending)

    def path(self, file: ContainerFileRow) -> Path:
        """Where a file's content lies; there is nothing any more where it was deleted in the meantime."""
        return self._store.blobs.path(file.blob)

    @property
    def most_bytes(self) -> int:
        """What all files of a container may have, in bytes."""
        return self._pool.limits.files_bytes

    async def delete_file(self, row: ContainerRow, identity: str) -> None:
        """Forget a file, and remove it from the interpreter. Raises UnknownItem."""
        await carry_through(self._delete_file(row, identity))

    async def _delete_file(self, row: ContainerRow, identity: str) -> None:
        home = self._enter(row)
        try:
            async with home.keeping:
                await self._load(home)
                file = await self.file(row, identity)
                if not await self._store.containers.delete_file(row.id, identity):
                    raise _no_file(row, identity)
                home.rows.pop(file.path, None)
                if home.session is not None and not file.shown:
                    with contextlib.suppress(BelljarError):  # code has made something else of it, or has ended
                        await home.session.remove_file(file.path)
        finally:
            self._leave(home)

    def has_session(self, identity: str) -> bool:
        """Whether the interpreter of a container lives in this process."""
        home = self._homes.get(identity)
        return home is not None and home.session is not None and home.session.alive

    @property
    def facts(self) -> dict[str, int]:
        """Living interpreters of containers, and how many of them nobody uses now."""
        homes = self._homes.values()
        return {"containers": sum(home.session is not None for home in homes), "idle": len(idle_ones(homes))}

    async def close(self) -> None:
        """End every interpreter; containers stay in the store. Never raises."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for home in list(self._homes.values()):
            self._flush(home)
            self._drop(home)
        self._homes.clear()
        while self._chores:
            await asyncio.gather(*self._chores, return_exceptions=True)

    # --- what lives here ----------------------------------------------------------------------------------------------

    def _enter(self, row: ContainerRow, *, is_new: bool = False) -> Home:
        """The home of a container in this process, which stays at least until `_leave`."""
        home = self._homes.get(row.id)
        if home is None:
            home = self._homes[row.id] = Home(
                row=row,
                gate=self._gate,
                most_bytes=self.most_bytes,
                is_new=is_new,
                loaded=is_new,
                written=row.active,
            )
        home.users += 1
        if self._sweeper is None and not self._closed:
            self._sweeper = asyncio.create_task(self._sweep())
        return home

    def _leave(self, home: Home) -> None:
        home.users -= 1
        self._forget(home)

    def _forget(self, home: Home) -> None:
        if home.users == 0 and home.session is None and self._homes.get(home.row.id) is home:
            self._flush(home)
            del self._homes[home.row.id]

    async def _load(self, home: Home) -> None:
        """See that it knows what the store knows. Raises UnknownItem, Expired."""
        if home.loaded:
            return
        row = await self.find(home.row.owner, home.row.id)
        rows = await self._store.containers.files(row.id)
        if not home.loaded:
            home.row = replace(row, active=self._clock())
            home.rows = {each.path: each for each in rows}
            home.digests = read_digests(row)
            home.loaded = True

    def _check(self, home: Home) -> None:
        if home.end is not None:
            raise home.end
        if self._closed:
            raise AtCapacity("the server is stopping")

    def _as_it_is(self, row: ContainerRow) -> ContainerRow:
        """What the store says, with what is known here of its last use."""
        home = self._homes.get(row.id)
        active = row.active if home is None else max(row.active, home.row.active)
        in_use = home is not None and home.end is None and home.lock.locked() and home.loaded
        over = active + row.idle <= self._clock() or (row.expired and home is None)
        return replace(row, active=active, expired=over and not in_use)

    def _touch(self, row: ContainerRow) -> None:
        """It is used now; the store is told now and then."""
        now = self._clock()
        home = self._homes.get(row.id)
        if home is not None:
            home.row = replace(home.row, active=now)
        elif now - row.active > TOUCH:
            self._do(self._store.containers.update(replace(row, active=now)))

    def _flush(self, home: Home) -> None:
        """Tell the store of the last use, where it does not know nearly as much."""
        if not home.is_new and home.end is None and home.row.active > home.written + TOUCH:
            self._do(self._update(home))

    async def _update(self, home: Home) -> None:
        row = home.row
        home.written, home.changed = row.active, False
        if not await self._store.containers.update(row) and home.end is None:
            self._end(home, UnknownItem("the container was deleted"))

    def _make_room(self) -> None:
        """End an idle interpreter, if there is any."""
        home = next_to_go(self._homes.values())
        if home is not None:
            self._drop(home)

    def _drop(self, home: Home) -> None:
        """End the interpreter of a container."""
        session, home.session = home.session, None
        home.seen.clear()
        if session is not None:
            self._do(session.close())
        self._forget(home)

    def _end(self, home: Home, error: BelljarError) -> None:
        """End a container as far as it lives here; who uses it or waits for it is told why."""
        home.end = error
        self._drop(home)
        self._homes.pop(home.row.id, None)

    def _do(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._chores.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.warning("a container could not be looked after: %s", task.exception())

    async def _sweep(self) -> None:
        """See to what has expired, and tell the store what is in use."""
        while True:
            await asyncio.sleep(PERIOD)
            try:
                await self.sweep()
            except (BelljarError, OSError) as error:
                log.warning("expired containers could not be removed: %s", error)

    async def sweep(self) -> None:
        """Do it once. Those that do not live here are the store's matter."""
        for home in await restless_ones(self._homes.values()):
            log.info("the idle interpreter of container %s is ended: it goes on computing", home.row.id)
            self._drop(home)
        now = self._clock()
        for home in list(self._homes.values()):
            if home.lock.locked():
                home.row = replace(home.row, active=now)
            if home.row.active + home.row.idle > now:
                self._flush(home)
                continue
            if home.users or not home.loaded:
                continue
            self._end(home, Expired("Container is expired."))
            with contextlib.suppress(UnknownItem):  # the store, or another server, was quicker
                await self._store.containers.put_files(home.row.id, (), tuple(home.rows))
            await self._store.containers.update(replace(home.row, expired=True))


def path_of(upload: FileRow) -> str:
    """Where an uploaded file lies in a container, as at OpenAI."""
    return f"file-{upload.id}-{own_name(upload.title or upload.name)}"


def _announce(upload: FileRow) -> FileInfo:
    path = path_of(upload)
    return FileInfo(path=path, size=upload.size, type=guess_type(path), modified=upload.created)


def _no_container(identity: str) -> UnknownItem:
    name = f"cntr_{identity}"
    return UnknownItem(f"Container with id '{name[:80]}' not found.", item=name)


def _no_file(row: ContainerRow, identity: str) -> UnknownItem:
    return UnknownItem(f"File cfile_{identity[:80]} not found on container cntr_{row.id}.")
