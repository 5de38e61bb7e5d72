"""The harness's own maths: percentiles, ratios, targets, turns, and what is not measured staying so."""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.bench import load, machine
from belljar.bench.rivals import Contestant, RivalFailed, Sample
from belljar.bench.sandbox import _turns, take_turns
from belljar.bench.stats import P99_SAMPLES, TARGETS, Verdict, judge, percentile, ratio, summarise

CASES = [
    ([5.0], 0.0, 5.0),
    ([5.0], 0.99, 5.0),
    ([1.0, 2.0], 0.5, 1.5),
    ([3.0, 1.0, 2.0], 0.5, 2.0),
    ([1.0, 2.0, 3.0, 4.0, 5.0], 0.25, 2.0),
    ([float(x) for x in range(101)], 0.95, 95.0),
    ([float(x) for x in range(101)], 0.99, 99.0),
    ([0.0, 10.0], 0.95, 9.5),
    ([1.0, 2.0], 1.0, 2.0),
]


@pytest.mark.parametrize(("samples", "share", "expected"), CASES)
def test_percentile(samples: list[float], share: float, expected: float) -> None:
    assert percentile(samples, share) == pytest.approx(expected)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_percentiles_rise_and_stay_within_the_samples(samples: list[float], a: float, b: float) -> None:
    low, high = percentile(samples, min(a, b)), percentile(samples, max(a, b))
    assert min(samples) <= low <= high * (1 + 1e-9)
    assert high <= max(samples)


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_the_median_is_the_statistics_modules(samples: list[float]) -> None:
    assert percentile(samples, 0.5) == pytest.approx(statistics.median(samples))


def test_no_samples_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 0.5)
    assert summarise([]) is None


def test_the_99th_percentile_needs_samples() -> None:
    few, enough = summarise([1.0] * (P99_SAMPLES - 1)), summarise([1.0] * P99_SAMPLES)
    assert few is not None
    assert few.p99 is None
    assert enough is not None
    assert enough.p99 == 1.0


def test_ratio_is_median_over_median() -> None:
    assert ratio(summarise([1.0, 2.0, 9.0]), summarise([4.0])) == 0.5
    assert ratio(None, summarise([4.0])) is None
    assert ratio(summarise([4.0]), None) is None
    assert ratio(summarise([4.0]), summarise([0.0])) is None


def test_verdicts() -> None:
    at_most = next(target for target in TARGETS if not target.at_least)
    at_least = next(target for target in TARGETS if target.at_least)
    cases = [(at_most, 1, True), (at_most, 2, False), (at_most, 0.5, True), (at_least, 2, True), (at_least, 0.5, False)]
    for target, factor, met in cases:
        assert Verdict(target=target, value=target.bound * factor).met is met
    assert Verdict(target=at_most, value=None).met is None


def test_what_was_not_measured_is_no_verdict() -> None:
    verdicts = judge({TARGETS[0].name: 0.0})
    assert [v.target for v in verdicts] == list(TARGETS)
    assert [v.met for v in verdicts] == [True, *[None] * (len(TARGETS) - 1)]


WALLS_SEEN = [
    ("NoNewPrivs:\t1\nCapEff:\t0000000000000000\nSeccomp:\t2\n", True),
    ("NoNewPrivs:\t1\nCapEff:\t0000000000000000\nSeccomp:\t0\n", False),
    ("NoNewPrivs:\t0\nCapEff:\t0000000000000000\nSeccomp:\t2\n", False),
    ("NoNewPrivs:\t1\nCapEff:\t000001ffffffffff\nSeccomp:\t2\n", False),
    ("CapEff:\t0000000000000000\nSeccomp:\t2\n", True),
    ("NoNewPrivs:\t1\n", False),
    ("", False),
    ("what: ever\n", False),
]


@pytest.mark.parametrize(("status", "up"), WALLS_SEEN)
def test_walls_are_read_from_the_status(status: str, up: bool) -> None:
    assert load.walls_up(status) is up


# --- turns ------------------------------------------------------------------------------------------------------------


def entry(name: str, **fields: object) -> Contestant:
    async def call() -> Sample:
        return Sample(seconds=1.0)

    return replace(Contestant(name=name, task="t", label="l", call=call), **fields)  # type: ignore[arg-type]


def test_turns_are_interleaved() -> None:
    entries = [entry("a", calls=3), entry("b"), entry("c", calls=2, share=0.5)]
    assert list(_turns(entries, 0, 4)) == [0, 1, 2, 0, 2, 0]
    assert list(_turns(entries, 2, 4)) == [0, 1, 0, 0]  # c has had its share of the rounds


async def test_everyone_is_warmed_up_then_called_in_turn() -> None:
    calls: list[str] = []

    def noting(name: str) -> Contestant:
        async def call() -> Sample:
            calls.append(name)
            return Sample(seconds=len(calls), cpu=0.5)

        return entry(name, call=call)

    async def ready() -> None:
        calls.append("ready")

    rows = await take_turns([noting("a"), noting("b")], 2, True, ready, lambda line: None)
    assert calls == ["ready", "a", "ready", "b"] * 3
    assert [row.seconds.n for row in rows if row.seconds] == [2, 2]
    assert [row.cpu.p50 for row in rows if row.cpu] == [0.5, 0.5]


async def test_a_missing_or_failing_contestant_is_named_and_has_no_figures() -> None:
    async def fails() -> Sample:
        raise RivalFailed("it burnt")

    async def ready() -> None:
        pass

    missing = entry("missing", call=None, missing="not installed")
    rows = await take_turns([missing, entry("bad", call=fails), entry("good")], 3, False, ready, lambda line: None)
    assert [(row.contestant, row.status) for row in rows] == [
        ("missing", "not installed"),
        ("bad", "failed: it burnt"),
        ("good", "measured"),
    ]
    assert [row.seconds is None for row in rows] == [True, True, False]


# --- the machine ------------------------------------------------------------------------------------------------------


def ticks(total: float, busy: float) -> machine.Ticks:
    return machine.Ticks(total=total, busy=busy, stolen=0)


@pytest.mark.parametrize(("load_average", "busy", "warnings"), [(0.1, 5, 0), (1.5, 5, 1), (0.1, 50, 1), (1.5, 50, 2)])
def test_a_busy_machine_is_told(load_average: float, busy: float, warnings: int) -> None:
    here = replace(machine.describe(), load_average=load_average, cores=2)
    assert len(machine.noise(here, ticks(0, 0), ticks(100, busy))) == warnings


def test_facts_of_a_process_that_is_gone_are_nothing() -> None:
    assert machine.cpu_ms(2**22 + 1) == (0.0, 0.0)
    assert machine.memory(2**22 + 1) is None
    assert machine.zygotes_below([2**22 + 1]) == []
