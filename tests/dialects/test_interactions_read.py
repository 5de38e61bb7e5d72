"""Interactions: what comes in becomes a neutral request, or a refusal that names the place."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.dialects.base import Incoming
from belljar.dialects.gemini_interactions import CONFIG, DIALECT, FIELDS
from belljar.dialects.gemini_interactions_settings import UNAVAILABLE, settings_of
from belljar.dialects.gemini_interactions_tools import MODES
from belljar.errors import BadRequest, ClientError
from belljar.model import (
    Call,
    CallResult,
    Choice,
    File,
    FileRef,
    Format,
    Function,
    Image,
    Message,
    Mode,
    Request,
    Role,
    Text,
)

PLAIN: dict[str, Any] = {"model": "m", "input": "hello"}
CODE = {"type": "code_execution"}
WEATHER = {"type": "function", "name": "weather", "description": "d", "parameters": {"type": "object"}}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n picture").decode()
CSV = base64.b64encode(b"a,b\n1,2\n").decode()
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def read(body: Any) -> Request:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return DIALECT.read_request(Incoming(method="POST", path="/v1beta/interactions", body=data))


def said(role: Role, *parts: Any) -> Message:
    return Message(role=role, parts=parts)


HELLO = said(Role.USER, Text(text="hello"))
text = {"type": "text", "text": "hello"}
call = {"type": "function_call", "id": "f1", "name": "weather", "arguments": {"city": "Rome"}}
ran = {"type": "code_execution_call", "id": "c1", "arguments": {"language": "python", "code": "print(1)"}}
gave = {"type": "code_execution_result", "call_id": "c1", "result": "1\n", "is_error": False}

INPUTS: list[tuple[Any, tuple[Message, ...]]] = [
    ("hello", (HELLO,)),
    (text, (HELLO,)),
    ([text], (HELLO,)),
    ([text, text], (said(Role.USER, Text(text="hello"), Text(text="hello")),)),
    ([{"type": "user_input", "content": [text]}], (HELLO,)),
    ([{"type": "user_input", "content": "hello"}], (HELLO,)),
    (
        [{"role": "user", "content": "hello"}, {"role": "model", "content": [text]}],
        (HELLO, said(Role.ASSISTANT, Text(text="hello"))),
    ),
    (
        [{"type": "user_input", "content": [text]}, {"type": "thought", "signature": "AA=="}, ran, gave, text],
        (
            HELLO,
            said(Role.ASSISTANT, Call(id="c1", name="python", arguments='{"code":"print(1)"}', builtin=True)),
            said(Role.TOOL, CallResult(call="c1", text="1\n", builtin=True)),
            HELLO,
        ),
    ),
    (
        [text, call, {"type": "function_result", "call_id": "f1", "name": "weather", "result": {"weather": "sunny"}}],
        (
            HELLO,
            said(Role.ASSISTANT, Call(id="f1", name="weather", arguments='{"city":"Rome"}')),
            said(Role.TOOL, CallResult(call="f1", text='{"weather":"sunny"}')),
        ),
    ),
    (
        [{"type": "model_output", "content": [text, {"type": "image", "data": PNG}]}, text],
        (said(Role.ASSISTANT, Text(text="hello")), HELLO),
    ),
]


@pytest.mark.parametrize(("value", "messages"), INPUTS)
def test_input(value: Any, messages: tuple[Message, ...]) -> None:
    assert read(PLAIN | {"input": value}).messages == messages


RESULTS = [
    ("sunny", "sunny", 0),
    ([text, {"type": "text", "text": "again"}], "hello\nagain", 0),
    ([text, {"type": "image", "data": PNG, "mime_type": "image/png"}], "hello", 1),
    ({"content": [text]}, "hello", 0),
    ({"a": 1}, '{"a":1}', 0),
    ([1, 2], "[1,2]", 0),
    (None, "", 0),
    (7, "7", 0),
]


@pytest.mark.parametrize(("result", "told", "images"), RESULTS)
def test_function_results(result: Any, told: str, images: int) -> None:
    step = {"type": "function_result", "call_id": "f1", "result": result}
    part = read(PLAIN | {"input": [call, step]}).messages[-1].parts[0]
    assert isinstance(part, CallResult)
    assert (part.text, len(part.images)) == (told, images)


def test_a_result_may_answer_a_call_of_the_interaction_before() -> None:
    body = PLAIN | {"input": [{"type": "function_result", "call_id": "f1", "result": "x"}]}
    assert read(body | {"previous_interaction_id": "v1_1"}).messages[0].role is Role.TOOL
    with pytest.raises(BadRequest, match="no earlier call"):
        read(body)


def test_pictures_and_files() -> None:
    items = [
        {"type": "image", "data": PNG, "mime_type": "image/png"},
        {"type": "document", "data": CSV, "mime_type": "text/csv"},
        {"type": "document", "uri": "http://h/v1beta/files/abc", "mime_type": "text/csv"},
        {"type": "image", "uri": "http://h/v1beta/files/png"},
        {"type": "image", "uri": "https://example.org/a.png", "mime_type": "image/png"},
        {"type": "image", "uri": f"data:image/png;base64,{PNG}"},
    ]
    picture = Image(media_type="image/png", data=base64.b64decode(PNG))
    csv = File(name="file-1.csv", media_type="text/csv", data=b"a,b\n1,2\n")
    refs = (FileRef(uri="http://h/v1beta/files/abc", media_type="text/csv"), FileRef(uri="http://h/v1beta/files/png"))
    linked = Image(media_type="image/png", url="https://example.org/a.png")
    assert read(PLAIN | {"input": items}).messages[0].parts == (picture, csv, *refs, linked, picture)
    with_code = read(PLAIN | {"input": items, "tools": [CODE]}).messages[0].parts
    assert [part.name for part in with_code if isinstance(part, File)] == ["image-1.png", "file-1.csv", "image-2.png"]


# fields -> attributes of the request
REQUESTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"model": "m", "stream": False, "keep": True, "background": False, "builtin": (), "choice": Choice()}),
    ({"model": "models/gemini-x"}, {"model": "gemini-x"}),
    ({"stream": True, "store": False}, {"stream": True, "keep": False}),
    ({"background": True}, {"background": True, "keep": True}),
    ({"previous_interaction_id": "v1_abc"}, {"previous": "v1_abc"}),
    ({"system_instruction": "Be."}, {"messages": (said(Role.SYSTEM, Text(text="Be.")), HELLO)}),
    ({"tools": CODE}, {"builtin": ("python",)}),
    (
        {"tools": [CODE, WEATHER]},
        {
            "builtin": ("python",),
            "functions": (Function(name="weather", description="d", parameters={"type": "object"}),),
        },
    ),
    ({"tools": [CODE], "generation_config": {"tool_choice": "any"}}, {"choice": Choice(mode=Mode.REQUIRED)}),
    ({"tools": [CODE], "generation_config": {"tool_choice": "none"}}, {"choice": Choice(mode=Mode.NONE)}),
    (
        {
            "tools": [CODE, WEATHER],
            "generation_config": {"tool_choice": {"allowed_tools": {"mode": "any", "tools": ["code_execution"]}}},
        },
        {"choice": Choice(mode=Mode.REQUIRED, name="python"), "functions": (), "builtin": ("python",)},
    ),
    (
        {
            "tools": [CODE, WEATHER],
            "generation_config": {"tool_choice": {"allowed_tools": {"mode": "auto", "tools": ["weather"]}}},
        },
        {"choice": Choice(mode=Mode.AUTO), "builtin": ()},
    ),
    (
        {
            "generation_config": {
                "temperature": 0.5,
                "top_p": 0.9,
                "seed": 1,
                "stop_sequences": ["x"],
                "max_output_tokens": 9,
                "thinking_level": "xhigh",
            }
        },
        {
            "options": {"temperature": 0.5, "top_p": 0.9, "seed": 1, "stop": ["x"], "max_completion_tokens": 9},
            "effort": "high",
        },
    ),
    ({"generation_config": {"stop_sequences": []}}, {"options": {}}),
    (
        {"response_format": {"type": "text", "mime_type": "application/json", "schema": SCHEMA}},
        {"format": Format(schema=SCHEMA)},
    ),
    ({"response_format": [{"type": "text", "mime_type": "application/json"}]}, {"format": Format()}),
    ({"response_format": SCHEMA, "response_mime_type": "application/json"}, {"format": Format(schema=SCHEMA)}),
    ({"response_mime_type": "application/json"}, {"format": Format()}),
    ({"response_format": {"type": "text"}}, {"format": None}),
    ({"response_modalities": ["TEXT"], "labels": {"a": "b"}, "service_tier": "standard"}, {"format": None}),
    ({"tools": None, "generation_config": {"seed": None}}, {"builtin": (), "options": {}}),
]


@pytest.mark.parametrize(("fields", "expected"), REQUESTS)
def test_requests(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    request = read(PLAIN | fields)
    assert {name: getattr(request, name) for name in expected} == expected


def test_thoughts_are_shown_where_they_are_asked_for() -> None:
    assert not settings_of(read(PLAIN)).thoughts
    assert settings_of(read(PLAIN | {"generation_config": {"thinking_summaries": "auto"}})).thoughts


# fields -> the place that is named, part of what is said
REFUSALS: list[tuple[Any, str, str]] = [
    ([], "body", "must be a JSON object"),
    ({"input": "x"}, "model", "is required"),
    ({"model": "m"}, "input", "is required"),
    (PLAIN | {"input": []}, "input", "must not be empty"),
    (PLAIN | {"input": 7}, "input", "must be a list"),
    (PLAIN | {"input": [7]}, "input.0", "must be an object"),
    (PLAIN | {"input": [{"type": "audio", "data": "AA=="}]}, "input.0.type", "not available"),
    (PLAIN | {"input": [{"type": "google_search_call", "id": "g"}]}, "input.0.type", "must be one of"),
    (PLAIN | {"input": [{"type": "image"}]}, "input.0", "either `data` or `uri`"),
    (PLAIN | {"input": [{"type": "image", "data": "?"}]}, "input.0.data", "base64"),
    (PLAIN | {"input": [{"role": "robot", "content": "x"}]}, "input.0.role", "must be one of"),
    (PLAIN | {"input": [{"type": "user_input", "content": [{"type": "text"}]}]}, "input.0.content.0.text", "required"),
    (PLAIN | {"input": [ran]}, "input.0.id", "has no result"),
    (PLAIN | {"input": [gave]}, "input.0.call_id", "no earlier call"),
    (PLAIN | {"input": [ran, ran]}, "input.1.id", "another call"),
    (PLAIN | {"agent": "deep-research"}, "agent", "not available"),
    (PLAIN | {"environment": "e"}, "environment", "not available"),
    (PLAIN | {"wibble": 1}, "wibble", "not a parameter"),
    (PLAIN | {"tools": [{"type": "teleport"}]}, "tools.0.type", "must be one of"),
    (PLAIN | {"tools": [{"type": "function"}]}, "tools.0.name", "required"),
    (PLAIN | {"tools": [WEATHER, WEATHER]}, "tools.1.name", "another function"),
    (PLAIN | {"tools": [CODE, WEATHER | {"name": "python"}]}, "tools", "rename"),
    (PLAIN | {"generation_config": {"tool_choice": "any"}}, "generation_config.tool_choice", "no `tools`"),
    (PLAIN | {"generation_config": {"tool_choice": "maybe"}}, "generation_config.tool_choice", "must be one of"),
    (PLAIN | {"generation_config": {"tool_choice": 1}}, "generation_config.tool_choice", "an object"),
    (
        PLAIN | {"tools": [CODE], "generation_config": {"tool_choice": {"allowed_tools": {"tools": ["x"]}}}},
        "generation_config.tool_choice.allowed_tools.tools.0",
        "not in `tools`",
    ),
    (PLAIN | {"generation_config": {"top_k": 1}}, "generation_config.top_k", "not a parameter"),
    (PLAIN | {"generation_config": {"temperature": 3}}, "generation_config.temperature", "at most 2"),
    (PLAIN | {"generation_config": {"speech_config": {}}}, "generation_config.speech_config", "not available"),
    (PLAIN | {"response_modalities": ["IMAGE"]}, "response_modalities.0", "must be `text`"),
    (PLAIN | {"response_format": {"type": "image"}}, "response_format.type", "not available"),
    (PLAIN | {"response_format": [{}, {}]}, "response_format", "must hold one"),
    (PLAIN | {"response_format": {"type": "text", "schema": {"type": 1}}}, "response_format.schema", "JSON Schema"),
    (PLAIN | {"background": True, "store": False}, "background", "needs `store`"),
    *((PLAIN | {"tools": [{"type": kind}]}, "tools.0.type", "not available") for kind in UNAVAILABLE),
]


@pytest.mark.parametrize(("body", "param", "problem"), REFUSALS)
def test_refusals(body: Any, param: str, problem: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(body)
    assert caught.value.param == param
    assert problem in str(caught.value)


def test_an_unknown_parameter_has_a_code_of_its_own() -> None:
    with pytest.raises(BadRequest) as caught:
        read(PLAIN | {"wibble": 1})
    assert json.loads(DIALECT.write_error(caught.value, None).body)["error"]["code"] == "parameter_unknown"


VIEWS: list[tuple[dict[str, str], bool, int, bool]] = [
    ({}, False, 0, False),
    ({"stream": "true", "last_event_id": "7"}, True, 7, False),
    ({"stream": "True"}, True, 0, False),
    ({"include_input": "true"}, False, 0, True),
]


@pytest.mark.parametrize(("query", "stream", "after", "include"), VIEWS)
def test_views(query: dict[str, str], stream: bool, after: int, include: bool) -> None:
    kept = read(PLAIN | {"stream": True, "generation_config": {"thinking_summaries": "auto"}})
    seen = DIALECT.read_view(Incoming(method="GET", path="/v1beta/interactions/v1_1", query=query), kept)
    settings = settings_of(seen)
    assert (seen.stream, settings.after, settings.include_input, settings.thoughts) == (stream, after, include, True)


@pytest.mark.parametrize(
    "query",
    [{"stream": "yes"}, {"last_event_id": "1"}, {"stream": "true", "last_event_id": "-1"}, {"include_input": "2"}],
)
def test_views_that_are_none(query: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        DIALECT.read_view(Incoming(method="GET", path="/", query=query), read(PLAIN))


KEYS: list[tuple[dict[str, str], dict[str, str], str | None]] = [
    ({"x-goog-api-key": "k"}, {}, "k"),
    ({}, {"key": "k"}, "k"),
    ({"authorization": "Bearer k"}, {}, "k"),
    ({"authorization": "Basic k"}, {}, None),
    ({}, {}, None),
]


@pytest.mark.parametrize(("headers", "query", "key"), KEYS)
def test_keys(headers: dict[str, str], query: dict[str, str], key: str | None) -> None:
    assert DIALECT.read_key(Incoming(method="POST", path="/", headers=headers, query=query)) == key


# --- whatever comes ---------------------------------------------------------------------------------------------------

RICH = {
    "model": "m",
    "input": [
        {"type": "user_input", "content": [text, {"type": "image", "data": PNG}]},
        ran,
        gave,
        call,
        {"type": "function_result", "call_id": "f1", "result": [text]},
        {"type": "model_output", "content": [text]},
        text,
    ],
    "tools": [CODE, WEATHER],
    "system_instruction": "Be.",
    "generation_config": {
        "temperature": 1,
        "stop_sequences": ["x"],
        "tool_choice": {"allowed_tools": {"mode": "auto"}},
    },
    "response_format": {"type": "text", "mime_type": "application/json", "schema": SCHEMA},
    "previous_interaction_id": "v1_1",
    "stream": True,
    "store": True,
}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything inside."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in inner for found in [(*path, key), *places(item, (*path, key))]]


def survives(body: bytes) -> None:
    """Reads, or is a ClientError that can be written."""
    try:
        request = read(body)
    except ClientError as error:
        reply = DIALECT.write_error(error, None)
        assert reply.status == 400
        assert json.loads(reply.body)["error"].keys() == {"message", "code"}
    else:
        assert request.messages


def test_the_rich_request_is_good() -> None:
    """Else mutating it would show nothing."""
    assert read(RICH).builtin == ("python",)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.booleans(), json_values), min_size=1, max_size=4))
def test_mutated_requests_are_read_or_refused(changes: list[tuple[int, bool, Any]]) -> None:
    body: Any = copy.deepcopy(RICH)
    for at, drop, value in changes:
        paths = places(body)
        if not paths:
            break
        path = paths[at % len(paths)]
        parent = body
        for key in path[:-1]:
            parent = parent[key]
        if drop:
            parent.pop(path[-1])
        else:
            parent[path[-1]] = value
    survives(json.dumps(body).encode())


@given(st.sampled_from(sorted(FIELDS)), json_values)
def test_any_value_of_any_field_is_read_or_refused(name: str, value: Any) -> None:
    survives(json.dumps(PLAIN | {name: value}).encode())


@given(st.sampled_from(sorted(CONFIG)), json_values | st.sampled_from(sorted(MODES)))
def test_any_value_of_any_setting_is_read_or_refused(name: str, value: Any) -> None:
    survives(json.dumps(PLAIN | {"tools": [CODE], "generation_config": {name: value}}).encode())


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    survives(body)
