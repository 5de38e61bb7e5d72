"""Gemini, the way in: what every field becomes, and what every wrong one is told.

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
from belljar.dialects.gemini import DIALECT, FIELDS
from belljar.dialects.gemini_config import FIELDS as CONFIG
from belljar.dialects.gemini_contents import MODEL_PARTS, SEEN, USER_PARTS
from belljar.dialects.gemini_settings import Settings, settings_of
from belljar.dialects.gemini_tools import UNAVAILABLE
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
    Part,
    Reasoning,
    Request,
    Role,
    Text,
)
from dialects.gemini_helpers import CODE, HELLO, incoming, read, read_parts

PNG = b"\x89PNG\r\n\x1a\n picture"
WEATHER = {"name": "weather", "description": "d", "parameters": {"type": "OBJECT"}}
TIME = {"name": "time"}
B64 = base64.b64encode(PNG).decode()


def config(**fields: Any) -> dict[str, Any]:
    return {"generationConfig": fields}


def tools(*tools: Any, **calling: Any) -> dict[str, Any]:
    return {"tools": list(tools)} | ({"toolConfig": {"functionCallingConfig": calling}} if calling else {})


def functions(*declarations: Any, **calling: Any) -> dict[str, Any]:
    return tools({"functionDeclarations": list(declarations)}, **calling)


def schema(**fields: Any) -> dict[str, Any]:
    return config(responseMimeType="application/json", responseSchema=fields)


def schema_of(request: Request) -> Any:
    return request.format and request.format.schema


def roles(request: Request) -> list[str]:
    return [message.role.value for message in request.messages]


def parameters(request: Request) -> Any:
    return request.functions[0].parameters


def names(request: Request) -> tuple[Any, ...]:
    return request.builtin, tuple(function.name for function in request.functions), request.choice


GOOD: list[tuple[str, dict[str, Any], Callable[[Request], Any], Any]] = [
    ("plain", {}, lambda r: (r.model, r.messages[0].text, r.builtin, r.stream), ("m", "hello", (), False)),
    ("defaults", {}, settings_of, Settings(sse=False)),
    # contents
    ("one content", {"contents": {"role": "user", "parts": {"text": "a"}}}, lambda r: r.messages[0].text, "a"),
    ("no role", {"contents": [{"parts": [{"text": "a"}]}]}, roles, ["user"]),
    ("roles in capitals", {"contents": [{"role": "USER", "parts": {"text": "a"}},
                                        {"role": "MODEL", "parts": {"text": "b"}}]}, roles, ["user", "assistant"]),
    ("neighbours of one role",
     {"contents": [{"role": "user", "parts": {"text": "q"}}, {"role": "model", "parts": {"text": "a"}},
                   {"role": "model", "parts": {"text": "b"}}, {"role": "model", "parts": {"text": ""}}]},
     lambda r: [m.text for m in r.messages], ["q", "ab"]),
    ("an instruction", {"systemInstruction": {"role": "x", "parts": [{"text": "be"}, {"text": "brief"}]}},
     lambda r: (roles(r), r.messages[0].parts), (["system", "user"], (Text(text="be"), Text(text="brief")))),
    ("an instruction in snake case", {"system_instruction": {"parts": {"text": "be brief"}}},
     lambda r: r.messages[0].text, "be brief"),
    ("an instruction that says nothing", {"systemInstruction": {"parts": [{"text": ""}]}}, roles, ["user"]),
    # tools
    ("code execution", tools({"codeExecution": {}}), names, (("python",), (), Choice())),
    ("code execution in snake case", tools({"code_execution": {}}), names, (("python",), (), Choice())),
    ("one tool", {"tools": {"codeExecution": {}}}, names, (("python",), (), Choice())),
    ("no tools", {"tools": []}, names, ((), (), Choice())),
    ("null tools", {"tools": None, "toolConfig": None}, names, ((), (), Choice())),
    ("a function", functions(WEATHER), lambda r: r.functions,
     (Function(name="weather", description="d", parameters={"type": "object"}),)),
    ("one function", {"tools": {"function_declarations": TIME}}, lambda r: r.functions, (Function(name="time"),)),
    ("both", tools({"codeExecution": {}, "functionDeclarations": [TIME]}), names, (("python",), ("time",), Choice())),
    ("JSON schema of a function", functions(TIME | {"parametersJsonSchema": {"type": ["object", "null"]}}),
     parameters, {"type": ["object", "null"]}),
    ("mode AUTO", functions(TIME, mode="AUTO"), names, ((), ("time",), Choice())),
    ("mode VALIDATED", functions(TIME, mode="validated"), names, ((), ("time",), Choice())),
    ("mode NONE", functions(TIME, mode="NONE"), names, ((), ("time",), Choice(mode=Mode.NONE))),
    ("mode NONE beside code", tools({"codeExecution": {}}, {"functionDeclarations": TIME}, mode="NONE"),
     names, (("python",), (), Choice())),
    ("mode NONE without tools", {"toolConfig": {"functionCallingConfig": {"mode": "NONE"}}}, names, ((), (), Choice())),
    ("mode ANY", functions(TIME, WEATHER, mode="ANY"), names, ((), ("time", "weather"), Choice(mode=Mode.REQUIRED))),
    ("mode ANY with one function", functions(TIME, mode="ANY"),
     names, ((), ("time",), Choice(mode=Mode.REQUIRED, name="time"))),
    ("one of the functions allowed", functions(TIME, WEATHER, mode="ANY", allowedFunctionNames=["weather"]),
     names, ((), ("weather",), Choice(mode=Mode.REQUIRED, name="weather"))),
    ("one name allowed", functions(TIME, WEATHER, mode="VALIDATED", allowed_function_names="weather"),
     names, ((), ("weather",), Choice())),
    ("other settings of tools", {"toolConfig": {"retrievalConfig": {"a": 1}}}, names, ((), (), Choice())),
    # generationConfig
    ("sampling", config(temperature=0, topP=0.5, top_k=40, max_output_tokens=9, stopSequences=["x"], seed=3,
                        presencePenalty=1, frequencyPenalty=-1, responseLogprobs=True, logprobs=2),
     lambda r: dict(r.options),
     {"temperature": 0, "top_p": 0.5, "top_k": 40, "max_completion_tokens": 9, "stop": ["x"], "seed": 3,
      "presence_penalty": 1, "frequency_penalty": -1, "logprobs": True, "top_logprobs": 2}),
    ("numbers as strings", config(temperature="0.5", maxOutputTokens="12", seed="-3"), lambda r: dict(r.options),
     {"temperature": 0.5, "max_completion_tokens": 12, "seed": -3}),
    ("whole numbers with a point", config(topK=40.0), lambda r: dict(r.options), {"top_k": 40}),
    ("what asks for nothing", config(stopSequences=[], topK=0), lambda r: dict(r.options), {}),
    ("one stop sequence", config(stop_sequences="x"), lambda r: dict(r.options), {"stop": ["x"]}),
    ("one candidate", config(candidateCount=1), lambda r: dict(r.options), {}),
    ("text", config(responseMimeType="text/plain", responseModalities=["TEXT"]), lambda r: r.format, None),
    ("no format", config(responseMimeType="", responseSchema={}), lambda r: r.format, None),
    ("any JSON", config(responseMimeType="application/json"), lambda r: r.format, Format()),
    ("JSON by a schema", schema(type="OBJECT", properties={"a": {"type": "INTEGER"}}),
     schema_of, {"type": "object", "properties": {"a": {"type": "integer"}}}),
    ("JSON by a JSON schema", config(response_mime_type="application/json", response_json_schema={"type": "object"}),
     schema_of, {"type": "object"}),
    ("a schema without the type", config(responseJsonSchema={"type": "object"}), schema_of, {"type": "object"}),
    ("no thoughts", config(thinkingConfig={"thinkingBudget": 0}), lambda r: (r.effort, settings_of(r).thoughts),
     ("none", False)),
    ("thoughts as the model likes", config(thinkingConfig={"thinkingBudget": -1, "includeThoughts": True}),
     lambda r: (r.effort, settings_of(r).thoughts), (None, True)),
    ("a small budget", config(thinking_config={"thinking_budget": 512}), lambda r: r.effort, "low"),
    ("a budget", config(thinkingConfig={"thinkingBudget": "8192"}), lambda r: r.effort, "medium"),
    ("a large budget", config(thinkingConfig={"thinkingBudget": 30_000}), lambda r: r.effort, "high"),
    ("a level", config(thinkingConfig={"thinkingLevel": "low"}), lambda r: r.effort, "low"),
    ("no level", config(thinkingConfig={"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"}), lambda r: r.effort, None),
    # schemas
    ("a whole schema",
     schema(type="OBJECT", title="t", description="d", nullable=True, required="a", propertyOrdering=["b", "a"],
            properties={"a": {"type": "STRING", "enum": ["x", "y"], "format": "enum", "nullable": True},
                        "b": {"type": "ARRAY", "items": {"type": "NUMBER", "minimum": 1, "maximum": "2.5"},
                              "min_items": "1", "maxItems": 3}}),
     schema_of,
     {"type": ["object", "null"], "title": "t", "description": "d", "required": ["a"],
      "properties": {"b": {"type": "array", "items": {"type": "number", "minimum": 1, "maximum": 2.5},
                           "minItems": 1, "maxItems": 3},
                     "a": {"type": ["string", "null"], "enum": ["x", "y", None]}}}),
    ("one of several schemas", schema(anyOf=[{"type": "STRING"}, {"type": "TYPE_UNSPECIFIED"}], nullable=True),
     schema_of, {"anyOf": [{"type": "string"}, {}, {"type": "null"}]}),
    ("references", schema(ref="#/$defs/a", defs={"a": {"type": "STRING"}}), schema_of,
     {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}),
    ("names of properties are the client's", schema(type="OBJECT", properties={"first_name": {"type": "STRING"}}),
     schema_of, {"type": "object", "properties": {"first_name": {"type": "string"}}}),
    ("keywords of JSON Schema", schema(type="object", additional_properties=False, const=1, example=2, minLength="1"),
     schema_of, {"type": "object", "additionalProperties": False, "const": 1, "minLength": 1}),
    ("types of JSON Schema", schema(type=["STRING", "null"]), schema_of, {"type": ["string", "null"]}),
    # without effect
    ("fields without effect", {"safetySettings": [{"category": "X", "threshold": "OFF"}], "labels": {"a": "b"},
                               "model": "models/other", "store": True, "cachedContent": "", "serviceTier": "flex"},
     lambda r: r.model, "m"),
    ("settings without effect", config(mediaResolution="LOW", audioTimestamp=True, routingConfig={"a": 1}),
     lambda r: dict(r.options), {}),
    ("one safety setting", {"safety_settings": {"category": "X"}}, lambda r: r.model, "m"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "part", "value"), [case[1:] for case in GOOD], ids=[case[0] for case in GOOD])
def test_good(fields: dict[str, Any], part: Callable[[Request], Any], value: Any) -> None:
    assert part(read(HELLO | fields)) == value


F = "toolConfig.functionCallingConfig"
G = "generationConfig"
BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("no contents", {"contents": None}, "contents", "is required"),
    ("empty contents", {"contents": []}, "contents", "must say something"),
    ("contents that say nothing", {"contents": [{"parts": [{"text": ""}]}]}, "contents", "must say something"),
    ("a text", {"contents": "hello"}, "contents[0]", "must be an object, not a string"),
    ("an unknown role", {"contents": [{"role": "system", "parts": []}]}, "contents[0].role", "'system'"),
    ("a role that is no text", {"contents": [{"role": 3, "parts": []}]}, "contents[0].role", "not an integer"),
    ("an unknown field", {"foo_bar": 1}, "fooBar", "is not known here"),
    ("an unknown setting", config(temprature=1), f"{G}.temprature", "is not known here"),
    ("no setting", {"generationConfig": 3}, G, "must be an object"),
    ("a cache", {"cachedContent": "cachedContents/1"}, "cachedContent", "not available"),
    ("safety settings", {"safetySettings": ["x"]}, "safetySettings[0]", "must be an object"),
    # tools
    ("an unknown tool", tools({"teleport": {}}), "tools[0].teleport", "is no known tool"),
    ("no tool", {"tools": [3]}, "tools[0]", "must be an object"),
    *((f"the tool {name}", tools({name: {}}), f"tools[0].{name}", "not available") for name in UNAVAILABLE),
    ("a tool that is not here, in snake case", tools({"google_search": {}}), "tools[0].googleSearch", "not available"),
    ("code execution that is no object", tools({"codeExecution": True}), "tools[0].codeExecution", "must be an object"),
    ("a function without a name", functions({}), "tools[0].functionDeclarations[0].name", "must be 1 to 128"),
    ("a function with a wrong name", functions({"name": "a b"}), "tools[0].functionDeclarations[0].name", "letters"),
    ("two functions of one name", functions(TIME, TIME), "tools", "two functions"),
    ("a function called as the tool", tools({"codeExecution": {}, "functionDeclarations": {"name": "python"}}),
     "tools", "rename it"),
    ("two schemas", functions(TIME | {"parameters": {}, "parametersJsonSchema": {}}),
     "tools[0].functionDeclarations[0].parametersJsonSchema", "only one"),
    ("an unknown type", functions(TIME | {"parameters": {"type": "TEXT"}}),
     "tools[0].functionDeclarations[0].parameters.type", "must be one of"),
    ("a type deep in a schema", schema(type="OBJECT", properties={"a_b": {"items": {"type": 3}}}),
     f"{G}.responseSchema.properties.a_b.items.type", "not an integer"),
    ("no JSON schema", config(responseJsonSchema={"type": "x"}), f"{G}.responseJsonSchema", "no valid schema"),
    ("an unknown mode", functions(TIME, mode="SOMETIMES"), f"{F}.mode", "'SOMETIMES'"),
    ("mode ANY without functions", tools({"codeExecution": {}}, mode="ANY"), f"{F}.mode", "no `functionDeclarations`"),
    ("names with mode AUTO", functions(TIME, allowedFunctionNames=["time"]), f"{F}.allowedFunctionNames", "needs one"),
    ("an unknown name", functions(TIME, mode="ANY", allowedFunctionNames=["x"]), f"{F}.allowedFunctionNames[0]", "'x'"),
    # generationConfig
    ("two candidates", config(candidateCount=2), f"{G}.candidateCount", "must be 1"),
    ("a hot temperature", config(temperature=2.5), f"{G}.temperature", "at most 2"),
    ("a temperature that is none", config(temperature="warm"), f"{G}.temperature", "must be a number"),
    ("a boolean for a number", config(temperature=True), f"{G}.temperature", "not a boolean"),
    ("not a number", config(temperature="NaN"), f"{G}.temperature", "must be a number"),
    ("half a token", config(maxOutputTokens=1.5), f"{G}.maxOutputTokens", "must be an integer"),
    ("no token", config(maxOutputTokens=0), f"{G}.maxOutputTokens", "at least 1"),
    ("a stop that is none", config(stopSequences=[""]), f"{G}.stopSequences[0]", "must not be empty"),
    ("too many stops", config(stopSequences=list("abcdef")), f"{G}.stopSequences", "at most 5"),
    ("probabilities of nothing", config(logprobs=3), f"{G}.logprobs", "needs `responseLogprobs`"),
    ("a type of answer", config(responseMimeType="text/x.enum"), f"{G}.responseMimeType", "text/plain or"),
    ("a schema for text", config(responseMimeType="text/plain", responseSchema={"type": "OBJECT"}),
     f"{G}.responseMimeType", "application/json"),
    ("two schemas of the answer", config(responseSchema={}, responseJsonSchema={}), f"{G}.responseJsonSchema", "one"),
    ("speech", config(speechConfig={"a": 1}), f"{G}.speechConfig", "not available"),
    ("pictures", config(responseModalities=["TEXT", "IMAGE"]), f"{G}.responseModalities[1]", "'IMAGE'"),
    ("an unknown level", config(thinkingConfig={"thinkingLevel": "DEEP"}), f"{G}.thinkingConfig.thinkingLevel", "DEEP"),
    ("an unknown field of thinking", config(thinkingConfig={"deep": 1}), f"{G}.thinkingConfig.deep", "not known"),
    ("an instruction with a picture", {"systemInstruction": {"parts": [{"inlineData": {}}]}},
     "systemInstruction.parts[0]", "must hold `text`"),
    ("an instruction that is a text", {"systemInstruction": "x"}, "systemInstruction", "must be an object"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "place", "words"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad(fields: dict[str, Any], place: str, words: str) -> None:
    with pytest.raises(BadRequest) as raised:
        read(HELLO | fields)
    assert raised.value.param == place
    assert words in str(raised.value)


@pytest.mark.parametrize("body", [b"[]", b"3", b'"a"', b"null"])
def test_a_body_that_is_no_object(body: bytes) -> None:
    with pytest.raises(BadRequest, match="must be a JSON object"):
        read(body)


# --- parts ------------------------------------------------------------------------------------------------------------


def blob(data: bytes, kind: str, **fields: Any) -> dict[str, Any]:
    return {"inlineData": {"mimeType": kind, "data": base64.b64encode(data).decode(), **fields}}


def code(text: str, **fields: Any) -> dict[str, Any]:
    return {"executableCode": {"language": "PYTHON", "code": text, **fields}}


def gave(text: str, **fields: Any) -> dict[str, Any]:
    return {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": text, **fields}}


def ran(number: int, text: str) -> Call:
    return Call(id=f"g{number:08}", name="python", arguments=json.dumps({"code": text}), builtin=True)


def told(number: int, text: str, *images: Image) -> CallResult:
    return CallResult(call=f"g{number:08}", text=text, images=images, builtin=True)


URI = "https://host/v1beta/files/abc"
USER: list[tuple[str, dict[str, Any], tuple[Part, ...]]] = [
    ("a picture", blob(PNG, "image/png"), (Image(media_type="image/png", data=PNG),)),
    ("a file", blob(b"a,b\n1,2\n", "text/csv"), (File(name="file-1.csv", media_type="text/csv", data=b"a,b\n1,2\n"),)),
    ("a file in snake case", {"inline_data": {"mime_type": "TEXT/CSV; x=y", "data": "YQ=="}},
     (File(name="file-1.csv", media_type="text/csv", data=b"a"),)),
    ("a file with a name", blob(b"a", "text/csv", displayName="../my data.csv"),
     (File(name="my_data.csv", media_type="text/csv", data=b"a"),)),
    ("a file of no type", {"inlineData": {"data": "eyJhIjoxfQ"}},
     (File(name="file-1.json", media_type="application/json", data=b'{"a":1}'),)),
    ("base64 for URLs", {"inlineData": {"mimeType": "text/plain", "data": "-_-_"}},
     (File(name="file-1.bin", media_type="application/octet-stream", data=b"\xfb\xff\xbf"),)),
    ("a file by its URI", {"fileData": {"fileUri": URI, "mimeType": "text/csv"}},
     (FileRef(uri=URI, media_type="text/csv"),)),
    ("a file by its name", {"file_data": {"file_uri": "files/abc"}}, (FileRef(uri="files/abc"),)),
    ("a picture in the web", {"fileData": {"fileUri": "https://a/b.png", "mimeType": "image/png"}},
     (Image(media_type="image/png", url="https://a/b.png"),)),
    ("what stands beside data", {"text": "a", "thoughtSignature": "AA==", "videoMetadata": {}, "new": 1},
     (Text(text="a"),)),
    ("a thought of the user's", {"text": "a", "thought": True}, (Text(text="a"),)),
]  # fmt: skip


@pytest.mark.parametrize(("part", "expected"), [case[1:] for case in USER], ids=[case[0] for case in USER])
def test_parts_of_the_user(part: dict[str, Any], expected: tuple[Part, ...]) -> None:
    assert read_parts(part).messages == (Message(role=Role.USER, parts=expected),)


# The types that Google's guide names, as extensions, under the names that the SDK's `mimetypes` and others give them.
DOCUMENTED = [
    ("text/x-c++src", ".cpp"), ("text/csv", ".csv"), ("text/x-java", ".java"), ("text/javascript", ".js"),
    ("application/javascript", ".js"), ("text/x-python", ".py"), ("text/x-typescript", ".ts"),
    ("application/typescript", ".ts"), ("text/xml", ".xml"), ("application/xml", ".xml"), ("text/plain", ".txt"),
    ("text/rust", ".txt"), ("application/pdf", ".pdf"), ("image/svg+xml", ".svg"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "ending"), DOCUMENTED)
def test_files_by_type(kind: str, ending: str) -> None:
    [file] = (
        read_parts(blob(b"\x01 content", kind) if kind == "application/pdf" else blob(b"content", kind))
        .messages[0]
        .parts
    )
    assert isinstance(file, File)
    assert file.name == f"file-1{ending}"


def test_pictures_are_files_too_where_code_runs() -> None:
    parts = read_parts(blob(PNG, "image/jpg"), blob(PNG, "image/png"), **tools({"codeExecution": {}})).messages[0].parts
    assert parts == (
        Image(media_type="image/jpeg", data=PNG),
        File(name="image-1.jpg", media_type="image/jpeg", data=PNG),
        Image(media_type="image/png", data=PNG),
        File(name="image-2.png", media_type="image/png", data=PNG),
    )
    assert "image/jpeg" in SEEN
    assert settings_of(read_parts(blob(PNG, "image/png"))).pictures
    assert not settings_of(read_parts({"text": "a"})).pictures


# History: contents of the model's -> the messages that they become.
ASK = {"role": "user", "parts": [{"text": "q"}]}
HISTORY: list[tuple[str, list[Any], list[tuple[Role, tuple[Part, ...]]]]] = [
    ("thoughts", [{"text": "hm", "thought": True}, {"text": "a"}],
     [(Role.ASSISTANT, (Reasoning(text="hm"), Text(text="a")))]),
    ("code", [{"text": ""}, code("1"), gave("1\n"), {"text": "one"}],
     [(Role.ASSISTANT, (ran(0, "1"),)), (Role.TOOL, (told(0, "1"),)), (Role.ASSISTANT, (Text(text="one"),))]),
    ("code in snake case", [{"executable_code": {"language": "PYTHON", "code": "1"}},
                            {"code_execution_result": {"outcome": "OUTCOME_OK", "output": "1\n"}}],
     [(Role.ASSISTANT, (ran(0, "1"),)), (Role.TOOL, (told(0, "1"),))]),
    ("two pieces of code", [code("1"), gave("1"), code("2"), gave("2")],
     [(Role.ASSISTANT, (ran(0, "1"),)), (Role.TOOL, (told(0, "1"),)),
      (Role.ASSISTANT, (ran(1, "2"),)), (Role.TOOL, (told(1, "2"),))]),
    ("results by their ids", [code("1", id="a"), code("2", id="b"), gave("2", id="b"), gave("1", id="a")],
     [(Role.ASSISTANT, (ran(0, "1"), ran(1, "2"))), (Role.TOOL, (told(1, "2"), told(0, "1")))]),
    ("code without a result", [code("1"), {"text": "a"}],
     [(Role.ASSISTANT, (ran(0, "1"),)), (Role.TOOL, (told(0, "(what this gave was not kept)"),)),
      (Role.ASSISTANT, (Text(text="a"),))]),
    ("code without a result, at the end", [code("1")],
     [(Role.ASSISTANT, (ran(0, "1"),)), (Role.TOOL, (told(0, "(what this gave was not kept)"),))]),
    ("a result without code", [gave("1")], [(Role.ASSISTANT, (Text(text="\nOutput of code:\n```\n1\n```\n"),))]),
    ("a time-out", [code("1"), {"codeExecutionResult": {"outcome": "OUTCOME_DEADLINE_EXCEEDED"}}],
     [(Role.ASSISTANT, (ran(0, "1"),)), (Role.TOOL, (told(0, "(the code took too long, and was ended)"),))]),
    ("plots", [code("1"), gave("1"), blob(PNG, "image/png"), blob(PNG, "image/jpeg")],
     [(Role.ASSISTANT, (ran(0, "1"),)),
      (Role.TOOL, (told(0, "1", Image(media_type="image/png", data=PNG), Image(media_type="image/jpeg", data=PNG)),))]),
    ("a picture of nothing", [{"text": "a"}, blob(PNG, "image/png")],
     [(Role.ASSISTANT, (Text(text="a"), Text(text="(a picture)")))]),
    ("a call", [{"functionCall": {"id": "c", "name": "f", "args": {"a": 1}}, "thoughtSignature": "AA=="}],
     [(Role.ASSISTANT, (Call(id="c", name="f", arguments='{"a":1}'),))]),
    ("a call without anything", [{"function_call": {"name": "f"}}],
     [(Role.ASSISTANT, (Call(id="g00000000", name="f", arguments="{}"),))]),
    ("calls of one id", [{"functionCall": {"id": "c", "name": "f"}}, {"functionCall": {"id": "c", "name": "f"}}],
     [(Role.ASSISTANT, (Call(id="c", name="f", arguments="{}"), Call(id="g00000001", name="f", arguments="{}")))]),
    ("calls with our ids", [{"functionCall": {"id": "g00000001", "name": "f"}}, {"functionCall": {"name": "f"}}],
     [(Role.ASSISTANT, (Call(id="g00000001", name="f", arguments="{}"),
                        Call(id="g00000002", name="f", arguments="{}")))]),
    ("what other tools did", [{"toolCall": {"a": 1}}, {"toolResponse": {}}, {"text": "a"}],
     [(Role.ASSISTANT, (Text(text="a"),))]),
]  # fmt: skip


def neutral(messages: tuple[Message, ...]) -> list[tuple[Role, tuple[Part, ...]]]:
    """Without what only the reader knows."""
    return [
        (
            message.role,
            tuple(
                Call(id=part.id, name=part.name, arguments=part.arguments, builtin=part.builtin)
                if isinstance(part, Call)
                else part
                for part in message.parts
            ),
        )
        for message in messages
    ]


def spaced(messages: list[tuple[Role, tuple[Part, ...]]]) -> list[Any]:
    """With the arguments of calls as values, since white space in them does not matter."""
    return [
        (role, [(p.id, p.name, json.loads(p.arguments), p.builtin) if isinstance(p, Call) else p for p in parts])
        for role, parts in messages
    ]


@pytest.mark.parametrize(("parts", "expected"), [case[1:] for case in HISTORY], ids=[case[0] for case in HISTORY])
@pytest.mark.parametrize("apart", [False, True], ids=["one content", "a content for each part"])
def test_history(parts: list[Any], expected: list[tuple[Role, tuple[Part, ...]]], apart: bool) -> None:
    said = [{"role": "model", "parts": [part]} for part in parts] if apart else [{"role": "model", "parts": parts}]
    messages = read({"contents": [ASK, *said]}).messages
    assert spaced(neutral(messages)[1:]) == spaced(expected)


def test_responses_find_their_calls() -> None:
    calls = [{"functionCall": {"name": name, "id": f"c{at}"}} for at, name in enumerate("fgf")]
    answers = [
        {"functionResponse": {"name": "f", "response": {"output": "first"}}},
        {"function_response": {"name": "g", "id": "c1", "response": {"output": "second"}}},
        {"functionResponse": {"name": "f", "id": "unknown", "parts": [blob(PNG, "image/png")]}},
    ]
    contents = [
        ASK,
        {"role": "model", "parts": calls},
        {"role": "function", "parts": answers},
        {"role": "user", "parts": {"text": "go on"}},
    ]
    messages = read({"contents": contents}).messages
    assert messages[2:] == (
        Message(
            role=Role.TOOL,
            parts=(
                CallResult(call="c0", text='{"output":"first"}'),
                CallResult(call="c1", text='{"output":"second"}'),
                CallResult(call="c2", text="{}", images=(Image(media_type="image/png", data=PNG),)),
            ),
        ),
        Message(role=Role.USER, parts=(Text(text="go on"),)),
    )


def test_code_beside_a_function_is_answered_first() -> None:
    parts = [{"functionCall": {"name": "f", "id": "c"}}, code("1"), gave("1")]
    answer = {"functionResponse": {"name": "f", "response": {}}}
    contents = [ASK, {"role": "model", "parts": parts}, {"role": "user", "parts": answer}]
    messages = read({"contents": contents}).messages
    assert [message.role for message in messages] == [Role.USER, Role.ASSISTANT, Role.TOOL]
    assert [part.call for part in messages[2].parts if isinstance(part, CallResult)] == ["g00000001", "c"]


BAD_PARTS: list[tuple[str, str, Any, str, str]] = [
    ("nothing", "user", {}, "", "must hold one of"),
    ("unknown", "user", {"smell": 1}, "", "must hold one of"),
    ("a text", "user", "a", "", "must be an object"),
    ("two things", "user", {"text": "a", "inlineData": {"data": ""}}, "", "not both"),
    ("a text that is none", "user", {"text": 3}, ".text", "must be a string"),
    ("a thought that is none", "model", {"text": "a", "thought": 3}, ".thought", "must be a boolean"),
    ("a wrong signature", "user", {"text": "a", "thoughtSignature": 3}, ".thoughtSignature", "must be a string"),
    ("no base64", "user", {"inlineData": {"mimeType": "a/b", "data": "?"}}, ".inlineData.data", "base64"),
    ("a type that is none", "user", {"inlineData": {"mimeType": 3, "data": ""}}, ".inlineData.mimeType", "a string"),
    ("no URI", "user", {"fileData": {}}, ".fileData.fileUri", "is required"),
    ("a cloud's URI", "user", {"fileData": {"fileUri": "gs://a/b.csv"}}, ".fileData.fileUri", "uploaded here"),
    ("code of the user's", "user", code("1"), "", "must hold one of"),
    ("code that is none", "model", code(3), ".executableCode.code", "must be a string"),  # type: ignore[arg-type]
    ("a call without a name", "model", {"functionCall": {}}, ".functionCall.name", "is required"),
    ("arguments that are none", "model", {"functionCall": {"name": "f", "args": []}}, ".functionCall.args", "object"),
    ("a response to nothing", "user", {"functionResponse": {"name": "f"}}, ".functionResponse.name", "no earlier"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("role", "part", "place", "words"), [case[1:] for case in BAD_PARTS], ids=[case[0] for case in BAD_PARTS]
)
def test_bad_parts(role: str, part: Any, place: str, words: str) -> None:
    with pytest.raises(BadRequest) as raised:
        read({"contents": [ASK, {"role": role, "parts": [{"text": "a"}, part]}]})
    assert raised.value.param == f"contents[1].parts[1]{place}"
    assert words in str(raised.value)


# --- paths, keys, methods ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "query", "params", "expected"),
    [
        ("generateContent", {}, {}, ("m", False, Settings(sse=False))),
        ("streamGenerateContent", {"alt": "sse"}, {}, ("m", True, Settings())),
        ("streamGenerateContent", {"$alt": "sse"}, {}, ("m", True, Settings())),
        ("streamGenerateContent", {}, {}, ("m", True, Settings(sse=False))),
        ("streamGenerateContent", {"alt": "json"}, {}, ("m", True, Settings(sse=False))),
        ("generateContent", {}, {"model": "openai/gpt-oss-20b"}, ("openai/gpt-oss-20b", False, Settings(sse=False))),
        ("generateContent", {}, {"publisher": "google"}, ("m", False, Settings(sse=False, vertex=True))),
        ("generateContent", {}, {"publisher": "openai"}, ("openai/m", False, Settings(sse=False, vertex=True))),
        ("generateContent", {}, {"model": "qwen3:8b"}, ("qwen3:8b", False, Settings(sse=False))),
    ],
)
def test_paths(
    method: str, query: dict[str, str], params: dict[str, str], expected: tuple[str, bool, Settings]
) -> None:
    request = read(HELLO, method, query, **params)
    assert (request.model, request.stream, settings_of(request)) == expected


def test_what_is_counted() -> None:
    assert read(CODE, "countTokens").messages == read(HELLO).messages
    whole = {"generateContentRequest": HELLO | {"model": "models/m", "systemInstruction": {"parts": {"text": "s"}}}}
    assert [message.role for message in read(whole, "countTokens").messages] == [Role.SYSTEM, Role.USER]
    with pytest.raises(BadRequest, match="generateContentRequest"):
        read(whole)


@pytest.mark.parametrize(
    ("headers", "query", "key", "claimed"),
    [
        ({"x-goog-api-key": "k"}, {}, "k", True),
        ({}, {"key": "k"}, "k", True),
        ({"authorization": "Bearer k"}, {}, "k", False),
        ({"authorization": "Basic k"}, {}, None, False),
        ({"x-goog-user-project": "p"}, {}, None, True),
        ({}, {}, None, False),
    ],
)
def test_keys_and_claims(headers: dict[str, str], query: dict[str, str], key: str | None, claimed: bool) -> None:
    request = Incoming(method="GET", path="/v1/models", headers=headers, query=query)
    assert DIALECT.read_key(request) == key
    assert DIALECT.claims(request) is claimed


def test_routes_are_those_of_the_sdks() -> None:
    routes = {(route.method, route.path): route.action for route in DIALECT.routes}
    assert len(routes) == len(DIALECT.routes) == 4 * 3 * 5
    project = "/v1/projects/{project}/locations/{location}/publishers/{publisher}/models/{model:path}"
    assert routes["POST", f"{project}:streamGenerateContent"] == "generate"
    assert routes["POST", "/v1beta1/publishers/{publisher}/models/{model:path}:countTokens"] == "count"
    assert routes["GET", "/v1alpha/models/{id:path}"] == "model"
    assert routes["GET", "/v1/models"] == "models"


# --- whatever comes ---------------------------------------------------------------------------------------------------

RICH: dict[str, Any] = {
    "contents": [
        {"role": "user", "parts": [{"text": "q"}, {"inlineData": {"mimeType": "image/png", "data": B64}}]},
        {
            "role": "model",
            "parts": [
                {"text": "hm", "thought": True, "thoughtSignature": "AA=="},
                code("1", id="a"),
                gave("1", id="a"),
                {"inlineData": {"mimeType": "image/png", "data": B64}},
                {"functionCall": {"id": "c", "name": "weather", "args": {"city": "Tokyo"}}},
            ],
        },
        {"role": "user", "parts": [{"functionResponse": {"id": "c", "name": "weather", "response": {"output": 1}}}]},
        {"role": "user", "parts": [{"fileData": {"fileUri": URI, "mimeType": "text/csv"}}]},
    ],
    "systemInstruction": {"parts": [{"text": "s"}]},
    "tools": [{"codeExecution": {}}, {"functionDeclarations": [WEATHER, TIME]}],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}},
    "generationConfig": {
        "temperature": 1,
        "stopSequences": ["x"],
        "responseMimeType": "application/json",
        "responseSchema": {"type": "OBJECT", "properties": {"a": {"type": "STRING", "enum": ["a"], "nullable": True}}},
        "thinkingConfig": {"includeThoughts": True, "thinkingLevel": "LOW"},
    },
    "safetySettings": [{"category": "X"}],
}

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 2**70)
    | st.floats()
    | st.sampled_from(["", "a", "OBJECT", "user", "model", "AA==", "-", "1", "1e999", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["parts", "text", "type", "items", "a", "inline_data", "name"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


def survives(body: bytes, method: str = "generateContent") -> None:
    try:
        request = DIALECT.read_request(incoming(body, method))
    except ClientError:
        return
    assert request.messages


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inner in items for place in ((*path, key), *places(inner, (*path, key)))]


def test_the_rich_request_is_good() -> None:
    assert read(RICH).builtin == ("python",)


@given(
    st.lists(
        st.tuples(st.integers(0, 10_000), st.sampled_from(["set", "drop", "copy"]), json_values), min_size=1, max_size=4
    )
)
def test_mutated_requests_are_read_or_refused(changes: list[tuple[int, str, Any]]) -> None:
    body = copy.deepcopy(RICH)
    for at, action, value in changes:
        paths = places(body)
        if not paths:
            break
        path = paths[at % len(paths)]
        parent: Any = body
        for key in path[:-1]:
            parent = parent[key]
        if action == "set":
            parent[path[-1]] = value
        elif action == "drop":
            parent.pop(path[-1])
        else:
            source: Any = body
            for key in paths[(at * 7 + 3) % len(paths)]:
                source = source[key]
            parent[path[-1]] = copy.deepcopy(source)
    survives(json.dumps(body).encode())


@given(st.sampled_from(sorted(FIELDS)), json_values)
def test_any_value_of_any_field_is_read_or_refused(name: str, value: Any) -> None:
    survives(json.dumps(HELLO | {name: value}).encode())
    survives(json.dumps({"generateContentRequest": HELLO | {name: value}}).encode(), "countTokens")


@given(st.sampled_from(sorted(CONFIG)), json_values)
def test_any_value_of_any_setting_is_read_or_refused(name: str, value: Any) -> None:
    survives(json.dumps(HELLO | config(**{name: value})).encode())


@given(st.sampled_from(["user", "model"]), st.lists(st.tuples(
    st.sampled_from(sorted({*USER_PARTS, *MODEL_PARTS})), json_values), max_size=4))  # fmt: skip
def test_any_parts_are_read_or_refused(role: str, parts: list[tuple[str, Any]]) -> None:
    survives(json.dumps({"contents": [ASK, {"role": role, "parts": [dict([part]) for part in parts]}]}).encode())


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    survives(body)
