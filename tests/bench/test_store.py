"""`belljar bench store`: the targets' logic, the report, its documentation; a small real run.

No figure of a real run is judged.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from belljar.bench import machine
from belljar.bench.stats import summarise
from belljar.bench.store import EMPTY, FULL, TARGETS, Report, Settings, as_json, as_text, measure
from belljar.errors import ImageError
from belljar.sandbox.image import find_image


def report(empty: float, full: float, warm: float | None, after: float | None) -> Report:
    here = machine.Machine(
        cpu="c", cores=2, memory_mib=1, kernel="6", python="3.11", architecture="x", is_root=True, load_average=0.0
    )
    return Report(
        machine=here,
        settings=Settings(),
        get={EMPTY: summarise([empty] * 3), FULL: summarise([full] * 3)},
        memory_warm=warm,
        memory_full=after,
    )


@pytest.mark.parametrize(
    ("figures", "met"),
    [
        ((1.0, 1.9, 100.0, 105.0), [True, True]),
        ((1.0, 2.1, 100.0, 120.0), [False, False]),
        ((2.0, 1.0, None, 120.0), [True, None]),
    ],
)
def test_a_target_is_met_missed_or_not_measured(
    figures: tuple[float, float, float | None, float | None], met: list[bool | None]
) -> None:
    done = report(*figures)
    assert [verdict.met for verdict in done.verdicts()] == met
    text = as_text(done)
    assert [text.count(word) for word in ("  met", "MISSED", "not measured")] == [
        met.count(each) for each in (True, False, None)
    ]


def test_what_was_not_measured_is_not_claimed() -> None:
    nothing = Report(machine=report(1, 1, None, None).machine, settings=Settings())
    assert [verdict.met for verdict in nothing.verdicts()] == [None, None]
    assert as_text(nothing)


def test_the_documentation_names_every_key_and_target() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs/benchmarks.md").read_text(encoding="utf-8")
    section = text.partition("\n## Store\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", section))
    done = as_json(report(1, 1, 1, 1))
    assert set(done) | set(asdict(Settings())) | {target.name for target in TARGETS} | {EMPTY, FULL} <= named


@pytest.mark.soak
def test_a_small_run_has_all_figures() -> None:
    try:
        find_image()
    except ImageError:
        pytest.skip("no default image: belljar image build")
    done = asyncio.run(measure(Settings(answers=20, rounds=1, asks=5), lambda line: None))
    told = json.loads(json.dumps(as_json(done)))
    assert told["get"][FULL]["n"] == told["get"][EMPTY]["n"] == 5
    assert told["database_bytes"] > 0
    assert told["memory_full"] > 0
