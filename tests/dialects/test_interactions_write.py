"""Interactions: neutral events become steps, as a stream and as a body; and a stream, merged, is the body."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.dialects.base import Incoming, Start
from belljar.dialects.gemini_interactions import DIALECT
from belljar.dialects.gemini_interactions_errors import CODES, REFUSALS
from belljar.dialects.gemini_interactions_steps import usage_of
from belljar.errors import BelljarError, Cancelled, UnknownItem, UnknownModel, UpstreamError, UpstreamRefused
from belljar.events import (
    CallOpened,
    Event,
    Failed,
    Finish,
    Finished,
    Fold,
    ReasoningDelta,
    TextDelta,
    TurnEnded,
)
from belljar.execution import Execution, GuestError, Outcome, Result
from belljar.model import Usage
from dialects.chat_helpers import PNG, ROOT, asked, one_execution, ran, turn, written

PLAIN: dict[str, Any] = {"model": "m", "input": "hello"}
SHOWN = PLAIN | {"generation_config": {"thinking_summaries": "auto"}}
START = Start(request_id="req_abc123", created=1_700_000_000)
DONE = b"event: done\ndata: [DONE]\n\n"
STREAM: dict[str, str] = {"stream": "true"}


def writer(body: Mapping[str, Any], view: Mapping[str, str] | None = None) -> Any:
    request = DIALECT.read_request(Incoming(method="POST", path="/", body=json.dumps(body).encode()))
    if view is not None:
        request = DIALECT.read_view(Incoming(method="GET", path="/", query=view), request)
    return DIALECT.writer(request, START)


def fold(events: Iterable[Event], body: Mapping[str, Any] = PLAIN, view: Mapping[str, str] | None = None) -> Any:
    folding = Fold()
    for event in events:
        folding.add(event)
    return json.loads(writer(body, view).fold(folding.answer))


def stream(events: Iterable[Event], body: Mapping[str, Any] = PLAIN, view: Mapping[str, str] | None = None) -> bytes:
    writing = writer(body, view)
    return b"".join(writing.write(event) for event in events)


def frames(data: bytes) -> list[Any]:
    """The values of a stream, whose events are called as they say."""
    values = []
    for frame in data.decode().split("\n\n")[:-1]:
        name, line = frame.split("\n")
        if line == "data: [DONE]":
            assert name == "event: done"
            continue
        values.append(json.loads(line.removeprefix("data: ")))
        assert name == f"event: {values[-1]['event_type']}"
    return values


def merge(values: Iterable[Any]) -> dict[str, Any]:
    """A stream as one interaction, as a client makes it."""
    steps: dict[int, dict[str, Any]] = {}
    arguments: dict[int, str] = {}
    opened: list[int] = []
    whole: dict[str, Any] = {}
    for value in values:
        kind = value["event_type"]
        if kind == "step.start":
            assert value["index"] == len(steps)
            steps[value["index"]] = value["step"]
            opened.append(value["index"])
        elif kind == "step.delta":
            assert value["index"] in opened
            apply(steps[value["index"]], value["delta"], arguments, value["index"])
        elif kind == "step.stop":
            opened.remove(value["index"])
        elif kind == "interaction.completed":
            assert not opened
            whole = value["interaction"]
    for index, written_so in arguments.items():
        steps[index]["arguments"] = parsed(written_so)
    return whole | {"steps": [steps[index] for index in sorted(steps)]}


def apply(step: dict[str, Any], delta: dict[str, Any], arguments: dict[int, str], index: int) -> None:
    kind = delta["type"]
    if kind == "text":
        step.setdefault("content", [{"type": "text", "text": ""}])[0]["text"] += delta["text"]
    elif kind == "thought_summary":
        step.setdefault("summary", [{"type": "text", "text": ""}])[0]["text"] += delta["content"]["text"]
    elif kind == "arguments_delta":
        arguments[index] = arguments.get(index, "") + delta["arguments"]
    elif kind == "image":
        if isinstance(step["result"], str):
            step["result"] = [{"type": "text", "text": step["result"]}] if step["result"] else []
        step["result"].append(delta)
    else:
        step |= delta


def parsed(arguments: str) -> Any:
    try:
        value = json.loads(arguments or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


# --- bodies -----------------------------------------------------------------------------------------------------------


def test_a_body() -> None:
    assert fold(one_execution(), SHOWN | {"previous_interaction_id": "v1_before"}) == {
        "id": "v1_abc123",
        "status": "completed",
        "object": "interaction",
        "model": "m",
        "created": "2023-11-14T22:13:20Z",
        "updated": "2023-11-14T22:13:20Z",
        "service_tier": "standard",
        "previous_interaction_id": "v1_before",
        "steps": [
            {"type": "thought", "summary": [{"type": "text", "text": "We need sqrt."}]},
            {
                "type": "code_execution_call",
                "id": "c1",
                "arguments": {"language": "python", "code": "import math\nmath.sqrt(101)\n"},
            },
            {"type": "code_execution_result", "call_id": "c1", "result": "10.04987562112089\n", "is_error": False},
            {"type": "model_output", "content": [{"type": "text", "text": "It is 10.05."}]},
        ],
        "usage": {
            "total_tokens": 30,
            "total_input_tokens": 10,
            "input_tokens_by_modality": [{"modality": "text", "tokens": 10}],
            "total_cached_tokens": 0,
            "total_output_tokens": 10,
            "total_tool_use_tokens": 10,
            "total_thought_tokens": 0,
            "tool_use_tokens_by_modality": [{"modality": "text", "tokens": 10}],
        },
    }


def test_thoughts_are_hidden_unless_asked_for() -> None:
    for steps in (fold(one_execution())["steps"], merge(frames(stream(one_execution())))["steps"]):
        assert next(step["type"] for step in steps) == "code_execution_call"


FAILURE = GuestError(name="ZeroDivisionError", value="division by zero", traceback="Traceback ...\nZeroDivisionError")
PICTURE = {"type": "image", "mime_type": "image/png", "data": "iVBORw0KGgogcGljdHVyZQ=="}
SVG = {"type": "image", "mime_type": "image/svg+xml", "data": "PHN2Zy8+"}
EXECUTIONS: list[tuple[str, Execution, Any, bool]] = [
    ("value", ROOT, "10.04987562112089\n", False),
    ("nothing", Execution(outcome=Outcome.OK), "", False),
    ("output", Execution(outcome=Outcome.OK, stdout="a\n", stderr="b"), "a\nb\n", False),
    (
        "exception",
        Execution(outcome=Outcome.ERROR, stdout="a\n", error=FAILURE),
        "a\nTraceback ...\nZeroDivisionError\n",
        True,
    ),
    ("killed", Execution(outcome=Outcome.OUT_OF_MEMORY), "The execution ended: out of memory.\n", True),
    ("plot", Execution(outcome=Outcome.OK, results=(Result(data={"image/png": PNG}),)), [PICTURE], False),
    (
        "plots and words",
        Execution(
            outcome=Outcome.OK,
            stdout="two",
            results=(Result(data={"image/png": PNG}), Result(data={"image/svg+xml": "<svg/>"})),
        ),
        [{"type": "text", "text": "two\n"}, PICTURE, SVG],
        False,
    ),
]


@pytest.mark.parametrize(("name", "execution", "result", "is_error"), EXECUTIONS)
def test_executions(name: str, execution: Execution, result: Any, is_error: bool) -> None:
    events = one_execution(execution)
    for steps in (fold(events)["steps"], merge(frames(stream(events)))["steps"]):
        step = next(step for step in steps if step["type"] == "code_execution_result")
        assert (step["result"], step["is_error"]) == (result, is_error)


STATUSES = [
    (Finish.STOP, "completed"),
    (Finish.LENGTH, "incomplete"),
    (Finish.CALLS, "requires_action"),
    (Finish.FILTERED, "incomplete"),
]


@pytest.mark.parametrize(("finish", "status"), STATUSES)
def test_statuses(finish: Finish, status: str) -> None:
    events = [*turn(0, TextDelta(text="x")), Finished(finish=finish)]
    assert fold(events)["status"] == status
    assert frames(stream(events))[-1]["interaction"]["status"] == status


def test_what_is_not_over() -> None:
    events = [*turn(0, *written("1"), finish=Finish.CALLS), *ran(ROOT)[:-1]]
    body = fold(events)
    assert body["status"] == "in_progress"
    assert [step["type"] for step in body["steps"]] == ["code_execution_call"]
    assert fold([*events, Failed(error=Cancelled("x"))])["status"] == "cancelled"
    failed = fold([*events, Failed(error=UpstreamError("it broke"))])
    assert (failed["status"], failed["errors"]) == ("failed", [{"message": "it broke", "code": "api_error"}])
    assert fold([])["steps"] == []


def test_the_input_comes_back_where_it_is_asked_for() -> None:
    items = [
        {"type": "user_input", "content": [{"type": "text", "text": "hello"}, PICTURE]},
        {"type": "function_call", "id": "f1", "name": "weather", "arguments": {"city": "Rome"}},
        {"type": "function_result", "call_id": "f1", "result": "sunny"},
    ]
    body = PLAIN | {"input": items, "system_instruction": "Be."}
    assert fold([], body, {"include_input": "true"})["input"] == items
    assert "input" not in fold([], body, {})


def test_usage() -> None:
    counted = Usage(prompt_tokens=10, completion_tokens=5, reasoning_tokens=2, cached_tokens=4)
    turns = [
        TurnEnded(turn=n, model="m", finish=Finish.STOP, usage=usage)
        for n, usage in enumerate([counted, None, counted])
    ]
    told = usage_of(turns)
    assert told is not None
    assert (
        told["total_tokens"]
        == 30
        == sum(told[f"total_{part}_tokens"] for part in ("input", "output", "tool_use", "thought"))
    )
    assert (told["total_input_tokens"], told["total_thought_tokens"], told["total_cached_tokens"]) == (10, 4, 8)
    assert usage_of([turns[1]]) is None


# --- streams ----------------------------------------------------------------------------------------------------------


def test_a_stream() -> None:
    data = stream([*turn(0, TextDelta(text="Hi"), TextDelta(text="!")), Finished(finish=Finish.STOP)])
    assert data.endswith(DONE)
    values = frames(data)
    assert [value["event_id"] for value in values] == [str(number) for number in range(1, len(values) + 1)]
    short = {"id": "v1_abc123", "status": "in_progress", "object": "interaction", "model": "m"}
    assert [{name: value[name] for name in value if name != "event_id"} for value in values[:-1]] == [
        {"event_type": "interaction.created", "interaction": short},
        {"event_type": "interaction.status_update", "interaction_id": "v1_abc123", "status": "in_progress"},
        {"event_type": "step.start", "index": 0, "step": {"type": "model_output"}},
        {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": "Hi"}},
        {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": "!"}},
        {"event_type": "step.stop", "index": 0},
    ]
    assert "steps" not in values[-1]["interaction"]


def test_a_function_call() -> None:
    events = [
        *turn(0, TextDelta(text="Hm."), *asked('{"city": "Rome"}'), finish=Finish.CALLS),
        Finished(finish=Finish.CALLS),
    ]
    step = {"type": "function_call", "id": "f1", "name": "weather", "arguments": {"city": "Rome"}}
    assert fold(events)["steps"][1] == step
    values = frames(stream(events))
    assert values[5]["step"] == step | {"arguments": {}}
    assert [value["delta"] for value in values[6:8]] == [
        {"type": "arguments_delta", "arguments": '{"ci'},
        {"type": "arguments_delta", "arguments": 'ty": "Rome"}'},
    ]


def test_a_stream_goes_on_from_any_event() -> None:
    events = one_execution()
    whole = stream(events, SHOWN)
    for number in range(len(frames(whole)) + 1):
        rest = stream(events, SHOWN, STREAM | {"last_event_id": str(number)})
        assert whole.endswith(rest)
        assert [value["event_id"] for value in frames(rest)] == [value["event_id"] for value in frames(whole)[number:]]


def test_an_error_closes_what_is_open() -> None:
    events = turn(0, TextDelta(text="Hi"), CallOpened(call="f1", name="weather"))[:-1]
    values = frames(stream([*events, Failed(error=UpstreamError("it broke"))]))
    assert [value["event_type"] for value in values[-2:]] == ["step.stop", "error"]
    assert values[-1]["error"] == {"message": "it broke", "code": "api_error"}
    opened = [value["index"] for value in values if value["event_type"] == "step.start"]
    assert opened == [value["index"] for value in values if value["event_type"] == "step.stop"] == [0, 1]


def test_who_cancels_is_told_so() -> None:
    data = stream([*turn(0, TextDelta(text="Hi"))[:-1], Failed(error=Cancelled("x"))])
    assert data.endswith(DONE)
    assert frames(data)[-1]["status"] == "cancelled"


def test_code_that_did_not_run_is_not_shown() -> None:
    events = [
        *turn(0, *written("1"), finish=Finish.CALLS),
        ran(ROOT)[-1],
        *turn(1, TextDelta(text="x")),
        Finished(finish=Finish.STOP),
    ]
    assert len(fold(events)["steps"]) == 1
    assert len(merge(frames(stream(events)))["steps"]) == 1


texts = st.text(st.sampled_from(["a", "b", " ", "\n", "é", '"', "\\"]), max_size=4)


@st.composite
def turns(draw: st.DrawFn, number: int) -> list[Event]:
    """A turn of any pieces and calls, and the executions of some of them."""
    said: list[Event] = []
    calls = []
    for at, kind in enumerate(draw(st.lists(st.sampled_from("rtcf"), max_size=6))):
        call = f"c{number}_{at}"
        if kind == "c":
            said += written(draw(texts), call)
            calls.append(call)
        elif kind == "f":
            said += asked(draw(st.sampled_from(['{"a": 1}', "", "{", "[]"])), call, cut=draw(st.integers(0, 4)))
        else:
            said.append(ReasoningDelta(text=draw(texts)) if kind == "r" else TextDelta(text=draw(texts)))
    runs: list[Event] = []
    for call in calls:
        fate = draw(st.sampled_from(["ran", "refused", "cut"]))
        if fate == "cut":
            break
        events = ran(draw(st.sampled_from([case[1] for case in EXECUTIONS])), call)
        runs += events if fate == "ran" else events[-1:]
    return [*turn(number, *said), *runs]


@given(st.data(), st.integers(1, 3), st.sampled_from([PLAIN, SHOWN]), st.sampled_from(Finish))
def test_a_merged_stream_is_the_body(data: st.DataObject, count: int, body: dict[str, Any], finish: Finish) -> None:
    events = [event for number in range(count) for event in data.draw(turns(number))]
    events.append(Finished(finish=finish))
    assert merge(frames(stream(events, body))) == fold(events, body)


# --- errors -----------------------------------------------------------------------------------------------------------


def test_errors() -> None:
    reply = DIALECT.write_error(UnknownModel("no model x", model="x"), None)
    assert (reply.status, json.loads(reply.body)) == (
        404,
        {"error": {"message": "no model x", "code": "model_not_found"}},
    )
    assert json.loads(DIALECT.write_error(UnknownItem("x"), None).body)["error"]["code"] == "not_found"


def test_every_error_has_a_code() -> None:
    def kinds(kind: type[BelljarError]) -> list[type[BelljarError]]:
        return [kind, *(found for inner in kind.__subclasses__() for found in kinds(inner))]

    for kind in kinds(BelljarError):
        error = kind.__new__(kind)
        Exception.__init__(error, "x")
        if kind is UpstreamRefused:
            continue
        assert json.loads(DIALECT.write_error(error, None).body)["error"]["code"] in CODES.values()


@pytest.mark.parametrize("status", [*REFUSALS, 418, 500])
def test_refusals_of_upstreams(status: int) -> None:
    reply = DIALECT.write_error(UpstreamRefused("x", status=status, retry_after=0.2), None)
    code = json.loads(reply.body)["error"]["code"]
    assert code == REFUSALS.get(status, "invalid_request" if status < 500 else "api_error")
    assert (reply.status, reply.headers["retry-after"]) == (status, "1")
