"""What an upstream is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from belljar.dialects.upstream_chat import Manners, write_request
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
    Request,
    Role,
    Text,
)

PNG = Image(media_type="image/png", data=b"png", extra={"detail": "low"})
PNG_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,cG5n", "detail": "low"}}
URL_PART = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
CALL = Call(id="a", name="python", arguments='{"code": "1"}')
WRITTEN_CALL = {"id": "a", "type": "function", "function": {"name": "python", "arguments": '{"code": "1"}'}}


def said(role: Role, *parts: Part, name: str | None = None) -> Message:
    return Message(role=role, parts=parts, name=name)


def written(*messages: Message, sees_images: bool = True, **more: Any) -> dict[str, Any]:
    manners = more.pop("manners", Manners())
    request = Request(model="ours", messages=messages, **more)
    body: dict[str, Any] = json.loads(write_request(request, "theirs", sees_images=sees_images, manners=manners))
    return body


MESSAGES: dict[str, tuple[list[Message], list[dict[str, Any]]]] = {
    "text": ([said(Role.USER, Text(text="hi"))], [{"role": "user", "content": "hi"}]),
    "texts": ([said(Role.SYSTEM, Text(text="a"), Text(text="b"))], [{"role": "system", "content": "a\nb"}]),
    "a name": ([said(Role.USER, Text(text="hi"), name="ann")], [{"role": "user", "name": "ann", "content": "hi"}]),
    "nothing": (
        [said(Role.USER), said(Role.ASSISTANT)],
        [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}],
    ),
    "an image": (
        [said(Role.USER, Text(text="look"), PNG, Image(media_type="", url="https://x/y.png"))],
        [{"role": "user", "content": [{"type": "text", "text": "look"}, PNG_PART, URL_PART]}],
    ),
    "a file is not sent": (
        [said(Role.USER, Text(text="hi"), File(name="a.csv", media_type="text/csv", data=b"x"))],
        [{"role": "user", "content": "hi"}],
    ),
    "a call and its result": (
        [said(Role.ASSISTANT, CALL), said(Role.TOOL, CallResult(call="a", text="1"))],
        [
            {"role": "assistant", "content": None, "tool_calls": [WRITTEN_CALL]},
            {"role": "tool", "tool_call_id": "a", "content": "1"},
        ],
    ),
    "text and a call": (
        [said(Role.ASSISTANT, Text(text="Let me see."), CALL)],
        [{"role": "assistant", "content": "Let me see.", "tool_calls": [WRITTEN_CALL]}],
    ),
    "images of results follow the last result": (
        [
            said(Role.TOOL, CallResult(call="a", text="1", images=(PNG,))),
            said(Role.TOOL, CallResult(call="b", text="2", images=(PNG,))),
            said(Role.USER, Text(text="hi")),
        ],
        [
            {"role": "tool", "tool_call_id": "a", "content": "1"},
            {"role": "tool", "tool_call_id": "b", "content": "2"},
            {"role": "user", "content": [{"type": "text", "text": "Shown by the code above:"}, PNG_PART, PNG_PART]},
            {"role": "user", "content": "hi"},
        ],
    ),
    "several results in one message": (
        [said(Role.TOOL, CallResult(call="a", text="1"), CallResult(call="b", text="2"))],
        [{"role": "tool", "tool_call_id": "a", "content": "1"}, {"role": "tool", "tool_call_id": "b", "content": "2"}],
    ),
    "reasoning stays here": (
        [said(Role.ASSISTANT, Reasoning(text="hm"), Text(text="x"))],
        [{"role": "assistant", "content": "x"}],
    ),
    "reasoning goes back under its key": (
        [said(Role.ASSISTANT, Reasoning(text="hm", extra={"key": "reasoning_content"}), CALL)],
        [{"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [WRITTEN_CALL]}],
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_writes_messages(name: str) -> None:
    messages, expected = MESSAGES[name]
    assert written(*messages)["messages"] == expected


def test_writes_no_image_to_a_model_that_does_not_see() -> None:
    user = said(Role.USER, Text(text="look"), PNG)
    result = said(Role.TOOL, CallResult(call="a", text="1", images=(PNG,)))
    assert written(user, result, sees_images=False)["messages"] == [
        {"role": "user", "content": "look\n(a picture, which this model cannot see)"},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"code": 1}', '{"code": 1}'),
        ("", "{}"),
        (" ", "{}"),
        ("print(1)", '{"code":"print(1)"}'),
        ("[1]", '{"code":"[1]"}'),
        ('{"code": "pri', '{"code":"{\\"code\\": \\"pri"}'),
        ("{}", "{}"),
    ],
)
def test_arguments_go_back_as_an_object(arguments: str, expected: str) -> None:
    body = written(said(Role.ASSISTANT, Call(id="a", name="python", arguments=arguments)))
    assert body["messages"][0]["tool_calls"][0]["function"]["arguments"] == expected
    assert isinstance(json.loads(expected), dict)


FUNCTION = Function(name="f", description="d", parameters={"type": "object"}, strict=True)
TOOL = {
    "type": "function",
    "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True},
}
FIELDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {"stream": False}),
    "stream": ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
    "stream, simple manners": (
        {"stream": True, "manners": Manners(stream_options=False)},
        {"stream": True},
    ),
    "functions": ({"functions": (FUNCTION,)}, {"stream": False, "tools": [TOOL]}),
    "a bare function": (
        {"functions": (Function(name="g"),)},
        {
            "stream": False,
            "tools": [
                {"type": "function", "function": {"name": "g", "parameters": {"type": "object", "properties": {}}}}
            ],
        },
    ),
    "choice": (
        {"functions": (FUNCTION,), "choice": Choice(mode=Mode.REQUIRED), "parallel": False},
        {"stream": False, "tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False},
    ),
    "choice by name": (
        {"functions": (FUNCTION,), "choice": Choice(name="f", mode=Mode.REQUIRED)},
        {"stream": False, "tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
    ),
    "choice without functions": ({"choice": Choice(mode=Mode.NONE), "parallel": True}, {"stream": False}),
    "parallel, simple manners": (
        {"functions": (FUNCTION,), "parallel": True, "manners": Manners(parallel=False)},
        {"stream": False, "tools": [TOOL]},
    ),
    "options": ({"options": {"temperature": 0, "stop": ["x"]}}, {"stream": False, "temperature": 0, "stop": ["x"]}),
    "tokens": ({"options": {"max_completion_tokens": 5}}, {"stream": False, "max_tokens": 5}),
    "tokens, new manners": (
        {"options": {"max_tokens": 5}, "manners": Manners(tokens_key="max_completion_tokens")},
        {"stream": False, "max_completion_tokens": 5},
    ),
    "tokens null": ({"options": {"max_tokens": None}}, {"stream": False}),
    "effort": ({"effort": "low"}, {"stream": False, "reasoning_effort": "low"}),
    "JSON": ({"format": Format()}, {"stream": False, "response_format": {"type": "json_object"}}),
    "JSON schema": (
        {"format": Format(schema={"type": "object"}, name="n", strict=True, description="d")},
        {
            "stream": False,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": {"type": "object"}, "description": "d", "strict": True},
            },
        },
    ),
    "passthrough": (
        {"extra": {"passthrough": {"top_k": 3, "model": "evil", "stream_options": {}}}},
        {"stream": False, "top_k": 3},
    ),
}


@pytest.mark.parametrize("name", FIELDS)
def test_writes_fields(name: str) -> None:
    asked, expected = FIELDS[name]
    body = written(said(Role.USER, Text(text="hi")), **asked)
    assert body.pop("model") == "theirs"
    assert body.pop("messages") == [{"role": "user", "content": "hi"}]
    assert body == expected


def test_writes_text_that_is_no_unicode() -> None:
    assert written(said(Role.USER, Text(text="a\ud83d b")))["messages"][0]["content"] == "a? b"
