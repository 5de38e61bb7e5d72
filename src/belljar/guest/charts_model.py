"""What charts of every library have in common: E2B's model, its bounds, and words for labels and numbers.

Promises: a chart has at most MAX_ITEMS points, bars and slices, and no label of more than MAX_TEXT characters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CHART = "application/vnd.belljar.chart+json"  # as in execution.py
MAX_ITEMS = 10_000  # artists, points and bars of one figure
MAX_TEXT = 500  # characters of a label

Chart = dict[str, Any]

# The parts that a pair of axes has -> the type of its chart. What is not here is unknown.
TYPES = {
    frozenset(parts.split()): kind
    for parts, kind in [
        ("line", "line"),
        ("line fill", "line"),
        ("scatter", "scatter"),
        ("scatter line", "scatter"),
        ("scatter line fill", "scatter"),
        ("bar", "bar"),
        ("bar line", "bar"),
        ("pie", "pie"),
        ("box", "box_and_whisker"),
        ("box scatter", "box_and_whisker"),
    ]
}
_UNIT = re.compile(r"\s\(([^()]*)\)|\[([^\[\]]*)\]")
_PLAIN_MATH = re.compile(r"\$\\mathdefault\{(.*)\}\$")
_BREAK = re.compile(r"<br ?/?>")
_TAG = re.compile(r"<[^<>]{0,100}>")


class TooMuch(Exception):
    """More than a chart is to hold."""


class Budget:
    """How many items a figure's chart may still hold."""

    def __init__(self, left: int = MAX_ITEMS) -> None:
        self._left = left

    def take(self, count: int) -> None:
        """Raises TooMuch."""
        self._left -= count
        if self._left < 0:
            raise TooMuch


def clean(value: Any) -> str | None:
    """A label as words, of bounded length; None where there is none."""
    text = _PLAIN_MATH.sub(r"\1", str(value if value is not None else ""))
    return text[:MAX_TEXT] or None


def without_tags(value: Any) -> str | None:
    """The same for a label that may have HTML in it, as those of Plotly may."""
    return clean(_TAG.sub("", _BREAK.sub(" ", value))) if isinstance(value, str) else None


def unit_of(label: str | None) -> str | None:
    """The unit that a label names in brackets: "Speed (m/s)", "Mass [kg]"."""
    match = _UNIT.search(label or "")
    return next(filter(None, match.groups()), None) if match else None


def number_word(value: float) -> str:
    """A number as a reader wants it."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.6g}"


@dataclass(frozen=True, kw_only=True)
class Side:
    """One axis of a chart: its label, its scale, its ticks where they are known."""

    label: str | None = None
    scale: str = "linear"
    ticks: Sequence[Any] = ()
    tick_labels: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Series:
    """One series of points, bars or slices, or the values of one box after the other (`xs` say which)."""

    label: str
    xs: Sequence[Any]
    ys: Sequence[Any]


def labels_of(x: Side, y: Side) -> Chart:
    """Labels and units of both axes, as fields of a chart."""
    return {"x_label": x.label, "y_label": y.label, "x_unit": unit_of(x.label), "y_unit": unit_of(y.label)}


def points(series: Sequence[Series], x: Side, y: Side) -> Chart:
    """The fields of a chart of lines or points."""
    fields = labels_of(x, y)
    for letter, side in (("x", x), ("y", y)):
        fields[f"{letter}_ticks"] = list(side.ticks)
        fields[f"{letter}_tick_labels"] = list(side.tick_labels)
        fields[f"{letter}_scale"] = side.scale
    pairs = [(one.label, zip(one.xs, one.ys, strict=False)) for one in series]
    return fields | {"elements": [{"label": label, "points": [list(pair) for pair in both]} for label, both in pairs]}


def bars(series: Sequence[Series], x: Side, y: Side) -> Chart:
    """The fields of a chart of bars: `x` are the categories, `y` the values."""
    rows = [(one.label, place, value) for one in series for place, value in zip(one.xs, one.ys, strict=False)]
    elements = [{"label": word(place), "group": group, "value": value} for group, place, value in rows]
    return labels_of(x, y) | {"elements": elements}


def slices(series: Sequence[Series], *_: Side) -> Chart:
    """The fields of a pie. Raises ZeroDivisionError, ValueError, TypeError: values that are no sizes."""
    sizes: dict[str, float] = {}
    for one in series:
        for place, value in zip(one.xs, one.ys, strict=False):
            sizes[word(place)] = sizes.get(word(place), 0.0) + float(value)
    whole = sum(sizes.values())
    return {"elements": [{"label": k, "angle": round(360 * v / whole, 6), "radius": 1.0} for k, v in sizes.items()]}


def boxes(series: Sequence[Series], x: Side, y: Side, share: float = 0.0) -> Chart:
    """The fields of a chart of boxes, from the values they stand for; whiskers reach the last value within 1.5 boxes.

    `share` says how quartiles lie between values: at (n - 1 + 2 share) p - share of the sorted ones, counted from 0.
    """
    groups: dict[str, list[float]] = {}
    for one in series:
        for place, value in zip(one.xs, one.ys, strict=False):
            name = one.label if place is None else f"{word(place)}, {one.label}" if len(series) > 1 else word(place)
            if value is not None and value == value:
                groups.setdefault(name, []).append(float(value))
    elements = [{"label": name, **five_numbers(sorted(values), share)} for name, values in groups.items()]
    return labels_of(x, y) | {"elements": elements}


def five_numbers(values: Sequence[float], share: float) -> Chart:
    """The numbers of a box over sorted values."""
    first, median, third = (_quantile(values, part, share) for part in (0.25, 0.5, 0.75))
    reach = 1.5 * (third - first)
    inner = [value for value in values if first - reach <= value <= third + reach]
    low, high = inner[0], inner[-1]
    return {
        "min": low,
        "first_quartile": first,
        "median": median,
        "third_quartile": third,
        "max": high,
        "outliers": [value for value in values if not low <= value <= high],
    }


def _quantile(values: Sequence[float], part: float, share: float) -> float:
    last = len(values) - 1
    place = min(max((last + 2 * share) * part - share, 0.0), float(last))
    below = int(place)
    above = min(below + 1, last)
    return values[below] + (values[above] - values[below]) * (place - below)


def word(value: Any) -> str:
    """A category as a word."""
    return number_word(value) if isinstance(value, int | float) and not isinstance(value, bool) else clean(value) or ""


def mapping(value: Any) -> Mapping[str, Any]:
    """The value where it is a mapping; else an empty one."""
    return value if isinstance(value, Mapping) else {}
