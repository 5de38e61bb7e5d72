"""Chat completions, the way in: what every field becomes, and what every wrong one is told.

GOOD: (what, fields of the body, the part of the request, what it is). BAD: (what, fields, place, words of the message).
"""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.dialects.base import Incoming
from belljar.dialects.chat_completions import DIALECT, FIELDS
from belljar.dialects.chat_history import without_transcript
from belljar.dialects.chat_settings import SYSTEMS, VERSIONS, Settings, settings_of
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
    Reasoning,
    Request,
    Role,
    Text,
)
from dialects.chat_helpers import COMPOUND, GPT_OSS, PLAIN, PNG, read, read_user

WEATHER = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": {"type": "object"}}}
PYTHON = {"type": "code_interpreter"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
B64 = base64.b64encode


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{B64(data).decode()}"


def chat(**changes: Any) -> Callable[[Request], Any]:
    """Looks at the settings that only the writer knows."""
    return lambda request: {name: getattr(settings_of(request), name) for name in changes} == changes


def tools(*names: Any, **fields: Any) -> dict[str, Any]:
    return {"tools": list(names), **fields}


GOOD: list[tuple[str, dict[str, Any], Callable[[Request], Any], Any]] = [
    ("plain", {}, lambda r: (r.model, r.messages[0].text, r.builtin, r.stream), ("m", "hello", (), False)),
    ("stream", {"stream": True}, lambda r: r.stream, True),
    ("temperature", {"temperature": 2}, lambda r: r.options, {"temperature": 2}),
    ("one stop", {"stop": "a"}, lambda r: r.options, {"stop": "a"}),
    ("stops", {"stop": ["a", "b"]}, lambda r: r.options, {"stop": ["a", "b"]}),
    ("seed", {"seed": -3}, lambda r: r.options, {"seed": -3}),
    ("bias", {"logit_bias": {"1": -100}}, lambda r: r.options, {"logit_bias": {"1": -100}}),
    ("null is absent", {"temperature": None, "tools": None, "stop": None}, lambda r: r.options, {}),
    ("equal limits", {"max_tokens": 5, "max_completion_tokens": 5}, lambda r: r.options, {"max_completion_tokens": 5}),
    ("old limit", {"max_tokens": 5}, lambda r: r.options, {"max_tokens": 5}),
    ("logprobs", {"logprobs": True, "top_logprobs": 2}, lambda r: r.options, {"logprobs": True, "top_logprobs": 2}),
    ("foreign fields", {"top_k": 4, "guided": {}}, lambda r: r.extra["passthrough"], {"top_k": 4, "guided": {}}),
    ("no foreign fields", {}, lambda r: "passthrough" in r.extra, False),
    ("n", {"n": 1}, lambda r: r.options, {}),
    ("effort", {"reasoning_effort": "low"}, lambda r: r.effort, "low"),
    ("no effort", {"reasoning_effort": "default"}, lambda r: r.effort, None),
    ("parallel", {"parallel_tool_calls": False}, lambda r: r.parallel, False),
    ("checked calls", {}, lambda r: r.validate_calls, True),
    ("free calls", {"disable_tool_validation": True}, lambda r: r.validate_calls, False),
    # how it is written
    ("defaults", {}, settings_of, Settings()),
    ("usage", {"stream_options": {"include_usage": True}}, chat(include_usage=True), True),
    ("flex", {"service_tier": "flex"}, chat(tier="flex"), True),
    ("auto tier", {"service_tier": "auto"}, chat(tier="on_demand"), True),
    ("raw", {"reasoning_format": "raw"}, chat(reasoning="raw"), True),
    ("hidden", {"include_reasoning": False}, chat(reasoning="hidden"), True),
    ("shown", {"include_reasoning": True}, chat(reasoning="parsed"), True),
    # format
    ("text", {"response_format": {"type": "text"}}, lambda r: r.format, None),
    ("JSON", {"response_format": {"type": "json_object"}}, lambda r: r.format, Format()),
    (
        "schema",
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}},
        lambda r: r.format,
        Format(name="n", schema=SCHEMA, strict=True),
    ),
    # tools
    ("python", tools(PYTHON), lambda r: (r.builtin, r.functions), (("python",), ())),
    ("python with a container", tools(PYTHON | {"container": {"type": "auto"}}), lambda r: r.builtin, ("python",)),
    (
        "function",
        tools(WEATHER),
        lambda r: (r.builtin, r.functions),
        ((), (Function(name="weather", description="d", parameters={"type": "object"}),)),
    ),
    ("both", tools(WEATHER, PYTHON), lambda r: (r.builtin, len(r.functions)), (("python",), 1)),
    ("own python", tools({"type": "function", "function": {"name": "python"}}), lambda r: r.builtin, ()),
    ("no choice", tools(PYTHON), lambda r: r.choice, Choice()),
    ("auto", tools(PYTHON, tool_choice="auto"), lambda r: r.choice, Choice(mode=Mode.AUTO)),
    ("none without tools", {"tool_choice": "none"}, lambda r: r.choice, Choice(mode=Mode.NONE)),
    ("required", tools(PYTHON, tool_choice="required"), lambda r: r.choice, Choice(mode=Mode.REQUIRED)),
    (
        "by name",
        tools(WEATHER, tool_choice={"type": "function", "function": {"name": "weather"}}),
        lambda r: r.choice,
        Choice(mode=Mode.REQUIRED, name="weather"),
    ),
    (
        "python by type",
        tools(PYTHON, tool_choice={"type": "code_interpreter"}),
        lambda r: r.choice,
        Choice(mode=Mode.REQUIRED, name="python"),
    ),
    (
        "python by name",
        tools(PYTHON, tool_choice={"type": "function", "function": {"name": "code_interpreter"}}),
        lambda r: r.choice,
        Choice(mode=Mode.REQUIRED, name="python"),
    ),
    (
        "legacy",
        {"functions": [{"name": "f"}], "function_call": {"name": "f"}},
        lambda r: (r.functions, r.choice, r.parallel, settings_of(r).legacy),
        ((Function(name="f"),), Choice(mode=Mode.REQUIRED, name="f"), False, True),
    ),
    # systems
    ("compound", {"model": "groq/compound"}, lambda r: (r.builtin, r.max_calls), (("python",), None)),
    ("mini", {"model": "groq/compound-mini"}, lambda r: (r.builtin, r.max_calls), (("python",), 1)),
    ("old name", {"model": "compound-beta-mini"}, lambda r: (r.builtin, r.max_calls), (("python",), 1)),
    ("compound's shape", {"model": "groq/compound"}, chat(compound=True, version="2025-07-23"), True),
    ("python for compound", {"model": "groq/compound"} | tools(PYTHON), lambda r: r.builtin, ("python",)),
    (
        "enabled",
        {"model": "groq/compound", "compound_custom": {"tools": {"enabled_tools": ["code_interpreter"]}}},
        lambda r: r.builtin,
        ("python",),
    ),
    (
        "nothing enabled",
        {"model": "groq/compound", "compound_custom": {"tools": {"enabled_tools": []}}},
        lambda r: r.builtin,
        (),
    ),
    (
        "models",
        {
            "model": "groq/compound",
            "compound_custom": {"models": {"reasoning_model": "a", "answering_model": "b"}, "tools": None},
        },
        lambda r: (r.planning, r.answering),
        ("a", "b"),
    ),
]


