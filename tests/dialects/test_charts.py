"""Charts on the wires: in Groq's `code_results`, for its SDK; nowhere else, and nowhere as words."""

from __future__ import annotations

from typing import Any

import pytest
from groq.types.chat.chat_completion_message import ExecutedToolCodeResult

from belljar.dialects.shown import output_of
from belljar.events import Event
from belljar.execution import CHART, Execution, Outcome, Result
from dialects import chat_helpers, dashscope_helpers, gemini_helpers
from dialects.chat_helpers import COMPOUND, GPT_OSS, PNG, frames, merge, one_execution

PNG_WORDS = "iVBORw0KGgogcGljdHVyZQ=="
AXES: dict[str, Any] = {
    "x_label": "Time (s)",
    "y_label": None,
    "x_unit": "s",
    "y_unit": None,
    **{f"{axis}_{name}": value for axis in "xy" for name, value in (("ticks", [1.0]), ("tick_labels", ["1"]))},
    "x_scale": "linear",
    "y_scale": "log",
}
LINE = {"type": "line", "title": "T", **AXES, "elements": [{"label": "SERIES", "points": [[1.0, 2.0]]}]}
BARS = {"type": "bar", "title": None, "elements": [{"label": "a", "group": "g", "value": 1.0}]}
SEVERAL = {"type": "superchart", "title": "S", "elements": [LINE, BARS, "no chart"]}
LINE_SHOWN = {name: value for name, value in LINE.items() if value is not None}
BARS_SHOWN = {name: value for name, value in BARS.items() if value is not None}

# What a sandbox says is the chart of a picture -> the fields of its entry beside `png`.
SHOWN: list[tuple[str, Any, dict[str, Any]]] = [
    ("one", LINE, {"chart": LINE_SHOWN}),
    ("bars", BARS, {"chart": BARS_SHOWN}),
    (
        "several",
        SEVERAL,
        {"chart": {"type": "superchart", "title": "S", "elements": []}, "charts": [LINE_SHOWN, BARS_SHOWN]},
    ),
    ("unknown", {"type": "unknown", "elements": []}, {"chart": {"type": "unknown", "elements": []}}),
    ("words", "a chart", {}),
    ("a list", [LINE], {}),
    ("no type", {"elements": []}, {}),
    ("a type of its own", {"type": "evil", "elements": []}, {}),
    ("a type that is no word", {"type": ["line"], "elements": []}, {}),
    ("elements that are none", {"type": "line", "elements": "x"}, {}),
]


def plot(chart: Any, **data: Any) -> Execution:
    return Execution(outcome=Outcome.OK, results=(Result(data={"image/png": PNG, CHART: chart} | data),))


def results(events: list[Event], body: dict[str, Any]) -> list[dict[str, Any]]:
    """`code_results` of an answer's only execution, the same in the stream."""
    (tool,) = chat_helpers.fold(events, body)["choices"][0]["message"]["executed_tools"]
    (streamed,) = merge(frames(chat_helpers.stream(events, body)))["message"]["executed_tools"]
    assert streamed == tool
    return list(tool["code_results"])


@pytest.mark.parametrize("body", [GPT_OSS, COMPOUND], ids=["gpt-oss", "compound"])
@pytest.mark.parametrize(("chart", "fields"), [case[1:] for case in SHOWN], ids=[case[0] for case in SHOWN])
def test_groq_shows_the_chart_of_a_picture(chart: Any, fields: dict[str, Any], body: dict[str, Any]) -> None:
    (entry,) = results(one_execution(plot(chart)), body)
    assert entry == {"png": PNG_WORDS} | fields
    ExecutedToolCodeResult.model_validate(entry, strict=True)


def test_a_chart_without_a_picture_is_an_entry_of_its_own() -> None:
    shown = Execution(outcome=Outcome.OK, results=(Result(data={CHART: BARS, "text/html": "<div>"}),))
    assert results(one_execution(shown), GPT_OSS) == [{"text": "<div>"}, {"chart": BARS_SHOWN}]


# Where else answers are written: a dialect's helpers fold and stream the same events.
PICTURE = Result(data={"image/png": PNG})
OTHERS = {"gemini": gemini_helpers, "dashscope": dashscope_helpers}


@pytest.mark.parametrize("name", OTHERS)
def test_other_vendors_have_no_word_for_it(name: str) -> None:
    with_chart, without = one_execution(plot(LINE)), one_execution(Execution(outcome=Outcome.OK, results=(PICTURE,)))
    assert "SERIES" not in str(OTHERS[name].fold(with_chart)) + str(OTHERS[name].stream(with_chart))
    assert OTHERS[name].stream(with_chart) == OTHERS[name].stream(without)
    assert output_of(plot(LINE)) == ""
