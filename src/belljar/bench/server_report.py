"""The report of `belljar bench server` as JSON and as text: targets first, absolute figures after them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from belljar.bench.report import MARKS
from belljar.bench.server import Report, Row
from belljar.bench.server_contestants import BELLJAR, CODED, CONTESTANTS, DIALECTS, DIRECT, RELAY, TURNS
from belljar.bench.stats import Summary, Verdict

MODES = {False: "not streaming", True: "streaming"}
BASES = {RELAY: DIRECT, BELLJAR: DIRECT, CODED: TURNS}  # what is added is added to that
BASES |= {dialect.name: BELLJAR for dialect in DIALECTS} | {dialect.coded_name: CODED for dialect in DIALECTS}
NUMBERS = {"ms": "{:.2f} ms", "ratio": "{:.3f}", "count": "{:.0f}"}


def as_json(report: Report) -> dict[str, Any]:
    """The report as JSON values; docs/benchmarks.md describes it."""
    added = {
        name: {
            "total": report.added(name, base, stream=False),
            "total_streaming": report.added(name, base, stream=True),
            "first": report.added(name, base, stream=True, first=True),
        }
        for name, base in BASES.items()
    }
    return asdict(report) | {"added_ms": added, "targets": [verdict.as_json() for verdict in report.verdicts()]}


def as_text(report: Report) -> str:
    """The report for a terminal."""
    parts = (_targets, _added, _table, _failures, _where)
    return "\n\n".join(text for part in parts if (text := "\n".join(part(report))))


def _targets(report: Report) -> Iterator[str]:
    yield f"{'':54} {'measured':>12}  {'target':>12}"
    for verdict in report.verdicts():
        yield f"{verdict.target.what:54} {_value(verdict):>12}  {_bound(verdict):>12}  {MARKS[verdict.met]}"


def _value(verdict: Verdict) -> str:
    return "-" if verdict.value is None else NUMBERS[verdict.target.unit].format(verdict.value)


def _bound(verdict: Verdict) -> str:
    sign = "≥" if verdict.target.at_least else "≤"
    return f"{sign} {NUMBERS[verdict.target.unit].format(verdict.target.bound)}"


def _added(report: Report) -> Iterator[str]:
    for name, base in BASES.items():
        times = {
            "total": report.added(name, base, stream=False),
            "streaming": report.added(name, base, stream=True),
            "first token": report.added(name, base, stream=True, first=True),
        }
        told = [f"{what} {value:.2f} ms" for what, value in times.items() if value is not None]
        if told:
            yield f"{name} adds to {base!r}, one client, p50: {', '.join(told)}"


def _table(report: Report) -> Iterator[str]:
    if report.rows:
        yield (
            f"{'milliseconds':28}{'total p50':>10}{'p95':>8}{'p99':>8}{'first p50':>11}{'p95':>8}{'p99':>8}"
            f"{'1/s':>8}{'cpu':>7}{'client':>7}{'n':>7}{'failed':>7}"
        )
    order = {contestant.name: place for place, contestant in enumerate(CONTESTANTS)}
    for clients, stream in sorted({(row.clients, row.stream) for row in report.rows}):
        yield f"{clients} client{'s' if clients > 1 else ''}, {MODES[stream]}"
        rows = [row for row in report.rows if (row.clients, row.stream) == (clients, stream)]
        yield from (_row(row) for row in sorted(rows, key=lambda row: order[row.contestant]))


def _row(row: Row) -> str:
    values = (*_times(row.total), *_times(row.first))
    times = "".join(_cell(width, 2, value) for width, value in zip((10, 8, 8, 11, 8, 8), values, strict=True))
    costs = _cell(8, 0, row.per_second) + _cell(7, 2, row.cpu_ms) + _cell(7, 2, row.client_cpu_ms)
    return f"  {row.contestant:26}{times}{costs}{row.count:7}{row.failed:7}"


def _times(summary: Summary | None) -> tuple[float | None, ...]:
    if summary is None:
        return (None, None, None)
    return tuple(None if time is None else time * 1000 for time in (summary.p50, summary.p95, summary.p99))


def _cell(width: int, digits: int, value: float | None) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:{width}.{digits}f}"


def _failures(report: Report) -> Iterator[str]:
    for row in report.rows:
        for reason, count in row.failures.items():
            yield f"FAILED: {row.contestant}, {row.clients} clients, {MODES[row.stream]}: {count} times: {reason}"


def _where(report: Report) -> Iterator[str]:
    here, settings = report.machine, report.settings
    yield here.line
    yield f"Python {here.python}, {'root' if here.is_root else 'ordinary user'}, profile {settings.profile}"
    yield "cpu: milliseconds of CPU time a request, of the server asked and every process below it; client: of the load"
    yield (
        f"load average at the start {here.load_average:.2f}, time stolen from this machine {report.stolen_share:.1%}, "
        f"{settings.rounds} rounds of {settings.seconds:g} s, run took {report.seconds:.0f} s"
    )
    for warning in report.warnings:
        yield f"WARNING: {warning}"
