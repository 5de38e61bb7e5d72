"""`Sandbox`: the plain, synchronous way to a session, for scripts and notebooks.

One event loop in a thread of its own serves all sandboxes of a process; fork servers are shared between sandboxes that
want the same image, limits and profile, and end with the process.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from belljar.errors import FileError, SessionClosed
from belljar.execution import Execution, FileInfo, Output, Result
from belljar.sandbox.base import Limits
from belljar.sandbox.pool import Pool
from belljar.sandbox.session import GuestSession

T = TypeVar("T")


class _Runtime:
    """The thread with the event loop, and the pools that live in it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._pools: dict[tuple[Any, ...], asyncio.Task[Pool]] = {}
        self._thread = threading.Thread(target=self._loop.run_forever, name="belljar", daemon=True)
        self._thread.start()
        self.pid = os.getpid()
        atexit.register(self.close)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run in the loop and wait. An interrupt of the waiting thread cancels the work."""
        if self.pid != os.getpid() or threading.current_thread() is self._thread:
            work.close()
            where = "a process forked from its own" if self.pid != os.getpid() else "a callback of its own"
            raise SessionClosed(f"a sandbox cannot be used from {where}: it would wait for itself")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def session(self, key: tuple[Any, ...], make: Callable[[], Pool]) -> GuestSession:
        """A session of the pool for `key`, started now if need be."""
        if key not in self._pools:
            self._pools[key] = self._loop.create_task(self._start(make()))
        starting = self._pools[key]
        try:
            pool = await asyncio.shield(starting)
        except Exception:
            if self._pools.get(key) is starting:
                del self._pools[key]
            raise
        return await pool.acquire()

    @staticmethod
    async def _start(pool: Pool) -> Pool:
        await pool.start()
        return pool

    def abandon(self, session: GuestSession) -> None:
        """End the session of a sandbox that nobody refers to any more, without waiting."""
        if self.pid == os.getpid() and self._loop.is_running():
            asyncio.run_coroutine_threadsafe(session.close(), self._loop)

    def close(self) -> None:
        """End everything; called at the end of the process."""
        if self.pid != os.getpid() or not self._thread.is_alive():
            return
        with contextlib.suppress(Exception):
            self.call(self._close_pools())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(2)

    async def _close_pools(self) -> None:
        started = await asyncio.gather(*self._pools.values(), return_exceptions=True)
        self._pools.clear()
        await asyncio.gather(*(pool.close() for pool in started if isinstance(pool, Pool)), return_exceptions=True)


_runtime: _Runtime | None = None
_lock = threading.Lock()


def _forget_lock() -> None:
    global _lock
    _lock = threading.Lock()  # another thread may have held it at the fork


os.register_at_fork(after_in_child=_forget_lock)


def _the_runtime() -> _Runtime:
    global _runtime
    with _lock:
        if _runtime is None or _runtime.pid != os.getpid():
            _runtime = _Runtime()
        return _runtime


class Sandbox:
    """A fresh sandbox with one session:

        with Sandbox() as s:
            execution = s.run("2 + 2")
            print(execution.outcome, execution.text)

    `limits` are the defaults of all limits; `timeout` (seconds) and `memory` (bytes) replace single ones. `preload`
    True imports the image's whole list before forking (a few seconds at the first sandbox, milliseconds for the next
    ones); the default imports what the code needs when it needs it. The first sandbox of a process starts a zygote,
    later ones are forked from it.
    """

    def __init__(
        self,
        *,
        image: str = "default",
        limits: Limits | None = None,
        timeout: float | None = None,
        memory: int | None = None,
        profile: str = "full",
        preload: bool | Sequence[str] = False,
    ) -> None:
        """Raises IsolationUnavailable, ImageError, SandboxFailed."""
        limits = limits or Limits()
        if timeout is not None:
            limits = replace(limits, timeout=timeout)
        if memory is not None:
            limits = replace(limits, memory=memory)
        imports = None if preload is True else () if preload is False else tuple(preload)
        self._limits = limits
        self._runtime = _the_runtime()

        def make() -> Pool:
            return Pool(image, limits=limits, profile=profile, ready=0, zygotes=1, preload=imports)

        key = (image, os.environ.get("BELLJAR_HOME"), limits, profile, imports)
        self._session = self._runtime.call(self._runtime.session(key, make))
        self._finalizer = weakref.finalize(self, self._runtime.abandon, self._session)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether it can run another execution; False after a kill, a crash or `close`."""
        return self._session.alive

    def run(
        self,
        code: str,
        *,
        timeout: float | None = None,
        on_output: Callable[[Output], None] | None = None,
        on_result: Callable[[Result], None] | None = None,
    ) -> Execution:
        """Run code to its end. `timeout` in seconds; the callbacks are called with output and results as they come, in
        another thread. What the code does wrong is in the Execution. Raises SessionClosed.
        """
        return self._runtime.call(self._run(code, timeout, on_output, on_result))

    async def _run(
        self,
        code: str,
        timeout: float | None,
        on_output: Callable[[Output], None] | None,
        on_result: Callable[[Result], None] | None,
    ) -> Execution:
        if on_output is None and on_result is None:
            return await self._session.run(code, timeout=timeout)
        last: Execution | None = None
        async for event in self._session.stream(code, timeout=timeout):
            if isinstance(event, Execution):
                last = event
            elif isinstance(event, Output) and on_output is not None:
                on_output(event)
            elif isinstance(event, Result) and on_result is not None:
                on_result(event)
        assert last is not None
        return last

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the code that another thread runs here; the session lives on."""
        self._runtime.call(self._session.interrupt())

    def write_file(self, path: str, data: bytes | str | Path) -> None:
        """Put bytes, text or a copy of a host's file (a Path) at `path` below /mnt/data. Raises FileError, OSError."""
        if isinstance(data, Path):
            if data.stat().st_size > self._limits.files_bytes:
                raise FileError(f"{data}: over {self._limits.files_bytes:,} bytes")
            data = data.read_bytes()
        self._runtime.call(self._session.write_file(path, data.encode() if isinstance(data, str) else data))

    def read_file(self, path: str) -> bytes:
        """The content of a file below /mnt/data. Raises FileError."""
        return self._runtime.call(self._session.read_file(path))

    def list_files(self) -> tuple[FileInfo, ...]:
        """All regular files below /mnt/data."""
        return self._runtime.call(self._session.list_files())

    def close(self) -> None:
        """End the sandbox and everything in it. In a process forked from the one that made it, nothing happens."""
        if self._runtime.pid == os.getpid():
            self._finalizer.detach()
            self._runtime.call(self._session.close())
