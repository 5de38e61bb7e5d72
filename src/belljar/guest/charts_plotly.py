"""The data of Plotly's figures, from their own JSON, in E2B's chart model.

Promises: never raises. Covered: lines, points, bars, pies, boxes, several axes. Not covered: what Plotly counts in the
browser (histograms), and all its other traces: these are of type "unknown". Ticks are known where the code names them.
Source: https://plotly.com/python/reference/ ; for arrays in base64 its `_plotly_utils.utils.to_typed_array_spec`.
"""

from __future__ import annotations

import array
import base64
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .charts_model import (
    TYPES,
    Budget,
    Chart,
    Series,
    Side,
    TooMuch,
    bars,
    boxes,
    mapping,
    points,
    slices,
    without_tags,
)

PLOTLY = "application/vnd.plotly.v1+json"
ARRAYS = {"f8": "d", "f4": "f", "i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q", "u8": "Q"}
HAZEN = 0.5  # how Plotly finds quartiles

# A type of trace -> what it is in a chart. What is not here is unknown.
PARTS = {"scatter": "line", "scattergl": "line", "bar": "bar", "pie": "pie", "box": "box"}
READERS: dict[str, Callable[..., Chart]] = {
    "line": points,
    "scatter": points,
    "bar": bars,
    "pie": slices,
    "box_and_whisker": boxes,
}
SCALES = {"date": "datetime", "category": "categorical", "multicategory": "categorical", "log": "log"}
_DATE = re.compile(r"\d{4}-\d\d(-\d\d([T ]\d\d:\d\d.*)?)?")


def chart_of_bundle(bundle: Mapping[str, Any]) -> Chart | None:
    """The chart of a figure of Plotly's that is displayed; None where it shows nothing or too much, and of all else."""
    figure = bundle.get(PLOTLY)
    if not isinstance(figure, Mapping):
        return None
    try:
        return _figure(figure, Budget())
    except Exception:
        return None


def _figure(figure: Mapping[str, Any], budget: Budget) -> Chart | None:
    layout = mapping(figure.get("layout"))
    places: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for number, trace in enumerate(map(mapping, figure.get("data") or ())):
        budget.take(1)
        if trace.get("visible", True) is True:
            pie = trace.get("type") == "pie"  # each has a place of its own
            place = ("pie", str(number)) if pie else (str(trace.get("xaxis", "x")), str(trace.get("yaxis", "y")))
            places.setdefault(place, []).append(trace)
    charts = [_chart(traces, *place, layout, budget) for place, traces in places.items()]
    if not charts:
        return None
    title = _title(layout)
    if len(charts) == 1:
        return charts[0] | {"title": title}
    return {"type": "superchart", "title": title, "elements": charts}


def _chart(traces: Sequence[Mapping[str, Any]], x: str, y: str, layout: Mapping[str, Any], budget: Budget) -> Chart:
    """The chart of the traces that share a pair of axes, such as "x2" and "y2"."""
    kind = TYPES.get(frozenset(map(_part, traces)), "unknown")
    wanted = [trace for trace in traces if TYPES.get(frozenset([_part(trace)])) == kind or kind == "scatter"]
    lying = kind in ("bar", "box_and_whisker") and all(trace.get("orientation") == "h" for trace in wanted)
    head: Chart = {"type": kind, "title": None}
    if kind not in READERS:
        return head | {"elements": []}
    try:
        series = [_series(trace, number, kind, lying, budget) for number, trace in enumerate(wanted)]
        names = (y, x) if lying else (x, y)
        values = [v for one in series for v in one.xs], [v for one in series for v in one.ys]
        sides = [_side(_axis(layout, name), of_all) for name, of_all in zip(names, values, strict=True)]
        options = {"share": HAZEN} if kind == "box_and_whisker" else {}
        return head | READERS[kind](series, *sides, **options)
    except TooMuch:
        raise
    except (ValueError, TypeError, ArithmeticError, LookupError):
        return {"type": "unknown", "title": None, "elements": []}


def _axis(layout: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The settings of the axis that traces name "x", "x2", "y" or "y2"."""
    return mapping(layout.get(f"{name[:1]}axis{name[1:]}"))


def _part(trace: Mapping[str, Any]) -> str:
    """What a trace is in a chart."""
    part = PARTS.get(str(trace.get("type", "scatter")), "other")
    if part == "line" and (trace.get("fill") not in (None, "none") or trace.get("stackgroup")):
        return "fill"
    dots = part == "line" and set(str(trace.get("mode", "lines")).split("+")) <= {"markers", "text"}
    return "scatter" if dots else part


def _series(trace: Mapping[str, Any], number: int, kind: str, lying: bool, budget: Budget) -> Series:
    """Its values; `xs` are where they stand, or what they are of."""
    names = ("labels", "values") if kind == "pie" else ("y", "x") if lying else ("x", "y")
    xs, ys = (_array(trace.get(name)) for name in names)
    if kind == "box_and_whisker" and trace.get("q1") is not None:
        raise ValueError("a box that is drawn from its quartiles")
    if ys is None:
        raise ValueError("a trace without values")
    budget.take(len(ys))
    fallback = {"line": "Line", "bar": "Group"}.get(_part(trace), "Group")
    label = without_tags(trace.get("name")) or f"{fallback} {number}"
    if xs is None:
        xs = [None] * len(ys) if kind == "box_and_whisker" else list(range(len(ys)))
    return Series(label=label, xs=xs, ys=ys)


def _array(value: Any) -> list[Any] | None:
    """A list of values, which may be in base64. Raises ValueError, TypeError, KeyError."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        if len(str(value.get("shape", "")).split(",")) > 1:
            raise ValueError("a table in place of a list")
        numbers = array.array(ARRAYS[value["dtype"]])
        numbers.frombytes(base64.b64decode(value["bdata"]))
        return numbers.tolist()
    if not isinstance(value, list | tuple) or any(isinstance(item, list | dict) for item in value):
        raise ValueError("no list of values")
    return list(value)


def _side(axis: Mapping[str, Any], values: Sequence[Any]) -> Side:
    scale = SCALES.get(str(axis.get("type")), "linear")
    words = [value for value in values if isinstance(value, str)]
    if words and axis.get("type") in (None, "-"):
        scale = "datetime" if all(map(_DATE.fullmatch, words)) else "categorical"
    ticks = _array(axis.get("tickvals")) or []
    labels = _array(axis.get("ticktext")) or ticks
    return Side(label=_title(axis), scale=scale, ticks=ticks, tick_labels=[str(label) for label in labels])


def _title(owner: Mapping[str, Any]) -> str | None:
    title = owner.get("title")
    return without_tags(title.get("text") if isinstance(title, Mapping) else title)
