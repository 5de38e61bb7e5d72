"""DashScope's native form, the way in: what each field becomes, and what is refused at which place."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.dialects.base import Incoming
from belljar.dialects.dashscope import DIALECT, MULTIMODAL_PATH, TEXT_PATH, DashScope
from belljar.dialects.dashscope_request import PARAMETERS, Settings, settings_of
from belljar.errors import BadRequest, ClientError
from belljar.model import (
    Call,
    CallResult,
    Choice,
    File,
    Format,
    Function,
    Image,
    Message,
    Mode,
    Part,
    Reasoning,
    Role,
    Text,
)
from dialects.dashscope_helpers import HELLO, MODEL, STREAM, body_of, read

PNG = b"\x89PNG\r\n\x1a\n picture"
PNG_URL = "data:image/png;base64," + base64.b64encode(PNG).decode()
CSV_URL = "data:text/csv;base64," + base64.b64encode(b"a,b\n1,2\n").decode()
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}


def parts_of(content: Any, **parameters: Any) -> tuple[Part, ...]:
    return read(body_of({"role": "user", "content": content}, **parameters)).messages[-1].parts


# --- input ------------------------------------------------------------------------------------------------------------


def test_plain() -> None:
    request = read(body_of())
    assert request.model == MODEL
    assert request.messages == (Message(role=Role.USER, parts=(Text(text="hello"),)),)
    assert (request.builtin, request.functions, request.stream, request.effort) == ((), (), False, None)
    assert "passthrough" not in request.extra


def test_prompt_with_history() -> None:
    body = {"model": "m", "input": {"prompt": "and now?", "history": [{"user": "hi", "bot": "ho"}, {"user": "well"}]}}
    messages = read(body).messages
    assert [(message.role.value, message.text) for message in messages] == [
        ("user", "hi"),
        ("assistant", "ho"),
        ("user", "well"),
        ("user", "and now?"),
    ]


def test_roles() -> None:
    system, user, assistant, tool = read(
        body_of(
            {"role": "system", "content": [{"text": "be "}, {"text": "brief"}]},
            HELLO,
            {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [CALL]},
            {"role": "tool", "content": "sunny", "tool_call_id": "c1"},
        )
    ).messages
    assert (system.role, system.text) == (Role.SYSTEM, "be brief")
    assert user.role is Role.USER
    assert assistant.parts == (
        Reasoning(text="hm"),
        Text(text=""),
        Call(id="c1", name="weather", arguments='{"city": "Oslo"}'),
    )
    assert tool.parts == (CallResult(call="c1", text="sunny"),)


def test_results_without_an_id_go_to_the_open_call_of_their_name() -> None:
    calls = [{"function": {"name": name, "arguments": "{}"}} for name in ("weather", "time", "weather")]
    messages = read(
        body_of(
            HELLO,
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "name": "time", "content": "noon"},
            {"role": "tool", "name": "weather", "content": "sunny"},
            {"role": "tool", "content": "rainy"},
        )
    ).messages
    ids = [part.id for part in messages[1].parts if isinstance(part, Call)]
    results = [part for message in messages[2:] for part in message.parts if isinstance(part, CallResult)]
    assert len(set(ids)) == 3
    assert [(ids.index(part.call), part.text) for part in results] == [(1, "noon"), (0, "sunny"), (2, "rainy")]


CONTENT: list[tuple[str, Any, tuple[Part, ...]]] = [
    ("a string", "hi", (Text(text="hi"),)),
    ("text", [{"text": "hi"}], (Text(text="hi"),)),
    ("text, typed", [{"type": "text", "text": "hi"}], (Text(text="hi"),)),
    ("a picture on the web", [{"image": "https://x/y.png"}], (Image(media_type="image/*", url="https://x/y.png"),)),
    ("a picture", [{"image": PNG_URL, "min_pixels": 1}], (Image(media_type="image/png", data=PNG),)),
    ("OpenAI's", [{"type": "image_url", "image_url": {"url": PNG_URL}}], (Image(media_type="image/png", data=PNG),)),
    ("OpenAI's, short", [{"image_url": PNG_URL}], (Image(media_type="image/png", data=PNG),)),
    ("file", [{"file": CSV_URL}], (File(name="file-1.csv", media_type="text/csv", data=b"a,b\n1,2\n"),)),
    (
        "file, named",
        [{"file": CSV_URL, "filename": "/x/data.csv"}],
        (File(name="data.csv", media_type="text/csv", data=b"a,b\n1,2\n"),),
    ),
]


@pytest.mark.parametrize(("content", "parts"), [case[1:] for case in CONTENT], ids=[case[0] for case in CONTENT])
@pytest.mark.parametrize("path", [TEXT_PATH, MULTIMODAL_PATH], ids=["text", "multimodal"])
def test_content(path: str, content: Any, parts: tuple[Part, ...]) -> None:
    assert read(body_of({"role": "user", "content": content}), path=path).messages[0].parts == parts


def test_pictures_are_files_too_where_code_runs() -> None:
    assert parts_of([{"image": PNG_URL}], enable_code_interpreter=True) == (
        Image(media_type="image/png", data=PNG),
        File(name="image-1.png", media_type="image/png", data=PNG),
    )


# --- parameters -------------------------------------------------------------------------------------------------------

OPTIONS = {
    "max_tokens": 10,
    "temperature": 0.5,
    "top_p": 0.9,
    "presence_penalty": 1.0,
    "frequency_penalty": -1.0,
    "seed": 7,
    "stop": ["x"],
    "logprobs": True,
    "top_logprobs": 2,
}
PASSED = {"top_k": 20, "repetition_penalty": 1.1, "thinking_budget": 50, "min_p": 0.1}
NOTHING = {"n": 1, "max_input_tokens": 9, "vl_high_resolution_images": True, "stream": True, "search_options": {}}


def test_every_parameter_goes_where_the_table_says() -> None:
    request = read(body_of(**OPTIONS, **PASSED, **NOTHING, enable_search=False, user_agent="x", temperatur=None))
    assert request.options == OPTIONS
    assert request.extra["passthrough"] == PASSED
    assert not request.stream
    known = {*OPTIONS, *PASSED, *NOTHING, "enable_search", "user_agent", "result_format", "incremental_output"}
    known |= {"tools", "tool_choice", "parallel_tool_calls", "response_format"}
    assert known | {"enable_code_interpreter", "enable_thinking"} == set(PARAMETERS) | {"min_p"}


def test_nulls_say_nothing() -> None:
    assert read(body_of(**dict.fromkeys(PARAMETERS))) == read(body_of())


THINKING: list[tuple[dict[str, Any], str | None, dict[str, Any]]] = [
    ({}, None, {}),
    (
        {"enable_thinking": True},
        None,
        {"enable_thinking": True, "chat_template_kwargs": {"enable_thinking": True}},
    ),
    (
        {"enable_thinking": False},
        "none",
        {"enable_thinking": False, "chat_template_kwargs": {"enable_thinking": False}},
    ),
    (
        {"enable_thinking": False, "chat_template_kwargs": {"a": 1, "enable_thinking": True}},
        "none",
        {"enable_thinking": False, "chat_template_kwargs": {"a": 1, "enable_thinking": True}},
    ),
]


@pytest.mark.parametrize(("parameters", "effort", "passed"), THINKING)
def test_thinking(parameters: dict[str, Any], effort: str | None, passed: dict[str, Any]) -> None:
    request = read(body_of(**parameters))
    assert request.effort == effort
    assert request.extra.get("passthrough", {}) == passed
    assert settings_of(request).thinking == bool(parameters.get("enable_thinking"))


SETTINGS: list[tuple[str, str, dict[str, Any], Settings]] = [
    ("qwen-plus", TEXT_PATH, {}, Settings(as_text=True)),
    ("qwen-plus", TEXT_PATH, {"result_format": "message"}, Settings()),
    ("qwen-plus", MULTIMODAL_PATH, {}, Settings(listed=True)),
    ("qwen-plus", TEXT_PATH, {"tools": [WEATHER], "result_format": "text"}, Settings()),
    ("qwen-plus", TEXT_PATH, {"enable_code_interpreter": True}, Settings(incremental=True)),
    ("qwen-plus", TEXT_PATH, {"enable_thinking": True}, Settings(incremental=True, thinking=True)),
    ("qwen-plus", TEXT_PATH, {"incremental_output": True}, Settings(incremental=True, as_text=True)),
    ("qwen3-max", TEXT_PATH, {}, Settings(incremental=True)),
    ("Qwen/Qwen3-8B", TEXT_PATH, {"logprobs": True}, Settings(incremental=True, logprobs=True)),
    ("qwen3-max", TEXT_PATH, {"incremental_output": False, "result_format": "text"}, Settings(as_text=True)),
]


@pytest.mark.parametrize(("model", "path", "parameters", "settings"), SETTINGS)
def test_settings(model: str, path: str, parameters: dict[str, Any], settings: Settings) -> None:
    assert settings_of(read(body_of(model=model, **parameters), path=path)) == settings


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, False),
        ({"accept": "*/*"}, False),
        ({"x-dashscope-sse": "disable"}, False),
        ({"x-dashscope-sse": "enable"}, True),
        ({"x-dashscope-sse": " Enable "}, True),
        ({"accept": "text/event-stream; charset=utf-8"}, True),
    ],
)
def test_headers_ask_for_a_stream(headers: dict[str, str], expected: bool) -> None:
    assert read(body_of(stream=True), headers).stream is expected


def test_code_interpreter() -> None:
    assert read(body_of(enable_code_interpreter=True)).builtin == ("python",)
    plugin = {"x-dashscope-plugin": '{"code_interpreter": {}}'}
    assert read(body_of(), plugin).builtin == ("python",)
    assert read(body_of(enable_code_interpreter=False), plugin).builtin == ()


def test_functions() -> None:
    request = read(body_of(tools=[WEATHER], parallel_tool_calls=False))
    assert request.functions == (Function(name="weather", parameters={"type": "object"}),)
    assert request.parallel is False
    assert read(body_of(tools=[], enable_code_interpreter=True)).functions == ()


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", Choice(mode=Mode.AUTO)),
        ("none", Choice(mode=Mode.NONE)),
        ("required", Choice(mode=Mode.REQUIRED)),
        ({"type": "function", "function": {"name": "weather"}}, Choice(mode=Mode.REQUIRED, name="weather")),
        (None, Choice()),
    ],
)
def test_tool_choice(choice: Any, expected: Choice) -> None:
    assert read(body_of(tools=[WEATHER], tool_choice=choice)).choice == expected


@pytest.mark.parametrize(
    ("given_format", "expected"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, Format()),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}},
            Format(name="n", schema={"type": "object"}, strict=True),
        ),
    ],
)
def test_response_format(given_format: Any, expected: Format | None) -> None:
    assert read(body_of(response_format=given_format)).format == expected


# --- the vendor's rules -----------------------------------------------------------------------------------------------

RULES: list[tuple[str, dict[str, Any], dict[str, str], str | None]] = [  # model, parameters, headers, refused place
    ("qwen3-max", {"enable_thinking": True}, STREAM, None),
    ("qwen3-max", {}, STREAM, "parameters.enable_thinking"),
    ("qwen3-max", {"enable_thinking": False}, STREAM, "parameters.enable_thinking"),
    ("qwen3-max", {"enable_thinking": True}, {}, "parameters.enable_code_interpreter"),
    ("Qwen/Qwen3-Max-2026-01-23", {}, STREAM, "parameters.enable_thinking"),
    ("qwen3.5-plus", {}, {}, None),
    ("gpt-oss-20b", {"enable_thinking": False}, {}, None),
]


@pytest.mark.parametrize(("model", "parameters", "headers", "place"), RULES)
def test_qwen_max_runs_code_in_a_stream_and_while_thinking_only(
    model: str, parameters: dict[str, Any], headers: dict[str, str], place: str | None
) -> None:
    body = body_of(model=model, enable_code_interpreter=True, **parameters)
    if place is not None:
        with pytest.raises(BadRequest, match="this model") as caught:
            read(body, headers)
        assert caught.value.param == place
    lenient = read(body, headers, dialect=DashScope(strict=False))
    assert lenient.builtin == ("python",)
    without = read(body_of(model=model, **parameters), headers)
    assert without.builtin == ()


@pytest.mark.parametrize("strict", [True, False])
def test_code_interpreter_and_functions_exclude_each_other(strict: bool) -> None:
    body = body_of(enable_code_interpreter=True, tools=[WEATHER])
    with pytest.raises(BadRequest, match="mutually exclusive") as caught:
        read(body, dialect=DashScope(strict=strict))
    assert caught.value.param == "parameters.enable_code_interpreter"


# --- refusals ---------------------------------------------------------------------------------------------------------


def with_content(content: Any, role: str = "user") -> Any:
    return body_of({"role": role, "content": content})


REFUSED: list[tuple[Any, str]] = [
    ([], "body"),
    ({"input": {"prompt": "x"}}, "model"),
    ({"model": "", "input": {"prompt": "x"}}, "model"),
    ({"model": "m"}, "input"),
    ({"model": "m", "input": "x"}, "input"),
    ({"model": "m", "input": {}}, "input.messages"),
    ({"model": "m", "input": {"messages": []}}, "input.messages"),
    ({"model": "m", "input": {"prompt": ""}}, "input.prompt"),
    ({"model": "m", "input": {"prompt": "x", "history": ["y"]}}, "input.history.0"),
    ({"model": "m", "input": {"prompt": "x"}, "parameters": []}, "parameters"),
    (body_of("x"), "input.messages.0"),
    (body_of({"content": "x"}), "input.messages.0.role"),
    (body_of({"role": "bot", "content": "x"}), "input.messages.0.role"),
    (body_of({"role": "user"}), "input.messages.0.content"),
    (with_content(7), "input.messages.0.content"),
    (with_content(["x"]), "input.messages.0.content.0"),
    (with_content([{}]), "input.messages.0.content.0"),
    (with_content([{"text": 7}]), "input.messages.0.content.0.text"),
    (with_content([{"image": "oss://x"}]), "input.messages.0.content.0.image"),
    (with_content([{"image": "data:text/plain,x"}]), "input.messages.0.content.0.image"),
    (with_content([{"image": PNG_URL}], "system"), "input.messages.0.content.0.image"),
    (with_content([{"image_url": {}}]), "input.messages.0.content.0.image_url.url"),
    (with_content([{"file": "https://x"}]), "input.messages.0.content.0.file"),
    (with_content([{"audio": "https://x"}]), "input.messages.0.content.0.audio"),
    (with_content([{"video": ["https://x"]}]), "input.messages.0.content.0.video"),
    (body_of({"role": "tool", "content": "x"}), "input.messages.0.tool_call_id"),
    (body_of({"role": "tool", "content": "x", "tool_call_id": "c9"}), "input.messages.0.tool_call_id"),
    (body_of({"role": "assistant", "tool_calls": [{}]}), "input.messages.0.tool_calls.0.function"),
    (body_of(temperature=3), "parameters.temperature"),
    (body_of(temperature="hot"), "parameters.temperature"),
    (body_of(max_tokens=0), "parameters.max_tokens"),
    (body_of(n=2), "parameters.n"),
    (body_of(result_format="xml"), "parameters.result_format"),
    (body_of(enable_thinking="yes"), "parameters.enable_thinking"),
    (body_of(enable_search=True), "parameters.enable_search"),
    (body_of(top_logprobs=2), "parameters.top_logprobs"),
    (body_of(response_format={"type": "yaml"}), "parameters.response_format.type"),
    (body_of(tools=[{"type": "code_interpreter"}]), "parameters.tools.0.type"),
    (body_of(tools=[{"type": "function"}]), "parameters.tools.0.function"),
    (body_of(tools=[{"function": {"name": "a b"}}]), "parameters.tools.0.function.name"),
    (body_of(tools=[WEATHER, WEATHER]), "parameters.tools.1.function.name"),
    (body_of(tools=[WEATHER] * 129), "parameters.tools"),
    (body_of(tool_choice="some"), "parameters.tool_choice"),
    (body_of(tool_choice="required"), "parameters.tool_choice"),
    (body_of(tool_choice=7), "parameters.tool_choice"),
    (body_of(tool_choice={"function": {"name": "f"}}), "parameters.tool_choice.function.name"),
]


@pytest.mark.parametrize(("body", "place"), REFUSED, ids=[f"{n} {place}" for n, (_, place) in enumerate(REFUSED)])
def test_refused(body: Any, place: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(body)
    assert caught.value.param == place
    assert place in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "place"),
    [
        ({"x-dashscope-async": "enable"}, "X-DashScope-Async"),
        ({"x-dashscope-plugin": "{"}, "X-DashScope-Plugin"),
        ({"x-dashscope-plugin": "[]"}, "X-DashScope-Plugin"),
        ({"x-dashscope-plugin": '{"pdf_extracter": {}}'}, "X-DashScope-Plugin"),
    ],
)
def test_refused_headers(headers: dict[str, str], place: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(body_of(), headers)
    assert caught.value.param == place


# --- anything at all --------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([PNG_URL, CSV_URL]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["text", "image", "file", "role", "content", "name", "function", "tool_calls", "type"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"]) | VALUES},
    optional={
        "content": VALUES,
        "tool_calls": VALUES,
        "tool_call_id": VALUES,
        "name": VALUES,
        "reasoning_content": VALUES,
    },
)
INPUTS = st.fixed_dictionaries(
    {}, optional={"messages": st.lists(MESSAGES, max_size=4) | VALUES, "prompt": VALUES, "history": VALUES}
)
BODIES = st.fixed_dictionaries(
    {"model": st.just("m") | VALUES, "input": INPUTS | VALUES},
    optional={"parameters": st.dictionaries(st.sampled_from(sorted(PARAMETERS)), VALUES, max_size=4) | VALUES},
)


@given(body=BODIES | VALUES)
def test_nothing_but_client_errors(body: Any) -> None:
    with contextlib.suppress(ClientError):
        assert read(body).messages


@given(data=st.binary(max_size=64), header=st.text(max_size=16))
def test_nothing_but_client_errors_from_bytes(data: bytes, header: str) -> None:
    with pytest.raises(ClientError):
        read(data)
    with contextlib.suppress(ClientError):
        assert read(body_of(), {"x-dashscope-plugin": header}).messages


# --- around it --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "key"), [("Bearer k", "k"), ("bearer  k ", "k"), ("Bearer ", None), ("Basic k", None), ("", None)]
)
def test_key(value: str, key: str | None) -> None:
    assert DIALECT.read_key(Incoming(method="POST", path=TEXT_PATH, headers={"authorization": value})) == key


def test_claims_what_its_headers_mark() -> None:
    assert DIALECT.claims(Incoming(method="GET", path="/x", headers={"x-dashscope-workspace": "w"}))
    assert not DIALECT.claims(Incoming(method="GET", path="/x", headers={"x-goog-api-key": "k"}))


def test_a_body_of_the_sdk() -> None:
    """As the wire has it, word for word."""
    text = (
        '{"model":"qwen3-max","input":{"messages":[{"role":"user","content":"2**100?"}]},'
        '"parameters":{"result_format":"message","enable_code_interpreter":true,"enable_thinking":true,'
        '"incremental_output":true}}'
    )
    request = read(text.encode(), STREAM)
    assert json.loads(text)["input"]["messages"][0]["content"] == request.messages[0].text
    assert (request.builtin, request.stream) == (("python",), True)
    assert settings_of(request) == Settings(thinking=True, incremental=True)
