"""Responses: neutral events become items, as a stream and as a body; a stream that a client accumulates is the body.

Every event and every item is checked against the types of OpenAI's SDK, and accumulated by it as well.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent

from belljar.dialects.base import Start
from belljar.dialects.responses_items import input_of, logs_of, output_items
from belljar.dialects.responses_settings import KEY, Settings
from belljar.dialects.responses_writer import ResponseWriter
from belljar.errors import Cancelled, HostError, UpstreamError
from belljar.events import (
    Accepted,
    ArgumentsDelta,
    CallClosed,
    CallOpened,
    CallReady,
    CallStarted,
    Event,
    Failed,
    Finish,
    Finished,
    Fold,
    Housed,
    ReasoningDelta,
    TextDelta,
    TurnEnded,
    TurnStarted,
)
from belljar.execution import Execution, FileInfo, GuestError, Outcome, Result
from belljar.model import Message, Request, Role, Text, Usage
from dialects.chat_helpers import PNG, ROOT, asked, one_execution, ran, turn, written

KEY_OF = "0123456789abcdef01234567"
START = Start(request_id=f"req_{KEY_OF}", created=1_700_000_000)
ASKED = Message(role=Role.USER, parts=(Text(text="hello"),))
EVENT_TYPES: dict[str, Any] = {
    get_args(kind.model_fields["type"].annotation)[0]: kind for kind in get_args(get_args(ResponseStreamEvent)[0])
}

SUMMARY = {"reasoning": {"effort": None, "summary": "auto"}}
LOOKS = {
    "plain": Settings(),
    "outputs": Settings(outputs=True, logprobs=True),
    "summary": Settings(outputs=True, encrypted=True, echo=SUMMARY),
    "custom": Settings(custom=frozenset({"weather"})),
    "qwen": Settings(outputs=True, qwen=True),
}


def request(settings: Settings = LOOKS["plain"], **fields: Any) -> Request:
    whole: dict[str, Any] = {"keep": True, "stream": True, "builtin": ("python",)} | fields
    return Request(model="m", messages=(ASKED,), extra={KEY: settings}, **whole)


def stream(events: Iterable[Event], settings: Settings = LOOKS["plain"], **fields: Any) -> bytes:
    writer = ResponseWriter(request(settings, **fields), START)
    return b"".join(writer.write(event) for event in events)


def fold(events: Iterable[Event], settings: Settings = LOOKS["plain"], **fields: Any) -> Any:
    folding = Fold()
    for event in events:
        folding.add(event)
    whole = json.loads(ResponseWriter(request(settings, **fields), START).fold(folding.answer))
    Response.model_validate(whole, strict=True)
    return whole


def frames(data: bytes, first: int = 0) -> list[Any]:
    """The events of a stream, whose names and numbers are as they must be."""
    values: list[Any] = []
    for frame in data.decode().split("\n\n")[:-1]:
        name, line = frame.split("\n")
        value = json.loads(line.removeprefix("data: "))
        assert name == f"event: {value['type']}"
        assert value["sequence_number"] == first + len(values)
        values.append(value)
    return values


def check(values: Sequence[Any]) -> None:
    """Each event is one of the SDK's, without a field that it does not know."""
    for value in values:
        event = EVENT_TYPES[value["type"]].model_validate(value, strict=True)
        if "response" not in value and "item" not in value and "logprobs" not in value:
            assert event.model_extra == {}, value


def accumulate(values: Iterable[Any]) -> dict[str, Any]:
    """The response, as a client puts it together from the deltas: what it has must be what the last event says."""
    items: list[dict[str, Any]] = []
    is_open: dict[int, str] = {}
    last: dict[str, Any] = {}
    for value in values:
        kind = value["type"].removeprefix("response.")
        assert not last, "nothing follows the end"
        if kind == "output_item.added":
            assert value["output_index"] == len(items)
            items.append(value["item"])
            is_open[value["output_index"]] = value["item"]["id"]
        elif "item_id" in value:
            assert is_open[value["output_index"]] == value["item_id"]
            apply(items[value["output_index"]], kind, value)
        elif kind == "output_item.done":
            assert is_open.pop(value["output_index"]) == value["item"]["id"]
            merged = items[value["output_index"]]
            assert said(merged) == said(value["item"])
            items[value["output_index"]] = value["item"]
        elif kind in ("completed", "incomplete", "failed"):
            assert not is_open
            last = value["response"]
    assert last["output"] == items
    return last


