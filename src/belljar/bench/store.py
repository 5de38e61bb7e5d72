"""`belljar bench store`: what a full store costs, beside an empty one, in one run.

Two servers of the same kind: one keeps a single answer, the other is filled over HTTP with `answers` of them. Then both
are asked for kept answers. Promises: they are asked in turns, so that noise hits both alike; every answer is checked,
and one that is wrong or missing ends the run. Nothing is left: processes and the temporary folder go, also when the run
is cancelled. Not covered: PostgreSQL; networks; how the disk behaves when it is busy with others.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from belljar.bench import machine
from belljar.bench.report import MARKS
from belljar.bench.server_processes import Server, quiet, serving
from belljar.bench.server_wires import MODEL
from belljar.bench.stats import Summary, Target, Verdict, summarise
from belljar.errors import HostError

SCHEMA = 1
EMPTY, FULL = "empty", "full"
CLIENTS = 16  # that fill the store at once
WARM = 500  # answers after which the server's memory is what it is
QUIET_SECONDS = 0.5
PATIENCE = aiohttp.ClientTimeout(total=30)
PROMPT_BYTES = 400

TARGETS = (
    Target(name="p95", what="GET of a kept answer, p95: full / empty", unit="ratio", bound=2.0),
    Target(name="memory", what="resident memory of the server: full / after 500", unit="ratio", bound=1.1),
)

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How many `answers` the full store has; each of `rounds` asks each server `asks` times."""

    image: str = "default"
    profile: str = "full"
    answers: int = 10_000
    rounds: int = 20
    asks: int = 100


@dataclass(kw_only=True)
class Report:
    """Everything of one run. Times in seconds, memory in MiB, the database with its log in bytes."""

    schema: int = SCHEMA
    machine: machine.Machine
    settings: Settings
    stolen_share: float = 0.0
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    get: dict[str, Summary | None] = field(default_factory=dict)
    kept_per_second: float | None = None
    memory_warm: float | None = None
    memory_full: float | None = None
    memory_asked: float | None = None
    database_bytes: int = 0

    def verdicts(self) -> list[Verdict]:
        """The targets, with what was measured for them."""
        empty, full = self.get.get(EMPTY), self.get.get(FULL)
        values = {
            "p95": full.p95 / empty.p95 if empty and full else None,
            "memory": self.memory_full / self.memory_warm if self.memory_full and self.memory_warm else None,
        }
        return [Verdict(target=target, value=values[target.name]) for target in TARGETS]


async def measure(settings: Settings, say: Say) -> Report:
    """The whole run; `say` gets a line at the start of each part. Raises HostError: a server does not do its work."""
    start, before = time.perf_counter(), machine.ticks()
    report = Report(machine=machine.describe(), settings=settings)
    await asyncio.sleep(QUIET_SECONDS)
    report.warnings += machine.noise(report.machine, before, machine.ticks())
    for warning in report.warnings:
        say(f"warning: {warning}")
    with tempfile.TemporaryDirectory(prefix="belljar-bench-") as name:
        folder = Path(name)
        async with _servers(settings, folder, say) as (empty, full), aiohttp.ClientSession(timeout=PATIENCE) as client:
            kept = {EMPTY: await _fill(client, empty, 1), FULL: await _fill_up(report, client, full, say)}
            await _ask(report, client, {EMPTY: empty, FULL: full}, kept, say)
            report.memory_asked = _memory(full)
            report.database_bytes = sum(path.stat().st_size for path in (folder / FULL).glob("*.sqlite*"))
    after = machine.ticks()
    report.stolen_share = (after.stolen - before.stolen) / max(after.total - before.total, 1)
    report.seconds = time.perf_counter() - start
    return report


