"""The maths of the benchmarks: percentiles, ratios, targets and whether they were met. Pure.

Promises: a number that was not measured is None all the way to the report, never 0; a target over it is "not measured",
neither met nor missed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

P99_SAMPLES = 100  # with fewer the 99th percentile is the slowest sample under another name


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A distribution; in the unit of its samples. `p99` is None below P99_SAMPLES samples."""

    n: int
    p50: float
    p95: float
    p99: float | None
    min: float
    max: float
    mean: float


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a number should be: at most `bound`, or at least. `unit` is "ratio", "s", "MiB" or "1/s"."""

    name: str
    what: str
    unit: str
    bound: float
    at_least: bool = False


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A target and the number that was measured for it; None where it was not."""

    target: Target
    value: float | None

    @property
    def met(self) -> bool | None:
        """None where nothing was measured."""
        if self.value is None:
            return None
        return self.value >= self.target.bound if self.target.at_least else self.value <= self.target.bound

    def as_json(self) -> dict[str, Any]:
        """As the report's JSON has it."""
        return asdict(self.target) | {"value": self.value, "met": self.met}


TARGETS = (
    Target(name="print", what="print(1): belljar / bare python", unit="ratio", bound=0.4),
    Target(name="pandas", what="pandas describe: belljar / bare python", unit="ratio", bound=1 / 20),
    Target(name="plot", what="matplotlib PNG: belljar / bare python", unit="ratio", bound=1 / 5),
    Target(name="run", what="the process `belljar run -c 'print(1)'`", unit="s", bound=0.8),
    Target(name="light", what="sandboxes a second, light (2 cores)", unit="1/s", bound=80, at_least=True),
    Target(name="full", what="sandboxes a second, all libraries (2 cores)", unit="1/s", bound=80, at_least=True),
    Target(name="idle", what="private memory, idle, all libraries", unit="MiB", bound=4),
    Target(name="burst", what="128 executions at once, 99th percentile", unit="s", bound=3),
)


def percentile(samples: Iterable[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the samples lie, linear between neighbours.

    Raises ValueError for no samples, or no share.
    """
    ordered = sorted(samples)
    if not ordered:
        raise ValueError("a percentile of no samples")
    if not 0 <= share <= 1:
        raise ValueError(f"{share} is no share")
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def summarise(samples: Sequence[float]) -> Summary | None:
    """None for no samples."""
    if not samples:
        return None
    return Summary(
        n=len(samples),
        p50=percentile(samples, 0.5),
        p95=percentile(samples, 0.95),
        p99=percentile(samples, 0.99) if len(samples) >= P99_SAMPLES else None,
        min=min(samples),
        max=max(samples),
        mean=sum(samples) / len(samples),
    )


def ratio(ours: Summary | None, theirs: Summary | None) -> float | None:
    """Median over median; None where one was not measured."""
    if ours is None or theirs is None or theirs.p50 <= 0:
        return None
    return ours.p50 / theirs.p50


def judge(values: dict[str, float | None]) -> list[Verdict]:
    """A verdict for every target; `values` by their names."""
    return [Verdict(target=target, value=values.get(target.name)) for target in TARGETS]