def said(item: Any) -> Any:
    """What deltas tell of an item."""
    return {name: item[name] for name in ("code", "arguments", "input", "content", "summary") if name in item}


def apply(item: Any, kind: str, value: Any) -> None:
    place = {
        "content_part": ("content", "content_index"),
        "output_text": ("content", "content_index"),
        "reasoning_text": ("content", "content_index"),
        "reasoning_summary_part": ("summary", "summary_index"),
        "reasoning_summary_text": ("summary", "summary_index"),
    }
    name, _, verb = kind.rpartition(".")
    if name in place:
        field, index = place[name]
        parts = item[field]
        if verb == "added":
            assert value[index] == len(parts)
            parts.append(value["part"])
        elif verb == "delta":
            parts[value[index]]["text"] += value["delta"]
            if value.get("logprobs"):
                parts[value[index]]["logprobs"] += value["logprobs"]
        else:
            assert parts[value[index]]["text"] == (value["text"] if "text" in value else value["part"]["text"])
    elif name == "output_text.annotation":
        annotations = item["content"][value["content_index"]]["annotations"]
        assert value["annotation_index"] == len(annotations)
        annotations.append(value["annotation"])
    elif name in ARGUMENTS:
        field = ARGUMENTS[name]
        item[field] = item[field] + value["delta"] if verb == "delta" else value[field]


ARGUMENTS = {
    "code_interpreter_call_code": "code",
    "function_call_arguments": "arguments",
    "custom_tool_call_input": "input",
}


def types(data: bytes) -> list[str]:
    return [value["type"].removeprefix("response.") for value in frames(data)]


# --- answers ----------------------------------------------------------------------------------------------------------

CHART = FileInfo(path="cfile_aa11.png", size=10, type="image/png", modified=1.0, id="aa11")
REPORT = FileInfo(path="report.csv", size=3, type="text/csv", modified=1.0, id="bb22")
DATA = FileInfo(path="in/my data.csv", size=3, type="text/csv", modified=1.0, id="cc33")
HOUSED = Housed(container="f" * 24, files=(DATA,))
PLOT = Execution(
    outcome=Outcome.OK,
    stdout="drawn\n",
    results=(Result(data={"image/png": PNG, "text/plain": "<Figure>"}), Result(data={"image/svg+xml": "<svg/>"})),
    files=(REPORT,),
    pictures=(CHART,),
)
BROKEN = Execution(
    outcome=Outcome.ERROR, error=GuestError(name="ValueError", value="no", traceback="Traceback\nValueError: no")
)
NOT_RUN = Execution(outcome=Outcome.ERROR, error=GuestError(name="NotRun", value="x", traceback="NotRun: x"))
LOGPROBS = {"content": [{"token": "It", "logprob": -0.5, "bytes": [73, 116], "top_logprobs": []}]}


def plotted(text: str = "See [it](sandbox:/mnt/data/report.csv).") -> list[Event]:
    """An answer whose code ran in a container."""
    return [
        HOUSED,
        *turn(0, TextDelta(text="I draw."), *written("plot()"), finish=Finish.CALLS),
        *ran(PLOT),
        *turn(1, TextDelta(text=text)),
        Finished(finish=Finish.STOP),
    ]