@pytest.mark.parametrize(("fields", "look", "expected"), [case[1:] for case in GOOD], ids=[case[0] for case in GOOD])
def test_field(fields: dict[str, Any], look: Callable[[Request], Any], expected: Any) -> None:
    assert look(read(PLAIN | fields)) == expected


def test_every_field_has_a_case() -> None:
    """Of those that have an effect or can be wrong: a new one needs a line in GOOD, BAD or ACCEPTED."""
    named = {name for case in [*GOOD, *BAD] for name in case[1]} | set(ACCEPTED) | set(PLAIN)
    assert set(FIELDS) - named == set()


ACCEPTED: dict[str, Any] = {
    "citation_options": "enabled",
    "documents": [],
    "exclude_domains": ["a.example"],
    "frequency_penalty": -2,
    "include_domains": ["a.example"],
    "metadata": {"a": "b"},
    "presence_penalty": 2.0,
    "search_settings": {"country": "x"},
    "store": False,
    "top_p": 0.5,
    "user": "u",
}


def test_fields_without_effect_are_accepted_and_not_passed_on() -> None:
    request = read(PLAIN | ACCEPTED)
    assert request.options == {"frequency_penalty": -2, "presence_penalty": 2.0, "top_p": 0.5, "user": "u"}
    assert set(request.extra) == {"chat"}


