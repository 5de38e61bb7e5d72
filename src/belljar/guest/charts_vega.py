"""The data of Altair's charts, from the Vega-Lite they write, in E2B's chart model.

Promises: never raises. Covered: lines, points, bars, pies and boxes over data that the chart holds, with the sums and
counts that a chart may ask for; charts beside each other. Not covered: transforms, bins, layers, facets, data from
elsewhere: these are of type "unknown". Ticks are not known, as the browser chooses them.
Source: https://vega.github.io/vega-lite/docs/encoding.html
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .charts_model import Budget, Chart, Series, Side, TooMuch, bars, boxes, clean, mapping, points, slices

# Mark -> type of chart, and what makes its fields.
MARKS: dict[str, tuple[str, Callable[..., Chart]]] = {
    "line": ("line", points),
    "trail": ("line", points),
    "point": ("scatter", points),
    "circle": ("scatter", points),
    "square": ("scatter", points),
    "bar": ("bar", bars),
    "arc": ("pie", slices),
    "boxplot": ("box_and_whisker", boxes),
}
AGGREGATES: dict[str, Callable[[Sequence[Any]], Any]] = {
    "sum": sum,
    "mean": statistics.fmean,
    "average": statistics.fmean,
    "median": statistics.median,
    "min": min,
    "max": max,
}
SCALES = {"temporal": "datetime", "nominal": "categorical", "ordinal": "categorical"}
BESIDE = ("hconcat", "vconcat", "concat")
NOT_READ = ("transform", "layer", "facet", "repeat", "spec")
NOT_READ_OF_A_CHANNEL = ("bin", "timeUnit", "impute")


class _Unknown(Exception):
    """What is not read."""


def chart_of_vega(spec: Mapping[str, Any]) -> Chart | None:
    """The chart of a Vega-Lite specification; None where it holds too much."""
    try:
        return _chart(spec, mapping(spec.get("datasets")), {}, Budget())
    except Exception:
        return None


def _chart(spec: Mapping[str, Any], sets: Mapping[str, Any], above: Mapping[str, Any], budget: Budget) -> Chart:
    budget.take(1)
    data = mapping(spec.get("data")) or above
    title = spec.get("title")
    head: Chart = {"title": clean(title.get("text") if isinstance(title, Mapping) else title)}
    for name in BESIDE:
        if isinstance(spec.get(name), list):
            parts = [_chart(mapping(part), sets, data, budget) for part in spec[name]]
            return {"type": "superchart", **head, "elements": parts}
    try:
        kind, fields = _unit(spec, sets, data, budget)
        return {"type": kind, **head, **fields}
    except TooMuch:
        raise
    except (_Unknown, ValueError, TypeError, ArithmeticError, LookupError):
        return {"type": "unknown", **head, "elements": []}


def _unit(
    spec: Mapping[str, Any], sets: Mapping[str, Any], data: Mapping[str, Any], budget: Budget
) -> tuple[str, Chart]:
    """Type and fields of one plot."""
    mark = spec.get("mark")
    encoding = {name: mapping(channel) for name, channel in mapping(spec.get("encoding")).items()}
    if any(name in spec for name in NOT_READ) or any(name in encoding for name in ("row", "column", "facet")):
        raise _Unknown
    if any(channel.get(name) not in (None, False) for channel in encoding.values() for name in NOT_READ_OF_A_CHANNEL):
        raise _Unknown
    kind, write = MARKS[str(mark.get("type") if isinstance(mark, Mapping) else mark)]
    rows = data["values"] if "values" in data else sets[data["name"]]
    budget.take(len(rows))
    x, y, group = (encoding.get(name, {}) for name in ("x", "y", "color"))
    if kind == "pie":
        x, y, group = group, encoding["theta"], {}
    elif kind in ("bar", "box_and_whisker") and _is_measure(x) and not _is_measure(y):
        x, y = y, x
    series = _series(rows, x, y, group)
    options = {"share": 0.0} if kind == "box_and_whisker" else {}
    return kind, write(series, _side(x), _side(y), **options)


def _is_measure(channel: Mapping[str, Any]) -> bool:
    return channel.get("type") == "quantitative" or "aggregate" in channel


def _series(
    rows: Sequence[Mapping[str, Any]], x: Mapping[str, Any], y: Mapping[str, Any], group: Mapping[str, Any]
) -> list[Series]:
    """The rows of each colour, put together where the chart asks for it."""
    if "aggregate" in x or "aggregate" in group:
        raise _Unknown
    found: dict[Any, list[tuple[Any, Any]]] = {}
    for row in rows:
        label = row[group["field"]] if "field" in group and not _is_measure(group) else None
        place = row[x["field"]] if "field" in x else None
        found.setdefault(label, []).append((place, row[y["field"]] if "field" in y else None))
    how = y.get("aggregate")
    series = []
    for number, (label, pairs) in enumerate(found.items()):
        if how is not None:
            pairs = _together(pairs, how)
        elif "field" not in y:
            raise _Unknown
        name = f"Group {number}" if label is None else str(clean(label))
        series.append(Series(label=name, xs=[place for place, _ in pairs], ys=[value for _, value in pairs]))
    return series


def _together(pairs: Sequence[tuple[Any, Any]], how: str) -> list[tuple[Any, Any]]:
    """One value for each place."""
    values: dict[Any, list[Any]] = {}
    for place, value in pairs:
        values.setdefault(place, []).append(value)
    if how == "count":
        return [(place, len(group)) for place, group in values.items()]
    return [(place, AGGREGATES[how]([v for v in group if v is not None])) for place, group in values.items()]


def _side(channel: Mapping[str, Any]) -> Side:
    scale = mapping(channel.get("scale")).get("type")
    known = {"log": "log", "symlog": "symlog"}.get(str(scale))
    title = channel.get("title", mapping(channel.get("axis")).get("title")) or _words(channel)
    return Side(label=clean(title), scale=known or SCALES.get(str(channel.get("type")), "linear"))


def _words(channel: Mapping[str, Any]) -> str | None:
    """The title that Vega-Lite gives where the chart gives none."""
    how, field = channel.get("aggregate"), channel.get("field")
    if how == "count":
        return "Count of Records"
    return f"{str(how).capitalize()} of {field}" if how is not None else field