CUT_CALL = [*turn(0, *written("x = 1"), finish=Finish.LENGTH), Finished(finish=Finish.LENGTH)]
HALF_CALL: list[Event] = [
    TurnStarted(turn=0, model="m"),
    CallOpened(call="c1", name="python", builtin=True),
    ArgumentsDelta(call="c1", text="impo"),
]
ANSWERS: dict[str, list[Event]] = {
    "code": one_execution(),
    "words": [*turn(0, TextDelta(text="Hel"), TextDelta(text=""), TextDelta(text="lo")), Finished(finish=Finish.STOP)],
    "nothing": [*turn(0), Finished(finish=Finish.STOP)],
    "plot": plotted(),
    "broken": [
        *turn(0, *written("1/0", "c1"), *written("2", "c2"), finish=Finish.CALLS),
        *ran(BROKEN, "c1"),
        *ran(ROOT, "c2"),
        *turn(1, TextDelta(text="no", extra={"logprobs": LOGPROBS})),
        Finished(finish=Finish.STOP),
    ],
    "functions": [
        *turn(0, *asked('{"input":"a\\nb"}', "f1"), *asked("{}", "f2", "clock"), finish=Finish.CALLS),
        Finished(finish=Finish.CALLS),
    ],
    "mixed": [
        *turn(0, ReasoningDelta(text="?"), *asked('{"x":1}'), *written("1"), TextDelta(text="b"), finish=Finish.CALLS),
        *ran(ROOT),
        Finished(finish=Finish.CALLS),
    ],
    "parted": [
        *turn(0, TextDelta(text="a"), ReasoningDelta(text=""), TextDelta(text="b"), ReasoningDelta(text="r")),
        *turn(1, TextDelta(text="c")),
        Finished(finish=Finish.STOP),
    ],
    "not run": [
        *turn(0, *written("1"), finish=Finish.CALLS),
        CallClosed(call="c1", execution=NOT_RUN, text="told"),
        *turn(1, TextDelta(text="no")),
        Finished(finish=Finish.STOP),
    ],
    "cut": [*turn(0, TextDelta(text="a lo"), finish=Finish.LENGTH), Finished(finish=Finish.LENGTH)],
    "cut call": CUT_CALL,
    "cut function": [*turn(0, *asked('{"x"'), finish=Finish.LENGTH), Finished(finish=Finish.LENGTH)],
    "filtered": [*turn(0, TextDelta(text="a"), finish=Finish.FILTERED), Finished(finish=Finish.FILTERED)],
    "failed": [TurnStarted(turn=0, model="m"), TextDelta(text="a"), Failed(error=UpstreamError("it broke"))],
    "failed at once": [Failed(error=HostError("no"))],
    "failed while it ran": [*turn(0, *written("1")), CallStarted(call="c1"), Failed(error=HostError("no"))],
    "cancelled": [*turn(0, *written("1")), CallStarted(call="c1"), Failed(error=Cancelled("by the client"))],
}
EVERY = [pytest.param(ANSWERS[name], id=name) for name in ANSWERS]
EVERY_LOOK = [pytest.param(LOOKS[name], id=name) for name in LOOKS]


@pytest.mark.parametrize("settings", EVERY_LOOK)
@pytest.mark.parametrize("events", EVERY)
def test_a_stream_is_the_body(events: list[Event], settings: Settings) -> None:
    values = frames(stream(events, settings))
    check(values)
    whole = fold(events, settings)
    assert accumulate(values) == whole
    assert [item["id"][-4:] for item in whole["output"]] == [f"{place:04x}" for place in range(len(whole["output"]))]
    assert within(sdk(values), whole) == whole


def sdk(values: Iterable[Any]) -> Any:
    """What OpenAI's `responses.stream` makes of a stream."""
    state: Any = ResponseStreamState(input_tools=omit, text_format=omit)
    last: Any = None
    for value in values:
        last = state.handle_event(EVENT_TYPES[value["type"]].model_validate(value))[-1]
    return json.loads(last.response.model_dump_json(by_alias=True))


def within(shown: Any, expected: Any) -> Any:
    """Of what the SDK shows, the fields that were sent: it adds those that its types have beside them."""
    if isinstance(expected, dict):
        return {name: within(shown[name], value) for name, value in expected.items()}
    if isinstance(expected, list):
        return [within(one, other) for one, other in zip(shown, expected, strict=True)]
    return shown