@asynccontextmanager
async def _servers(settings: Settings, folder: Path, say: Say) -> AsyncIterator[tuple[Server, Server]]:
    """Two servers with one upstream, each with a store of its own."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(serving("upstream", ["belljar.bench.server_upstream"], folder))
        servers: list[Server] = []
        for name in (EMPTY, FULL):
            say(f"starting the server whose store is to be {name}")
            command = [
                *("belljar", "--config", "/dev/null", "serve", "--port", "0", "--upstream", upstream.url),
                *("--image", settings.image, "--profile", settings.profile),
                *("--zygotes", "1", "--ready", "1", "--data", str(folder / name)),
            ]
            strangers = [upstream.port, *(server.port for server in servers)]
            servers.append(await stack.enter_async_context(serving(name, command, folder, strangers)))
        yield servers[0], servers[1]


async def _fill_up(report: Report, client: aiohttp.ClientSession, server: Server, say: Say) -> list[str]:
    """The ids of all answers that the full store has."""
    most = report.settings.answers
    say(f"keeping {most:,} answers")
    names = await _fill(client, server, min(WARM, most))
    await quiet([server])
    report.memory_warm, start = _memory(server), time.perf_counter()
    if rest := most - len(names):
        names += await _fill(client, server, rest)
        report.kept_per_second = rest / (time.perf_counter() - start)
    await quiet([server])
    report.memory_full = _memory(server)
    return names


async def _fill(client: aiohttp.ClientSession, server: Server, count: int) -> list[str]:
    """Have answers kept; their ids."""
    numbers = iter(range(count))
    names: list[str] = []

    async def work() -> None:
        for number in numbers:
            prompt = random.Random(number).randbytes(PROMPT_BYTES).hex()
            body = {"model": MODEL, "input": prompt, "metadata": {"number": str(number)}}
            async with client.post(f"{server.url}/responses", json=body) as reply:
                names.append(_check(await reply.json(), reply.status)["id"])

    await asyncio.gather(*(work() for _ in range(min(CLIENTS, count))))
    server.forget_log()
    return names


async def _ask(
    report: Report,
    client: aiohttp.ClientSession,
    servers: Mapping[str, Server],
    kept: Mapping[str, Sequence[str]],
    say: Say,
) -> None:
    """Ask both for answers that they keep, in turns. A first turn does not count."""
    chance = random.Random(1)
    times: dict[str, list[float]] = {name: [] for name in servers}
    settings = report.settings
    for number in range(-1, settings.rounds):
        if number % 5 == 0:
            say(f"round {number + 1} of {settings.rounds}")
        for name, server in servers.items():
            for wanted in chance.choices(kept[name], k=settings.asks):
                start = time.perf_counter()
                async with client.get(f"{server.url}/responses/{wanted}") as reply:
                    body = await reply.read()
                    seconds = time.perf_counter() - start
                    if _check(await reply.json(), reply.status)["id"] != wanted or not body:
                        raise HostError(f"the server has answered {wanted} with another answer")
                if number >= 0:
                    times[name].append(seconds)
            server.forget_log()
    report.get = {name: summarise(samples) for name, samples in times.items()}


def _check(body: Any, status: int) -> dict[str, Any]:
    """A complete response. Raises HostError."""
    if status != 200 or body.get("status") != "completed":
        raise HostError(f"the server has not answered as it should: status {status}: {str(body)[:300]}")
    return dict(body)


def _memory(server: Server) -> float | None:
    found = machine.memory(server.pid)
    return found.rss if found else None


# --- the report -------------------------------------------------------------------------------------------------------


def as_json(report: Report) -> dict[str, Any]:
    """The report as JSON values; docs/benchmarks.md describes it."""
    return asdict(report) | {"targets": [verdict.as_json() for verdict in report.verdicts()]}


def as_text(report: Report) -> str:
    """The report for a terminal."""
    return "\n".join(itertools.chain(_targets(report), [""], _figures(report), [""], _where(report)))


def _targets(report: Report) -> Iterator[str]:
    yield f"{'':54} {'measured':>10}  {'target':>10}"
    for verdict in report.verdicts():
        value = "-" if verdict.value is None else f"{verdict.value:.3f}"
        yield f"{verdict.target.what:54} {value:>10}  {f'≤ {verdict.target.bound:.1f}':>10}  {MARKS[verdict.met]}"


def _figures(report: Report) -> Iterator[str]:
    yield f"{'GET of a kept answer, milliseconds':40}{'p50':>8}{'p95':>8}{'p99':>8}{'n':>8}"
    for name, summary in report.get.items():
        if summary is not None:
            cells = (summary.p50, summary.p95, summary.p99)
            times = "".join(f"{'-':>8}" if cell is None else f"{cell * 1000:8.2f}" for cell in cells)
            count = 1 if name == EMPTY else report.settings.answers
            yield f"  {f'{count:,} in the store':38}{times}{summary.n:8}"
    memory = (
        (f"after {min(WARM, report.settings.answers)}", report.memory_warm),
        ("full", report.memory_full),
        ("asked", report.memory_asked),
    )
    yield "memory of the server, MiB: " + ", ".join(f"{when} {size:.1f}" for when, size in memory if size is not None)
    if report.kept_per_second is not None:
        yield f"answers made and kept by {CLIENTS} clients: {report.kept_per_second:.0f} a second"
    yield f"the database: {report.database_bytes / (1 << 20):.1f} MiB"


def _where(report: Report) -> Iterator[str]:
    here, settings = report.machine, report.settings
    yield here.line
    yield (
        f"load average at the start {here.load_average:.2f}, time stolen from this machine {report.stolen_share:.1%}, "
        f"{settings.rounds} rounds of {settings.asks}, run took {report.seconds:.0f} s"
    )
    for warning in report.warnings:
        yield f"WARNING: {warning}"