# --- what is refused --------------------------------------------------------------------------------------------------


def said(content: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content, **fields}]}


def part(**fields: Any) -> dict[str, Any]:
    return said([fields])


def custom(*names: str) -> dict[str, Any]:
    return {"model": "groq/compound", "compound_custom": {"tools": {"enabled_tools": list(names)}}}


def json_schema(**fields: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": fields}}


BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("no model", {"model": None}, "model", "is required"),
    ("empty model", {"model": ""}, "model", "must not be empty"),
    ("number as model", {"model": 3}, "model", "must be a string, not an integer"),
    ("no messages", {"messages": None}, "messages", "is required"),
    ("empty messages", {"messages": []}, "messages", "at least one"),
    ("messages as text", {"messages": "hello"}, "messages", "must be a list"),
    ("message as text", {"messages": ["hello"]}, "messages.0", "must be an object"),
    ("no role", {"messages": [{"content": "x"}]}, "messages.0.role", "is required"),
    ("unknown role", {"messages": [{"role": "bot", "content": "x"}]}, "messages.0.role", "must be one of `system`"),
    ("role as list", {"messages": [{"role": [], "content": "x"}]}, "messages.0.role", "not a list"),
    ("no content", {"messages": [{"role": "user"}]}, "messages.0.content", "is required"),
    ("content as number", said(3), "messages.0.content", "a string or a list of parts"),
    ("name as number", said("x", name=3), "messages.0.name", "must be a string"),
    ("unknown part", part(type="smell"), "messages.0.content.0.type", "must be one of `text`"),
    ("audio", part(type="input_audio", input_audio={}), "messages.0.content.0.type", "not supported here"),
    ("part without type", part(text="x"), "messages.0.content.0.type", "is required"),
    ("part without text", part(type="text"), "messages.0.content.0.text", "is required"),
    (
        "picture in a system message",
        {"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": "http://x"}]}]},
        "messages.0.content.0.type",
        "must be one of `text` here",
    ),
    (
        "local picture",
        part(type="image_url", image_url={"url": "file:///x"}),
        "messages.0.content.0.image_url.url",
        "URL",
    ),
    ("no picture", part(type="image_url"), "messages.0.content.0.image_url", "is required"),
    (
        "bad base64",
        part(type="image_url", image_url="data:image/png;base64,&"),
        "messages.0.content.0.image_url",
        "base64",
    ),
    (
        "text as picture",
        part(type="image_url", image_url="data:text/plain,x"),
        "messages.0.content.0.image_url",
        "image",
    ),
    ("cut data URL", part(type="image_url", image_url="data:image/png"), "messages.0.content.0.image_url", "data URL"),
    (
        "bad detail",
        part(type="image_url", image_url={"url": "http://x", "detail": "x"}),
        "messages.0.content.0.image_url.detail",
        "one of",
    ),
    ("uploaded file", part(type="file", file={"file_id": "f"}), "messages.0.content.0.file.file_id", "file_data"),
    (
        "file of bad base64",
        part(type="file", file={"file_data": "a b!"}),
        "messages.0.content.0.file.file_data",
        "base64",
    ),
    ("empty document", part(type="document", document={}), "messages.0.content.0.document.data", "is required"),
    (
        "number as document",
        part(type="document", document={"data": 3}),
        "messages.0.content.0.document.data",
        "must be",
    ),
    ("document without source", {"documents": [{}]}, "documents.0.source", "is required"),
    ("document of unknown type", {"documents": [{"source": {"type": "pdf"}}]}, "documents.0.source.type", "one of"),
    (
        "result of no call",
        {"messages": [{"role": "tool", "tool_call_id": "x", "content": "y"}]},
        "messages.0.tool_call_id",
        "no earlier tool call",
    ),
    (
        "result of no function",
        {"messages": [{"role": "function", "name": "x", "content": "y"}]},
        "messages.0.name",
        "no earlier function call",
    ),
    (
        "call without id",
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]},
        "messages.0.tool_calls.0.id",
        "is required",
    ),
    (
        "arguments as object",
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {}}}]}]},
        "messages.0.tool_calls.0.function.arguments",
        "must be a string",
    ),
    (
        "executed tools as object",
        {"messages": [{"role": "assistant", "executed_tools": {}}]},
        "messages.0.executed_tools",
        "must be a list",
    ),
    (
        "broken picture of an earlier answer",
        {
            "messages": [
                {"role": "assistant", "executed_tools": [{"type": "python", "code_results": [{"png": "&"}]}]},
            ]
        },
        "messages.0.executed_tools.0.code_results.0.png",
        "base64",
    ),
    # tools
    ("unknown tool", tools({"type": "teleport"}), "tools.0.type", "must be one of `function`, `code_interpreter`"),
    ("tool without type", tools({}), "tools.0.type", "is required"),
    ("tool as text", tools("python"), "tools.0", "must be an object"),
    ("search", tools({"type": "browser_search"}), "tools.0.type", "not available on this server"),
    ("mcp", tools({"type": "mcp"}), "tools.0.type", "not available on this server"),
    ("nameless function", tools({"type": "function", "function": {}}), "tools.0.function.name", "is required"),
    ("name with a space", tools({"type": "function", "function": {"name": "a b"}}), "tools.0.function.name", "letters"),
    ("same name", tools(WEATHER, WEATHER), "tools", "two functions called `weather`"),
    ("python twice", tools(PYTHON, {"type": "function", "function": {"name": "python"}}), "tools", "rename it"),
    ("too many", tools(*[PYTHON] * 129), "tools", "at most 128"),
    ("required, no tools", {"tool_choice": "required"}, "tool_choice", "there are no `tools`"),
    ("unknown choice", tools(PYTHON, tool_choice="any"), "tool_choice", "must be one of `auto`"),
    ("choice as list", tools(PYTHON, tool_choice=["auto"]), "tool_choice", "not a list"),
    (
        "choice of a stranger",
        tools(PYTHON, tool_choice={"type": "function", "function": {"name": "f"}}),
        "tool_choice.function.name",
        "names 'f'",
    ),
    (
        "choice of python, not given",
        tools(WEATHER, tool_choice={"type": "code_interpreter"}),
        "tool_choice.type",
        "names 'python'",
    ),
    ("choice of unknown type", tools(WEATHER, tool_choice={"type": "allowed_tools"}), "tool_choice.type", "one of"),
    ("functions beside tools", tools(PYTHON, functions=[{"name": "f"}]), "functions", "beside `tools`"),
    (
        "call of no function",
        {"functions": [{"name": "f"}], "function_call": {"name": "g"}},
        "function_call.name",
        "'g'",
    ),
    # systems
    ("own tools with compound", tools(WEATHER, model="groq/compound"), "tools", "has its own tools"),
    ("own functions with compound", {"model": "groq/compound", "functions": [{"name": "f"}]}, "functions", "own tools"),
    ("compound_custom elsewhere", {"compound_custom": {"tools": {}}}, "compound_custom", "is for `groq/compound`"),
    (
        "search alone",
        custom("web_search"),
        "compound_custom.tools.enabled_tools.0",
        "`web_search`, which is not available",
    ),
    (
        "search beside",
        custom("code_interpreter", "wolfram_alpha"),
        "compound_custom.tools.enabled_tools.1",
        "not available",
    ),
    ("unknown enabled", custom("magic"), "compound_custom.tools.enabled_tools.0", "must be one of `code_interpreter`"),
    # options
    ("two limits", {"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens", "differs"),
    ("no tokens", {"max_tokens": 0}, "max_tokens", "at least 1"),
    ("fraction of a token", {"max_completion_tokens": 1.5}, "max_completion_tokens", "must be an integer"),
    ("true as a number", {"temperature": True}, "temperature", "must be a number, not a boolean"),
    ("too hot", {"temperature": 2.1}, "temperature", "at most 2"),
    ("two answers", {"n": 2}, "n", "must be 1"),
    ("five stops", {"stop": list("abcde")}, "stop", "up to 4"),
    ("empty stop", {"stop": [""]}, "stop.0", "must not be empty"),
    ("stop as number", {"stop": 3}, "stop", "a string or a list"),
    ("seed as text", {"seed": "3"}, "seed", "must be an integer"),
    ("bias as list", {"logit_bias": []}, "logit_bias", "must be an object"),
    ("bias too high", {"logit_bias": {"1": 101}}, "logit_bias.1", "at most 100"),
    ("top_logprobs alone", {"top_logprobs": 3}, "top_logprobs", "needs `logprobs`"),
    ("stream as text", {"stream": "yes"}, "stream", "must be a boolean"),
    ("include_usage as text", {"stream_options": {"include_usage": "x"}}, "stream_options.include_usage", "a boolean"),
    ("effort", {"reasoning_effort": "huge"}, "reasoning_effort", "must be one of `none`"),
    ("tier", {"service_tier": "gold"}, "service_tier", "must be one of `auto`"),
    ("two ways of reasoning", {"reasoning_format": "raw", "include_reasoning": True}, "include_reasoning", "only one"),
    ("raw JSON", {"reasoning_format": "raw", "response_format": {"type": "json_object"}}, "reasoning_format", "raw"),
    ("format", {"response_format": {"type": "yaml"}}, "response_format.type", "must be one of `text`"),
    ("format without schema", {"response_format": {"type": "json_schema"}}, "response_format.json_schema", "required"),
    ("schema without name", json_schema(schema={}), "response_format.json_schema.name", "is required"),
    ("no schema", json_schema(name="n", schema={"type": "foo"}), "response_format.json_schema.schema", "JSON Schema"),
    ("$schema", json_schema(name="n", schema={"$schema": []}), "response_format.json_schema.schema", "`$schema`"),
    (
        "a pattern that the checker chokes on",
        json_schema(name="n", schema={"pattern": "a{99999999999}"}),
        "response_format.json_schema.schema",
        "JSON Schema",
    ),
]