@pytest.mark.parametrize("events", EVERY)
def test_a_stream_goes_on_after_any_event(events: list[Event]) -> None:
    whole = stream([Accepted(), *events], LOOKS["outputs"], background=True)
    pieces = [piece + b"\n\n" for piece in whole.split(b"\n\n")[:-1]]
    events = [Accepted(), *events]
    for after in range(-1, len(pieces)):
        settings = Settings(outputs=True, logprobs=True, after=after)
        assert stream(events, settings, background=True) == b"".join(pieces[after + 1 :])


@pytest.mark.parametrize("events", EVERY)
def test_any_beginning_of_an_answer_is_a_body(events: list[Event]) -> None:
    for end in range(len(events)):
        so_far = fold(events[:end], background=True)
        assert so_far["status"] == ("in_progress" if so_far["output"] or so_far["usage"] else so_far["status"])
        assert so_far["status"] in ("queued", "in_progress")
        assert (so_far["completed_at"], so_far["error"]) == (None, None)


# --- the order of events ----------------------------------------------------------------------------------------------


def test_the_events_of_code_that_ran() -> None:
    assert types(stream(one_execution(), LOOKS["summary"])) == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "code_interpreter_call.in_progress",
        "code_interpreter_call_code.delta",
        "code_interpreter_call_code.delta",
        "code_interpreter_call_code.done",
        "code_interpreter_call.interpreting",
        "code_interpreter_call.completed",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]


def test_code_is_sent_as_it_is_written() -> None:
    writer = ResponseWriter(request(), START)
    for event in HALF_CALL[:2]:
        writer.write(event)
    (value,) = [json.loads(writer.write(HALF_CALL[2]).decode().split("data: ")[1])]
    assert value == {
        "type": "response.code_interpreter_call_code.delta",
        "sequence_number": 4,
        "item_id": f"ci_{KEY_OF}0000",
        "output_index": 0,
        "delta": "impo",
    }


def test_functions_are_closed_when_something_follows() -> None:
    assert types(stream(ANSWERS["functions"]))[2:-1] == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]


def test_a_custom_tool_has_its_input_and_no_json() -> None:
    data = stream(ANSWERS["functions"], LOOKS["custom"])
    assert types(data)[2:6] == [
        "output_item.added",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.done",
        "output_item.done",
    ]
    first, second = accumulate(frames(data))["output"]
    assert first == {
        "id": f"ctc_{KEY_OF}0000",
        "type": "custom_tool_call",
        "status": "completed",
        "call_id": "f1",
        "name": "weather",
        "input": "a\nb",
    }
    assert second == {
        "id": f"fc_{KEY_OF}0001",
        "type": "function_call",
        "status": "completed",
        "call_id": "f2",
        "name": "clock",
        "arguments": "{}",
    }


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [('{"input":"x"}', "x"), ('{"input":""}', ""), ('{"input":1}', '{"input":1}'), ("{", "{"), ("[1]", "[1]")],
)
def test_input(arguments: str, expected: str) -> None:
    assert input_of(arguments) == expected


def test_in_the_background_an_answer_is_queued_first() -> None:
    writer = ResponseWriter(request(background=True), START)
    queued = frames(writer.write(Accepted()))
    begun = frames(writer.write(TurnStarted(turn=0, model="m")), 2)
    assert [(value["type"][9:], value["response"]["status"]) for value in queued + begun] == [
        ("created", "queued"),
        ("queued", "queued"),
        ("in_progress", "in_progress"),
    ]
    assert queued[0]["response"]["background"] is True
    assert fold([Accepted()], background=True)["status"] == "queued"


def test_nothing_is_said_before_a_model_has_begun() -> None:
    writer = ResponseWriter(request(), START)
    assert writer.write(HOUSED) == b""
    assert [value["type"] for value in frames(writer.write(TurnStarted(turn=0, model="m")))] == [
        "response.created",
        "response.in_progress",
    ]


