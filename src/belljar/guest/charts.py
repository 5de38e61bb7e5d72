"""The data of a Matplotlib figure, in E2B's chart model: what kind of chart it is, its series, its axes.

Promises: nothing is imported, nothing is raised, no warning is shown; a figure with more than MAX_ITEMS points and bars
has no chart, rather than half of one; what cannot be told is of type "unknown", without elements. The values are those
that were plotted, categories by name and dates as ISO 8601 words.
Covered: lines, points, bars of every kind, pies, boxes, several axes. Not covered: images, areas, polar and 3-D axes.
The model: https://e2b.dev/docs/code-interpreting/analyze-data-with-ai (docs/charts.md says what differs).
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from .charts_axes import Axis
from .charts_model import TYPES, Budget, Chart, clean
from .charts_vega import chart_of_vega

SIGNIFICANT = 7  # digits of a pie's angles, which Matplotlib keeps in single precision
CAPPED = 3  # lines across a box where its whiskers have caps: these and the median, in this order
OPPOSITE = {5: 2, 11: 5}  # corners of a box, plain or notched -> the first of those at its third quartile

# A class of Matplotlib's artists -> what it is in a chart. Subclasses count as their nearest ancestor that is named.
NOTE = "note"  # says something about the data, or marks a place
PARTS = {
    "Line2D": "line",
    "PathCollection": "scatter",
    "Wedge": "pie",
    "Rectangle": "bar",
    "PathPatch": "patch",
    "AxLine": NOTE,
    "Text": NOTE,
    "Legend": NOTE,
    "Table": NOTE,
    "AnnotationBbox": NOTE,
    "FancyArrow": NOTE,
    "FancyArrowPatch": NOTE,
    "FancyBboxPatch": NOTE,
    "Shadow": NOTE,
    "LineCollection": NOTE,
    "PolyCollection": "fill",
    "Spine": NOTE,
    "Axis": NOTE,
}


def chart_of(value: Any) -> Chart | None:
    """The chart of a figure of Matplotlib's or Altair's; None where it shows nothing or too much, and of all else."""
    maker = next((maker for cls in type(value).__mro__ if (maker := MAKERS.get(_known_as(cls)))), None)
    if maker is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return maker(value)
    except Exception:
        return None


def _known_as(cls: type) -> str:
    """Package and name of a class: where in its package it is, changes."""
    return f"{str(cls.__module__).partition('.')[0]} {cls.__name__}"


def _figure(figure: Any) -> Chart | None:
    budget = Budget()
    shown = [axes for axes in figure.axes if axes.get_visible() and axes.get_label() != "<colorbar>"]
    charts = [_View(axes, budget).chart() for axes in shown if axes.has_data()]
    if not charts:
        return None
    title = clean(figure.get_suptitle())
    if len(charts) == 1:
        return charts[0] | {"title": charts[0]["title"] or title}
    return {"type": "superchart", "title": title, "elements": charts}


def part_of(artist: Any) -> str:
    """What an artist is in a chart, as PARTS names it; "other" where it does not."""
    return next((PARTS[cls.__name__] for cls in type(artist).__mro__ if cls.__name__ in PARTS), "other")


class _View:
    """One axes: its artists by what they are in a chart."""

    def __init__(self, axes: Any, budget: Budget) -> None:
        self._axes, self._budget = axes, budget
        artists = [artist for artist in axes.get_children() if artist is not axes.patch and artist.get_visible()]
        budget.take(len(artists))
        self._x, self._y = Axis(axes, "x"), Axis(axes, "y")
        bound = _errorbars(axes)
        bars = {id(bar) for container in _bar_containers(axes) for bar in container}
        kept: list[tuple[str, Any]] = []
        for artist in artists:
            part = part_of(artist)
            if part == NOTE or id(artist) in bound or not self._is_data(part, artist, bars):
                continue
            kept.append((part, artist))
        self.boxes, of_boxes = find_boxes(kept)
        kept = [(part, artist) for part, artist in kept if id(artist) not in of_boxes]
        others = [part for part, artist in kept if not (part == "line" and _is_rule(artist))]
        if others or self.boxes:  # a straight line beside other things marks a value
            kept = [(part, artist) for part, artist in kept if not (part == "line" and _is_rule(artist))]
        self._kept = kept
        self._names = _legend_names(axes)

    def _is_data(self, part: str, artist: Any, bars: set[int]) -> bool:
        """Whether it stands in the axes' own coordinates and holds something."""
        if part == "bar":
            return id(artist) in bars
        if part == "line":
            return artist.get_transform() is self._axes.transData and len(artist.get_xdata(orig=False)) > 0
        return part != "scatter" or len(artist.get_offsets()) > 0

    def chart(self) -> Chart:
        """Its chart."""
        parts = {part for part, _ in self._kept} | ({"box"} if self.boxes else set())
        kind = TYPES.get(frozenset(parts), "unknown") if self._axes.name == "rectilinear" else "unknown"
        if kind == "line" and all(_is_marker_only(line) for line in self._of("line")):
            kind = "scatter"
        if "fill" in parts and all(len(line.get_xdata(orig=False)) < 2 for line in self._of("line")):
            kind = "unknown"  # violins, whose medians these are
        title = next(
            (text for place in ("center", "left", "right") if (text := clean(self._axes.get_title(place)))), None
        )
        return {"type": kind, "title": title, **_READERS[kind](self)}

    def _of(self, *parts: str) -> list[Any]:
        return [artist for part, artist in self._kept if part in parts]

    def _labels(self, x: Axis, y: Axis) -> Chart:
        return {"x_label": x.label, "y_label": y.label, "x_unit": x.unit, "y_unit": y.unit}

    def _name(self, artist: Any, label: Any, fallback: str) -> str:
        """The label of a series: its own, or the legend's for its colour."""
        text = clean(label)
        if text and not text.startswith("_"):
            return text
        return self._names.get(_colour(artist), fallback)

    # --- one reader for each type -------------------------------------------------------------------------------------

    def points(self) -> Chart:
        """Lines and points: each series with its label."""
        container_labels = _container_labels(self._axes)
        elements: list[Chart] = []
        for part, artist in self._kept:
            if part == "fill":
                continue
            number = len(elements)
            if part == "scatter":
                elements += self._scatter(artist, f"Group {number}")
                continue
            label = container_labels.get(id(artist), artist.get_label())
            xs, ys = artist.get_xdata(orig=False), artist.get_ydata(orig=False)
            elements.append(self._series(self._name(artist, label, f"Line {number}"), xs, ys))
        return {**self._labels(self._x, self._y), **self._x.fields(), **self._y.fields(), "elements": elements}

    def _series(self, label: str, xs: Any, ys: Any) -> Chart:
        self._budget.take(len(xs))
        pairs = zip(self._x.values(xs), self._y.values(ys), strict=True)
        return {"label": label, "points": [list(pair) for pair in pairs]}

    def _scatter(self, artist: Any, fallback: str) -> list[Chart]:
        """One series; where the legend names every colour of its points, one for each colour."""
        offsets = artist.get_offsets()
        colours = artist.get_facecolors()
        if len(colours) == len(offsets) > 1 and self._names:
            self._budget.take(len(offsets))
            names = [self._names.get(_hex(colour)) for colour in colours]
            if None not in names:
                places = {name: [i for i, other in enumerate(names) if other == name] for name in dict.fromkeys(names)}
                return [self._series(str(n), offsets[at, 0], offsets[at, 1]) for n, at in places.items()]
        return [self._series(self._name(artist, artist.get_label(), fallback), offsets[:, 0], offsets[:, 1])]

    def bars(self) -> Chart:
        """Bars, upright or lying: `x` is where the categories are, `y` where the values are."""
        containers = _bar_containers(self._axes)
        lying = containers[0].orientation == "horizontal"
        place, value = (self._y, self._x) if lying else (self._x, self._y)
        elements = []
        for number, container in enumerate(containers):
            bars = [bar for bar in container if _is_finite(bar.get_x(), bar.get_y())]
            self._budget.take(len(bars))
            spans = [(b.get_y(), b.get_height()) if lying else (b.get_x(), b.get_width()) for b in bars]
            labels = place.names([(start, start + width) for start, width in spans])
            group = self._name(bars[0] if bars else None, container.get_label(), f"Group {number}")
            for label, bar in zip(labels, bars, strict=True):
                size = float(bar.get_width() if lying else bar.get_height())
                elements.append({"label": label, "group": group, "value": size})
        return {**self._labels(place, value), "elements": elements}

    def slices(self) -> Chart:
        """The slices of a pie: angles in degrees."""
        wedges = self._of("pie")
        legend = self._axes.get_legend()
        texts = [text.get_text() for text in legend.get_texts()] if legend is not None else []
        elements = []
        for number, wedge in enumerate(wedges):
            label = clean(wedge.get_label()) or ""
            if not label or label.startswith("_"):
                label = texts[number] if len(texts) == len(wedges) else ""
            angle = float(f"{abs(float(wedge.theta2) - float(wedge.theta1)):.{SIGNIFICANT}g}")
            elements.append({"label": label, "angle": angle, "radius": float(wedge.r)})
        return {"elements": elements}

    def whiskers(self) -> Chart:
        """Boxes, upright or lying: `x` is where the categories are, `y` where the values are."""
        lying = all(box.lying for box in self.boxes)
        place, value = (self._y, self._x) if lying else (self._x, self._y)
        labels = place.names([box.span for box in self.boxes])
        groups = [self._names.get(_colour(box.artist)) for box in self.boxes]
        doubled = len(set(labels)) < len(labels)
        elements = []
        for label, group, box in zip(labels, groups, self.boxes, strict=True):
            self._budget.take(len(box.outliers))
            elements.append({"label": f"{label}, {group}" if doubled and group else label, **box.fields()})
        return {**self._labels(place, value), "elements": elements}

    def nothing(self) -> Chart:
        """Of what is not known."""
        return {"elements": []}


