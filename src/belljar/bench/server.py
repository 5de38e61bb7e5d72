"""`belljar bench server`: what Belljar's server adds to a chat, beside a bare relay and no server at all, in one run.

Promises: contestants take turns (round-robin), so noise hits all alike, and each starts when the one before has nothing
left to do; every answer is checked, and one that is wrong, cut or missing is counted with its reason and leaves the
figure without a verdict. Nothing is left: processes and the temporary folder go, also when the run is cancelled.
Not covered: real models; networks; more than one machine. Clients, upstream and server share this machine's processors.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from belljar.bench import machine
from belljar.bench.server_contestants import (
    BELLJAR,
    CLIENTS,
    CODED,
    CONTESTANTS,
    DIALECTS,
    DIRECT,
    MANY,
    RELAY,
    SECTIONS,
    TARGETS,
    TURNS,
    Contestant,
)
from belljar.bench.server_load import Result, Work
from belljar.bench.server_processes import Load, Server, loading, quiet, serving
from belljar.bench.stats import Summary, Verdict, summarise

SCHEMA = 1
QUIET_SECONDS = 0.5
WARM_UP_SECONDS = 0.3
WARM_UP_CLIENTS = 16

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure, and how long: each of `rounds` gives each contestant `seconds`, for each number of clients."""

    image: str = "default"
    profile: str = "full"
    rounds: int = 6
    seconds: float = 0.5
    clients: tuple[int, ...] = CLIENTS
    only: tuple[str, ...] = SECTIONS
    warm_up: bool = True


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came of one contestant with so many clients. Times in seconds, of right answers; CPU time in milliseconds a
    right answer: of the server's whole tree of processes, of the clients, and of all that ran on this machine.
    """

    contestant: str
    clients: int
    stream: bool
    seconds: float
    count: int
    failed: int
    failures: Mapping[str, int]
    per_second: float | None
    total: Summary | None
    first: Summary | None
    cpu_ms: float | None
    client_cpu_ms: float | None
    machine_cpu_ms: float | None


@dataclass(kw_only=True)
class Tally:
    """What one row gathers, slice after slice."""

    contestant: Contestant
    clients: int
    stream: bool
    result: Result = field(default_factory=Result)
    server_ms: float = 0.0
    machine_ms: float = 0.0

    def add(self, result: Result, server_ms: float, machine_ms: float) -> None:
        """One slice more."""
        mine = self.result
        mine.total += result.total
        mine.first += result.first
        for reason, count in result.failures.items():
            mine.fail(reason, count)
        mine.seconds += result.seconds
        mine.cpu_ms += result.cpu_ms
        self.server_ms += server_ms
        self.machine_ms += machine_ms

    def row(self) -> Row:
        """The sums and their summaries."""
        result, count = self.result, len(self.result.total)
        return Row(
            contestant=self.contestant.name,
            clients=self.clients,
            stream=self.stream,
            seconds=result.seconds,
            count=count,
            failed=sum(result.failures.values()),
            failures=dict(result.failures),
            per_second=count / result.seconds if result.seconds else None,
            total=summarise(result.total),
            first=summarise(result.first),
            cpu_ms=self.server_ms / count if count else None,
            client_cpu_ms=result.cpu_ms / count if count else None,
            machine_cpu_ms=self.machine_ms / count if count else None,
        )


@dataclass(kw_only=True)
class Report:
    """Everything of one run. Its JSON is described in docs/benchmarks.md."""

    schema: int = SCHEMA
    machine: machine.Machine
    settings: Settings
    stolen_share: float = 0.0
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def row(self, contestant: str, clients: int, *, stream: bool) -> Row | None:
        """One row; None where it was not measured."""
        wanted = (contestant, clients, stream)
        return next((row for row in self.rows if (row.contestant, row.clients, row.stream) == wanted), None)

    def added(self, contestant: str, base: str, *, stream: bool, first: bool = False) -> float | None:
        """Milliseconds between two medians, at one client. None where one was not measured, or had a failure."""
        rows = [self.row(name, 1, stream=stream) for name in (contestant, base)]
        ours, theirs = ((row.first if first else row.total) if row and not row.failed else None for row in rows)
        return (ours.p50 - theirs.p50) * 1000 if ours and theirs else None

    def share(self, *, stream: bool) -> float | None:
        """Of the bare relay's requests a second, at 16 clients. None where one was not measured, or had a failure."""
        rows = [self.row(name, 16, stream=stream) for name in (BELLJAR, RELAY)]
        ours, theirs = (row.per_second if row and not row.failed else None for row in rows)
        return ours / theirs if ours is not None and theirs else None

    def verdicts(self) -> list[Verdict]:
        """The targets, with what was measured for them."""
        many = self.row(CODED, MANY, stream=True)
        slowest = many.total.p99 if many and many.total and not many.failed else None
        values: dict[str, float | None] = {
            "added": self.added(BELLJAR, DIRECT, stream=False),
            "added_streaming": self.added(BELLJAR, DIRECT, stream=True),
            "added_first": self.added(BELLJAR, DIRECT, stream=True, first=True),
            "share": self.share(stream=False),
            "share_streaming": self.share(stream=True),
            "execution": self.added(CODED, TURNS, stream=False),
            "execution_streaming": self.added(CODED, TURNS, stream=True),
            "many_p99": None if slowest is None else slowest * 1000,
            "many_failed": many.failed if many else None,
        }
        for dialect in DIALECTS:
            values[dialect.name] = self.added(dialect.name, BELLJAR, stream=False)
            values[f"{dialect.name}_streaming"] = self.added(dialect.name, BELLJAR, stream=True)
        return [Verdict(target=target, value=values[target.name]) for target in TARGETS]


