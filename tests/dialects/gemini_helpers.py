"""What the tests of the Gemini dialect share: reading and writing in one line, and joining chunks as clients do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from belljar.dialects.base import Incoming, Start, Writer
from belljar.dialects.gemini import DIALECT
from belljar.events import Event, Fold
from belljar.model import Request
from belljar.sse import SSEReader

HELLO: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}
CODE: dict[str, Any] = HELLO | {"tools": [{"codeExecution": {}}]}
START = Start(request_id="req_1", created=1_700_000_000)
VERTEX = {"publisher": "google"}


def incoming(
    body: Any, method: str = "generateContent", query: Mapping[str, str] | None = None, **params: str
) -> Incoming:
    """A request with a body given as a value or as bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    model = params.pop("model", "m")
    path = f"/v1beta/models/{model}:{method}"
    return Incoming(method="POST", path=path, params={"model": model, **params}, query=query or {}, body=data)


def read(body: Any, method: str = "generateContent", query: Mapping[str, str] | None = None, **params: str) -> Request:
    """Read a request."""
    return DIALECT.read_request(incoming(body, method, query, **params))


def read_parts(*parts: Any, role: str = "user", **fields: Any) -> Request:
    """Read a request with one content of these parts."""
    return read({"contents": [{"role": role, "parts": list(parts)}]} | fields)


def writer_for(body: Any = None, *, stream: bool = False, sse: bool = True, **params: str) -> Writer:
    """A writer for the answer to a request."""
    method = "streamGenerateContent" if stream else "generateContent"
    return DIALECT.writer(read(HELLO if body is None else body, method, {"alt": "sse"} if sse else {}, **params), START)


def fold(events: Iterable[Event], body: Any = None, **params: str) -> dict[str, Any]:
    """The whole answer to a request, as a client parses it."""
    folding = Fold()
    for event in events:
        folding.add(event)
    answer: dict[str, Any] = json.loads(writer_for(body, **params).fold(folding.answer))
    return answer


def stream(events: Iterable[Event], body: Any = None, *, sse: bool = True) -> bytes:
    """The stream that answers a request."""
    writer = writer_for(body, stream=True, sse=sse)
    return b"".join(writer.write(event) for event in events)


def chunks(data: bytes) -> list[Any]:
    """The chunks of a stream of events."""
    reader = SSEReader()
    return [json.loads(event.data) for event in [*reader.feed(data), *reader.end()]]


def parts_of(chunk: Mapping[str, Any]) -> list[Any]:
    """The parts of a chunk."""
    found: list[Any] = chunk["candidates"][0]["content"]["parts"]
    return found


def kinds(parts: Iterable[Mapping[str, Any]]) -> list[str]:
    """What parts hold, in a word each; empty texts are left out."""
    return [
        "thought" if part.get("thought") else next(name for name in part if name != "thoughtSignature")
        for part in parts
        if part != {"text": ""}
    ]


def merge(data: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Chunks as one answer: neighbouring texts of one kind are joined, of everything else the last one counts."""
    whole: dict[str, Any] = {}
    candidate: dict[str, Any] = {}
    parts: list[Any] = []
    tokens: list[Any] = []
    for chunk in data:
        whole |= chunk
        candidate |= chunk["candidates"][0]
        tokens += chunk["candidates"][0].get("logprobsResult", {}).get("chosenCandidates", [])
        for part in parts_of(chunk):
            joins = parts and "text" in part and "text" in parts[-1] and part.get("thought") == parts[-1].get("thought")
            if joins:
                parts[-1] = parts[-1] | {"text": parts[-1]["text"] + part["text"]}
            elif part != {"text": ""}:
                parts.append(part)
    candidate["content"] = {"role": "model", "parts": parts or [{"text": ""}]}
    if tokens:
        candidate["logprobsResult"] = {"chosenCandidates": tokens}
        candidate["avgLogprobs"] = sum(token["logProbability"] for token in tokens) / len(tokens)
    return whole | {"candidates": [candidate]}