MAKERS: dict[str, Callable[[Any], Chart | None]] = {
    "matplotlib Figure": _figure,
    "altair TopLevelMixin": lambda chart: chart_of_vega(chart.to_dict()),
}
_READERS: dict[str, Callable[[_View], Chart]] = {
    "line": _View.points,
    "scatter": _View.points,
    "bar": _View.bars,
    "pie": _View.slices,
    "box_and_whisker": _View.whiskers,
    "unknown": _View.nothing,
}


# --- boxes ------------------------------------------------------------------------------------------------------------


class Box:
    """A box, from the lines that `Axes.bxp` draws after it: whiskers, caps, median, mean, outliers, in this order."""

    def __init__(self, artist: Any, corners: Any, lines: Sequence[Any]) -> None:
        self.artist = artist
        pairs = [_pair(line) for line in lines]
        straight = [
            pair for pair, line in zip(pairs, lines, strict=True) if len(pair[0]) == 2 and not _is_marker_only(line)
        ]
        self.lying = not all(xs[0] == xs[1] for xs, _ in straight[:2])
        values, places = (0, 1) if self.lying else (1, 0)
        sides = sorted(float(corner[places]) for corner in corners)
        self.span = (sides[0], sides[-1])
        self.first, self.third = float(corners[0][values]), float(corners[OPPOSITE[len(corners)]][values])
        low, high = straight[0][values], straight[1][values]
        if not (_is_close(low[0], self.first) and _is_close(high[0], self.third)):
            raise ValueError("no whiskers")
        self.low, self.high = float(low[1]), float(high[1])
        flat = [pair[values] for pair in straight[2:]]
        self.median = float(flat[2 if len(flat) >= CAPPED else 0][0])
        dots = [pair[values] for pair, line in zip(pairs, lines, strict=True) if _is_marker_only(line)]
        self.outliers = [float(v) for group in dots[-1:] for v in group if not self.low <= v <= self.high]

    def fields(self) -> Chart:
        """Its numbers."""
        return {
            "min": self.low,
            "first_quartile": self.first,
            "median": self.median,
            "third_quartile": self.third,
            "max": self.high,
            "outliers": self.outliers,
        }