async def measure(settings: Settings, say: Say) -> Report:
    """The whole run; `say` gets a line at the start of each part. Raises HostError where a server does not start."""
    start, before = time.perf_counter(), machine.ticks()
    report = Report(machine=machine.describe(), settings=settings)
    await asyncio.sleep(QUIET_SECONDS)
    report.warnings += machine.noise(report.machine, before, machine.ticks())
    for warning in report.warnings:
        say(f"warning: {warning}")
    tallies = [Tally(contestant=c, clients=n, stream=s) for c, n, s in plan(settings)]
    with tempfile.TemporaryDirectory(prefix="belljar-bench-") as name:
        async with _servers(settings, Path(name), say) as servers, loading(Path(name)) as load:
            await _rounds(report, tallies, servers, load, say)
    report.rows = [tally.row() for tally in tallies]
    after = machine.ticks()
    report.stolen_share = (after.stolen - before.stolen) / max(after.total - before.total, 1)
    report.seconds = time.perf_counter() - start
    return report


def plan(settings: Settings) -> Iterator[tuple[Contestant, int, bool]]:
    """One round: who, with how many clients, streaming or not. What is compared is next to one another."""
    for clients in settings.clients:
        for stream in (False, True):
            for contestant in CONTESTANTS:
                if contestant.takes_part(settings.only, clients):
                    yield contestant, clients, stream


@asynccontextmanager
async def _servers(settings: Settings, folder: Path, say: Say) -> AsyncIterator[dict[str, Server]]:
    """The servers that the contestants need, by name."""
    needed = {contestant.server for contestant, _, _ in plan(settings)} | {"upstream"}
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(serving("upstream", ["belljar.bench.server_upstream"], folder))
        commands = {
            "relay": ["belljar.bench.server_relay", upstream.url],
            "belljar": [
                *("belljar", "--config", "/dev/null", "serve", "--port", "0", "--upstream", upstream.url),
                *("--image", settings.image, "--profile", settings.profile, "--data", str(folder / "kept")),
            ],
        }
        servers = {"upstream": upstream}
        for name in sorted(needed & set(commands)):
            say(f"starting {name}")
            servers[name] = await stack.enter_async_context(serving(name, commands[name], folder, [upstream.port]))
        yield servers


async def _rounds(
    report: Report, tallies: Sequence[Tally], servers: Mapping[str, Server], load: Load, say: Say
) -> None:
    settings = report.settings
    if settings.warm_up:
        await _warm_up(report, servers, load, say)
    lost: set[tuple[str, int]] = set()  # who has answered nothing for a whole slice is not waited for again
    for number in range(settings.rounds):
        say(f"round {number + 1} of {settings.rounds}")
        for tally in tallies:
            who = (tally.contestant.name, tally.clients)
            if who in lost:
                continue
            result = await _slice(tally, settings.seconds, servers, load)
            if not result.total:
                lost.add(who)
                reason = next(iter(result.failures), "nothing came")
                report.warnings.append(f"{who[0]}, {who[1]} clients: out from round {number + 1} on: {reason}")
                say(f"warning: {report.warnings[-1]}")


async def _warm_up(report: Report, servers: Mapping[str, Server], load: Load, say: Say) -> None:
    """Everybody once, streaming and not, before it counts; failures are told."""
    say("warming up")
    only = report.settings.only
    for contestant in CONTESTANTS:
        for stream in (False, True):
            if contestant.takes_part(only):
                clients = WARM_UP_CLIENTS if contestant.takes_part(only, WARM_UP_CLIENTS) else 1
                tally = Tally(contestant=contestant, clients=clients, stream=stream)
                result = await _slice(tally, WARM_UP_SECONDS, servers, load)
                for reason, count in result.failures.items():
                    report.warnings.append(f"{contestant.name}, warming up: {count} failed: {reason}")
                    say(f"warning: {report.warnings[-1]}")


async def _slice(tally: Tally, seconds: float, servers: Mapping[str, Server], load: Load) -> Result:
    """One contestant's turn. CPU time is counted until what it left to do is done."""
    server, pause = servers[tally.contestant.server], tally.contestant.pause(tally.clients)
    await quiet(list(servers.values()))
    before, busy = server.cpu_ms(), machine.ticks().busy
    work = Work(
        host="127.0.0.1",
        port=server.port,
        steps=list(tally.contestant.steps),
        stream=tally.stream,
        clients=tally.clients,
        seconds=tally.contestant.seconds(seconds, tally.clients),
        pause=pause,
    )
    result = await load.run(work)
    await quiet([server])
    tally.add(result, server.cpu_ms() - before, machine.ticks().busy - busy)
    server.forget_log()
    return result
