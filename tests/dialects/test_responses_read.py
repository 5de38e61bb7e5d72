"""Responses: what comes in becomes a neutral request, or a refusal that names the place, as OpenAI writes it."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response

from belljar.dialects.base import Incoming, KeepingDialect, Reply, Start
from belljar.dialects.openai_errors import SHAPES
from belljar.dialects.responses import ALIAS, BASES, DIALECT, QWEN, Responses
from belljar.dialects.responses_errors import error_object, place_of
from belljar.dialects.responses_fields import FIELDS, INCLUDES, QWEN_FIELDS, REFUSED
from belljar.dialects.responses_input import ITEMS, NOT_RUN, UNAVAILABLE_ITEMS, UNTOLD
from belljar.dialects.responses_listed import PREFIXES
from belljar.dialects.responses_settings import settings_of
from belljar.dialects.responses_tools import UNAVAILABLE
from belljar.errors import (
    AtCapacity,
    BadRequest,
    BelljarError,
    ClientError,
    HostError,
    ShuttingDown,
    Unauthorized,
    UnknownItem,
    UnknownModel,
    UnknownPath,
    UpstreamRefused,
    UpstreamTimeout,
)
from belljar.events import Answer, Finish, Finished, Fold, Housed, TextDelta
from belljar.execution import Execution, Outcome, Result
from belljar.model import (
    Call,
    CallResult,
    Choice,
    Container,
    File,
    FileRef,
    Format,
    Function,
    Image,
    ItemRef,
    Message,
    Mode,
    ModelInfo,
    Part,
    Reasoning,
    Request,
    Role,
    Text,
)
from belljar.partial import read_code
from dialects.chat_helpers import ROOT, asked, one_execution, ran, turn, written

PLAIN: dict[str, Any] = {"model": "m", "input": "hello"}
CODE: dict[str, Any] = {"type": "code_interpreter"}
AUTO: dict[str, Any] = CODE | {"container": {"type": "auto"}}
WEATHER = {"type": "function", "name": "weather", "description": "d", "parameters": {"type": "object"}}
PATCH = {"type": "custom", "name": "patch", "description": "Applies a patch."}
PIXELS = b"\x89PNG\r\n\x1a\n picture"
PNG = f"data:image/png;base64,{base64.b64encode(PIXELS).decode()}"
CSV = base64.b64encode(b"a,b\n1,2\n").decode()
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
KEY = "0123456789abcdef01234567"
START = Start(request_id=f"req_{KEY}", created=1_700_000_000)


def incoming(body: Any, path: str = "/v1/responses", **query: str) -> Incoming:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Incoming(method="POST", path=path, query=query, body=data)


def read(body: Any, path: str = "/v1/responses", dialect: Responses = DIALECT) -> Request:
    return dialect.read_request(incoming(body, path))


def said(role: Role, *parts: Any) -> Message:
    return Message(role=role, parts=parts)


def error_of(reply: Reply) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(reply.body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


def refused(body: Any, path: str = "/v1/responses", dialect: Responses = DIALECT) -> dict[str, Any]:
    """The error that a body gets."""
    with pytest.raises(BadRequest) as caught:
        read(body, path, dialect)
    reply = dialect.write_error(caught.value, None)
    assert reply.status == 400
    return error_of(reply)


def test_it_is_a_dialect_that_keeps() -> None:
    dialect: KeepingDialect = DIALECT
    assert dialect.name == "responses"


# --- input ------------------------------------------------------------------------------------------------------------

HELLO = said(Role.USER, Text(text="hello"))
user = {"role": "user", "content": "hello"}
call = {"type": "function_call", "call_id": "f1", "name": "weather", "arguments": '{"city":"Rome"}'}
output = {"type": "function_call_output", "call_id": "f1", "output": "sunny"}
code = {
    "type": "code_interpreter_call",
    "id": "ci_1",
    "status": "completed",
    "code": "print(1)",
    "container_id": "cntr_abc",
    "outputs": [{"type": "logs", "logs": "1"}],
}
answer_text = {"type": "output_text", "text": "Hi.", "annotations": [], "logprobs": []}
answer = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [answer_text]}
HI = said(Role.ASSISTANT, Text(text="Hi."))
CALLED = Call(id="f1", name="weather", arguments='{"city":"Rome"}')
SUNNY = said(Role.TOOL, CallResult(call="f1", text="sunny"))

INPUTS: list[tuple[Any, tuple[Message, ...]]] = [
    ("hello", (HELLO,)),
    ([user], (HELLO,)),
    ([user | {"type": "message"}], (HELLO,)),
    ([{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}], (HELLO,)),
    ([user, user], (HELLO, HELLO)),
    (
        [{"role": "system", "content": "a"}, {"role": "developer", "content": "b"}],
        (said(Role.SYSTEM, Text(text="a")), said(Role.SYSTEM, Text(text="b"))),
    ),
    ([user, {"role": "assistant", "content": "Hi."}], (HELLO, HI)),
    ([user, answer], (HELLO, HI)),
    ([user, answer | {"phase": "final_answer", "agent": None}], (HELLO, HI)),
    (
        [user, answer | {"content": [answer_text, {"type": "refusal", "refusal": "No."}]}],
        (HELLO, said(Role.ASSISTANT, Text(text="Hi."), Text(text="No."))),
    ),
    ([user, answer, answer], (HELLO, said(Role.ASSISTANT, Text(text="Hi."), Text(text="\n\n"), Text(text="Hi.")))),
    ([user, call, output], (HELLO, said(Role.ASSISTANT, CALLED), SUNNY)),
    ([user, call | {"status": "incomplete"}, user], (HELLO, HELLO)),
    ([user, call | {"status": "incomplete"}, output], (HELLO, said(Role.ASSISTANT, CALLED), SUNNY)),
    (
        [user, {"type": "reasoning", "id": "rs_1", "summary": []}, answer, call, output, user],
        (HELLO, said(Role.ASSISTANT, Text(text="Hi."), CALLED), SUNNY, HELLO),
    ),
    (
        [
            user,
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [{"type": "summary_text", "text": "B"}],
                "content": [{"type": "reasoning_text", "text": "A"}],
                "encrypted_content": None,
                "status": None,
            },
            answer,
        ],
        (HELLO, said(Role.ASSISTANT, Reasoning(text="A\n\nB"), Text(text="Hi."))),
    ),
    (
        [user, {"type": "reasoning", "summary": [], "encrypted_content": base64.b64encode(b"Hm.").decode()}, answer],
        (HELLO, said(Role.ASSISTANT, Reasoning(text="Hm."), Text(text="Hi."))),
    ),
    ([user, {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA-foreign"}, answer], (HELLO, HI)),
    (
        [
            user,
            {"type": "custom_tool_call", "call_id": "t1", "name": "patch", "input": 'a"b'},
            {"type": "custom_tool_call_output", "call_id": "t1", "output": "done"},
        ],
        (
            HELLO,
            said(Role.ASSISTANT, Call(id="t1", name="patch", arguments='{"input":"a\\"b"}')),
            said(Role.TOOL, CallResult(call="t1", text="done")),
        ),
    ),
    (
        [user, call, call | {"call_id": "f2"}, output, output | {"call_id": "f2"}],
        (
            HELLO,
            said(Role.ASSISTANT, CALLED, Call(id="f2", name="weather", arguments='{"city":"Rome"}')),
            SUNNY,
            said(Role.TOOL, CallResult(call="f2", text="sunny")),
        ),
    ),
    (
        [user, {"type": "item_reference", "id": "rs_1"}, {"id": "msg_2"}, output],
        (HELLO, said(Role.ASSISTANT, ItemRef(id="rs_1")), said(Role.ASSISTANT, ItemRef(id="msg_2")), SUNNY),
    ),
]


@pytest.mark.parametrize(("value", "messages"), INPUTS)
def test_input(value: Any, messages: tuple[Message, ...]) -> None:
    assert read(PLAIN | {"input": value}).messages == messages


OUTPUTS: list[tuple[Any, str, int]] = [
    ("sunny", "sunny", 0),
    ("", "", 0),
    ([], "", 0),
    ([{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}], "a\nb", 0),
    ([{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": PNG, "detail": "low"}], "a", 1),
    ([{"type": "input_image", "image_url": "https://example.org/a.png"}], "", 1),
]


@pytest.mark.parametrize(("given_output", "told", "images"), OUTPUTS)
def test_outputs_of_functions(given_output: Any, told: str, images: int) -> None:
    part = read(PLAIN | {"input": [call, output | {"output": given_output}]}).messages[-1].parts[0]
    assert isinstance(part, CallResult)
    assert (part.text, len(part.images)) == (told, images)


SHOWN = {"type": "image", "url": PNG}
CODE_OUTPUTS: list[tuple[Any, str, int]] = [
    ([{"type": "logs", "logs": "1"}], "1", 0),
    ([{"type": "logs", "logs": "1"}, SHOWN, {"type": "logs", "logs": "2"}], "1\n2", 1),
    ([SHOWN | {"url": "data:image/svg+xml;base64,PHN2Zy8+"}], "", 0),
    ([SHOWN] * 9, "", 4),
    ([], "", 0),
    (None, UNTOLD, 0),
]


@pytest.mark.parametrize(("outputs", "told", "images"), CODE_OUTPUTS)
def test_code_that_ran_before(outputs: Any, told: str, images: int) -> None:
    request = read(PLAIN | {"input": [user, code | {"outputs": outputs}, answer], "tools": [AUTO]})
    made, result = request.messages[1].parts[0], request.messages[2].parts[0]
    assert isinstance(made, Call)
    assert isinstance(result, CallResult)
    assert (made.name, made.builtin, read_code(made.arguments)) == ("python", True, "print(1)")
    assert (result.call, result.builtin, result.text, len(result.images)) == (made.id, True, told, images)
    assert request.messages[3] == HI
    assert len(made.id) == 9
    assert made.id.isalnum()  # as Mistral wants it


def test_code_that_never_ran() -> None:
    request = read(PLAIN | {"input": [user, code | {"status": "incomplete", "outputs": []}], "tools": [AUTO]})
    assert [part.text for part in request.messages[2].parts if isinstance(part, CallResult)] == [NOT_RUN]


def test_pictures_and_files() -> None:
    items = [
        {"type": "input_image", "image_url": PNG, "detail": "low"},
        {"type": "input_image", "image_url": "https://example.org/a.png", "detail": None, "file_id": None},
        {"type": "input_image", "file_id": "file-abc", "detail": "auto"},
        {"type": "input_file", "file_data": f"data:text/csv;base64,{CSV}", "filename": "../d.csv"},
        {"type": "input_file", "file_data": CSV, "filename": "d.csv"},
        {"type": "input_file", "file_id": "file-abc"},
    ]
    body = PLAIN | {"input": [{"role": "user", "content": items}]}
    picture = Image(media_type="image/png", data=PIXELS, extra={"detail": "low"})
    linked = Image(media_type="image/*", url="https://example.org/a.png")
    ref = FileRef(uri="file-abc")
    first = File(name="d.csv", media_type="text/csv", data=b"a,b\n1,2\n")
    second = File(name="d-2.csv", media_type="text/csv", data=b"a,b\n1,2\n")
    assert read(body).messages[0].parts == (picture, linked, ref, first, second, ref)
    with_code = read(body | {"tools": [AUTO]}).messages[0].parts
    names = [part.name for part in with_code if isinstance(part, File)]
    assert names == ["image-1.png", "d.csv", "d-2.csv"]


# --- fields -----------------------------------------------------------------------------------------------------------

# fields -> attributes of the request
REQUESTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"model": "m", "stream": False, "keep": True, "background": False, "builtin": (), "container": None}),
    ({}, {"choice": Choice(), "options": {}, "format": None, "effort": None, "previous": None, "conversation": None}),
    (dict.fromkeys(FIELDS.keys() - PLAIN.keys()), {"keep": True, "options": {}}),
    ({"stream": True, "stream_options": {"include_obfuscation": False}, "store": False}, {"stream": True}),
    ({"store": False}, {"keep": False}),
    ({"background": True}, {"background": True, "keep": True}),
    ({"instructions": "Be."}, {"messages": (said(Role.SYSTEM, Text(text="Be.")), HELLO)}),
    ({"previous_response_id": "resp_1"}, {"previous": "resp_1"}),
    ({"previous_response_id": "resp_1", "input": [output]}, {"messages": (SUNNY,)}),
    ({"conversation": "conv_1"}, {"conversation": "1"}),
    ({"conversation": {"id": "conv_1"}}, {"conversation": "1"}),
    (
        {"max_output_tokens": 9, "temperature": 0.5, "top_p": 0.9},
        {"options": {"max_completion_tokens": 9, "temperature": 0.5, "top_p": 0.9}},
    ),
    ({"top_logprobs": 2}, {"options": {}}),
    (
        {"top_logprobs": 2, "include": ["message.output_text.logprobs"]},
        {"options": {"logprobs": True, "top_logprobs": 2}},
    ),
    ({"max_tool_calls": 3, "parallel_tool_calls": False}, {"max_calls": 3, "parallel": False}),
    ({"reasoning": {"effort": "low", "summary": "auto"}}, {"effort": "low"}),
    ({"reasoning": {"effort": "xhigh"}}, {"effort": "high"}),
    ({"reasoning": {"effort": None}}, {"effort": None}),
    ({"text": {"format": {"type": "text"}, "verbosity": "low"}}, {"format": None}),
    ({"text": {"format": {"type": "json_object"}}}, {"format": Format()}),
    (
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}}},
        {"format": Format(schema=SCHEMA, name="n", strict=True)},
    ),
    ({"tools": [WEATHER]}, {"functions": (Function(name="weather", description="d", parameters={"type": "object"}),)}),
    ({"tools": [CODE]}, {"builtin": ("python",), "container": Container()}),
    (
        {"tools": [AUTO], "input": [user, code, code | {"container_id": "cntr_def"}, user]},
        {"container": Container(seen=("abc", "def"))},
    ),
    ({"tools": [CODE | {"container": "cntr_x"}], "input": [code, user]}, {"container": Container(id="x")}),
]


@pytest.mark.parametrize(("fields", "attributes"), REQUESTS)
def test_fields(fields: dict[str, Any], attributes: dict[str, Any]) -> None:
    request = read(PLAIN | fields)
    assert {name: getattr(request, name) for name in attributes} == attributes


def test_every_field_is_read() -> None:
    assert FIELDS.keys().isdisjoint(REFUSED)
    for path in BASES:
        assert read(PLAIN, f"{path}/responses").messages == (HELLO,)


CONTAINERS: list[tuple[Any, Container]] = [
    (None, Container()),
    ({"type": "auto"}, Container()),
    ({"type": "auto", "file_ids": None, "memory_limit": None, "network_policy": None}, Container()),
    ({"type": "auto", "file_ids": ["file-a", "file-b", "file-a"]}, Container(files=("a", "b"))),
    ({"type": "auto", "memory_limit": "1g"}, Container(memory=1 << 30)),
    ({"type": "auto", "memory_limit": "64g"}, Container(memory=64 << 30)),
    ({"type": "auto", "network_policy": {"type": "disabled"}}, Container()),
    ("cntr_abc", Container(id="abc")),
]


@pytest.mark.parametrize(("given_container", "container"), CONTAINERS)
def test_containers(given_container: Any, container: Container) -> None:
    assert read(PLAIN | {"tools": [CODE | {"container": given_container}]}).container == container


ALL = [AUTO, WEATHER, PATCH]
NAMES = ("weather", "patch")
REQUIRED = Mode.REQUIRED
# tool_choice -> choice, built-in tools, names of functions
CHOICES: list[tuple[Any, Choice, tuple[str, ...], tuple[str, ...]]] = [
    (None, Choice(), ("python",), NAMES),
    ("auto", Choice(mode=Mode.AUTO), ("python",), NAMES),
    ("none", Choice(mode=Mode.NONE), ("python",), NAMES),
    ("required", Choice(mode=REQUIRED), ("python",), NAMES),
    ({"type": "code_interpreter"}, Choice(mode=REQUIRED, name="python"), ("python",), NAMES),
    ({"type": "function", "name": "weather"}, Choice(mode=REQUIRED, name="weather"), ("python",), NAMES),
    ({"type": "custom", "name": "patch"}, Choice(mode=REQUIRED, name="patch"), ("python",), NAMES),
    (
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "weather"}]},
        Choice(mode=Mode.AUTO),
        (),
        ("weather",),
    ),
    (
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "code_interpreter"}]},
        Choice(mode=REQUIRED, name="python"),
        ("python",),
        (),
    ),
    (
        {
            "type": "allowed_tools",
            "mode": "required",
            "tools": [{"type": "code_interpreter"}, {"type": "custom", "name": "patch"}],
        },
        Choice(mode=REQUIRED),
        ("python",),
        ("patch",),
    ),
]


@pytest.mark.parametrize(("given_choice", "choice", "builtin", "functions"), CHOICES)
def test_tool_choice(given_choice: Any, choice: Choice, builtin: tuple[str, ...], functions: tuple[str, ...]) -> None:
    request = read(PLAIN | {"tools": ALL, "tool_choice": given_choice})
    assert request.choice == choice
    assert request.builtin == builtin
    assert tuple(function.name for function in request.functions) == functions
    assert (request.container is not None) == bool(builtin)


def test_custom_tools() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: WORD"}
    request = read(PLAIN | {"tools": [PATCH, PATCH | {"name": "query", "format": grammar}]})
    plain, bound = request.functions
    assert plain.parameters is not None
    assert list(plain.parameters["properties"]) == ["input"]
    assert plain.description == "Applies a patch."
    assert bound.description.endswith("Lark grammar:\nstart: WORD")
    assert settings_of(request).custom == {"patch", "query"}


def test_what_the_response_repeats() -> None:
    said_so = {
        "instructions": "Be.",
        "metadata": {"a": "b"},
        "temperature": 1,
        "tool_choice": "auto",
        "truncation": "auto",
        "text": {"verbosity": "low"},
        "user": "u",
    }
    request = read(PLAIN | said_so | {"tools": [CODE, WEATHER], "service_tier": "flex", "previous_response_id": "r_1"})
    functions = [WEATHER | {"strict": True}]
    assert settings_of(request).echo == said_so | {"tools": [AUTO, *functions]}


def test_include() -> None:
    settings = settings_of(read(PLAIN | {"include": list(INCLUDES)}))
    assert (settings.outputs, settings.logprobs, settings.encrypted) == (True, True, True)
    settings = settings_of(read(PLAIN))
    assert (settings.outputs, settings.logprobs, settings.encrypted, settings.after) == (False, False, False, -1)


def test_counting_knows_one_more_field() -> None:
    assert read(PLAIN | {"personality": "friendly"}, "/v1/responses/input_tokens").model == "m"
    assert json.loads(DIALECT.write_count(7, read(PLAIN))) == {"object": "response.input_tokens", "input_tokens": 7}


# --- refusals ---------------------------------------------------------------------------------------------------------


def content(*parts: Any, role: str = "user") -> dict[str, Any]:
    return {"input": [{"role": role, "content": list(parts)}]}


def one_tool(**more: Any) -> dict[str, Any]:
    return {"tools": [CODE | more]}


# fields, param, code, and what the message says
REFUSALS: list[tuple[dict[str, Any], str, str | None, str]] = [
    ({"model": None}, "model", "missing_required_parameter", "Missing required parameter: 'model'."),
    ({"input": None}, "input", "missing_required_parameter", "must be provided"),
    ({"input": []}, "input", None, "empty"),
    ({"input": 7}, "input", "invalid_type", "a string or a list"),
    ({"input": ["x"]}, "input[0]", None, "an object"),
    ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role", "invalid_value", "`developer`"),
    ({"input": [{"content": "x"}]}, "input[0].role", None, "required"),
    ({"input": [{"role": "user"}]}, "input[0].content", None, "required"),
    ({"input": [{"type": "nonsense"}]}, "input[0].type", "invalid_value", "'nonsense'"),
    (content({"type": "text", "text": "x"}), "input[0].content[0].type", "invalid_value", "`input_text`"),
    (content({"type": "output_text", "text": "x"}), "input[0].content[0].type", "invalid_value", "`input_text`"),
    (content({"type": "input_audio"}), "input[0].content[0].type", "unsupported_value", "not available"),
    (content({"type": "input_image"}), "input[0].content[0]", None, "either `image_url` or `file_id`"),
    (content({"type": "input_image", "image_url": "x"}), "input[0].content[0].image_url", None, "data URL"),
    (content({"type": "input_file"}), "input[0].content[0]", None, "either"),
    (
        content({"type": "input_file", "file_url": "https://h/x"}),
        "input[0].content[0].file_url",
        "unsupported_value",
        "",
    ),
    (content({"type": "input_file", "file_id": "x"}), "input[0].content[0].file_id", None, "`file-`"),
    (content({"type": "input_file", "file_data": "%%"}), "input[0].content[0].file_data", None, "base64"),
    ({"input": [call]}, "input", None, "No tool output found for function call f1."),
    ({"input": [output]}, "input", None, "No tool call found for function call output with call_id f1."),
    ({"input": [call, call]}, "input[1].call_id", None, "another call"),
    ({"input": [call, {"type": "function_call_output", "call_id": "f1"}]}, "input[1].output", None, "required"),
    ({"foo": 1}, "foo", "unknown_parameter", "Unknown parameter: 'foo'."),
    ({"prompt": {"id": "pmpt_1"}}, "prompt", "unsupported_parameter", "not available"),
    ({"temperature": 3}, "temperature", None, "at most 2"),
    ({"temperature": "1"}, "temperature", None, "a number"),
    ({"max_output_tokens": 0}, "max_output_tokens", None, "at least 1"),
    ({"include": ["nonsense"]}, "include[0]", "invalid_value", "`code_interpreter_call.outputs`"),
    ({"background": True, "store": False}, "background", None, "`store`"),
    (
        {"conversation": "conv_1", "previous_response_id": "resp_1"},
        "previous_response_id",
        "mutually_exclusive_parameters",
        "Mutually exclusive",
    ),
    ({"conversation": "x"}, "conversation", None, "`conv_`"),
    ({"conversation": {}}, "conversation.id", None, "required"),
    ({"metadata": {str(n): "" for n in range(17)}}, "metadata", None, "16"),
    ({"metadata": {"k" * 65: ""}}, "metadata", None, "64"),
    ({"metadata": {"k": "v" * 513}}, "metadata.k", None, "512"),
    ({"metadata": {"k": 1}}, "metadata.k", None, "a string"),
    ({"reasoning": {"effort": "huge"}}, "reasoning.effort", None, "`low`"),
    ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema", None, "required"),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type", None, "`json_schema`"),
    ({"tools": [{}]}, "tools[0].type", None, "required"),
    ({"tools": [CODE, CODE]}, "tools[1].type", None, "second"),
    ({"tools": [{"type": "function"}]}, "tools[0].name", None, "required"),
    ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name", None, "letters"),
    ({"tools": [WEATHER, WEATHER]}, "tools[1].name", None, "another tool"),
    ({"tools": [CODE, WEATHER | {"name": "python"}]}, "tools", None, "rename"),
    (one_tool(container="abc"), "tools[0].container", None, "`cntr_`"),
    (one_tool(container=7), "tools[0].container", None, "an object"),
    (one_tool(container={"type": "other"}), "tools[0].container.type", None, "`auto`"),
    (one_tool(container={"type": "auto", "memory_limit": "2g"}), "tools[0].container.memory_limit", None, "`4g`"),
    (one_tool(container={"type": "auto", "file_ids": ["x"]}), "tools[0].container.file_ids[0]", None, "`file-`"),
    (
        one_tool(container={"type": "auto", "network_policy": {"type": "allowlist", "allowed_domains": ["a.org"]}}),
        "tools[0].container.network_policy.type",
        "unsupported_value",
        "no network",
    ),
    (one_tool(allowed_callers=["programmatic"]), "tools[0].allowed_callers[0]", None, "`direct`"),
    ({"tool_choice": "required"}, "tool_choice", None, "no `tools`"),
    ({"tool_choice": "sometimes"}, "tool_choice", "invalid_value", "`auto`"),
    ({"tool_choice": {"type": "code_interpreter"}}, "tool_choice.type", None, "not in `tools`"),
    ({"tool_choice": {"type": "shell"}}, "tool_choice.type", "unsupported_value", "not available"),
    ({"tool_choice": {"type": "function", "name": "x"}, "tools": ALL}, "tool_choice.name", None, "not in `tools`"),
    ({"tool_choice": {"type": "function", "name": "patch"}, "tools": ALL}, "tool_choice.name", None, "not in `tools`"),
    (
        {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "x"}]}},
        "tool_choice.tools[0].name",
        None,
        "not in `tools`",
    ),
]


@pytest.mark.parametrize(("fields", "param", "code", "words"), REFUSALS)
def test_refusals(fields: dict[str, Any], param: str, code: str | None, words: str) -> None:
    error = refused(PLAIN | fields)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert code is None or error["code"] == code
    assert words in error["message"]
    assert "[" not in param or f"`{param}`" in error["message"]


@pytest.mark.parametrize("kind", UNAVAILABLE)
def test_other_tools_are_refused_by_name(kind: str) -> None:
    error = refused(PLAIN | {"tools": [{"type": kind}]})
    assert f"`tools[0].type` is `{kind}`, which is not available on this server" in error["message"]


@pytest.mark.parametrize("kind", UNAVAILABLE_ITEMS)
def test_other_items_are_refused_by_name(kind: str) -> None:
    error = refused(PLAIN | {"input": [{"type": kind, "id": "x"}]})
    assert f"`input[0].type` is `{kind}`, which is not available on this server" in error["message"]


def test_conversations_are_not_compacted() -> None:
    assert "not available" in refused(PLAIN, "/v1/responses/compact")["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"\xff", b'{"model": "m", "input": ' + b"[" * 200])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    assert refused(body)["type"] == "invalid_request_error"


# --- Qwen's path ------------------------------------------------------------------------------------------------------

QWEN_PATH = f"{QWEN}/responses"
MAX = {"model": "Qwen/qwen3-max-2026-01-23"}


def test_the_guide_of_qwen() -> None:
    body = PLAIN | MAX | {"tools": [CODE], "enable_thinking": True}
    request = read(body, QWEN_PATH)
    assert (request.builtin, request.container, request.effort) == (("python",), None, None)
    assert request.extra["passthrough"] == {
        "enable_thinking": True,
        "chat_template_kwargs": {"enable_thinking": True},
    }
    settings = settings_of(request)
    assert (settings.qwen, settings.outputs) == (True, True)


def test_qwen_ignores_what_it_does_not_know() -> None:
    more = {"foo": 1, "prompt": {"id": "x"}, "include": ["nonsense"], "top_k": 3, "thinking_budget": 9}
    request = read(PLAIN | more | {"enable_thinking": False}, QWEN_PATH)
    assert request.effort == "none"
    assert request.extra["passthrough"].items() >= {"top_k": 3, "thinking_budget": 9, "enable_thinking": False}.items()
    assert request.extra["passthrough"].keys().isdisjoint(more.keys() - {"top_k", "thinking_budget"})


QWEN_REFUSALS = [
    ({"tools": [CODE, WEATHER]}, "tools", "mutually exclusive", False),
    ({"background": True}, "background", "not available", False),
    ({"enable_search": True}, "enable_search", "not available", False),
    ({"enable_thinking": 1}, "enable_thinking", "a boolean", False),
    (MAX | {"tools": [CODE]}, "enable_thinking", "thinking mode", True),
]


@pytest.mark.parametrize(("fields", "param", "words", "strict"), QWEN_REFUSALS)
def test_what_qwen_refuses(fields: dict[str, Any], param: str, words: str, strict: bool) -> None:
    error = refused(PLAIN | fields, QWEN_PATH)
    assert (error["param"], words in error["message"]) == (param, True)
    lenient = DIALECT.lenient()
    if strict:
        assert read(PLAIN | fields, QWEN_PATH, lenient).model
    else:
        assert refused(PLAIN | fields, QWEN_PATH, lenient)["param"] == param


def test_openai_does_not_know_what_is_qwens() -> None:
    for name in sorted(QWEN_FIELDS.keys() - FIELDS.keys()):
        assert refused(PLAIN | {name: True})["code"] == "unknown_parameter"


def test_models_are_served_where_no_other_dialect_does() -> None:
    models = {route.path for route in DIALECT.routes if route.action == "models"}
    assert models == {f"{ALIAS}/models", f"{QWEN}/models"}
    listed = json.loads(DIALECT.write_models([ModelInfo(id="m", owner="o", created=1)]))
    assert listed == {
        "object": "list",
        "data": [json.loads(DIALECT.write_model(ModelInfo(id="m", owner="o", created=1)))],
    }


# --- errors -----------------------------------------------------------------------------------------------------------

ASKED = read(PLAIN | {"previous_response_id": "resp_gone", "tools": [CODE | {"container": "cntr_c1"}]})
TALKING = read(
    PLAIN | {"conversation": "conv_k1", "tools": [CODE | {"container": {"type": "auto", "file_ids": ["file-f1"]}}]}
)

# error, request, status, and what the body says
ERRORS: list[tuple[BelljarError, Request | None, int, dict[str, Any]]] = [
    (Unauthorized("no"), None, 401, {"code": "invalid_api_key", "type": "invalid_request_error"}),
    (UnknownModel("no m", model="m"), None, 404, {"code": "model_not_found", "param": "model"}),
    (UnknownPath("no"), None, 404, {"code": "unknown_url"}),
    (UnknownItem("no", item="resp_1"), None, 404, {"message": "Response with id 'resp_1' not found.", "code": None}),
    (
        UnknownItem("no", item="resp_gone"),
        ASKED,
        400,
        {
            "message": "Previous response with id 'resp_gone' not found.",
            "param": "previous_response_id",
            "code": "previous_response_not_found",
        },
    ),
    (UnknownItem("Container not found.", item="cntr_c1"), ASKED, 404, {"message": "Container not found."}),
    (UnknownItem("no", item="k1"), TALKING, 404, {"message": "Conversation with id 'conv_k1' not found."}),
    (UnknownItem("no", item="msg_1"), None, 404, {"param": "input"}),
    (UnknownItem("no", item="msg_1", param="after"), None, 404, {"message": "no", "param": "after"}),
    (UnknownItem("no such thing"), None, 404, {"message": "no such thing"}),
    (
        BadRequest("`input.0.content.1.type` is", param="input.0.content.1.type"),
        None,
        400,
        {"message": "`input[0].content[1].type` is", "param": "input[0].content[1].type"},
    ),
    (BadRequest("x", code="failed_precondition"), None, 400, {"code": None}),
    (AtCapacity("full"), None, 503, {"type": "server_error", "code": "capacity_exceeded"}),
    (HostError("no"), None, 500, {"type": "server_error", "code": None}),
    (UpstreamRefused("slow down", status=429), None, 429, {"type": "rate_limit_error"}),
    (
        UpstreamRefused("no", status=400, code="c", kind="k", param="p"),
        None,
        400,
        {"type": "k", "code": "c", "param": "p"},
    ),
    (UpstreamRefused("no", status=200), None, 502, {}),
    (ClientError(), None, 400, {"message": "ClientError"}),
]


@pytest.mark.parametrize(("error", "request_", "status", "expected"), ERRORS)
def test_errors(error: BelljarError, request_: Request | None, status: int, expected: dict[str, Any]) -> None:
    reply = DIALECT.write_error(error, request_, "req_1")
    assert reply.status == status
    assert error_of(reply).items() >= expected.items()
    assert "request_id" not in json.loads(reply.body)


def test_headers_of_errors() -> None:
    assert DIALECT.write_error(AtCapacity("full"), None).headers == {"retry-after": "1"}
    assert DIALECT.write_error(UpstreamTimeout("slow"), None).headers == {"x-should-retry": "false"}


def test_qwen_tells_the_request() -> None:
    reply = DIALECT.write_error(ClientError("no"), read(PLAIN, QWEN_PATH), "req_1")
    assert json.loads(reply.body)["request_id"] == "req_1"
    assert error_of(Reply(status=400, body=reply.body))["code"] == "InvalidParameter"


@pytest.mark.parametrize("kind", sorted(SHAPES, key=lambda kind: kind.__name__))
def test_a_failed_response_has_a_code(kind: type[BelljarError]) -> None:
    more: dict[str, Any] = {"UnknownModel": {"model": "m"}, "UpstreamRefused": {"status": 400}}.get(kind.__name__, {})
    if kind.__name__ in ("ToolUseFailed", "FormatFailed"):
        more = {"generation": "x"}
    error = error_object(kind("no", **more))
    assert error["message"] == "no"
    assert error["code"]
    assert isinstance(error["type"], str)


def test_codes_of_failed_responses() -> None:
    assert error_object(UpstreamRefused("x", status=429))["code"] == "rate_limit_exceeded"
    assert error_object(BadRequest("x"))["code"] == "invalid_prompt"
    assert error_object(ShuttingDown("x"))["code"] == "shutting_down"
    assert error_object(HostError("x"))["code"] == "server_error"


def test_places() -> None:
    assert place_of("a.0.b.12") == "a[0].b[12]"
    assert place_of("metadata.k") == "metadata.k"


# --- kept responses ---------------------------------------------------------------------------------------------------


def view(**query: str) -> Request:
    return DIALECT.read_view(Incoming(method="GET", path="/v1/responses/resp_1", query=query), read(PLAIN))


def test_views() -> None:
    assert view().stream is False
    assert settings_of(view()).after == -1
    seen = view(stream="true", starting_after="7", include_obfuscation="false")
    assert (seen.stream, settings_of(seen).after) == (True, 7)
    assert settings_of(view(**{"include[]": "code_interpreter_call.outputs,message.output_text.logprobs"})).outputs
    assert settings_of(view(include="message.output_text.logprobs")).logprobs


@pytest.mark.parametrize(
    "query",
    [{"stream": "maybe"}, {"starting_after": "1"}, {"stream": "true", "starting_after": "x"}, {"include[]": "x"}],
)
def test_wrong_views(query: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        view(**query)


def test_deleted() -> None:
    assert json.loads(DIALECT.write_deleted("resp_1")) == {"id": "resp_1", "object": "response", "deleted": True}


def test_instructions_are_not_carried_on() -> None:
    developer = {"role": "developer", "content": "d"}
    body = PLAIN | {"instructions": "Be.", "input": [developer, user]}
    assert DIALECT.carry(read(body)) == (said(Role.SYSTEM, Text(text="d")), HELLO)
    assert DIALECT.carry(read(body | {"instructions": ""})) == DIALECT.carry(read(body))


MIXED = [user, call, output, {"type": "item_reference", "id": "msg_9"}, code, answer]


def page(body: Any, **query: str) -> dict[str, Any]:
    listed: dict[str, Any] = json.loads(
        DIALECT.write_input(Incoming(method="GET", path="/", query=query), incoming(body), START)
    )
    return listed


def test_input_items() -> None:
    listed = page(PLAIN)
    identity = f"msg_{KEY}i0000"
    part = {"type": "input_text", "text": "hello"}
    item = {"id": identity, "type": "message", "status": "completed", "role": "user", "content": [part]}
    shape = {"object": "list", "data": [item], "first_id": identity, "last_id": identity, "has_more": False}
    assert listed == shape
    empty = {"model": "m", "previous_response_id": "resp_1"}
    assert page(empty) == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


def test_pages_of_input_items() -> None:
    body = PLAIN | {"input": MIXED}
    whole = page(body, order="asc")["data"]
    assert [item["type"] for item in whole] == [item.get("type", "message") for item in MIXED]
    assert page(body)["data"] == whole[::-1]
    assert page(body) == page(body)
    first = page(body, limit="4", order="asc")
    assert (first["data"], first["has_more"], first["last_id"]) == (whole[:4], True, whole[3]["id"])
    rest = page(body, limit="4", order="asc", after=first["last_id"])
    assert (rest["data"], rest["has_more"]) == (whole[4:], False)
    with pytest.raises(UnknownItem):
        page(body, after="msg_x")
    for query in ({"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"order": "up"}):
        with pytest.raises(BadRequest):
            page(body, **query)


def folded(*events: Any) -> Answer:
    fold = Fold()
    for event in events:
        fold.add(event)
    return fold.answer


def test_every_item_has_a_prefix() -> None:
    assert PREFIXES.keys() == ITEMS.keys()


PLOT = Execution(
    outcome=Outcome.OK,
    results=(Result(data={"image/png": PIXELS}), Result(data={"text/plain": "10.05"}, is_main=True)),
)


def test_a_conversation_says_what_was_said() -> None:
    """Items that were written are read again: what was asked, what ran, what it gave, what was answered."""
    body = PLAIN | {"instructions": "Be.", "conversation": "conv_1", "tools": [AUTO]}
    whole = folded(Housed(container="abc"), *one_execution(PLOT))
    items = DIALECT.write_items(incoming(body), whole, START)
    assert len({item.id for item in items}) == len(items)
    assert all(item.body["id"] == item.id for item in items)
    messages = DIALECT.read_items(json.loads(json.dumps([item.body for item in items])))
    assert [message.role for message in messages] == [Role.USER, Role.ASSISTANT, Role.TOOL, Role.ASSISTANT]
    made, result = messages[1].parts[-1], messages[2].parts[0]
    assert isinstance(made, Call)
    assert isinstance(result, CallResult)
    assert read_code(made.arguments) == "import math\nmath.sqrt(101)\n"
    assert ("10.05" in result.text, [image.data for image in result.images]) == (True, [PIXELS])
    assert messages[3].text == "It is 10.05."


def test_references_are_no_items_of_a_conversation() -> None:
    items = DIALECT.write_items(incoming(PLAIN | {"input": MIXED}), folded(), START)
    assert "item_reference" not in [item.body["type"] for item in items]
    assert len(items) == len(MIXED) - 1


def test_a_conversation_may_end_with_a_call() -> None:
    assert DIALECT.read_items([user, call])[-1].parts == (CALLED,)


def parts(request: Request, kind: type[Part]) -> list[Any]:
    return [part for message in request.messages for part in message.parts if isinstance(part, kind)]


@pytest.mark.parametrize("outputs", [True, False])
def test_output_items_are_taken_back_as_the_sdk_dumps_them(outputs: bool) -> None:
    """With all the nulls that pydantic adds."""
    body = PLAIN | {"tools": [AUTO, WEATHER, PATCH], "include": ["code_interpreter_call.outputs"] if outputs else []}
    events = [
        Housed(container="abc"),
        *turn(0, *written("import math\nmath.sqrt(101)\n"), finish=Finish.CALLS),
        *ran(ROOT, "c1"),
        *turn(1, TextDelta(text="Let me see."), *asked('{"city":"Rome"}'), finish=Finish.CALLS),
        *asked('{"input":"x"}', call="p1", name="patch"),
        Finished(finish=Finish.CALLS),
    ]
    raw = DIALECT.writer(read(body), START).fold(folded(*events))
    response = Response.model_validate(json.loads(raw))
    for dumped in ([item.model_dump() for item in response.output], [item.to_dict() for item in response.output]):
        results = [output, {"type": "custom_tool_call_output", "call_id": "p1", "output": "done"}]
        request = read(body | {"input": [user, *json.loads(json.dumps(dumped)), *results]})
        assert request.container == Container(seen=("abc",))
        assert [made.name for made in parts(request, Call)] == ["python", "weather", "patch"]
        told = parts(request, CallResult)
        assert [result.text for result in told] == ["10.04987562112089" if outputs else UNTOLD, "sunny", "done"]
        assert "Let me see." in [part.text for part in parts(request, Text)]


# --- whatever comes ---------------------------------------------------------------------------------------------------

RICH = {
    "model": "m",
    "input": [
        {"role": "developer", "content": "d"},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "x"},
                {"type": "input_image", "image_url": PNG, "detail": "low"},
                {"type": "input_file", "file_data": CSV, "filename": "a.csv"},
                {"type": "input_file", "file_id": "file-1"},
            ],
        },
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "x"}], "encrypted_content": "SG0u"},
        code | {"outputs": [{"type": "logs", "logs": "1"}, SHOWN]},
        call,
        {"type": "function_call_output", "call_id": "f1", "output": [{"type": "input_text", "text": "x"}]},
        {"type": "custom_tool_call", "call_id": "t1", "name": "patch", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "t1", "output": "x"},
        {"type": "item_reference", "id": "msg_1"},
        answer,
    ],
    "instructions": "Be.",
    "tools": [
        CODE | {"container": {"type": "auto", "file_ids": ["file-1"], "network_policy": {"type": "disabled"}}},
        WEATHER,
        PATCH | {"format": {"type": "grammar", "syntax": "regex", "definition": "a*"}},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "code_interpreter"}]},
    "include": ["code_interpreter_call.outputs", "message.output_text.logprobs"],
    "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}},
    "reasoning": {"effort": "low", "summary": "auto"},
    "metadata": {"a": "b"},
    "conversation": {"id": "conv_1"},
    "temperature": 1,
    "stream": True,
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


def survives(body: bytes, path: str = "/v1/responses") -> None:
    """Reads, and then all that is asked of a kept request works; or is a ClientError that can be written."""
    try:
        request = read(body, path)
    except ClientError as error:
        told = error_of(DIALECT.write_error(error, None))
        if told["type"] != "invalid_request_error":
            pytest.fail(str(told))
        return
    DIALECT.carry(request)
    asked_with = incoming(body, path)
    json.loads(DIALECT.write_input(Incoming(method="GET", path="/"), asked_with, START))
    items = DIALECT.write_items(asked_with, folded(*turn(0, TextDelta(text="x")), Finished(finish=Finish.STOP)), START)
    DIALECT.read_items([dict(item.body) for item in items])
    json.loads(DIALECT.writer(request, START).fold(folded(Finished(finish=Finish.STOP))))


def test_the_rich_request_is_good() -> None:
    """Else mutating it would show nothing."""
    assert read(RICH).builtin == ("python",)
    survives(json.dumps(RICH).encode())


@given(st.lists(st.tuples(st.integers(0, 10_000), st.booleans(), json_values), min_size=1, max_size=4), st.booleans())
def test_mutated_requests_are_read_or_refused(changes: list[tuple[int, bool, Any]], qwen: bool) -> None:
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
    survives(json.dumps(body).encode(), QWEN_PATH if qwen else "/v1/responses")


@given(st.sampled_from(sorted(QWEN_FIELDS)), json_values)
def test_any_value_of_any_field_is_read_or_refused(name: str, value: Any) -> None:
    survives(json.dumps(PLAIN | {name: value}).encode(), QWEN_PATH)
    survives(json.dumps(PLAIN | {name: value}).encode())


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    survives(body)