@pytest.mark.parametrize(("fields", "param", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_refused(fields: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(PLAIN | fields)
    assert caught.value.param == param
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"`{param}` ")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"null", b"\xff", b"{}", b'{"model":"\\ud800"}', b"[" * 9999]
)
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        read(body)


# --- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(("given", "effect"), VERSIONS.items())
def test_a_known_version_is_in_effect(system: str, given: str, effect: str) -> None:
    request = read(PLAIN | {"model": system}, {"groq-model-version": given} if given else {})
    assert settings_of(request).version == effect


def test_an_unknown_version_is_refused_for_systems_only() -> None:
    with pytest.raises(BadRequest, match="2025-08-16"):
        read(COMPOUND, {"groq-model-version": "2024-01-01"})
    assert settings_of(read(PLAIN, {"groq-model-version": "2024-01-01"})).version is None


@pytest.mark.parametrize(
    ("header", "key"),
    [("Bearer gsk_1", "gsk_1"), ("bearer  gsk_1 ", "gsk_1"), ("Bearer ", None), ("Basic gsk_1", None), ("", None)],
)
def test_key(header: str, key: str | None) -> None:
    assert DIALECT.read_key(Incoming(method="GET", path="/", headers={"authorization": header})) == key


# --- messages ---------------------------------------------------------------------------------------------------------


