"""`belljar bench sandbox`: sandboxes of Belljar's and other ways to run the same code, side by side in one run.

Promises: contestants take turns (round-robin), so noise hits all alike; before every timed call the pool's stock is
full and nothing is being forked. What was not measured is None in the report and has its reason beside it. Nothing is
left: pools, processes and the temporary folder go, also when the run is cancelled.
Not covered: the server and the models; this is the sandbox alone.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from belljar.bench import load, machine
from belljar.bench.rivals import (
    BARE,
    BELLJAR,
    OFTEN,
    TASKS,
    Contestant,
    RivalFailed,
    Sample,
    Task,
    belljar_run,
    rivals,
)
from belljar.bench.stats import Summary, Verdict, judge, ratio, summarise
from belljar.errors import BelljarError
from belljar.sandbox.image import find_image
from belljar.sandbox.pool import Pool

SCHEMA = 1
READY = 8  # the stock: the pool's default
USERS = 6
BURST = 128
IDLE = 16
QUIET_SECONDS = 0.5
SIDE_BY_SIDE = ("print", "pandas", "plot", "run")
LOADS = ("throughput", "idle", "alive", "burst")
SECTIONS = (*SIDE_BY_SIDE, *LOADS)
NO_PIDS = ("gvisor",)  # profiles whose guests are not processes of this kernel

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure, and how long. `seconds` of each sustained load; `preload` None is the image's whole list."""

    image: str = "default"
    profile: str = "full"
    rounds: int = 15
    seconds: float = 10.0
    alive: int = 100
    warm_up: bool = True
    only: tuple[str, ...] = SECTIONS
    preload: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one contestant took for one task, in seconds. `status` is "measured", or says why it was not."""

    task: str
    contestant: str
    label: str
    status: str
    seconds: Summary | None = None
    cpu: Summary | None = None


@dataclass(frozen=True, kw_only=True)
class Zygote:
    """A zygote of the pool with all libraries. Memory in MiB, times in seconds; None where it cannot be read."""

    modules: int
    import_seconds: float
    start_seconds: float
    memory: machine.Memory | None


@dataclass(kw_only=True)
class Report:
    """Everything of one run. Its JSON is described in docs/benchmarks.md."""

    schema: int = SCHEMA
    machine: machine.Machine
    settings: Settings
    image_python: str
    limiter: str = ""
    stolen_share: float = 0.0
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    side_by_side: list[Row] = field(default_factory=list)
    throughput: dict[str, load.Throughput] = field(default_factory=dict)
    idle: dict[str, load.Idle] = field(default_factory=dict)
    alive: load.Alive | None = None
    burst: load.Burst | None = None
    zygote: Zygote | None = None

    def row(self, task: str, contestant: str, *, cpu: bool = False) -> Summary | None:
        """The times of a contestant, or its CPU times."""
        rows = (row for row in self.side_by_side if (row.task, row.contestant) == (task, contestant))
        return next((row.cpu if cpu else row.seconds for row in rows), None)

    def verdicts(self) -> list[Verdict]:
        """The targets, with what was measured for them."""
        run = self.row("run", "belljar run -c")
        values: dict[str, float | None] = {
            task.name: ratio(self.row(task.name, BELLJAR), self.row(task.name, BARE)) for task in TASKS
        }
        values |= {name: None if done.failed else done.per_second for name, done in self.throughput.items()}
        values["run"] = run.p50 if run else None
        values["idle"] = self.idle["full"].fresh if "full" in self.idle else None
        values["burst"] = self.burst.p99 if self.burst else None
        return judge(values)


async def measure(settings: Settings, say: Say) -> Report:
    """The whole run; `say` gets a line at the start of each part.

    Raises ImageError, IsolationUnavailable, SandboxFailed.
    """
    image = find_image(settings.image)
    start, before = time.perf_counter(), machine.ticks()
    report = Report(machine=machine.describe(), settings=settings, image_python=image.python_version)
    await asyncio.sleep(QUIET_SECONDS)
    report.warnings += machine.noise(report.machine, before, machine.ticks())
    for warning in report.warnings:
        say(f"warning: {warning}")
    if "throughput" in settings.only or "idle" in settings.only:
        say("starting a pool, light")
        async with Pool(settings.image, profile=settings.profile, ready=READY, preload=()) as pool:
            await _loads(report, pool, "light", say)
    if set(settings.only) != {"run"}:
        say("starting a pool, all libraries")
        started = time.perf_counter()
        async with Pool(settings.image, profile=settings.profile, ready=READY, preload=settings.preload) as pool:
            report.limiter = str(pool.facts["limiter"])
            report.zygote = _zygote(pool, time.perf_counter() - started)
            await _with_all_libraries(report, pool, say)
    else:
        await _side_by_side(report, None, say)
    after = machine.ticks()
    report.stolen_share = (after.stolen - before.stolen) / max(after.total - before.total, 1)
    report.seconds = time.perf_counter() - start
    return report


async def _with_all_libraries(report: Report, pool: Pool, say: Say) -> None:
    only = report.settings.only
    if set(SIDE_BY_SIDE) & set(only):
        await _side_by_side(report, pool, say)
    await _loads(report, pool, "full", say)
    if "alive" in only:
        say(f"{report.settings.alive} sandboxes alive at once")
        report.alive = await load.alive(pool, READY, report.settings.alive)
        await load.settle(pool, READY)
    if "burst" in only:
        say(f"{BURST} executions at once")
        await load.settle(pool, READY)
        report.burst = await load.burst(pool, BURST)


async def _loads(report: Report, pool: Pool, variant: str, say: Say) -> None:
    if "idle" in report.settings.only and report.settings.profile not in NO_PIDS:
        await load.settle(pool, READY)
        report.idle[variant] = await load.idle(pool, IDLE)
    if "throughput" in report.settings.only:
        say(f"sandboxes a second, {variant}")
        await load.settle(pool, READY)
        done = report.throughput[variant] = await load.throughput(pool, report.settings.seconds, USERS)
        if done.failed:
            report.warnings.append(f"{done.failed} executions failed, {variant}: {done.failure}")
        if done.walls_seen != done.walls_up:
            report.warnings.append(f"walls were missing in {done.walls_seen - done.walls_up} sandboxes, {variant}")


def _zygote(pool: Pool, seconds: float) -> Zygote:
    imports = pool.backend.imports
    pids = machine.zygotes_below(pool.backend.zygote_pids)
    return Zygote(
        modules=len(imports),
        import_seconds=sum(imports.values()) / 1000,
        start_seconds=seconds,
        memory=machine.memory(pids[0]) if pids else None,
    )


# --- side by side -----------------------------------------------------------------------------------------------------


async def _side_by_side(report: Report, pool: Pool | None, say: Say) -> None:
    settings = report.settings
    image = find_image(settings.image)
    with tempfile.TemporaryDirectory(prefix="belljar-bench-", ignore_cleanup_errors=True) as folder:
        entries = [*rivals(image, Path(folder)), belljar_run(settings.image, settings.profile)]
        if pool is not None:
            entries += [_ours(pool, task) for task in TASKS]
        entries = [entry for entry in entries if entry.task in settings.only]

        async def ready() -> None:
            if pool is not None:
                await load.settle(pool, READY)

        report.side_by_side = await take_turns(entries, settings.rounds, settings.warm_up, ready, say)


def _ours(pool: Pool, task: Task) -> Contestant:
    async def call() -> Sample:
        start = time.perf_counter()
        session = await pool.acquire()
        try:
            execution = await session.run(task.guest)
            seconds = time.perf_counter() - start
        finally:
            await session.close()
        shown = [execution.stdout.encode(), *(r.png for r in execution.results if r.png)]
        if not execution.ok or not any(data.startswith(task.answer) for data in shown if data):
            raise RivalFailed(load.what_failed(execution))
        return Sample(seconds=seconds)

    return Contestant(name=BELLJAR, task=task.name, label="fresh sandbox, warm pool", call=call, calls=OFTEN)


async def take_turns(
    entries: Sequence[Contestant],
    rounds: int,
    warm_up: bool,
    ready: Callable[[], Awaitable[None]],
    say: Say,
) -> list[Row]:
    """Call everyone in turn, for so many rounds, `ready` before every timed call. Who fails is out, with the reason."""
    samples: dict[int, list[Sample]] = defaultdict(list)
    out = {number: entry.missing for number, entry in enumerate(entries) if entry.missing}

    async def turn(number: int, *, counts: bool = True) -> None:
        call = entries[number].call
        if number in out or call is None:
            return
        await ready()
        try:
            sample = await call()
        except (RivalFailed, BelljarError) as error:
            out[number] = f"failed: {error}"
            return
        if counts:
            samples[number].append(sample)

    for number in range(len(entries)) if warm_up else ():
        await turn(number, counts=False)
    for number in range(rounds):
        say(f"side by side, round {number + 1} of {rounds}")
        for index in _turns(entries, number, rounds):
            await turn(index)
    return [_row(entry, out.get(number, ""), samples[number]) for number, entry in enumerate(entries)]


def _turns(entries: Sequence[Contestant], number: int, rounds: int) -> Iterable[int]:
    """Whose turn it is within a round, by index: everyone once, then again those who have more calls a round."""
    for call in range(max((entry.calls for entry in entries), default=0)):
        for index, entry in enumerate(entries):
            if call < entry.calls and number < math.ceil(entry.share * rounds):
                yield index


def _row(entry: Contestant, out: str, samples: Sequence[Sample]) -> Row:
    times: dict[str, Any] = {}
    if not out:
        cpu = [sample.cpu for sample in samples if sample.cpu is not None]
        times = {"seconds": summarise([sample.seconds for sample in samples]), "cpu": summarise(cpu)}
    return Row(task=entry.task, contestant=entry.name, label=entry.label, status=out or "measured", **times)
