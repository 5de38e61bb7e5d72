"""A container's session in the hands of one request, and where the request has it from.

Promises: it is a session like any other (`sandbox.base.Session`), but that its files are kept: an execution is given
out when what it has left is in the store, with the ids of its files. Closing it ends the lease; the interpreter goes
on, also where the client leaves while code runs: that is interrupted, and the lease ends when it has ended. A fresh
interpreter in the place of one that has ended is told of once, on stderr.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

from belljar.errors import BelljarError, SessionClosed
from belljar.execution import Event, Execution, FileInfo, Output
from belljar.sandbox.base import Limits
from belljar.sandbox.files import relative
from belljar.sandbox.session import GuestSession
from belljar.server.container_files import Home, give, keep
from belljar.store.rows import ContainerRow, FileRow
from belljar.store.store import Store

STDERR = "stderr"
PATIENCE = 2.0  # seconds that code gets to end when its client has left
Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class ContainerSource:
    """One request's container, as tools see it: where their session comes from. Nothing is made before `acquire`.

    `files` are those that are in it, or will be; `uploads` those that the request wants in it; `is_new`: there is no
    such container yet.
    """

    lasting = True

    def __init__(
        self,
        lease: Callable[[ContainerSource], Awaitable[Lease]],
        row: ContainerRow,
        limits: Limits,
        files: Sequence[FileInfo],
        uploads: Sequence[FileRow],
        *,
        is_new: bool,
    ) -> None:
        self._lease = lease
        self.row = row
        self.limits = limits
        self.files = tuple(files)
        self.uploads = tuple(uploads)
        self.is_new = is_new

    @property
    def id(self) -> str:
        """The container's id, without prefix."""
        return self.row.id

    async def acquire(self, memory: int | None = None) -> Lease:
        """Its session, until the lease is closed; `memory` is the container's own, whatever is given.

        Raises AtCapacity, SandboxFailed; Expired, UnknownItem: it has ended meanwhile.
        """
        return await self._lease(self)


class Lease:
    """The session of a container for the length of one request."""

    def __init__(
        self, store: Store, home: Home, *, on_start: Callable[[], None], on_close: Callable[[], None], spawn: Spawn
    ) -> None:
        """The callbacks are told of code that begins to run, and of the end of the lease; `spawn` runs a task that
        outlives its caller.
        """
        assert home.session is not None
        self._store, self._home = store, home
        self._session: GuestSession = home.session
        self._on_start, self._on_close, self._spawn = on_start, on_close, spawn
        self._busy = False
        self._has_run = False  # the code is over, what it left is being kept
        self._leaving: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether it can run another execution."""
        return not self._closed and self._leaving is None and self._home.end is None and self._session.alive

    async def run(self, code: str, *, timeout: float | None = None) -> Execution:
        """Run code to its end. Raises SessionClosed, HostError."""
        events = [event async for event in self.stream(code, timeout=timeout)]
        assert isinstance(events[-1], Execution)
        return events[-1]

    async def stream(self, code: str, *, timeout: float | None = None) -> AsyncGenerator[Event, None]:
        """Run code; what it shows as it comes, the Execution last, when its files are kept. Leaving early interrupts
        the code and ends the lease. Raises SessionClosed; HostError: the container could not be kept.
        """
        if not self.alive:
            raise SessionClosed("the session has ended")
        if self._busy:
            raise SessionClosed("the session is running something else")
        self._on_start()
        self._busy, self._has_run = True, False
        events: asyncio.Queue[Event | BaseException] = asyncio.Queue()
        # A task of its own: who leaves would otherwise leave in the middle of the session's own work, and end it.
        work = self._spawn(self._execute(code, timeout, events))
        try:
            while True:
                event = await events.get()
                if isinstance(event, BaseException):
                    raise event
                if isinstance(event, Execution):
                    break
                yield event
        finally:
            if self._busy:
                self._leaving = self._spawn(self._leave(work))
        self._home.notice = ""  # told
        yield event

    async def _execute(self, code: str, timeout: float | None, events: asyncio.Queue[Event | BaseException]) -> None:
        """Run the code and keep what it leaves. Raises nothing: errors are the last event."""
        try:
            before = self._home.notice
            if before:
                events.put_nowait(Output(stream=STDERR, text=before))
            execution: Execution | None = None
            async with aclosing(self._session.stream(code, timeout=timeout)) as shown:
                async for event in shown:
                    if isinstance(event, Execution):
                        execution = event
                    else:
                        events.put_nowait(event)
            assert execution is not None
            self._has_run = True
            execution, after = await self._keep(execution)
            if after:
                events.put_nowait(Output(stream=STDERR, text=after))
            told = f"{before}{execution.stderr}{after}"
            size = execution.stderr_bytes + len((before + after).encode())
            last: Event | BaseException = dataclasses.replace(execution, stderr=told, stderr_bytes=size)
        except Exception as error:
            last = error
        self._busy = False
        events.put_nowait(last)

    async def _keep(self, execution: Execution) -> tuple[Execution, str]:
        try:
            return await keep(self._home, self._store, self._session, execution)
        except BelljarError as error:
            self._home.end = error  # there is no such container
            raise

    async def _leave(self, work: asyncio.Task[None]) -> None:
        """End an execution that nobody waits for. The interpreter lives on if the code lets itself be interrupted."""
        await self._session.interrupt()
        await asyncio.wait([work], timeout=PATIENCE)
        if not work.done() and not self._has_run:
            await self._session.close()
        await asyncio.wait([work])
        if self._closed:
            self._on_close()

    async def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the code that runs; the session lives on."""
        await self._session.interrupt()

    async def write_file(self, path: str, data: bytes) -> None:
        """Put a file of the client's below the working folder; it is kept with the next execution. What the client sent
        before under this name is left as code has made it since. Raises FileError.
        """
        self._check_open()
        await give(self._home, relative(path), data)

    async def remove_file(self, path: str) -> None:
        """Remove a file below the working folder. Raises FileError."""
        self._check_open()
        await self._session.remove_file(path)

    async def read_file(self, path: str) -> bytes:
        """A file below the working folder. Raises FileError."""
        self._check_open()
        return await self._session.read_file(path)

    async def list_files(self) -> tuple[FileInfo, ...]:
        """All regular files below the working folder."""
        self._check_open()
        return await self._session.list_files()

    async def close(self) -> None:
        """Give the container back. Never raises; may be called again."""
        if not self._closed:
            self._closed = True
            if self._leaving is None or self._leaving.done():
                self._on_close()

    def _check_open(self) -> None:
        if self._closed:
            raise SessionClosed("the lease has ended")