def test_roles() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    request = read(
        PLAIN
        | {
            "messages": [
                {"role": "developer", "content": "be brief"},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                    "name": "Al",
                },
                {"role": "assistant", "content": None, "reasoning": "hm", "tool_calls": [call], "annotations": []},
                {"role": "tool", "tool_call_id": "c", "content": "42"},
                {"role": "assistant", "content": None, "function_call": {"name": "g", "arguments": "{}"}},
                {"role": "function", "name": "g", "content": "43"},
                {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            ]
        }
    )
    assert request.messages == (
        Message(role=Role.SYSTEM, parts=(Text(text="be brief"),)),
        Message(role=Role.USER, parts=(Text(text="a"), Text(text="b")), name="Al"),
        Message(role=Role.ASSISTANT, parts=(Reasoning(text="hm"), Call(id="c", name="f", arguments='{"a": 1}'))),
        Message(role=Role.TOOL, parts=(CallResult(call="c", text="42"),)),
        Message(role=Role.ASSISTANT, parts=(Call(id="f00000004", name="g", arguments="{}"),)),
        Message(role=Role.TOOL, parts=(CallResult(call="f00000004", text="43"),)),
        Message(role=Role.ASSISTANT, parts=(Text(text="no"),)),
    )


COMPOUND_BROKEN = '{"code": "import math; print("The root: "); print(math.sqrt(101))"}'  # as Groq's guide shows it
RUNS = [
    (
        "compound",
        {"type": "python", "arguments": json.dumps({"code": 'print("1")'}), "output": "1\n"},
        'print("1")',
        "1\n",
    ),
    (
        "compound, badly escaped",
        {"type": "python", "arguments": COMPOUND_BROKEN, "output": "x"},
        'import math; print("The root: "); print(math.sqrt(101))',
        "x",
    ),
    (
        "gpt-oss",
        {"type": "function", "name": "python", "arguments": "1+1\n", "code_results": [{"text": "2"}, {"text": "3"}]},
        "1+1\n",
        "2\n3",
    ),
    ("no output", {"type": "function", "name": "python", "arguments": "pass"}, "pass", ""),
]