def test_what_is_open_is_closed_before_a_failure() -> None:
    values = frames(stream([*HALF_CALL, Failed(error=UpstreamError("it broke"))]))
    check(values)
    assert [value["type"][9:] for value in values[-3:]] == [
        "code_interpreter_call_code.done",
        "output_item.done",
        "failed",
    ]
    whole = accumulate(values)
    assert (whole["status"], whole["output"][0]["status"], whole["output"][0]["code"]) == (
        "failed",
        "incomplete",
        "impo",
    )
    assert whole["error"]["message"] == "it broke"


@pytest.mark.parametrize(("name", "more"), [("failed", 1), ("words", 0)])
def test_who_has_seen_more_than_outlived_the_server_is_told_that_it_failed(name: str, more: int) -> None:
    count = len(frames(stream(ANSWERS[name])))
    last = frames(stream(ANSWERS[name], Settings(after=count + 5)), first=count + 6)
    assert [value["type"] for value in last] == ["response.failed"] * more


def test_an_answer_that_was_cancelled() -> None:
    value = frames(stream(ANSWERS["cancelled"]))[-1]
    assert value["type"] == "response.failed"
    assert (value["response"]["status"], value["response"]["error"]) == ("cancelled", None)
    assert value["response"]["output"][0]["status"] == "incomplete"


# --- items ------------------------------------------------------------------------------------------------------------


def test_a_body() -> None:
    assert fold(one_execution(), LOOKS["outputs"]) == {
        "id": f"resp_{KEY_OF}",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": "completed",
        "background": False,
        "completed_at": 1_700_000_003,
        "conversation": None,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {},
        "model": "m",
        "output": [
            {
                "id": f"rs_{KEY_OF}0000",
                "type": "reasoning",
                "summary": [],
                "content": [{"type": "reasoning_text", "text": "We need sqrt."}],
            },
            {
                "id": f"ci_{KEY_OF}0001",
                "type": "code_interpreter_call",
                "status": "completed",
                "code": "import math\nmath.sqrt(101)\n",
                "container_id": f"cntr_{KEY_OF}",
                "outputs": [{"type": "logs", "logs": "10.04987562112089"}],
            },
            {
                "id": f"msg_{KEY_OF}0002",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "It is 10.05.", "annotations": [], "logprobs": []}],
            },
        ],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": True,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": None,
        "truncation": "disabled",
        "usage": {
            "input_tokens": 20,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 10,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 30,
        },
        "user": None,
    }


def test_what_the_request_said_is_repeated() -> None:
    echo = {
        "instructions": "be brief",
        "metadata": {"a": "b"},
        "text": {"verbosity": "low"},
        "reasoning": {"effort": "low"},
        "temperature": 0,
        "tools": [{"type": "code_interpreter", "container": {"type": "auto"}}],
        "user": None,
    }
    whole = fold(ANSWERS["words"], Settings(echo=echo), previous=f"resp_{KEY_OF}", conversation="ab", keep=False)
    assert {name: whole[name] for name in echo} == echo | {
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "reasoning": {"effort": "low", "summary": None},
    }
    assert whole["previous_response_id"] == f"resp_{KEY_OF}"
    assert (whole["conversation"], whole["store"]) == ({"id": "conv_ab"}, False)


@pytest.mark.parametrize(
    ("name", "status", "details"),
    [
        ("words", "completed", None),
        ("functions", "completed", None),
        ("cut", "incomplete", {"reason": "max_output_tokens"}),
        ("filtered", "incomplete", {"reason": "content_filter"}),
        ("failed", "failed", None),
        ("cancelled", "cancelled", None),
    ],
)
def test_the_status_of_a_response(name: str, status: str, details: Any) -> None:
    whole = fold(ANSWERS[name])
    assert (whole["status"], whole["incomplete_details"]) == (status, details)
    assert (whole["completed_at"] is not None) == (status == "completed")
    assert (whole["error"] is not None) == (status == "failed")


@pytest.mark.parametrize(
    ("name", "statuses"),
    [
        ("code", [None, "completed", "completed"]),
        ("broken", ["completed", "completed", "completed"]),
        ("not run", ["incomplete", "completed"]),
        ("cut", ["incomplete"]),
        ("cut call", ["incomplete"]),
        ("cut function", ["incomplete"]),
        ("filtered", ["incomplete"]),
        ("failed", ["incomplete"]),
        ("failed while it ran", ["incomplete"]),
    ],
)
def test_the_status_of_items(name: str, statuses: list[str | None]) -> None:
    assert [item.get("status") for item in fold(ANSWERS[name])["output"]] == statuses


