"""A container's session in the hands of one request.

Promises: it is a session like any other (`sandbox.base.Session`), but that its files are kept: an execution is given
out when what it has left is in the store, with the ids of its files. Closing it ends the lease; the interpreter goes
on. A fresh interpreter in the place of one that has ended is told of once, on stderr.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from belljar.errors import SessionClosed
from belljar.execution import Event, Execution, FileInfo, Output
from belljar.sandbox.files import relative
from belljar.sandbox.session import GuestSession
from belljar.server.container_files import Home, give, keep
from belljar.store.store import Store

STDERR = "stderr"


class Lease:
    """The session of a container for the length of one request."""

    def __init__(
        self,
        store: Store,
        home: Home,
        notice: str,
        *,
        on_start: Callable[[Home], None],
        on_close: Callable[[Home], None],
    ) -> None:
        """`notice` is what the first execution says of its interpreter; the callbacks are told of code that begins to
        run, and of the end of the lease.
        """
        assert home.session is not None
        self._store, self._home, self._notice = store, home, notice
        self._session: GuestSession = home.session
        self._on_start, self._on_close = on_start, on_close
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether it can run another execution."""
        return not self._closed and self._home.end is None and self._session.alive

    async def run(self, code: str, *, timeout: float | None = None) -> Execution:
        """Run code to its end. Raises SessionClosed, HostError."""
        events = [event async for event in self.stream(code, timeout=timeout)]
        assert isinstance(events[-1], Execution)
        return events[-1]

    async def stream(self, code: str, *, timeout: float | None = None) -> AsyncGenerator[Event, None]:
        """Run code; what it shows as it comes, the Execution last, when its files are kept. Leaving early ends the
        interpreter. Raises SessionClosed; HostError: the container could not be kept.
        """
        if not self.alive:
            raise SessionClosed("the session has ended")
        self._on_start(self._home)
        before, self._notice = self._notice, ""
        if before:
            yield Output(stream=STDERR, text=before)
        execution: Execution | None = None
        async with aclosing(self._session.stream(code, timeout=timeout)) as events:
            async for event in events:
                if isinstance(event, Execution):
                    execution = event
                else:
                    yield event
        assert execution is not None
        work = asyncio.ensure_future(keep(self._home, self._store, self._session, execution))
        execution, after = await asyncio.shield(work)  # half-kept files are nobody's, though the client has gone
        if after:
            yield Output(stream=STDERR, text=after)
        yield dataclasses.replace(
            execution,
            stderr=f"{before}{execution.stderr}{after}",
            stderr_bytes=execution.stderr_bytes + len((before + after).encode()),
        )

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
            self._on_close(self._home)

    def _check_open(self) -> None:
        if self._closed:
            raise SessionClosed("the lease has ended")
