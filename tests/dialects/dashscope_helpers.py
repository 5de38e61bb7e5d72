"""What the tests of Alibaba's two dialects share: reading and writing in one line, and merging frames as clients do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from belljar.dialects.base import Dialect, Incoming
from belljar.dialects.dashscope import DIALECT, TEXT_PATH
from belljar.events import Event, Fold
from belljar.model import Request
from dialects.chat_helpers import START

STREAM = {"x-dashscope-sse": "enable"}
HELLO = {"role": "user", "content": "hello"}
MODEL = "qwen3.5-plus"


def body_of(*messages: Any, model: str = MODEL, **parameters: Any) -> dict[str, Any]:
    """A native body; without messages, one that says hello."""
    return {"model": model, "input": {"messages": list(messages) or [HELLO]}, "parameters": parameters}


def read(
    body: Any, headers: Mapping[str, str] | None = None, path: str = TEXT_PATH, dialect: Dialect = DIALECT
) -> Request:
    """Read a body given as a value or as bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return dialect.read_request(Incoming(method="POST", path=path, headers=headers or {}, body=data))


def fold(events: Iterable[Event], body: Any = None, path: str = TEXT_PATH) -> dict[str, Any]:
    """The whole answer to a native request, as a client parses it."""
    folding = Fold()
    for event in events:
        folding.add(event)
    writer = DIALECT.writer(read(body_of() if body is None else body, path=path), START)
    answer: dict[str, Any] = json.loads(writer.fold(folding.answer))
    return answer


def stream(events: Iterable[Event], body: Any = None, path: str = TEXT_PATH) -> bytes:
    """The stream that answers a native request."""
    writer = DIALECT.writer(read(body_of() if body is None else body, STREAM, path), START)
    return b"".join(writer.write(event) for event in events)


def frames(data: bytes) -> list[Any]:
    """The values of a stream, each of whose frames has the lines that the SDK's parser wants, in their order."""
    values = []
    pieces = data.decode().split("\n\n")
    assert pieces.pop() == ""
    for number, piece in enumerate(pieces, 1):
        lines = piece.split("\n")
        assert lines[:3] == [f"id:{number}", "event:result", ":HTTP_STATUS/200"], lines
        assert len(lines) == 4
        assert lines[3].startswith("data:{")
        values.append(json.loads(lines[3].removeprefix("data:")))
    return values


def merge(values: Iterable[Mapping[str, Any]], *, listed: bool = False) -> dict[str, Any]:
    """Increments as one answer: texts are joined, calls by their index; of all else the last one counts."""
    whole: dict[str, Any] = {}
    said: dict[str, str] = {}
    calls: dict[int, dict[str, Any]] = {}
    for value in values:
        whole = json.loads(json.dumps(value))
        message = whole["output"]["choices"][0]["message"]
        content = "".join(part["text"] for part in message["content"]) if listed else message["content"]
        for name, text in {"content": content, "reasoning_content": message.get("reasoning_content")}.items():
            if text is not None:
                said[name] = said.get(name, "") + text
        for call in message.get("tool_calls", ()):
            known = calls.setdefault(call["index"], call | {"function": {"name": "", "arguments": ""}})
            for name, text in call["function"].items():
                known["function"][name] += text
    if listed:
        said["content"] = [{"text": said["content"]}] if said["content"] else []  # type: ignore[assignment]
    message = {"role": "assistant"} | said
    whole["output"]["choices"][0]["message"] = message | ({"tool_calls": list(calls.values())} if calls else {})
    return whole
