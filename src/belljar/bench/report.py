"""A benchmark's report as JSON and as text: ratios and targets first, absolute figures after them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from belljar.bench.rivals import BARE, TASKS
from belljar.bench.sandbox import Report, Row
from belljar.bench.stats import Verdict, ratio

MARKS = {True: "met", False: "MISSED", None: "not measured"}
LABELS = {"light": "light (nothing imported before)", "full": "all libraries imported"}


def as_json(report: Report) -> dict[str, Any]:
    """The report as JSON values; docs/benchmarks.md describes it."""
    return asdict(report) | {"targets": [verdict.as_json() for verdict in report.verdicts()]}


def as_text(report: Report) -> str:
    """The report for a terminal."""
    parts = (_targets, _table, _throughput, _memory, _many, _where)
    return "\n\n".join(text for part in parts if (text := "\n".join(part(report))))


def _targets(report: Report) -> Iterator[str]:
    yield f"{'':44} {'measured':>10}  {'target':>10}"
    for verdict in report.verdicts():
        yield f"{verdict.target.what:44} {_value(verdict):>10}  {_bound(verdict):>10}  {MARKS[verdict.met]}"


def _value(verdict: Verdict) -> str:
    return "-" if verdict.value is None else _number(verdict.value, verdict.target.unit)


def _bound(verdict: Verdict) -> str:
    sign = "≥" if verdict.target.at_least else "≤"
    return f"{sign} {_number(verdict.target.bound, verdict.target.unit)}"


def _number(value: float, unit: str) -> str:
    if unit == "ratio":
        return f"{value:.3f}" if value >= 0.001 else f"{value:.5f}"
    return f"{value:.1f}" if unit == "1/s" else f"{value:.2f} {unit}"


def _table(report: Report) -> Iterator[str]:
    if not report.side_by_side:
        return
    yield f"milliseconds{'':34}{'p50':>9}{'p95':>9}{'p99':>9}{'cpu p50':>9}{'n':>5}   x of {BARE}"
    tasks = {task.name: task.label for task in TASKS} | {"run": "the whole process, no server: print(1)"}
    for name, label in tasks.items():
        rows = [row for row in report.side_by_side if row.task == name]
        if rows:
            yield label
        for row in sorted(rows, key=lambda row: row.seconds.p50 if row.seconds else float("inf")):
            yield _row(report, row)


def _row(report: Report, row: Row) -> str:
    name = f"  {row.contestant:44}"
    if row.seconds is None:
        return f"{name}{row.status if row.status != 'measured' else 'no round was its'}"
    times = (row.seconds.p50, row.seconds.p95, row.seconds.p99, row.cpu.p50 if row.cpu else None)
    cells = "".join(f"{'-':>9}" if time is None else f"{time * 1000:9.1f}" for time in times)
    share = ratio(row.seconds, report.row("print" if row.task == "run" else row.task, BARE))
    return f"{name}{cells}{row.seconds.n:5}   {'' if share is None else f'{share:.3f}'}".rstrip()


def _throughput(report: Report) -> Iterator[str]:
    for variant, done in report.throughput.items():
        yield (
            f"sandboxes used and destroyed, {LABELS[variant]}: {done.per_second:.1f} a second "
            f"for {done.seconds:.1f} s by {done.users} users: {done.count}, and {done.failed} that failed"
        )
        if done.cpu_ms is not None:
            cpu = done.cpu_ms
            parts = f"zygote {cpu.zygote:.1f} + guest {cpu.guests:.1f} + host {cpu.host:.1f}"
            yield f"  CPU ms each: {cpu.total:.1f} = {parts}  (everything on this machine: {cpu.machine:.1f})"
            if (bare := report.row("print", BARE, cpu=True)) is not None:
                yield f"  that is {cpu.total / (bare.p50 * 1000):.2f} times the CPU time of {BARE} 'print(1)'"
        yield f"  walls up (seccomp, no_new_privs, no capability): in {done.walls_up} of {done.walls_seen} looked at"


def _memory(report: Report) -> Iterator[str]:
    for variant, seen in report.idle.items():
        yield (
            f"private memory of an idle sandbox, {LABELS[variant]}: {_mib(seen.fresh)}; "
            f"after print(1): {_mib(seen.used)} (median of {seen.sandboxes})"
        )
    if (zygote := report.zygote) is not None:
        yield (
            f"a zygote, {LABELS['full']}: {zygote.modules} modules imported in {zygote.import_seconds:.2f} s; "
            f"the pool ready in {zygote.start_seconds:.2f} s"
        )
        if zygote.memory is not None:
            yield f"  resident {_mib(zygote.memory.rss)}, shared by all its sandboxes"


def _many(report: Report) -> Iterator[str]:
    if (alive := report.alive) is not None:
        each = "" if alive.memory_each is None else f", {_mib(alive.memory_each)} each"
        yield (
            f"{alive.alive} of {alive.asked} sandboxes alive at once, made in {alive.seconds:.1f} s: "
            f"{alive.memory_total:.0f} MiB of the machine's memory{each} "
            f"(private: {_mib(alive.private_each)}); {alive.answered} answered"
            + (f"; {alive.failure}" if alive.failure else "")
        )
    if (burst := report.burst) is not None:
        named = {"p50": burst.latency.p50, "p99": burst.p99, "max": burst.latency.max} if burst.latency else {}
        seconds = "".join(f", {name} {value:.2f} s" for name, value in named.items() if value is not None)
        yield (
            f"{burst.asked} executions at once: {burst.succeeded} succeeded{seconds}"
            + (f"; {burst.failure}" if burst.failure else "")
        )


def _mib(value: float | None) -> str:
    return "not readable" if value is None else f"{value:.1f} MiB"


def _where(report: Report) -> Iterator[str]:
    here, settings = report.machine, report.settings
    yield here.line
    yield (
        f"Python {here.python} (image: {report.image_python}), {'root' if here.is_root else 'ordinary user'}, "
        f"profile {settings.profile}, limits by {report.limiter or 'nobody asked'}"
    )
    yield (
        f"load average at the start {here.load_average:.2f}, time stolen from this machine {report.stolen_share:.1%}, "
        f"run took {report.seconds:.0f} s"
    )
    for warning in report.warnings:
        yield f"WARNING: {warning}"