@pytest.mark.parametrize(("tool", "code", "output"), [case[1:] for case in RUNS], ids=[case[0] for case in RUNS])
def test_executions_of_earlier_answers_come_back_as_calls(tool: dict[str, Any], code: str, output: str) -> None:
    history = {"role": "assistant", "content": "done", "reasoning": "hm", "executed_tools": [tool, tool]}
    asked, *messages = read(PLAIN | {"messages": [*PLAIN["messages"], history]}).messages
    calls = [part for message in messages for part in message.parts if isinstance(part, Call)]
    results = [part for message in messages for part in message.parts if isinstance(part, CallResult)]
    assert asked.role is Role.USER
    assert [m.role for m in messages] == [Role.ASSISTANT, Role.TOOL, Role.ASSISTANT, Role.TOOL, Role.ASSISTANT]
    assert messages[0].parts[0] == Reasoning(text="hm")
    assert [(call.id, call.name, json.loads(call.arguments), call.builtin) for call in calls] == [
        ("r00001000", "python", {"code": code}, True),
        ("r00001001", "python", {"code": code}, True),
    ]
    assert [(result.call, result.text, result.builtin) for result in results] == [
        ("r00001000", output, True),
        ("r00001001", output, True),
    ]
    assert messages[-1].parts == (Text(text="done"),)


def test_pictures_of_earlier_answers_come_back() -> None:
    tool = {"type": "function", "name": "python", "arguments": "plot()", "code_results": [{"png": B64(PNG).decode()}]}
    messages = read(PLAIN | {"messages": [{"role": "assistant", "content": "x", "executed_tools": [tool]}]}).messages
    assert messages[1].parts[0] == CallResult(
        call="r00000000", text="", images=(Image(media_type="image/png", data=PNG),), builtin=True
    )


def test_other_tools_of_earlier_answers_come_back_as_a_note() -> None:
    tool = {"type": "search", "arguments": '{"query": "x"}', "output": "found", "search_results": {"results": []}}
    (message,) = read(PLAIN | {"messages": [{"role": "assistant", "content": "x", "executed_tools": [tool]}]}).messages
    assert message.text == '[Used the tool search with {"query": "x"}; it gave: found]\nx'


@pytest.mark.parametrize(
    ("reasoning", "kept"),
    [
        ("a\n<tool>\npython(1)\n</tool>\n<output>1</output>\n\nb", "a\n\n\nb"),
        ("<tool>python(1)</tool> <output>1</output>", ""),
        ("<tool>python(1)</tool>\n", ""),
        ("a <tool> b", "a <tool> b"),
        ("<tool></tool><output> b", "<output> b"),
        ("plain", "plain"),
        ("<tool></tool><output>" * 200_000, "<output>" + "<tool></tool><output>" * 199_999),
    ],
)
def test_a_transcript_is_not_told_twice(reasoning: str, kept: str) -> None:
    assert without_transcript(reasoning) == kept


# --- files ------------------------------------------------------------------------------------------------------------

CSV = b"a,b\n1,2\n"
PDF, ZIP, BIN = "application/pdf", "application/zip", "application/octet-stream"


def document(data: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "document", "document": {"data": data, **fields}}


def sent(data: str, name: str | None = None) -> dict[str, Any]:
    return {"type": "file", "file": {"file_data": data, "filename": name}}


