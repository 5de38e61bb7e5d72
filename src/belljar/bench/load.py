"""What many sandboxes cost: a sustained load, a burst, memory of the idle, many alive at once.

Promises: each function leaves the pool as it found it: every sandbox that it took is closed. CPU time of a load is that
of zygotes, guests and host, counted while the load is steady, from its first full second on.
Not covered: CPU time that the kernel spends on behalf of nobody (taking down namespaces); `machine` has all of it, and
everything else that the machine did.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from belljar.bench import machine
from belljar.bench.stats import Summary, summarise
from belljar.errors import BelljarError
from belljar.execution import Execution
from belljar.sandbox.pool import Pool
from belljar.sandbox.session import GuestSession

SETTLE_SECONDS = 30.0
PAUSE_SECONDS = 0.01
WARM_UP_SECONDS = 1.0
SAMPLED = 10  # of so many executions under load, one looks at its walls
CODE = "print(1)"
ANSWER = "1\n"
WALLS_CODE = """for line in open('/proc/self/status'):
    if line.startswith(('Seccomp:', 'NoNewPrivs:', 'CapEff:')):
        print(line.strip())
"""
WALLS = {"Seccomp": 2, "NoNewPrivs": 1, "CapEff": 0}  # proc_pid_status(5); a filter, set, none


@dataclass(frozen=True, kw_only=True)
class Cpu:
    """CPU time a sandbox, in milliseconds. `machine`: everything that ran on this machine meanwhile."""

    zygote: float
    guests: float
    host: float
    total: float
    machine: float

    @classmethod
    def of(cls, used: Sequence[float], count: int) -> Cpu:
        """From what zygotes, guests, host and machine used for so many sandboxes."""
        zygote, guests, host, everything = (value / count for value in used)
        return cls(zygote=zygote, guests=guests, host=host, total=zygote + guests + host, machine=everything)


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """A sustained load: `count` sandboxes used and destroyed, without those that failed; `latency` in seconds.

    `walls_seen` of them looked at their own walls; in `walls_up` of those all stood.
    """

    seconds: float
    users: int
    count: int
    failed: int
    per_second: float
    latency: Summary | None
    cpu_ms: Cpu | None
    walls_seen: int
    walls_up: int
    failure: str


@dataclass(frozen=True, kw_only=True)
class Burst:
    """Executions asked for at once. `latency` in seconds, from the first request on, of those that succeeded."""

    asked: int
    succeeded: int
    latency: Summary | None
    p99: float | None
    failure: str


@dataclass(frozen=True, kw_only=True)
class Idle:
    """Private memory of waiting sandboxes, medians in MiB: never used; after one print(1). None: not readable."""

    sandboxes: int
    fresh: float | None
    used: float | None


@dataclass(frozen=True, kw_only=True)
class Alive:
    """Many sandboxes at once; times in seconds, memory in MiB.

    `memory_total` is how far MemAvailable fell: all that they cost, kernel and page tables included, and what else the
    machine did meanwhile. `private_each` is the median of their private memory; None where it is not readable.
    """

    asked: int
    alive: int
    answered: int
    seconds: float
    memory_total: float
    memory_each: float | None
    private_each: float | None
    failure: str


@dataclass(kw_only=True)
class _Tally:
    count: int = 0
    failed: int = 0
    walls_seen: int = 0
    walls_up: int = 0
    failure: str = ""
    latencies: list[float] = field(default_factory=list)

    def fail(self, reason: str) -> None:
        self.failed += 1
        self.failure = self.failure or reason


async def settle(pool: Pool, ready: int) -> None:
    """Wait until the stock is full and nothing is being made. Raises TimeoutError."""
    async with asyncio.timeout(SETTLE_SECONDS):
        while pool.facts["ready"] != ready or pool.facts["starting"]:  # noqa: ASYNC110 -- the pool tells nobody
            await asyncio.sleep(PAUSE_SECONDS / 5)
        await asyncio.sleep(PAUSE_SECONDS)  # the taking-down of the one before


async def throughput(pool: Pool, seconds: float, users: int) -> Throughput:
    """Some users, each taking a fresh sandbox, running print(1), giving it back, and again."""
    tally = _Tally()
    async with _users(pool, users, tally):
        await asyncio.sleep(WARM_UP_SECONDS)
        pids = machine.zygotes_below(pool.backend.zygote_pids)
        vars(tally).update(vars(_Tally()))  # from here on it counts
        before, start = _cpu(pids), time.perf_counter()
        await asyncio.sleep(seconds)
        after, took = _cpu(pids), time.perf_counter() - start
        count, failed = tally.count, tally.failed
    used = [b - a for a, b in zip(before, after, strict=True)]
    return Throughput(
        seconds=took,
        users=users,
        count=count,
        failed=failed,
        per_second=count / took,
        latency=summarise(tally.latencies),
        cpu_ms=Cpu.of(used, count) if count else None,
        walls_seen=tally.walls_seen,
        walls_up=tally.walls_up,
        failure=tally.failure,
    )


@asynccontextmanager
async def _users(pool: Pool, users: int, tally: _Tally) -> AsyncIterator[None]:
    stop = asyncio.Event()
    tasks = [asyncio.create_task(_user(pool, tally, stop)) for _ in range(users)]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def _user(pool: Pool, tally: _Tally, stop: asyncio.Event) -> None:
    while not stop.is_set():
        looks = tally.count % SAMPLED == 0
        start = time.perf_counter()
        try:
            async with pool.session() as session:
                execution = await session.run(WALLS_CODE if looks else CODE)
                seconds = time.perf_counter() - start
        except BelljarError as error:
            tally.fail(str(error))
            await asyncio.sleep(PAUSE_SECONDS)
            continue
        if not execution.ok or (not looks and execution.stdout != ANSWER):
            tally.fail(what_failed(execution))
            continue
        tally.count += 1
        tally.latencies.append(seconds)
        if looks:
            tally.walls_seen += 1
            tally.walls_up += walls_up(execution.stdout)


def walls_up(status: str) -> bool:
    """Whether lines of /proc/self/status tell of walls that stand; what a kernel does not report is not judged."""
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return "Seccomp" in fields and all(int(value, 16) == WALLS.get(name, -1) for name, value in fields.items())


def _cpu(zygotes: Sequence[int]) -> tuple[float, float, float, float]:
    """Milliseconds of zygotes, of guests that have ended, of this process, of the whole machine."""
    pairs = [machine.cpu_ms(pid) for pid in zygotes]
    return (
        sum(own for own, _ in pairs),
        sum(children for _, children in pairs),
        time.process_time() * 1000,
        machine.ticks().busy,
    )


async def burst(pool: Pool, count: int) -> Burst:
    """So many executions, each in a fresh sandbox, asked for in one moment."""
    start = time.perf_counter()

    async def one() -> tuple[float, Execution]:
        async with pool.session() as session:
            execution = await session.run(CODE)
            return time.perf_counter() - start, execution

    answers = await asyncio.gather(*(one() for _ in range(count)), return_exceptions=True)
    good = [a[0] for a in answers if not isinstance(a, BaseException) and a[1].stdout == ANSWER]
    bad = [a for a in answers if isinstance(a, BaseException) or a[1].stdout != ANSWER]
    summary = summarise(good)
    return Burst(
        asked=count,
        succeeded=len(good),
        latency=summary,
        p99=summary.p99 if summary and not bad else None,
        failure=_failure(bad[0] if isinstance(bad[0], BaseException) else bad[0][1]) if bad else "",
    )


async def idle(pool: Pool, count: int) -> Idle:
    """The private memory of sandboxes which nobody has used yet, and after their first execution."""
    sessions = await _take(pool, count)
    try:
        fresh = _private(sessions)
        for session in sessions:
            await session.run(CODE)
        return Idle(sandboxes=len(sessions), fresh=fresh, used=_private(sessions))
    finally:
        await _give_back(sessions)


async def alive(pool: Pool, ready: int, count: int) -> Alive:
    """So many sandboxes taken and kept, then print(1) in each while all are there."""
    await settle(pool, ready)
    before, start = machine.available_mib(), time.perf_counter()
    sessions: list[GuestSession] = []
    failure = ""
    try:
        for _ in range(count):
            try:
                sessions.append(await pool.acquire())
            except BelljarError as error:
                failure = str(error)
                break
        seconds = time.perf_counter() - start
        await _refilled(pool, ready)
        used, private = before - machine.available_mib(), _private(sessions)
        answers = await asyncio.gather(*(session.run(CODE) for session in sessions), return_exceptions=True)
    finally:
        await _give_back(sessions)
    return Alive(
        asked=count,
        alive=len(sessions),
        answered=sum(not isinstance(a, BaseException) and a.stdout == ANSWER for a in answers),
        seconds=seconds,
        memory_total=used,
        memory_each=used / len(sessions) if sessions else None,
        private_each=private,
        failure=failure,
    )


async def _refilled(pool: Pool, ready: int) -> None:
    """Wait for the stock that was there at the start; a full pool has no room for one."""
    facts = pool.facts
    room = int(facts["max"]) - int(facts["in_use"])
    await settle(pool, min(ready, max(room, 0)))


async def _take(pool: Pool, count: int) -> list[GuestSession]:
    sessions: list[GuestSession] = []
    try:
        for _ in range(count):
            sessions.append(await pool.acquire())
    except BaseException:
        await _give_back(sessions)
        raise
    return sessions


async def _give_back(sessions: Sequence[GuestSession]) -> None:
    await asyncio.gather(*(session.close() for session in sessions))


def _private(sessions: Sequence[GuestSession]) -> float | None:
    seen = [memory.private for s in sessions if s.pid and (memory := machine.memory(s.pid)) is not None]
    return statistics.median(seen) if seen else None


def _failure(cause: BaseException | Execution) -> str:
    return what_failed(cause) if isinstance(cause, Execution) else f"{type(cause).__name__}: {cause}"


def what_failed(execution: Execution) -> str:
    """In words, why an execution was not what it should be."""
    return f"outcome {execution.outcome}: {execution.error.value if execution.error else execution.stderr[:100]}"