def find_boxes(parts: Sequence[tuple[str, Any]]) -> tuple[list[Box], set[int]]:
    """The boxes among the artists of an axes, in the order in which they were drawn, and all that belongs to them."""
    corners = [_corners(part, artist) for part, artist in parts]
    starts = [i for i, found in enumerate(corners) if found is not None]
    boxes, members = [], set()
    for start, end in zip(starts, [*starts[1:], len(parts)], strict=False):
        lines = [artist for part, artist in parts[start + 1 : end] if part == "line"]
        try:
            boxes.append(Box(parts[start][1], corners[start], lines))
        except (ValueError, IndexError):
            continue
        members |= {id(parts[start][1]), *map(id, lines)}
    return boxes, members


def _corners(part: str, artist: Any) -> Any:
    """The corners of what may be a box: a closed path of four sides, or of ten with its notches."""
    if part not in ("patch", "line"):
        return None
    points = artist.get_path().vertices[:-1] if part == "patch" else artist.get_xydata()
    return points if len(points) in OPPOSITE and (points[0] == points[-1]).all() else None


# --- artists ----------------------------------------------------------------------------------------------------------


def _pair(line: Any) -> tuple[Any, Any]:
    return line.get_xdata(orig=False), line.get_ydata(orig=False)


def _is_marker_only(line: Any) -> bool:
    return str(line.get_linestyle()) in ("None", "none", " ", "")


