"""Qwen's compatible mode, both ways: its own switches beside chat completions' fields, chunks, bodies and errors."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar import errors
from belljar.dialects.base import Incoming
from belljar.dialects.chat_completions import FIELDS
from belljar.dialects.qwen_chat import DIALECT, EXTRAS, NOT_HERE, OLD, READ, QwenChat
from belljar.dialects.qwen_chat_writer import Settings, settings_of
from belljar.errors import BadRequest, BelljarError, ClientError
from belljar.events import (
    CallClosed,
    CallOpened,
    CallReady,
    Event,
    Failed,
    Finish,
    Finished,
    Fold,
    ReasoningDelta,
    TextDelta,
)
from belljar.execution import Execution, Outcome
from belljar.model import File, Format, Image, Mode, ModelInfo, Request
from belljar.sse import SSEReader
from dialects.chat_helpers import START, asked, one_execution, ran, turn, written

PLAIN: dict[str, Any] = {"model": "qwen3.5-plus", "messages": [{"role": "user", "content": "hello"}]}
THINKING = PLAIN | {"enable_thinking": True, "enable_code_interpreter": True}
WEATHER = {"type": "function", "function": {"name": "weather"}}
HELLO = [*turn(0, TextDelta(text="Hel"), TextDelta(text="lo.")), Finished(finish=Finish.STOP)]
USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 10,
    "total_tokens": 30,
    "prompt_tokens_details": {"cached_tokens": 0},
}
PLUGINS = {"plugins": {"code_interpreter": {"count": 1}}}
PNG_URL = "data:image/png;base64,iVBORw0KGgo="


def read(body: Any, dialect: QwenChat = DIALECT) -> Request:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return dialect.read_request(Incoming(method="POST", path="/compatible-mode/v1/chat/completions", body=data))


def fold(events: Iterable[Event], body: Any = None) -> Any:
    folding = Fold()
    for event in events:
        folding.add(event)
    answer = json.loads(DIALECT.writer(read(body or PLAIN), START).fold(folding.answer))
    assert answer.pop("id").startswith("chatcmpl-")
    return answer


def stream(events: Iterable[Event], body: Any = None) -> bytes:
    writer = DIALECT.writer(read((body or PLAIN) | {"stream": True}), START)
    return b"".join(writer.write(event) for event in events)


def chunks(data: bytes) -> list[Any]:
    reader = SSEReader()
    texts = [event.data for event in (*reader.feed(data), *reader.end())]
    assert texts[-1] == b"[DONE]"
    values = [json.loads(text) for text in texts[:-1]]
    assert len({value.pop("id") for value in values}) == 1
    return values


def deltas(data: bytes) -> list[Any]:
    return [chunk["choices"][0]["delta"] for chunk in chunks(data) if chunk["choices"]]


# --- the way in -------------------------------------------------------------------------------------------------------


def test_the_table_is_that_of_chat_completions_and_more() -> None:
    assert set(READ) == (set(FIELDS) - {*NOT_HERE, *OLD}) | set(EXTRAS)


def test_plain() -> None:
    request = read(PLAIN)
    assert (request.model, request.messages[0].text) == ("qwen3.5-plus", "hello")
    assert (request.builtin, request.stream, request.effort) == ((), False, None)
    assert settings_of(request) == Settings()
    assert "passthrough" not in request.extra


def test_switches() -> None:
    fields = {
        "thinking_budget": 50,
        "top_k": 5,
        "repetition_penalty": 1.1,
        "search_options": {},
        "enable_search": False,
    }
    request = read(THINKING | fields | {"stream": True, "stream_options": {"include_usage": True}, "min_p": 0.1})
    assert request.builtin == ("python",)
    assert settings_of(request) == Settings(thinking=True, include_usage=True)
    assert request.extra["passthrough"] == {
        "thinking_budget": 50,
        "top_k": 5,
        "repetition_penalty": 1.1,
        "min_p": 0.1,
        "enable_thinking": True,
        "chat_template_kwargs": {"enable_thinking": True},
    }


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({}, None),
        ({"reasoning_effort": "low"}, "low"),
        ({"reasoning_effort": "default"}, None),
        ({"enable_thinking": True, "reasoning_effort": "high"}, "high"),
        ({"enable_thinking": False, "reasoning_effort": "high"}, "none"),
    ],
)
def test_effort(fields: dict[str, Any], effort: str | None) -> None:
    assert read(PLAIN | fields).effort == effort


def test_fields_of_chat_completions() -> None:
    request = read(
        PLAIN
        | {"temperature": 0.5, "max_tokens": 9, "tools": [WEATHER], "tool_choice": "required", "seed": 1}
        | {"response_format": {"type": "json_object"}, "parallel_tool_calls": False}
    )
    assert request.options == {"temperature": 0.5, "max_tokens": 9, "seed": 1}
    assert [function.name for function in request.functions] == ["weather"]
    assert (request.choice.mode, request.format, request.parallel) == (Mode.REQUIRED, Format(), False)


def test_pictures_are_files_too_where_code_runs() -> None:
    content = [{"type": "image_url", "image_url": {"url": PNG_URL}}]
    body = {"messages": [{"role": "user", "content": content}]}
    assert [type(part) for part in read(PLAIN | body).messages[0].parts] == [Image]
    assert [type(part) for part in read(THINKING | body).messages[0].parts] == [Image, File]


def test_the_tool_of_other_vendors_is_the_switch() -> None:
    assert read(PLAIN | {"tools": [{"type": "code_interpreter"}]}).builtin == ("python",)


RULES: list[tuple[dict[str, Any], str | None]] = [
    ({"enable_thinking": True, "stream": True}, None),
    ({"stream": True}, "enable_thinking"),
    ({"enable_thinking": True}, "enable_code_interpreter"),
]


@pytest.mark.parametrize(("fields", "place"), RULES)
def test_qwen_max(fields: dict[str, Any], place: str | None) -> None:
    body = PLAIN | {"model": "qwen3-max", "enable_code_interpreter": True} | fields
    if place is not None:
        with pytest.raises(BadRequest) as caught:
            read(body)
        assert caught.value.param == place
    assert read(body, QwenChat(strict=False)).builtin == ("python",)
    assert read(body | {"model": "qwen3.5-plus"}).builtin == ("python",)


REFUSED: list[tuple[Any, str]] = [
    ([], "body"),
    ({"messages": []}, "model"),
    ({"model": "m"}, "messages"),
    (PLAIN | {"messages": [{"role": "bot"}]}, "messages.0.role"),
    (PLAIN | {"model": "groq/compound"}, "model"),
    (PLAIN | {"enable_search": True}, "enable_search"),
    (PLAIN | {"enable_thinking": "yes"}, "enable_thinking"),
    (PLAIN | {"functions": [{"name": "f"}]}, "functions"),
    (PLAIN | {"function_call": "auto"}, "function_call"),
    (PLAIN | {"temperature": 3}, "temperature"),
    (PLAIN | {"top_logprobs": 2}, "top_logprobs"),
    (PLAIN | {"max_tokens": 2, "max_completion_tokens": 3}, "max_tokens"),
    (PLAIN | {"response_format": {"type": "yaml"}}, "response_format.type"),
    (THINKING | {"tools": [WEATHER]}, "enable_code_interpreter"),
    (PLAIN | {"tools": [WEATHER, {"type": "code_interpreter"}]}, "enable_code_interpreter"),
]


@pytest.mark.parametrize(("body", "place"), REFUSED, ids=[f"{n} {place}" for n, (_, place) in enumerate(REFUSED)])
def test_refused(body: Any, place: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(body)
    assert caught.value.param == place


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "function", "name", "text", "content"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    body=st.fixed_dictionaries(
        {"model": st.just("m") | VALUES, "messages": st.just(PLAIN["messages"]) | VALUES},
        optional=dict.fromkeys({*READ, *OLD, "chat_template_kwargs"} - {"model", "messages"}, VALUES),
    )
    | VALUES
)
def test_nothing_but_client_errors(body: Any) -> None:
    with contextlib.suppress(ClientError):
        assert read(body).messages


# --- the way out ------------------------------------------------------------------------------------------------------


def test_stream_to_the_byte() -> None:
    data = stream(one_execution(), THINKING | {"stream_options": {"include_usage": True}}).decode()
    identity = chunk_id(data)
    tail = (
        f'"object":"chat.completion.chunk","usage":null,"created":1700000000,"system_fingerprint":null,'
        f'"model":"qwen3.5-plus","id":"{identity}"}}\n\n'
    )
    said = [
        '{"content":null,"role":"assistant","reasoning_content":""}',
        '{"content":null,"reasoning_content":"We need "}',
        '{"content":null,"reasoning_content":"sqrt."}',
        '{"content":"It is ","reasoning_content":null}',
        '{"content":"10.05.","reasoning_content":null}',
        '{"content":"","reasoning_content":null}',
    ]
    reasons = ["null"] * 5 + ['"stop"']
    expected = [
        f'data: {{"choices":[{{"delta":{delta},"finish_reason":{reason},"index":0,"logprobs":null}}],{tail}'
        for delta, reason in zip(said, reasons, strict=True)
    ]
    usage = json.dumps(USAGE | PLUGINS, separators=(",", ":"))
    last = 'data: {"choices":[],' + tail.replace('"usage":null', f'"usage":{usage}')
    assert data == "".join([*expected, last, "data: [DONE]\n\n"])


def chunk_id(data: str) -> str:
    identity: str = json.loads(data.split("\n\n", maxsplit=1)[0].removeprefix("data: "))["id"]
    return identity


def test_body() -> None:
    assert fold(one_execution(), THINKING) == {
        "choices": [
            {
                "message": {"role": "assistant", "content": "It is 10.05.", "reasoning_content": "We need sqrt."},
                "finish_reason": "stop",
                "index": 0,
                "logprobs": None,
            }
        ],
        "object": "chat.completion",
        "usage": USAGE | PLUGINS,
        "created": 1_700_000_000,
        "system_fingerprint": None,
        "model": "qwen3.5-plus",
    }


def test_without_thinking_there_is_no_reasoning() -> None:
    body = PLAIN | {"enable_code_interpreter": True}
    assert fold(one_execution(), body)["choices"][0]["message"] == {"role": "assistant", "content": "It is 10.05."}
    assert deltas(stream(one_execution(), body)) == [
        {"content": "", "role": "assistant"},
        {"content": "It is "},
        {"content": "10.05."},
        {"content": ""},
    ]


def test_neither_code_nor_output_is_shown() -> None:
    events = one_execution(Execution(outcome=Outcome.OK, stdout="SECRET"), "print('CODE')")
    said = stream(events, THINKING).decode() + json.dumps(fold(events, THINKING))
    assert "SECRET" not in said
    assert "CODE" not in said


def test_usage_comes_where_it_is_asked_for() -> None:
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in chunks(stream(HELLO)))


def test_code_that_did_not_run_is_not_counted() -> None:
    closed = CallClosed(call="c1", execution=Execution(outcome=Outcome.ERROR), text="told")
    events = [*turn(0, *written("1"), finish=Finish.CALLS), closed, *turn(1, TextDelta(text="x"))]
    events.append(Finished(finish=Finish.STOP))
    assert "plugins" not in fold(events, THINKING)["usage"]
    last = chunks(stream(events, THINKING | {"stream_options": {"include_usage": True}}))[-1]
    assert "plugins" not in last["usage"]


def test_own_calls() -> None:
    events = [
        *turn(0, *asked('{"city": "Oslo"}'), CallOpened(call="f2", name="t"), CallReady(call="f2", arguments="{}")),
        Finished(finish=Finish.CALLS),
    ]
    body = PLAIN | {"tools": [WEATHER]}
    message = fold(events, body)["choices"][0]["message"]
    assert message["tool_calls"] == [
        {"id": "f1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
        {"id": "f2", "type": "function", "function": {"name": "t", "arguments": "{}"}},
    ]
    sent = [call for delta in deltas(stream(events, body)) for call in delta.get("tool_calls", ())]
    assert [(call["index"], call["id"], call["function"]) for call in sent] == [
        (0, "f1", {"name": "weather", "arguments": ""}),
        (0, "", {"arguments": '{"ci'}),
        (0, "", {"arguments": 'ty": "Oslo"}'}),
        (1, "f2", {"name": "t", "arguments": ""}),
        (1, "", {"arguments": "{}"}),
    ]
    assert chunks(stream(events, body))[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_logprobs() -> None:
    token = {"token": "a", "logprob": -0.1}
    events = [*turn(0, TextDelta(text="a", extra={"logprobs": {"content": [token]}})), Finished(finish=Finish.STOP)]
    assert fold(events)["choices"][0]["logprobs"] == {"content": [token]}
    assert [chunk["choices"][0]["logprobs"] for chunk in chunks(stream(events))] == [None, {"content": [token]}, None]


SAID = st.lists(st.tuples(st.booleans(), st.sampled_from(["a", " ", "b\n", "\n", "é", "end."])), max_size=5)


@given(said=st.lists(SAID, min_size=1, max_size=3), thinking=st.booleans())
def test_streams_and_bodies_agree(said: list[list[tuple[bool, str]]], thinking: bool) -> None:
    events: list[Event] = []
    for number, pieces in enumerate(said):
        words: list[Event] = [TextDelta(text=text) if loud else ReasoningDelta(text=text) for loud, text in pieces]
        if number < len(said) - 1:
            events += [
                *turn(number, *words, *written("1", f"c{number}")),
                *ran(Execution(outcome=Outcome.OK), f"c{number}"),
            ]
        else:
            events += turn(number, *words)
    events.append(Finished(finish=Finish.STOP))
    body = THINKING | {"enable_thinking": thinking, "stream_options": {"include_usage": True}}
    whole, parts = fold(events, body), chunks(stream(events, body))
    for name in ("content", "reasoning_content"):
        joined = "".join(chunk["choices"][0]["delta"].get(name) or "" for chunk in parts[:-1])
        assert joined == whole["choices"][0]["message"].get(name, "")
    assert parts[-1]["usage"] == whole["usage"]


# --- errors and models ------------------------------------------------------------------------------------------------

ERRORS: list[tuple[BelljarError, int, str, str | None]] = [
    (errors.BadRequest("x", param="p"), 400, "invalid_request_error", "invalid_parameter_error"),
    (errors.Unauthorized("x"), 401, "invalid_request_error", "invalid_api_key"),
    (errors.UnknownModel("x", model="m"), 404, "invalid_request_error", "model_not_found"),
    (errors.AtCapacity("x"), 503, "internal_server_error", "capacity_exceeded"),
    (errors.UpstreamRefused("x", status=429, code="theirs"), 429, "requests", "theirs"),
    (BelljarError("x"), 500, "internal_server_error", None),
]


@pytest.mark.parametrize(("error", "status", "kind", "code"), ERRORS)
def test_error(error: BelljarError, status: int, kind: str, code: str | None) -> None:
    reply = DIALECT.write_error(error, None)
    told = json.loads(reply.body)["error"]
    assert (reply.status, told.pop("param")) == (status, {400: "p", 404: "model"}.get(status))
    assert told == {"message": "x", "type": kind, "code": code}
    assert json.loads(DIALECT.write_error(error, None, "req_1").body)["request_id"] == "req_1"


def test_error_in_mid_stream() -> None:
    data = stream([*turn(0, TextDelta(text="a")), Failed(error=errors.UpstreamError("gone"))])
    last = data.split(b"\n\n")[-2].removeprefix(b"data: ")
    assert json.loads(last) == {
        "error": {"message": "gone", "type": "upstream_error", "code": "upstream_failed", "param": None},
        "request_id": "req_1",
    }
    assert b"[DONE]" not in data


def test_models() -> None:
    info = ModelInfo(id="a/b", owner="me", created=7)
    shown = {"id": "a/b", "object": "model", "created": 7, "owned_by": "me"}
    assert json.loads(DIALECT.write_models([info])) == {"object": "list", "data": [shown]}
    assert json.loads(DIALECT.write_model(info)) == shown


def test_key() -> None:
    incoming = Incoming(method="GET", path="/compatible-mode/v1/models", headers={"authorization": "Bearer k"})
    assert DIALECT.read_key(incoming) == "k"
    assert not DIALECT.claims(incoming)