FILES: list[tuple[str, dict[str, Any], tuple[str, str, bytes]]] = [
    ("text", document("hello world"), ("document-1.txt", "text/plain", b"hello world")),
    ("text that could be base64", document("test"), ("document-1.txt", "text/plain", b"test")),
    ("CSV", document(CSV.decode()), ("document-1.csv", "text/csv", CSV)),
    ("base64 CSV", document(B64(CSV).decode()), ("document-1.csv", "text/csv", CSV)),
    ("base64 PDF", document(B64(b"%PDF-\xff").decode()), ("document-1.pdf", PDF, b"%PDF-\xff")),
    ("long base64", document(B64(bytes(range(256))).decode()), ("document-1.bin", BIN, bytes(range(256)))),
    ("object", document({"a": [1]}), ("document-1.json", "application/json", b'{"a":[1]}')),
    ("JSON text", document('{"a": 1}'), ("document-1.json", "application/json", b'{"a": 1}')),
    ("id", document("x", id="notes"), ("notes.txt", "text/plain", b"x")),
    ("id with an ending", document("x", id="a.py"), ("a.py", "text/x-python", b"x")),
    ("data URL", document(data_url(b"\0", ZIP)), ("document-1.zip", ZIP, b"\0")),
    ("type that is none", document("data:\n!;base64,eA=="), ("document-1.txt", "text/plain", b"x")),
    ("file", sent(data_url(CSV, "text/csv"), "s.csv"), ("s.csv", "text/csv", CSV)),
    ("bare base64", sent("YSxi\nCg=="), ("file-1.txt", "text/plain", b"a,b\n")),
    ("path", sent("YQ==", "../../etc/pass wd"), ("pass_wd.txt", "text/plain", b"a")),
    ("folder of another system", sent("YQ==", "C:\\x\\é.md"), ("é.md", "text/markdown", b"a")),
    ("nothing of a name", sent("YQ==", "../.."), ("file-1.txt", "text/plain", b"a")),
    ("not base64", sent("data:text/csv,a%2Cb"), ("file-1.csv", "text/csv", b"a,b")),
    ("unknown bytes", sent("/w=="), ("file-1.bin", BIN, b"\xff")),
]


@pytest.mark.parametrize(("item", "file"), [case[1:] for case in FILES], ids=[case[0] for case in FILES])
def test_file(item: dict[str, Any], file: tuple[str, str, bytes]) -> None:
    name, media_type, data = file
    assert read_user(item).messages[0].parts == (File(name=name, media_type=media_type, data=data),)


def test_long_names_are_cut() -> None:
    item = {"type": "file", "file": {"file_data": "YQ==", "filename": "é" * 300 + ".csv"}}
    (file,) = read_user(item).messages[0].parts
    assert isinstance(file, File)
    assert len(file.name.encode()) <= 120
    assert file.name.endswith("é.csv")


def test_names_are_unique() -> None:
    item = {"type": "file", "file": {"file_data": "YQ==", "filename": "a.txt"}}
    parts = read_user(item, item, {"type": "document", "document": {"data": "x"}}, item).messages[0].parts
    assert [part.name for part in parts if isinstance(part, File)] == ["a.txt", "a-2.txt", "document-1.txt", "a-3.txt"]


def test_many_files_are_refused_in_good_time() -> None:
    item = {"type": "file", "file": {"file_data": "YQ==", "filename": "a"}}
    with pytest.raises(BadRequest, match="at most 1,000 files"):
        read_user(*[item] * 30_000)
    names = [file.name for file in read_user(*[item] * 1000).messages[0].parts if isinstance(file, File)]
    assert len(set(names)) == 1000


def test_documents_stand_before_the_last_words_of_the_user() -> None:
    messages = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "3"},
    ]
    documents = [
        {"id": "d", "source": {"type": "text", "text": "words"}},
        {"source": {"type": "json", "data": {"a": 1}}},
    ]
    request = read(PLAIN | {"messages": messages, "documents": documents})
    assert request.messages[2].parts == (
        File(name="d.txt", media_type="text/plain", data=b"words"),
        File(name="document-2.json", media_type="application/json", data=b'{"a":1}'),
        Text(text="3"),
    )


def test_documents_without_a_user_get_a_message() -> None:
    documents = [{"source": {"type": "text", "text": "words"}}]
    request = read(PLAIN | {"messages": [{"role": "system", "content": "x"}], "documents": documents})
    assert [message.role for message in request.messages] == [Role.SYSTEM, Role.USER]


def test_pictures_are_files_too_where_code_may_run() -> None:
    item = {"type": "image_url", "image_url": {"url": data_url(PNG, "image/PNG"), "detail": "low"}}
    image = Image(media_type="image/png", data=PNG, extra={"detail": "low"})
    assert read_user(item).messages[0].parts == (image,)
    file = File(name="image-1.png", media_type="image/png", data=PNG)
    assert read_user(item, tools=[PYTHON]).messages[0].parts == (image, file)


