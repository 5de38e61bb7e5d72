"""The pool: sandboxes forked ahead of demand, handed out, destroyed, refilled.

Promises: `max_sandboxes` bounds what is alive, `queue` those who wait, `wait` for how long; past either AtCapacity is
raised at once. A sandbox is used by one owner and never handed out again. What dies while it waits is thrown away and
replaced.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import logging
import resource
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType

from belljar.errors import AtCapacity, BadRequest, BelljarError, SandboxFailed
from belljar.execution import FileInfo
from belljar.sandbox.backends import BACKENDS
from belljar.sandbox.base import LEAST, MIB, Limits
from belljar.sandbox.cgroup import available_memory
from belljar.sandbox.forkserver import ForkServer, Options
from belljar.sandbox.image import Image, find_image, hold
from belljar.sandbox.session import GuestSession

SANDBOX_ESTIMATE = 32 * MIB  # what an average sandbox is reckoned to hold, for the default bound
DEFAULT_MEMORY = 4096 * MIB  # that a session may ask for
DESCRIPTORS_EACH = 8
MAX_BIRTHS = 8  # at once: the zygotes fork one after the other, more would only compete with code that runs
REFILL_SECONDS = 0.015  # that a birth waits while more than half of the stock is there
RETRY_SECONDS = (0.05, 0.2, 0.5, 1.0, 2.0)
log = logging.getLogger(__name__)


def default_max_memory(least: int) -> int:
    """Memory that a session may ask for, in bytes: some GiB, but not what this host has not; `least` in any case."""
    return max(least, min(DEFAULT_MEMORY, available_memory() // 2))


def default_max_sandboxes() -> int:
    """As many as this host can hold: by free memory, by processes and by descriptors, between 1 and 1024."""
    by_memory = available_memory() // SANDBOX_ESTIMATE
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    by_descriptors = (hard if hard != resource.RLIM_INFINITY else 1 << 20) // DESCRIPTORS_EACH
    return max(1, min(1024, by_memory, by_descriptors))


class Pool:
    """Sessions in fresh sandboxes, for servers. Use it inside one event loop:

        async with Pool() as pool:
            async with pool.session() as session:
                execution = await session.run("2 + 2")

    `ready` sandboxes are kept in stock. `profile` is "full" or "container" (weaker, see docs/security.md): the pool
    refuses to start where the host cannot give it, and never falls back. `preload` replaces the image's list of
    imports.
    """

    def __init__(
        self,
        image: str | Image = "default",
        *,
        limits: Limits | None = None,
        profile: str = "full",
        ready: int = 8,
        max_sandboxes: int | None = None,
        queue: int = 1024,
        wait: float = 30.0,
        max_memory: int | None = None,
        zygotes: int = 0,
        preload: Sequence[str] | None = None,
    ) -> None:
        """`wait` in seconds; `max_memory`, in bytes, is what a session may be asked for with; `zygotes` 0 means one for
        each processor, at most 2. Raises ValueError for no known profile.
        """
        if profile not in BACKENDS:
            raise ValueError(f"profile {profile!r}: it must be one of {', '.join(BACKENDS)}")
        self._image = image
        self._limits = limits or Limits()
        self._profile = profile
        self.on_pressure: Callable[[], None] | None = None  # called when somebody waits and no more can be made
        self._max_memory = max(self._limits.memory, max_memory or default_max_memory(self._limits.memory))
        self._max = max_sandboxes or default_max_sandboxes()
        self._stock_size = min(ready, self._max)
        self._queue_size = queue
        self._wait = wait
        self._options = Options(limits=self._limits, preload=preload, zygotes=zygotes)
        self._stock: collections.deque[GuestSession] = collections.deque()
        self._waiting: collections.deque[asyncio.Future[GuestSession]] = collections.deque()
        self._owned: set[object] = set()  # sessions that were handed out, and places kept for some
        self._births: set[asyncio.Task[None]] = set()
        self._chores: set[asyncio.Task[None]] = set()
        self._stack = contextlib.ExitStack()
        self._backend: ForkServer | None = None
        self._closed = False
        self._failures = 0
        self._last_failure: BelljarError | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._later: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Pool:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Start the zygotes and fill the stock. Raises IsolationUnavailable, ImageError, SandboxFailed."""
        _raise_descriptor_limit()
        image = find_image(self._image) if isinstance(self._image, str) else self._image
        image = self._stack.enter_context(hold(image))
        self._backend = BACKENDS[self._profile](image, self._options)
        try:
            await self._backend.start()
            self._stock.append(await self._backend.session())  # it shows that every wall stands
        except BaseException:
            await self.close()
            raise
        self._refill()

    async def close(self) -> None:
        """End every sandbox. Never raises; who waits gets AtCapacity."""
        self._closed = True
        for timer in filter(None, (self._retry, self._later)):
            timer.cancel()
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(AtCapacity("the pool is closing"))
        for task in list(self._births):
            task.cancel()
        await asyncio.gather(*self._births, *self._chores, return_exceptions=True)
        if self._backend is not None:
            await self._backend.close()
        self._stack.close()

    async def acquire(self, memory: int | None = None) -> GuestSession:
        """A fresh session of your own; close it when done. `memory` in bytes, None for that of `limits`.

        Raises AtCapacity, SandboxFailed; BadRequest: more memory than anybody may have.
        """
        self.check_memory(memory)
        session = await self._acquire()
        if memory is None or memory == self._limits.memory:
            return session
        return await self._exchange(session, memory)

    async def _exchange(self, session: GuestSession, memory: int) -> GuestSession:
        """One with other memory in the place of a session. What a sandbox may use is settled before its birth."""
        place = object()
        self._owned.add(place)  # so that nobody else is given this place meanwhile
        try:
            await session.close()
            other = await self.backend.session(memory)
            self._hand_out(other)
            return other
        finally:
            self._owned.discard(place)
            self._refill_soon()

    async def _acquire(self) -> GuestSession:
        if self._closed or self._backend is None:
            raise AtCapacity("the pool is closed")
        while self._stock:
            session = self._stock.popleft()
            if session.fit:
                self._hand_out(session)
                self._refill_soon()
                return session
            self._drop(session)
        return await self._wait_for_one()

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[GuestSession]:
        """A fresh session for the length of a block. Raises AtCapacity, SandboxFailed."""
        session = await self.acquire()
        try:
            yield session
        finally:
            await session.close()

    @property
    def limits(self) -> Limits:
        """What each sandbox may use."""
        return self._limits

    def limits_with(self, memory: int) -> Limits:
        """What a sandbox may use that is asked for with so much memory, in bytes."""
        return dataclasses.replace(self._limits, memory=memory)

    def check_memory(self, memory: int | None) -> None:
        """Raises BadRequest for memory that no session can have."""
        if memory is None or LEAST["memory"] <= memory <= self._max_memory:
            return
        raise BadRequest(
            f"a sandbox may have {LEAST['memory']:,} to {self._max_memory:,} bytes of memory here, not {memory:,}; the "
            "server's option max_memory says so",
            param="memory_limit",
        )

    @property
    def lasting(self) -> bool:
        """Sessions end when they are closed."""
        return False

    @property
    def files(self) -> tuple[FileInfo, ...]:
        """Sessions begin without any."""
        return ()

    @property
    def max_sandboxes(self) -> int:
        """The most that are alive at once."""
        return self._max

    @property
    def wait(self) -> float:
        """Seconds that somebody waits at most."""
        return self._wait

    @property
    def is_short(self) -> bool:
        """Whether somebody waits for whom none can be made as long as all live."""
        alive = len(self._owned) + len(self._stock) + len(self._births)
        return len(self._waiting) > len(self._births) and alive >= self._max

    @property
    def is_full(self) -> bool:
        """Whether one more who asks now would be turned away at once."""
        return self._closed or (not self._stock and len(self._waiting) >= self._queue_size)

    @property
    def facts(self) -> dict[str, int | str]:
        """What the pool holds now: for metrics and health checks."""
        return {
            "profile": self._profile,
            "limiter": self._backend.limiter if self._backend else "",
            "ready": len(self._stock),
            "in_use": len(self._owned),
            "starting": len(self._births),
            "waiting": len(self._waiting),
            "max": self._max,
        }

    @property
    def backend(self) -> ForkServer:
        """What makes the sandboxes. Raises SandboxFailed before `start`."""
        if self._backend is None:
            raise SandboxFailed("the pool has not been started")
        return self._backend

    async def _wait_for_one(self) -> GuestSession:
        if len(self._waiting) >= self._queue_size:
            raise AtCapacity(f"at capacity: {len(self._owned)} sandboxes in use, {len(self._waiting)} requests waiting")
        waiter: asyncio.Future[GuestSession] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._refill()
        if self.is_short and self.on_pressure is not None:
            self.on_pressure()
        try:
            async with asyncio.timeout(self._wait):
                return await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._drop(waiter.result())  # it came in the moment in which we gave up
            if not isinstance(error, TimeoutError):
                raise
            reason = f" ({self._last_failure})" if self._last_failure else ""
            raise AtCapacity(f"at capacity: no sandbox was free within {self._wait:g} s{reason}") from None
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(waiter)

    def _hand_out(self, session: GuestSession) -> None:
        self._owned.add(session)
        session.on_close(self._release)

    def _release(self, session: GuestSession) -> None:
        self._owned.discard(session)
        self._refill_soon()

    def _refill_soon(self) -> None:
        """Refill at once where the stock runs low; else a moment later, as a birth would take the processor from the
        code that was just handed its sandbox.
        """
        loop = asyncio.get_running_loop()
        if self._waiting or 2 * len(self._stock) < self._stock_size:
            loop.call_soon(self._refill)
        elif self._later is None and not self._closed:
            self._later = loop.call_later(REFILL_SECONDS, self._refill_now)

    def _refill_now(self) -> None:
        self._later = None
        self._refill()

    def _refill(self) -> None:
        """Start as many births as stock, waiters and the bound call for."""
        if self._closed or self._retry is not None:
            return
        alive = len(self._owned) + len(self._stock) + len(self._births)
        wanted = self._stock_size + len(self._waiting) - len(self._stock) - len(self._births)
        for _ in range(min(wanted, self._max - alive, MAX_BIRTHS - len(self._births))):
            task = asyncio.create_task(self._bear())
            self._births.add(task)
            task.add_done_callback(lambda _: self._refill())

    async def _bear(self) -> None:
        assert self._backend is not None
        try:
            try:
                session = await self._backend.session()
            finally:
                self._births.discard(asyncio.current_task())
        except Exception as error:
            self._on_failure(error if isinstance(error, BelljarError) else SandboxFailed(str(error)))
            return
        self._failures = 0
        self._last_failure = None
        self._give(session)

    def _give(self, session: GuestSession) -> None:
        if self._closed:
            self._drop(session)
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._hand_out(session)  # now, not when the waiter wakes: it must count all the time
                waiter.set_result(session)
                return
        self._stock.append(session)

    def _on_failure(self, error: BelljarError) -> None:
        if self._retry is not None or self._closed:
            return  # of the same mishap as the one that we wait for: several births that fail together count once
        pause = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
        self._failures += 1
        self._last_failure = error
        log.warning("a sandbox could not be made, next try in %g s: %s", pause, error)
        self._retry = asyncio.get_running_loop().call_later(pause, self._after_pause)

    def _after_pause(self) -> None:
        self._retry = None
        self._refill()

    def _drop(self, session: GuestSession) -> None:
        task = asyncio.create_task(session.close())
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)


def _raise_descriptor_limit() -> None:
    """Each sandbox costs a handful of descriptors; the soft limit is often 1024, the hard one far more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 1 << 20) if hard > 0 else soft), hard))
