"""The axes of a Matplotlib figure as a chart has them: labels, units, ticks, scale, and positions as values.

Promises: nothing is imported; what is needed (numpy, pandas) is there where an axis of that kind is. Dates are ISO 8601
words: without an offset where the code's dates have no time zone, else in UTC.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

from .charts_model import clean, number_word, unit_of

DAY = 86_400_000  # milliseconds
SECOND = 1000
TICK_DIGITS = 12  # what comes after them is rounding: 0.6000000000000001

# A class of Matplotlib's converters -> the kind of axis. Subclasses count as their nearest ancestor that is named.
KINDS = {
    "DateConverter": "dates",
    "_SwitchableDateConverter": "dates",
    "PeriodConverter": "periods",
    "StrCategoryConverter": "categories",
}
SCALES = {"dates": "datetime", "periods": "datetime", "categories": "categorical"}
NAMED = ("FixedFormatter", "StrCategoryFormatter")  # formatters with a word for each tick


class Axis:
    """One axis of an axes."""

    def __init__(self, axes: Any, letter: str) -> None:
        self._axes, self._letter = axes, letter
        self._axis = axis = getattr(axes, f"{letter}axis")
        converter = axis.get_converter() if hasattr(axis, "get_converter") else axis.converter
        self._kind = next((KINDS[cls.__name__] for cls in type(converter).__mro__ if cls.__name__ in KINDS), "numbers")
        self.label = clean(axis.get_label_text())
        self.unit = unit_of(self.label)
        self._ticks: tuple[list[float], list[str]] | None = None

    def fields(self) -> dict[str, Any]:
        """Its ticks and its scale, as fields of a chart."""
        places, labels = self._marks()
        fields = {"ticks": self._tick_values(places), "tick_labels": labels, "scale": self._scale(places)}
        return {f"{self._letter}_{name}": value for name, value in fields.items()}

    def values(self, places: Any) -> list[Any]:
        """What stands at these positions: numbers, names of categories, dates."""
        return _VALUES[self._kind](self, places)

    def names(self, spans: Sequence[tuple[float, float]]) -> list[str]:
        """A label for each of the bars or boxes that cover these positions: its tick's, its date's, its number's."""
        middles = [(start + end) / 2 for start, end in spans]
        places, labels = self._marks()
        named = [(place, label) for place, label in zip(places, labels, strict=False) if label]
        crowded = len(spans) > len(named) and _are_bins(spans)
        if named and self._is_named() and not crowded:
            return [min(named, key=lambda mark: abs(mark[0] - middle))[1] for middle in middles]
        if self._kind != "numbers":
            return [str(value) for value in self.values(_array(middles))]
        if _are_bins(spans) and not all(math.isclose(middle, round(middle), abs_tol=1e-9) for middle in middles):
            return [f"{number_word(start)} to {number_word(end)}" for start, end in spans]
        return [number_word(float(f"{middle:.12g}")) for middle in middles]

    def _marks(self) -> tuple[list[float], list[str]]:
        if self._ticks is None:
            labels = [clean(label.get_text()) or "" for label in self._axis.get_majorticklabels()]
            self._ticks = [float(place) for place in self._axis.get_majorticklocs()], labels
        return self._ticks

    def _tick_values(self, places: list[float]) -> list[Any]:
        """Ticks stay numbers on an axis of categories: their labels are the names."""
        if self._kind in ("categories", "numbers"):
            return [float(f"{place:.{TICK_DIGITS}g}") for place in places]
        return self.values(_array(places))

    def _is_named(self) -> bool:
        formatter, locator = self._axis.get_major_formatter(), self._axis.get_major_locator()
        kind = type(formatter).__name__
        return kind in NAMED or (kind == "FuncFormatter" and type(locator).__name__ == "FixedLocator")

    def _scale(self, places: list[float]) -> str:
        scale = str(self._axis.get_scale())
        if self._kind in SCALES:
            return SCALES[self._kind]
        counted = bool(places) and places == [float(i) for i in range(len(places))]
        return "categorical" if scale == "linear" and counted and self._is_named() else scale

    # --- positions as values ------------------------------------------------------------------------------------------

    def _numbers(self, places: Any) -> list[Any]:
        return list(places.tolist())

    def _categories(self, places: Any) -> list[Any]:
        """The names; a point between two categories stays a number."""
        names = {int(place): name for name, place in self._axis.units._mapping.items()}
        return [names.get(int(v), v) if v is not None and v == v and v == int(v) else v for v in places.tolist()]

    def _dates(self, places: Any) -> list[Any]:
        numpy = sys.modules["numpy"]
        epoch = numpy.datetime64(sys.modules["matplotlib.dates"].get_epoch(), "ms")
        filled = numpy.ma.filled(numpy.ma.asarray(places, dtype=float), numpy.nan)
        known = numpy.isfinite(filled)
        moments = epoch + numpy.where(known, numpy.rint(numpy.where(known, filled, 0) * DAY), 0).astype(
            "timedelta64[ms]"
        )
        words = iso_words(moments, "+00:00" if self._axis.get_units() is not None else "")
        return [word if fine else None for word, fine in zip(words, known.tolist(), strict=True)]

    def _periods(self, places: Any) -> list[Any]:
        pandas, numpy = sys.modules["pandas"], sys.modules["numpy"]
        ordinals = numpy.rint(numpy.asarray(places, dtype=float)).astype("int64")
        periods = pandas.PeriodIndex.from_ordinals(ordinals, freq=self._axis.freq)
        return iso_words(periods.to_timestamp().to_numpy().astype("datetime64[ms]"), "")


_VALUES: dict[str, Callable[[Axis, Any], list[Any]]] = {
    "numbers": Axis._numbers,
    "categories": Axis._categories,
    "dates": Axis._dates,
    "periods": Axis._periods,
}


def iso_words(moments: Any, offset: str) -> list[str]:
    """Moments (numpy, in milliseconds) in ISO 8601, to the second where no fraction is needed."""
    numpy = sys.modules["numpy"]
    whole = not (moments.astype("int64") % SECOND).any()
    return [f"{word}{offset}" for word in numpy.datetime_as_string(moments, unit="s" if whole else "ms").tolist()]


def _array(places: list[float]) -> Any:
    numpy = sys.modules["numpy"]
    return numpy.asarray(places, dtype=float)


def _are_bins(spans: Sequence[tuple[float, float]]) -> bool:
    """Whether bars touch, as those of a histogram do."""
    pairs = itertools.pairwise(spans)
    return len(spans) > 1 and all(math.isclose(left[1], right[0], rel_tol=1e-6, abs_tol=1e-12) for left, right in pairs)