@pytest.mark.parametrize(
    ("end", "status"),
    [(3, "in_progress"), (5, "in_progress"), (6, "interpreting")],
)
def test_the_status_of_a_call_that_goes_on(end: int, status: str) -> None:
    events = [*turn(0, *written("1"), finish=Finish.CALLS), *ran(ROOT)]
    assert fold(events[:end])["output"][0]["status"] == status


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome.OK, "completed"),
        (Outcome.ERROR, "completed"),
        (Outcome.EXITED, "completed"),
        (Outcome.TIMEOUT, "failed"),
        (Outcome.OUT_OF_MEMORY, "failed"),
        (Outcome.KILLED, "failed"),
    ],
)
def test_outcomes(outcome: Outcome, status: str) -> None:
    events = one_execution(Execution(outcome=outcome))
    assert fold(events)["output"][1]["status"] == status
    assert ("code_interpreter_call.completed" in types(stream(events))) == (status == "completed")


@pytest.mark.parametrize(
    ("execution", "logs"),
    [
        (Execution(outcome=Outcome.OK), ""),
        (Execution(outcome=Outcome.OK, stdout="a\n"), "a\n"),
        (Execution(outcome=Outcome.OK, stdout="a"), "a"),
        (Execution(outcome=Outcome.OK, stdout="a\n", stderr="b"), "a\nb"),
        (Execution(outcome=Outcome.OK, stdout="a\n", results=(Result(data={"text/plain": "42"}),)), "a\n42"),
        (BROKEN, "Traceback\nValueError: no"),
        (PLOT, "drawn\n"),
    ],
)
def test_logs(execution: Execution, logs: str) -> None:
    assert logs_of(execution) == logs


def test_pictures_are_data_urls() -> None:
    outputs = fold(plotted(), LOOKS["outputs"])["output"][1]["outputs"]
    assert outputs == [
        {"type": "logs", "logs": "drawn\n"},
        {"type": "image", "url": "data:image/png;base64," + b64encode(PNG).decode()},
        {"type": "image", "url": "data:image/svg+xml;base64," + b64encode(b"<svg/>").decode()},
    ]


@pytest.mark.parametrize("settings", [LOOKS["plain"], LOOKS["outputs"]], ids=["without", "with"])
def test_outputs_are_null_unless_they_are_asked_for(settings: Settings) -> None:
    values = frames(stream(plotted(), settings))
    calls = [value["item"] for value in values if value.get("item", {}).get("type") == "code_interpreter_call"]
    assert calls[0]["outputs"] == ([] if settings.outputs else None)
    assert (calls[1]["outputs"] is None) != settings.outputs
    assert {call["container_id"] for call in calls} == {"cntr_" + "f" * 24}


def test_reasoning_is_a_summary_where_one_is_asked_for() -> None:
    (item, *_) = fold(one_execution(), LOOKS["summary"])["output"]
    assert item["summary"] == [{"type": "summary_text", "text": "We need sqrt."}]
    assert b64decode(item["encrypted_content"]) == b"We need sqrt."
    assert "content" not in item
    assert fold(one_execution(), LOOKS["qwen"])["output"][0]["summary"] == item["summary"]


def test_log_probabilities() -> None:
    token = {"token": "It", "bytes": [73, 116], "logprob": -0.5, "top_logprobs": []}
    assert fold(ANSWERS["broken"], LOOKS["outputs"])["output"][-1]["content"][0]["logprobs"] == [token]
    assert fold(ANSWERS["broken"])["output"][-1]["content"][0]["logprobs"] == []
    assert b'"logprobs":[{"token"' in stream(ANSWERS["broken"], LOOKS["outputs"])