def _is_rule(line: Any) -> bool:
    """Whether it is a straight line along an axis, as error bars and marked values are."""
    xs, ys = _pair(line)
    return len(xs) == 2 and (xs[0] == xs[1] or ys[0] == ys[1])


def _is_close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)


def _is_finite(*values: Any) -> bool:
    return all(math.isfinite(value) for value in values)


def _bar_containers(axes: Any) -> list[Any]:
    return [container for container in axes.containers if type(container).__name__ == "BarContainer" and len(container)]


def _errorbars(axes: Any) -> set[int]:
    """The artists that are caps of error bars."""
    found = [container for container in axes.containers if type(container).__name__ == "ErrorbarContainer"]
    return {id(cap) for container in found for cap in container[1]}


def _container_labels(axes: Any) -> dict[int, str]:
    """The line of an error bar plot or of stems -> the label, which its container has."""
    found = [c for c in axes.containers if type(c).__name__ in ("ErrorbarContainer", "StemContainer")]
    return {id(container[0]): container.get_label() for container in found}


def _legend_names(axes: Any) -> dict[str, str]:
    """Colour -> what the legend says of it; colours that stand for two things are left out."""
    legend = axes.get_legend() or next(iter(axes.figure.legends), None)
    if legend is None:
        return {}
    pairs = [(_colour(h), text.get_text()) for h, text in zip(legend.legend_handles, legend.get_texts(), strict=False)]
    colours = [colour for colour, _ in pairs]
    return {colour: text for colour, text in pairs if colour and colours.count(colour) == 1}


def _colour(artist: Any) -> str:
    """The colour of an artist as #rrggbb; "" where it has not just one."""
    getter = getattr(artist, "get_color", None) or getattr(artist, "get_facecolor", None)
    return _hex(getter()) if getter is not None else ""


def _hex(colour: Any) -> str:
    try:
        if getattr(colour, "ndim", 1) == 2:
            (colour,) = colour
        return str(sys.modules["matplotlib.colors"].to_hex(colour))
    except (ValueError, TypeError):
        return ""