def test_pictures_elsewhere_stay_there() -> None:
    item = {"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}
    (image,) = read_user(item, tools=[PYTHON]).messages[0].parts
    assert image == Image(media_type="image/*", url="https://a.example/x.png")


# --- whatever comes ---------------------------------------------------------------------------------------------------

RICH: dict[str, Any] = {
    "model": "openai/gpt-oss-20b",
    "messages": [
        {"role": "system", "content": "x"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "x"}, {"type": "document", "document": {"data": "YQ=="}}],
        },
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": data_url(PNG)}}]},
        {"role": "user", "content": [{"type": "file", "file": {"file_data": "YQ==", "filename": "a.csv"}}]},
        {
            "role": "assistant",
            "content": None,
            "reasoning": "<tool>python(1)</tool><output>1</output>",
            "executed_tools": [{"type": "python", "arguments": '{"code": "1"}', "output": "1", "index": 0}],
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "y"},
    ],
    "tools": [PYTHON, WEATHER],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "documents": [{"id": "d", "source": {"type": "text", "text": "words"}}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
    "stream": True,
    "stream_options": {"include_usage": True},
    "stop": ["a"],
    "logit_bias": {"1": 1},
    "max_tokens": 3,
    "temperature": 0.5,
    "service_tier": "auto",
    "reasoning_format": "parsed",
}
RICH_COMPOUND = {name: value for name, value in RICH.items() if name not in ("tools", "tool_choice")} | {
    "model": "groq/compound",
    "compound_custom": {"models": {"answering_model": "a"}, "tools": {"enabled_tools": ["code_interpreter"]}},
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


def survives(body: bytes, version: str = "") -> None:
    """Reads, or is a ClientError; and so is what the answer to it would be."""
    try:
        request = read(body, {"groq-model-version": version})
    except ClientError as error:
        reply = DIALECT.write_error(error, None)
        assert reply.status == 400
        assert json.loads(reply.body)["error"]["message"]
    else:
        assert request.messages


def test_the_rich_requests_are_good() -> None:
    """Else mutating them would show nothing."""
    assert read(RICH).builtin == read(RICH_COMPOUND).builtin == ("python",)


@given(
    st.sampled_from([RICH, RICH_COMPOUND, GPT_OSS]),
    st.lists(
        st.tuples(st.integers(0, 10_000), st.sampled_from(["set", "drop", "copy"]), json_values), min_size=1, max_size=4
    ),
)
def test_mutated_requests_are_read_or_refused(body: dict[str, Any], changes: list[tuple[int, str, Any]]) -> None:
    body = copy.deepcopy(body)
    for at, action, value in changes:
        paths = places(body)
        if not paths:
            break
        path = paths[at % len(paths)]
        parent = body
        for key in path[:-1]:
            parent = parent[key]
        if action == "set":
            parent[path[-1]] = value
        elif action == "drop":
            parent.pop(path[-1])
        else:
            other = paths[(at * 7 + 3) % len(paths)]
            source: Any = body
            for key in other:
                source = source[key]
            parent[path[-1]] = copy.deepcopy(source)
    survives(json.dumps(body).encode())


@given(st.sampled_from(sorted(FIELDS)), json_values)
def test_any_value_of_any_field_is_read_or_refused(name: str, value: Any) -> None:
    survives(json.dumps(PLAIN | {name: value}).encode())


@given(st.binary(max_size=60), st.text(max_size=12))
def test_any_bytes_are_read_or_refused(body: bytes, version: str) -> None:
    survives(body)
    survives(json.dumps(COMPOUND).encode(), version)


@given(
    st.text(max_size=40),
    st.text(max_size=40),
    st.sampled_from(["", "data:", "data:image/png;base64,", "data:text/csv,"]),
)
def test_any_file_is_read_or_refused(content: str, name: str, head: str) -> None:
    given_parts = [
        {"type": "document", "document": {"data": head + content, "id": name}},
        {"type": "file", "file": {"file_data": head + content, "filename": name}},
        {"type": "image_url", "image_url": head + content},
    ]
    for item in given_parts:
        parts = parts_or_refusal(item)
        for file in parts:
            if isinstance(file, File):
                assert file.name
                assert not set(file.name) & set("/\\\0\n")
                assert not file.name.startswith(".")


def parts_or_refusal(item: dict[str, Any]) -> tuple[Any, ...]:
    try:
        return read_user(item, tools=[PYTHON]).messages[0].parts
    except BadRequest as error:
        if (error.param or "").startswith("messages.0.content.0"):
            return ()
        raise
