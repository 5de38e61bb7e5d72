"""What an upstream is sent: a `Request` as the body of an OpenAI chat completion.

Promises: whatever a request holds becomes a body that engines take: arguments of earlier calls are JSON objects, text
is valid UTF-8, pictures stand in user messages only (most engines take them nowhere else), `tool_choice` comes with
tools only. Not covered: files, which are text by now; parts of a message that its role cannot have are left out.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from belljar.model import (
    Call,
    CallResult,
    Choice,
    Format,
    Function,
    Image,
    Message,
    Part,
    Reasoning,
    Request,
    Role,
    Text,
)

REASONING_KEY = "key"  # in Reasoning.extra: the message's key under which an upstream wants it back
PASSTHROUGH = "passthrough"  # in Request.extra: unknown top-level keys, forwarded as they are
UNSEEN_IMAGE = "(a picture, which this model cannot see)"
SHOWN_IMAGES = "Shown by the code above:"
NO_FUNCTION_SCHEMA: Mapping[str, Any] = {"type": "object", "properties": {}}

_encode = msgspec.json.Encoder().encode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(frozen=True, kw_only=True, slots=True)
class Manners:
    """What differs between upstreams in what they take.

    `tokens_key` is the name under which they know the limit of an answer's tokens: local engines know the old one,
    OpenAI's newer models take the new one only.
    """

    stream_options: bool = True
    tokens_key: str = "max_tokens"
    parallel: bool = True


def write_request(request: Request, model: str, *, sees_images: bool, manners: Manners = Manners()) -> bytes:
    """The body of POST /chat/completions. `model` is the upstream's name for it."""
    body: dict[str, Any] = dict(request.extra.get(PASSTHROUGH) or {})
    body["model"] = model
    body["messages"] = write_messages(request.messages, sees_images=sees_images)
    if request.options:
        body.update(_options(request.options, manners))
    if request.functions:
        body.update(_tools(request, manners))
    if request.format is not None:
        body["response_format"] = _format(request.format)
    if request.effort is not None:
        body["reasoning_effort"] = request.effort
    body["stream"] = request.stream
    body.pop("stream_options", None)
    if request.stream and manners.stream_options:
        body["stream_options"] = {"include_usage": True}
    return _json(body)


def _json(body: Any) -> bytes:
    try:
        return _encode(body)
    except UnicodeEncodeError:  # half of a surrogate pair, which is no character
        return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def _options(options: Mapping[str, Any], manners: Manners) -> dict[str, Any]:
    written = {name: value for name, value in options.items() if name not in _TOKENS_KEYS}
    limit = next((options[key] for key in _TOKENS_KEYS if options.get(key) is not None), None)
    if limit is not None:
        written[manners.tokens_key] = limit
    return written


_TOKENS_KEYS = ("max_completion_tokens", "max_tokens")


# --- tools ------------------------------------------------------------------------------------------------------------


def _tools(request: Request, manners: Manners) -> dict[str, Any]:
    body: dict[str, Any] = {"tools": [_function(function) for function in request.functions]}
    choice = _choice(request.choice)
    if choice is not None:
        body["tool_choice"] = choice
    if request.parallel is not None and manners.parallel:
        body["parallel_tool_calls"] = request.parallel
    return body


def _function(function: Function) -> dict[str, Any]:
    written: dict[str, Any] = {"name": function.name}
    if function.description:
        written["description"] = function.description
    written["parameters"] = function.parameters if function.parameters is not None else NO_FUNCTION_SCHEMA
    if function.strict is not None:
        written["strict"] = function.strict
    return {"type": "function", "function": written}


def _choice(choice: Choice) -> Any:
    if choice.name is not None:
        return {"type": "function", "function": {"name": choice.name}}
    return choice.mode.value if choice.mode is not None else None


def _format(asked: Format) -> dict[str, Any]:
    if asked.schema is None:
        return {"type": "json_object"}
    schema: dict[str, Any] = {"name": asked.name, "schema": asked.schema}
    if asked.description is not None:
        schema["description"] = asked.description
    if asked.strict is not None:
        schema["strict"] = asked.strict
    return {"type": "json_schema", "json_schema": schema}


# --- messages ---------------------------------------------------------------------------------------------------------


def write_messages(messages: Sequence[Message], *, sees_images: bool) -> list[dict[str, Any]]:
    """The conversation. Pictures that tools gave follow, in a user message, the last of the tool messages in a row."""
    written: list[dict[str, Any]] = []
    shown: list[Image] = []
    for message in messages:
        if shown and message.role is not Role.TOOL:
            written.append(_shown(shown))
            shown = []
        if message.role is Role.TOOL:
            results = [part for part in message.parts if isinstance(part, CallResult)]
            written += [{"role": "tool", "tool_call_id": part.call, "content": part.text} for part in results]
            shown += [image for part in results for image in part.images if sees_images]
        else:
            written.append(_WRITERS[message.role](message, sees_images))
    if shown:
        written.append(_shown(shown))
    return written


def _shown(images: list[Image]) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": SHOWN_IMAGES}, *map(_image, images)]}


def _message(role: str, message: Message, content: Any) -> dict[str, Any]:
    named = {"name": message.name} if message.name else {}
    return {"role": role, **named, "content": content}


def _system(message: Message, sees_images: bool) -> dict[str, Any]:
    return _message("system", message, _joined(message.parts))


def _user(message: Message, sees_images: bool) -> dict[str, Any]:
    if not any(isinstance(part, Image) for part in message.parts):
        return _message("user", message, _joined(message.parts))
    content = []
    for part in message.parts:
        if isinstance(part, Text):
            content.append({"type": "text", "text": part.text})
        elif isinstance(part, Image):
            content.append(_image(part) if sees_images else {"type": "text", "text": UNSEEN_IMAGE})
    if not sees_images:
        return _message("user", message, "\n".join(part["text"] for part in content))
    return _message("user", message, content)


def _assistant(message: Message, sees_images: bool) -> dict[str, Any]:
    calls = [_call(part) for part in message.parts if isinstance(part, Call)]
    text = message.text
    written = _message("assistant", message, text or (None if calls else ""))
    for part in message.parts:
        if isinstance(part, Reasoning) and part.extra.get(REASONING_KEY):
            key = str(part.extra[REASONING_KEY])
            written[key] = written.get(key, "") + part.text
    if calls:
        written["tool_calls"] = calls
    return written


_WRITERS: dict[Role, Callable[[Message, bool], dict[str, Any]]] = {
    Role.SYSTEM: _system,
    Role.USER: _user,
    Role.ASSISTANT: _assistant,
}


def _joined(parts: Sequence[Part]) -> str:
    """Texts as the templates of engines join them, a line each."""
    return "\n".join(part.text for part in parts if isinstance(part, Text))


def _image(image: Image) -> dict[str, Any]:
    url = image.url or ""
    if image.data is not None:
        url = f"data:{image.media_type};base64,{b64encode(image.data).decode()}"
    detail = {"detail": image.extra["detail"]} if image.extra.get("detail") else {}
    return {"type": "image_url", "image_url": {"url": url, **detail}}


def _call(call: Call) -> dict[str, Any]:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": object_text(call.arguments)},
    }


def object_text(arguments: str) -> str:
    """The arguments as a JSON object, since chat templates parse those of earlier calls and fail on anything else."""
    if not arguments.strip():
        return "{}"
    try:
        _decode_object(arguments)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return _json({"code": arguments}).decode()
    return arguments