@pytest.mark.parametrize(("settings", "tools"), [(LOOKS["plain"], None), (LOOKS["qwen"], {"count": 1})])
def test_usage_on_qwens_path_counts_code(settings: Settings, tools: Any) -> None:
    usage = fold(one_execution(), settings)["usage"]
    assert usage.get("x_tools") == (None if tools is None else {"code_interpreter": tools})
    assert "x_tools" not in fold(ANSWERS["words"], settings)["usage"]


def test_usage_is_null_where_nobody_counted() -> None:
    uncounted: list[Event] = [TurnStarted(turn=0, model="m"), TurnEnded(turn=0, model="m", finish=Finish.STOP)]
    assert fold([*uncounted, Finished(finish=Finish.STOP)])["usage"] is None
    usage = Usage(prompt_tokens=7, completion_tokens=5, reasoning_tokens=3, cached_tokens=2)
    counted: list[Event] = [uncounted[0], TurnEnded(turn=0, model="m", finish=Finish.STOP, usage=usage)]
    assert fold([*counted, Finished(finish=Finish.STOP)])["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 12,
    }


def test_items_for_a_conversation() -> None:
    folding = Fold()
    for event in plotted():
        folding.add(event)
    assert output_items(request(), folding.answer, START) == fold(plotted())["output"]


# --- citations --------------------------------------------------------------------------------------------------------


def citations(text: str, events: Sequence[Event] = ()) -> list[tuple[str, int, int]]:
    """What the last message cites, but for pictures."""
    part = fold(events or plotted(text))["output"][-1]["content"][0]
    assert part["text"] == text
    return [
        (cited["filename"], cited["start_index"], cited["end_index"])
        for cited in part["annotations"]
        if cited["end_index"]
    ]


def test_a_citation() -> None:
    text = "See [it](sandbox:/mnt/data/report.csv)."
    *_, message = fold(plotted(text))["output"]
    picture, named = message["content"][0]["annotations"]
    container = {"type": "container_file_citation", "container_id": "cntr_" + "f" * 24}
    assert picture == container | {
        "file_id": "cfile_aa11",
        "filename": "cfile_aa11.png",
        "start_index": 0,
        "end_index": 0,
    }
    assert named == container | {
        "file_id": "cfile_bb22",
        "filename": "report.csv",
        "start_index": 9,
        "end_index": 37,
    }
    assert text[9:37] == "sandbox:/mnt/data/report.csv"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nothing", []),
        ("é report.csv.", [("report.csv", 2, 12)]),
        ("report.csv report.csv", [("report.csv", 0, 10)]),
        ("report.csv at /mnt/data/report.csv", [("report.csv", 14, 34)]),
        ("/mnt/data/report.csv or sandbox:/mnt/data/report.csv", [("report.csv", 24, 52)]),
        ("my-report.csv and report.csv.gz, Xreport.csv", []),
        ("[x](sandbox:/mnt/data/in/my%20data.csv)", [("my data.csv", 4, 38)]),
        ("in/my data.csv, report.csv", [("my data.csv", 0, 14), ("report.csv", 16, 26)]),
        ("(my data.csv)", [("my data.csv", 1, 12)]),
        ("`report.csv`", [("report.csv", 1, 11)]),
    ],
)
def test_names_of_files(text: str, expected: list[tuple[str, int, int]]) -> None:
    assert citations(text) == expected


def test_of_two_files_one_may_be_part_of_the_others_name() -> None:
    files = tuple(
        FileInfo(path=path, size=1, type="text/csv", modified=1.0, id=f"{at:02x}")
        for at, path in enumerate(["a.csv", "b/a.csv", "la.csv", "Makefile"])
    )
    text = "b/a.csv la.csv a.csv Makefile"
    events = [Housed(container="f" * 24, files=files), *turn(0, TextDelta(text=text)), Finished(finish=Finish.STOP)]
    assert citations(text, events) == [("a.csv", 0, 7), ("la.csv", 8, 14), ("a.csv", 15, 20)]


