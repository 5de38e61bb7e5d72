"""Chat completions, the way out: bodies and streams in both shapes of executed tools, and that the two agree."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.dialects.base import write_json
from belljar.dialects.chat_completions import DIALECT
from belljar.dialects.chat_shapes import FINISHES
from belljar.dialects.chat_writer import LIVE_BYTES, LIVE_OUTPUT
from belljar.dialects.shown import output_of
from belljar.errors import ToolUseFailed
from belljar.events import (
    CallClosed,
    CallOpened,
    CallOutput,
    CallReady,
    CallStarted,
    Event,
    Failed,
    Finish,
    Finished,
    ReasoningDelta,
    TextDelta,
    TurnEnded,
    TurnStarted,
)
from belljar.execution import Execution, GuestError, Outcome, Output, Result
from belljar.model import ModelInfo, Usage
from dialects.chat_helpers import (
    COMPOUND,
    GPT_OSS,
    PLAIN,
    PNG,
    START,
    asked,
    deltas,
    fold,
    frames,
    merge,
    one_execution,
    ran,
    read,
    stream,
    turn,
    written,
)

CODE = "import math\nmath.sqrt(101)\n"
USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_time": 0.25,
    "completion_time": 0.75,
    "total_time": 1.0,
}
TWO_TURNS = {name: value * 2 for name, value in USAGE.items()} | {"queue_time": 0.125}
HELLO = [*turn(0, TextDelta(text="Hel"), TextDelta(text="lo.")), Finished(finish=Finish.STOP)]
FUNCTION = {"type": "function", "function": {"name": "weather"}}


def message(events: list[Event], body: Any = None) -> Any:
    return fold(events, body)["choices"][0]["message"]


# --- one body ---------------------------------------------------------------------------------------------------------


def test_plain() -> None:
    answer = fold(HELLO)
    assert answer.pop("id").startswith("chatcmpl-")
    assert answer == {
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello."},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
        "system_fingerprint": "fp_1",
        "service_tier": "on_demand",
        "x_groq": {"id": "req_1"},
    }


def test_gpt_oss() -> None:
    answer = fold(one_execution(), GPT_OSS)
    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": "It is 10.05.",
        "reasoning": "We need sqrt.",
        "executed_tools": [
            {
                "name": "python",
                "index": 0,
                "type": "function",
                "arguments": CODE,
                "search_results": {"results": None},
                "code_results": [{"text": "10.04987562112089"}],
            }
        ],
    }
    assert answer["usage"] == TWO_TURNS
    assert "usage_breakdown" not in answer


def test_compound() -> None:
    answer = fold(one_execution(), COMPOUND)
    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": "It is 10.05.",
        "reasoning": (
            "We need sqrt.\n<tool>\npython(import math\nmath.sqrt(101)\n)\n</tool>\n"
            "<output>10.04987562112089\n</output>"
        ),
        "executed_tools": [
            {
                "string": "",
                "name": "",
                "index": 0,
                "type": "python",
                "arguments": '{"code":"import math\\nmath.sqrt(101)\\n"}',
                "search_results": {"results": []},
                "output": "10.04987562112089\n",
            }
        ],
    }
    assert answer["usage"] == TWO_TURNS
    without_queue = {name: value for name, value in TWO_TURNS.items() if name != "queue_time"}
    assert answer["usage_breakdown"] == {"models": [{"model": "m", "usage": without_queue}]}
    assert answer["x_groq"] == {"id": "req_1", "model_version": "2025-07-23"}
    assert "system_fingerprint" not in answer


def test_every_model_has_its_usage_in_the_breakdown() -> None:
    events = [
        *turn(0, *written("1"), model="planner", finish=Finish.CALLS),
        *ran(Execution(outcome=Outcome.OK)),
        *turn(1, model="planner"),
        *turn(2, TextDelta(text="x"), model="answerer"),
        Finished(finish=Finish.STOP),
    ]
    models = fold(events, COMPOUND)["usage_breakdown"]["models"]
    assert [(m["model"], m["usage"]["total_tokens"]) for m in models] == [("planner", 30), ("answerer", 15)]
    assert frames(stream(events, COMPOUND))[-1]["x_groq"]["usage_breakdown"]["models"] == models


def test_own_calls() -> None:
    arguments = '{"city": "Oslo"}'
    events = [*turn(0, *asked(arguments), *asked("{}", "f2"), finish=Finish.CALLS), Finished(finish=Finish.CALLS)]
    choice = fold(events, PLAIN | {"tools": [FUNCTION]})["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "tool_calls": [
            {"id": "f1", "type": "function", "function": {"name": "weather", "arguments": arguments}},
            {"id": "f2", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
        ],
    }


def test_own_call_for_an_old_client() -> None:
    events = [*turn(0, *asked("{}"), finish=Finish.CALLS), Finished(finish=Finish.CALLS)]
    choice = fold(events, PLAIN | {"functions": [{"name": "weather"}]})["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"] == {"role": "assistant", "function_call": {"name": "weather", "arguments": "{}"}}


@pytest.mark.parametrize("finish", [finish for finish in Finish if finish is not Finish.CALLS])
def test_finish(finish: Finish) -> None:
    events = [*turn(0, TextDelta(text="x")), Finished(finish=finish)]
    assert fold(events)["choices"][0]["finish_reason"] == FINISHES[finish]
    assert frames(stream(events))[-1]["choices"][0]["finish_reason"] == FINISHES[finish]


def test_no_words_are_an_empty_text() -> None:
    assert message([*turn(0), Finished(finish=Finish.LENGTH)]) == {"role": "assistant", "content": ""}


THOUGHT = [*turn(0, ReasoningDelta(text="hm"), TextDelta(text="yes")), Finished(finish=Finish.STOP)]
FORMATS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({}, {"reasoning": "hm", "content": "yes"}),
    ({"reasoning_format": "parsed"}, {"reasoning": "hm", "content": "yes"}),
    ({"reasoning_format": "hidden"}, {"content": "yes"}),
    ({"include_reasoning": False}, {"content": "yes"}),
    ({"reasoning_format": "raw"}, {"content": "<think>\nhm\n</think>\n\nyes"}),
]


@pytest.mark.parametrize(("fields", "expected"), FORMATS)
def test_reasoning_formats(fields: dict[str, Any], expected: dict[str, str]) -> None:
    assert message(THOUGHT, PLAIN | fields) == {"role": "assistant", **expected}


def test_turns_do_not_run_together() -> None:
    events = [
        *turn(0, ReasoningDelta(text="a"), TextDelta(text="one."), *written("1"), finish=Finish.CALLS),
        *ran(Execution(outcome=Outcome.OK)),
        *turn(1, ReasoningDelta(text="b"), TextDelta(text="two.")),
        Finished(finish=Finish.STOP),
    ]
    told = message(events, GPT_OSS)
    assert (told["content"], told["reasoning"]) == ("one.\n\ntwo.", "a\n\nb")
    assert message(events, GPT_OSS | {"reasoning_format": "raw"})["content"] == (
        "<think>\na\n</think>\n\none.\n\n<think>\nb\n</think>\n\ntwo."
    )


def test_what_is_not_measured_is_not_said() -> None:
    usage = Usage(prompt_tokens=1, completion_tokens=1, reasoning_tokens=1, cached_tokens=1)
    events = [TurnStarted(turn=0, model="m"), TurnEnded(turn=0, model="m", finish=Finish.STOP, usage=usage)]
    assert fold([*events, Finished(finish=Finish.STOP)])["usage"] == {
        "prompt_tokens": 1,
        "completion_tokens": 1,
        "total_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    uncounted = [TurnStarted(turn=0, model="m"), TurnEnded(turn=0, model="m", finish=Finish.STOP)]
    assert "usage" not in fold([*uncounted, Finished(finish=Finish.STOP)])


def test_settings_are_echoed() -> None:
    answer = fold(HELLO, PLAIN | {"service_tier": "flex", "seed": 7})
    assert answer["service_tier"] == "flex"
    assert answer["x_groq"] == {"id": "req_1", "seed": 7}


def test_logprobs_are_joined() -> None:
    pieces = [
        TextDelta(text=text, extra={"logprobs": {"content": [{"token": text}], "refusal": None}}) for text in "ab"
    ]
    events = [*turn(0, *pieces), Finished(finish=Finish.STOP)]
    assert fold(events)["choices"][0]["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}]}
    assert [chunk["choices"][0]["logprobs"] for chunk in frames(stream(events))[1:3]] == [
        {"content": [{"token": "a"}], "refusal": None},
        {"content": [{"token": "b"}], "refusal": None},
    ]


# --- what an execution looks like -------------------------------------------------------------------------------------

ERROR = GuestError(name="ValueError", value="no", traceback="Traceback\nValueError: no")
FIGURE = Result(data={"image/png": PNG, "text/plain": "<Figure>"})
EXECUTIONS: list[tuple[str, Execution, str, list[dict[str, str]]]] = [
    ("value", Execution(outcome=Outcome.OK, results=(Result(data={"text/plain": "2"}),)), "2\n", [{"text": "2"}]),
    (
        "print and value",
        Execution(outcome=Outcome.OK, stdout="hi\n", results=(Result(data={"text/plain": "2"}),)),
        "hi\n2\n",
        [{"text": "hi\n2"}],
    ),
    (
        "error",
        Execution(outcome=Outcome.ERROR, stdout="a", stderr="b\n", error=ERROR),
        "a\nb\nTraceback\nValueError: no\n",
        [{"text": "a\nb\nTraceback\nValueError: no"}],
    ),
    (
        "timeout",
        Execution(outcome=Outcome.TIMEOUT, error=GuestError(name="Timeout", value="over 1 s", traceback="")),
        "Timeout: over 1 s\n",
        [{"text": "Timeout: over 1 s"}],
    ),
    ("nothing", Execution(outcome=Outcome.OK), "", [{"text": ""}]),
    (
        "plots",
        Execution(outcome=Outcome.OK, stdout="x\n", results=(FIGURE, FIGURE)),
        "x\n",
        [{"text": "x"}, {"png": base64.b64encode(PNG).decode()}, {"png": base64.b64encode(PNG).decode()}],
    ),
    ("plot alone", Execution(outcome=Outcome.OK, results=(FIGURE,)), "", [{"png": base64.b64encode(PNG).decode()}]),
    (
        "table",
        Execution(outcome=Outcome.OK, results=(Result(data={"text/html": "<table>", "text/plain": "a b"}),)),
        "a b\n",
        [{"text": "a b"}],
    ),
    (
        "JSON",
        Execution(outcome=Outcome.OK, results=(Result(data={"application/json": {"a": 1}}),)),
        '{"a":1}\n',
        [{"text": '{"a":1}'}],
    ),
    ("half a pair", Execution(outcome=Outcome.OK, stdout="a\ud800"), "a?\n", [{"text": "a?"}]),
]


@pytest.mark.parametrize(
    ("execution", "output", "results"), [case[1:] for case in EXECUTIONS], ids=[case[0] for case in EXECUTIONS]
)
def test_execution(execution: Execution, output: str, results: list[dict[str, str]]) -> None:
    events = one_execution(execution)
    assert message(events, GPT_OSS)["executed_tools"][0]["code_results"] == results
    told = message(events, COMPOUND)
    (tool,) = told["executed_tools"]
    assert tool["output"] == output
    assert tool.get("code_results", []) == [entry for entry in results if "png" in entry]
    assert told["reasoning"].endswith(f"<output>{output}</output>")


def test_a_call_that_did_not_run_is_not_shown() -> None:
    refused = Execution(outcome=Outcome.ERROR, error=GuestError(name="NotRun", value="x", traceback="x"))
    events = [
        *turn(0, *written("1", "c1"), *written("2", "c2"), finish=Finish.CALLS),
        *ran(Execution(outcome=Outcome.OK, stdout="1\n"), "c1"),
        CallClosed(call="c2", execution=refused, text="x"),
        *turn(1, TextDelta(text="done")),
        Finished(finish=Finish.STOP),
    ]
    body = PLAIN | {"model": "groq/compound-mini"}
    assert [tool["arguments"] for tool in message(events, body)["executed_tools"]] == ['{"code":"1"}']
    assert merge(frames(stream(events, body)))["message"] == message(events, body)


def test_half_of_a_call_is_not_shown() -> None:
    events = [*turn(0, *written("1"), finish=Finish.LENGTH), Finished(finish=Finish.LENGTH)]
    assert message(events, GPT_OSS) == {"role": "assistant", "content": ""}


# --- a stream ---------------------------------------------------------------------------------------------------------


def test_stream_of_gpt_oss() -> None:
    data = stream(one_execution(), GPT_OSS)
    assert data.endswith(b"data: [DONE]\n\n")
    head = {"name": "python", "index": 0, "type": "function", "arguments": CODE, "search_results": {"results": None}}
    assert deltas(data) == [
        {"role": "assistant", "content": ""},
        {"reasoning": "We need ", "channel": "analysis"},
        {"reasoning": "sqrt.", "channel": "analysis"},
        {"executed_tools": [head]},
        {"executed_tools": [head | {"code_results": [{"text": "10.0"}]}]},
        {"executed_tools": [head | {"code_results": [{"text": "10.049"}]}]},
        {"executed_tools": [head | {"code_results": [{"text": "10.04987562112089"}]}]},
        {"content": "It is "},
        {"content": "10.05."},
        {},
    ]
    first, *middle, last = frames(data)
    assert first["x_groq"] == {"id": "req_1"}
    assert last["x_groq"] == {"id": "req_1", "usage": TWO_TURNS}
    assert last["choices"][0]["finish_reason"] == "stop"
    assert all("x_groq" not in chunk and chunk["choices"][0]["finish_reason"] is None for chunk in middle)
    assert len({chunk["id"] for chunk in frames(data)}) == 1
    assert {chunk["object"] for chunk in frames(data)} == {"chat.completion.chunk"}
    assert {chunk["system_fingerprint"] for chunk in frames(data)} == {"fp_1"}


def test_stream_of_compound() -> None:
    data = stream(one_execution(), COMPOUND)
    sent = deltas(data)
    head = {
        "string": "",
        "name": "",
        "index": 0,
        "type": "python",
        "arguments": json.dumps({"code": CODE}, separators=(",", ":")),
    }
    head["search_results"] = {"results": []}
    assert sent[1:] == [
        {"reasoning": "We need "},
        {"reasoning": "sqrt."},
        {"reasoning": "\n<tool>\npython(import math\nmath.sqrt(101)\n)\n"},
        {"executed_tools": [head]},
        {"executed_tools": [head | {"output": "10.0"}]},
        {"executed_tools": [head | {"output": "10.049"}]},
        {"reasoning": "</tool>\n<output>10.04987562112089\n</output>"},
        {"executed_tools": [head | {"output": "10.04987562112089\n"}]},
        {"content": "It is "},
        {"content": "10.05."},
        {},
    ]
    last = frames(data)[-1]
    assert last["x_groq"]["model_version"] == "2025-07-23"
    assert last["x_groq"]["usage"] == TWO_TURNS


def test_stream_of_own_calls() -> None:
    data = stream([*turn(0, *asked('{"a": 1}'), finish=Finish.CALLS), Finished(finish=Finish.CALLS)])
    assert deltas(data)[1:] == [
        {
            "tool_calls": [
                {"index": 0, "id": "f1", "type": "function", "function": {"name": "weather", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]},
        {},
    ]


def test_arguments_that_no_delta_carried_come_in_the_end() -> None:
    opened = [CallOpened(call="f", name="weather"), CallReady(call="f", arguments='{"a": 1}')]
    data = stream([*turn(0, *opened, finish=Finish.CALLS), Finished(finish=Finish.CALLS)])
    assert merge(frames(data))["message"]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"a": 1}'}


def test_usage_in_a_chunk_of_its_own_where_asked_for() -> None:
    chunks = frames(stream(HELLO, PLAIN | {"stream_options": {"include_usage": True}}))
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == USAGE
    assert all("usage" not in chunk for chunk in chunks[:-1])
    assert all(chunk["choices"] for chunk in frames(stream(HELLO)))


def test_an_error_ends_the_stream() -> None:
    error = ToolUseFailed("the model did not", generation="<x>")
    data = stream([*turn(0, TextDelta(text="a")), Failed(error=error)])
    assert data.endswith(
        b'event: error\ndata: {"error":{"message":"the model did not","type":"invalid_request_error",'
        b'"failed_generation":"<x>","code":"tool_use_failed","status_code":400}}\n\n'
    )
    assert b"[DONE]" not in data


def test_an_error_may_be_all_of_it() -> None:
    assert stream([Failed(error=ToolUseFailed("x", generation=""))]).startswith(b"event: error\n")


def test_live_output_has_a_limit() -> None:
    def printed(text: str) -> CallOutput:
        return CallOutput(call="c1", output=Output(stream="stdout", text=text))

    writer = DIALECT.writer(read(GPT_OSS | {"stream": True}), START)
    for event in [*turn(0, *written("1"), finish=Finish.CALLS), CallStarted(call="c1")]:
        writer.write(event)
    assert writer.write(printed("x" * LIVE_OUTPUT))
    assert not writer.write(printed("x"))
    assert not writer.write(printed("x"))
    many = DIALECT.writer(read(GPT_OSS | {"stream": True}), START)
    for event in [*turn(0, *written("1" * 10_000), finish=Finish.CALLS), CallStarted(call="c1")]:
        many.write(event)
    sizes = [len(many.write(printed("x"))) for _ in range(200)]
    assert LIVE_BYTES < sum(sizes) < LIVE_BYTES + 20_000
    assert sizes[-1] == 0


def test_json_never_breaks_a_frame() -> None:
    assert b"\n" not in write_json({"a": "\n\r\u2028\ud800"})
    assert output_of(Execution(outcome=Outcome.OK, stdout="a\r")) == "a\r\n"


# --- a stream, merged, is the body ------------------------------------------------------------------------------------

texts = st.text(st.sampled_from(["a", "b", " ", "\n", "é", '"', "\\"]), max_size=4)
executions = st.sampled_from([case[1] for case in EXECUTIONS if case[0] != "half a pair"])
bodies = st.sampled_from([PLAIN, GPT_OSS, COMPOUND, PLAIN | {"functions": [{"name": "weather"}]}])
formats = st.sampled_from([fields for fields, _ in FORMATS])


@st.composite
def turns(draw: st.DrawFn, number: int) -> list[Event]:
    """A turn of any pieces and calls, and the executions of some of them."""
    said: list[Event] = []
    calls = []
    for at, kind in enumerate(draw(st.lists(st.sampled_from("rtcf"), max_size=6))):
        text, call = draw(texts), f"c{number}_{at}"
        if kind == "c":
            said += written(text, call)
            calls.append(call)
        elif kind == "f":
            said += asked(text, call, cut=draw(st.integers(0, 4)))
        else:
            said.append(ReasoningDelta(text=text) if kind == "r" else TextDelta(text=text))
    runs: list[Event] = []
    for call in calls:
        fate = draw(st.sampled_from(["ran", "refused", "cut"]))
        if fate == "cut":
            break
        events = ran(draw(executions), call, *draw(st.lists(texts, max_size=2)))
        runs += events if fate == "ran" else events[-1:]
    return [*turn(number, *said, model=draw(st.sampled_from("mn"))), *runs]


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """Any answer that ends well."""
    events = [event for number in range(draw(st.integers(1, 3))) for event in draw(turns(number))]
    return [*events, Finished(finish=draw(st.sampled_from(Finish)), queue_seconds=0.5)]


@given(answers(), bodies, formats)
def test_a_merged_stream_is_the_body(events: list[Event], body: dict[str, Any], fields: dict[str, Any]) -> None:
    body = body | fields
    whole, merged = fold(events, body), merge(frames(stream(events, body)))
    choice = whole["choices"][0]
    told, pieces = choice["message"], merged["message"]
    if "content" not in told:
        assert pieces.pop("content") == ""
    for message in (told, pieces):
        message.get("executed_tools", []).sort(key=lambda tool: tool["index"])
    assert pieces == told
    assert merged["finish_reason"] == choice["finish_reason"]
    assert merged["x_groq"]["usage"] == whole["usage"]
    assert merged["x_groq"].get("usage_breakdown") == whole.get("usage_breakdown")
    assert {name: merged.get(name) for name in ("model", "created", "system_fingerprint", "service_tier")} == {
        name: whole.get(name) for name in ("model", "created", "system_fingerprint", "service_tier")
    }


# --- models -----------------------------------------------------------------------------------------------------------


def test_models() -> None:
    model = ModelInfo(id="a/b", owner="me", created=3, extra={"context_window": 9, "id": "other"})
    expected = {"id": "a/b", "object": "model", "created": 3, "owned_by": "me", "active": True, "context_window": 9}
    assert json.loads(DIALECT.write_model(model)) == expected
    assert json.loads(DIALECT.write_models([model])) == {"object": "list", "data": [expected]}