def test_links_may_have_no_more_than_their_spaces_written_as_urls_do() -> None:
    file = FileInfo(path="für alle.csv", size=1, type="text/csv", modified=1.0, id="aa")
    text = "[x](sandbox:/mnt/data/für%20alle.csv)"
    events = [Housed(container="f" * 24, files=(file,)), *turn(0, TextDelta(text=text)), Finished(finish=Finish.STOP)]
    assert citations(text, events) == [("für alle.csv", 4, len(text) - 1)]


def test_a_file_whose_name_is_no_utf_8_is_no_error() -> None:
    file = FileInfo(path="\udcff.csv", size=1, type="text/csv", modified=1.0, id="aa")
    events = [Housed(container="f" * 24, files=(file,)), *turn(0, TextDelta(text="x")), Finished(finish=Finish.STOP)]
    assert citations("x", events) == []


def test_what_code_makes_later_is_not_cited_before() -> None:
    events: list[Event] = [
        HOUSED,
        *turn(0, TextDelta(text="report.csv"), *written("1"), finish=Finish.CALLS),
        *ran(PLOT),
        *turn(1, TextDelta(text="done")),
        *turn(2, TextDelta(text="again")),
        Finished(finish=Finish.STOP),
    ]
    messages = [item for item in fold(events)["output"] if item["type"] == "message"]
    assert [len(message["content"][0]["annotations"]) for message in messages] == [0, 1, 0]


def test_without_a_container_nothing_is_cited() -> None:
    assert fold(plotted()[1:])["output"][-1]["content"][0]["annotations"] == []


def test_halves_of_surrogate_pairs_do_not_break_a_stream() -> None:
    printed = Execution(outcome=Outcome.OK, stdout="\ud83d\n", results=(Result(data={"image/svg+xml": "\ud83d"}),))
    events = one_execution(printed, "print('\\ud83d')")
    assert accumulate(frames(stream(events, LOOKS["outputs"]))) == fold(events, LOOKS["outputs"])


# --- any answer -------------------------------------------------------------------------------------------------------

WORDS = st.text(alphabet="ab \u00e9\U0001f600", max_size=3)


@st.composite
def turns(draw: st.DrawFn, number: int) -> list[Event]:
    """A turn that says and calls things in any order, and what it runs."""
    said: list[Event] = []
    runs: list[Event] = []
    for place in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["text", "thought", "function", "code", "idle"]))
        call = f"c{number}{place}"
        if kind == "text":
            said.append(TextDelta(text=draw(WORDS)))
        elif kind == "thought":
            said.append(ReasoningDelta(text=draw(WORDS)))
        elif kind == "function":
            said += asked('{"a":1}', call)
        else:
            said += written(draw(WORDS) or "1", call)
            executed = draw(st.sampled_from([ROOT, PLOT, BROKEN]))
            runs += ran(executed, call) if kind == "code" else [CallClosed(call=call, execution=NOT_RUN, text="")]
    return [*turn(number, *said, finish=draw(st.sampled_from(Finish))), *runs]


@cache
def ends() -> list[Event]:
    finished: list[Event] = [Finished(finish=finish) for finish in Finish]
    return [*finished, Failed(error=UpstreamError("x")), Failed(error=Cancelled("x"))]


@given(st.data(), st.integers(1, 3), st.sampled_from(sorted(LOOKS)), st.booleans())
def test_an_accumulated_stream_is_the_body(data: st.DataObject, count: int, look: str, housed: bool) -> None:
    events: list[Event] = [HOUSED] if housed else []
    events += [event for number in range(count) for event in data.draw(turns(number))]
    if data.draw(st.booleans()):  # it ends early, but not in the middle of arguments, of which a body shows nothing
        events = events[: data.draw(st.integers(0, len(events)))]
        ready = {event.call for event in events if isinstance(event, CallReady)}
        events = [
            event for event in events if not isinstance(event, CallOpened | ArgumentsDelta) or event.call in ready
        ]
        events.append(Failed(error=UpstreamError("x")))
    else:
        events.append(data.draw(st.sampled_from(ends())))
    values = frames(stream(events, LOOKS[look]))
    check(values)
    assert accumulate(values) == fold(events, LOOKS[look])
