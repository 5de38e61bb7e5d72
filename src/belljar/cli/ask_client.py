"""Asks a server that speaks chat completions, and reads what it says back into neutral events.

Promises: events keep the order of `events`; any server's bytes end in Finished or Failed; waits are bounded. What the
wire does not tell is not made up: an execution at a server has its text and pictures, but no outcome (`REMOTE`).
Not covered: tools of the client's own; other dialects.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from belljar.errors import (
    AtCapacity,
    BadRequest,
    BelljarError,
    Forbidden,
    ToolUseFailed,
    Unauthorized,
    UnknownModel,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from belljar.events import (
    CallClosed,
    CallOpened,
    CallOutput,
    CallReady,
    CallShown,
    CallStarted,
    Event,
    Failed,
    Finish,
    Finished,
    ReasoningDelta,
    TextDelta,
    TurnEnded,
    TurnStarted,
)
from belljar.execution import CHART, Execution, Outcome, Output, Result
from belljar.model import File, Image, Part, Request, Text, Usage
from belljar.partial import read_code
from belljar.server.settings import is_loopback
from belljar.sse import SSEError, SSEReader
from belljar.upstream.traits import can_chat
from belljar.verbatim import ID as VERBATIM

TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=300.0)  # servers of ours send heartbeats
MAX_BODY = 64 << 20  # bytes of an answer that is not streamed, or of an error
SYSTEMS = ("groq/compound", "compound-beta")  # beginnings of ids that run code unasked, and refuse to be given tools
FINISHES = {
    "stop": Finish.STOP,
    "length": Finish.LENGTH,
    "tool_calls": Finish.CALLS,
    "function_call": Finish.CALLS,
    "content_filter": Finish.FILTERED,
}
NO_MODEL = (
    f"the server has no language model, so {VERBATIM} answers: it is none, and only runs the code that it is sent"
)
BAD_STATUSES = (400, 404, 405, 413, 415, 422)  # the request is at fault


# --- the request ------------------------------------------------------------------------------------------------------


def write_request(request: Request) -> dict[str, Any]:
    """The body of a request: files as `file` parts, pictures as pictures only, which the server gives to code, too."""
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [
            {"role": message.role.value, "content": [_part(part) for part in _without_copies(message.parts)]}
            for message in request.messages
        ],
        "stream": request.stream,
    }
    for message in body["messages"]:
        if all(part["type"] == "text" for part in message["content"]):  # what every server takes
            message["content"] = "".join(part["text"] for part in message["content"])
    if request.stream:
        body["stream_options"] = {"include_usage": True}
    if request.model.startswith(SYSTEMS):
        return body if request.builtin else body | {"compound_custom": {"tools": {"enabled_tools": []}}}
    return body | ({"tools": [{"type": "code_interpreter"}]} if request.builtin else {})


def _without_copies(parts: Sequence[Part]) -> list[Part]:
    """The parts without files that stand there as pictures."""
    seen = [part.data for part in parts if isinstance(part, Image)]
    return [part for part in parts if not (isinstance(part, File) and part.data in seen)]


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, File):
        return {"type": "file", "file": {"filename": part.name, "file_data": _data_url(part.media_type, part.data)}}
    if isinstance(part, Image):
        return {"type": "image_url", "image_url": {"url": _data_url(part.media_type, part.data or b"")}}
    assert isinstance(part, Text)
    return {"type": "text", "text": part.text}


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


# --- the answer -------------------------------------------------------------------------------------------------------


PICTURES = {"png": "image/png", "jpeg": "image/jpeg", "svg": "image/svg+xml"}  # keys of `code_results`
TRANSCRIPT = ("<tool>", "</output>")  # what stands between them in a compound system's reasoning is in executed_tools


@dataclass
class _Call:
    """An entry of `executed_tools`, as far as it has come."""

    id: str
    text: str = ""
    shown: Counter[str] = field(default_factory=Counter)  # lines that were shown
    pictures: list[Result] = field(default_factory=list)

    def grow(self, text: str) -> str:
        """Take its text as it is now; what is new of it. In the end values and errors stand in another order than
        while they came: then lines that were shown are passed over.
        """
        grown = text.startswith(self.text)
        new = text[len(self.text) :] if grown else "\n" + "\n".join(self._unseen(text))
        self.text = text
        self.shown = Counter(text.split("\n"))
        return new

    def _unseen(self, text: str) -> Iterator[str]:
        seen = Counter(self.shown)
        for line in text.split("\n"):
            if seen[line] <= 0:
                yield line
            seen[line] -= 1


class _Transcript:
    """Reasoning without the blocks that repeat what was run, however it is cut."""

    def __init__(self) -> None:
        self._rest = ""
        self._inside = False

    def feed(self, text: str) -> str:
        """More of it; what is certain to stand outside of blocks."""
        self._rest += text
        outside = ""
        while True:
            tag = TRANSCRIPT[self._inside]
            before, found, after = self._rest.partition(tag)
            if not found:
                break
            outside += "" if self._inside else before
            self._rest, self._inside = after, not self._inside
        held = next((size for size in range(len(tag) - 1, 0, -1) if self._rest.endswith(tag[:size])), 0)
        certain, self._rest = self._rest[: len(self._rest) - held], self._rest[len(self._rest) - held :]
        return outside if self._inside else outside + certain

    def end(self) -> str:
        """What was held back."""
        rest, self._rest = self._rest, ""
        return "" if self._inside else rest


class ChatReader:
    """Chunks of a stream, or one whole body, into events."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._started = False
        self._calls: dict[int, _Call] = {}
        self._open: _Call | None = None
        self._finish: Finish | None = None
        self._usage: Usage | None = None
        self._transcript = _Transcript() if model.startswith(SYSTEMS) else None

    def feed(self, chunk: Mapping[str, Any]) -> Iterator[Event]:
        """The events of a chunk, or of a body. Raises BelljarError for an error that it tells of."""
        if chunk.get("error"):
            raise read_error(200, chunk)
        if not self._started:
            self._started = True
            self._model = _text(chunk.get("model")) or self._model
            yield TurnStarted(turn=0, model=self._model)
        usage = _dict(chunk.get("usage")) or _dict(_dict(chunk.get("x_groq")).get("usage"))
        if usage:
            self._usage = _usage(usage)
        for choice in _list(chunk.get("choices"))[:1]:
            yield from self._message(_dict(choice.get("delta")) or _dict(choice.get("message")))
            self._finish = FINISHES.get(_text(choice.get("finish_reason")), self._finish)

    def end(self) -> Iterator[Event]:
        """The answer is over. Raises UpstreamError where it was cut off."""
        yield from self._reason(self._transcript.end() if self._transcript else "")
        yield from self._close()
        if self._finish is None:
            raise UpstreamError("the server's answer ended before it was complete")
        yield TurnEnded(turn=0, model=self._model, finish=self._finish, usage=self._usage)
        yield Finished(finish=self._finish)

    def _message(self, message: Mapping[str, Any]) -> Iterator[Event]:
        """In a whole message, reasoning comes before the code, and the code before the answer."""
        reasoning = _text(message.get("reasoning"))
        yield from self._reason(self._transcript.feed(reasoning) if self._transcript else reasoning)
        for entry in _list(message.get("executed_tools")):
            yield from self._executed(entry)
        if content := _text(message.get("content")):
            yield from self._close()
            yield TextDelta(text=content)

    def _reason(self, text: str) -> Iterator[Event]:
        if text and not (self._open is not None and text.isspace()):
            yield from self._close()
            yield ReasoningDelta(text=text)

    def _executed(self, entry: Mapping[str, Any]) -> Iterator[Event]:
        """An entry that is new, or one that has grown: later ones of the same index take the place of earlier ones."""
        index = entry.get("index")
        index = index if isinstance(index, int) else len(self._calls)
        if index not in self._calls:
            yield from self._close()
            call = self._calls[index] = _Call(id=f"call-{index}")
            self._open = call
            yield CallOpened(call=call.id, name=_text(entry.get("name")) or _text(entry.get("type")), builtin=True)
            yield CallReady(call=call.id, arguments=_code(entry))
            yield CallStarted(call=call.id)
        if self._calls[index] is self._open:
            yield from self._grow(self._open, entry)

    def _grow(self, call: _Call, entry: Mapping[str, Any]) -> Iterator[Event]:
        results = _list(entry.get("code_results"))
        text = _text(entry.get("output")) or "".join(_text(result.get("text")) for result in results)
        if new := call.grow(text) if text else "":
            yield CallOutput(call=call.id, output=Output(stream="stdout", text=new))
        pictures = [picture for result in results if (picture := _picture(result)) is not None]
        for picture in pictures[len(call.pictures) :]:
            call.pictures.append(picture)
            yield CallShown(call=call.id, result=picture)

    def _close(self) -> Iterator[Event]:
        call, self._open = self._open, None
        if call is not None:
            execution = Execution(outcome=Outcome.OK, stdout=call.text, results=tuple(call.pictures))
            yield CallClosed(call=call.id, execution=execution, text=call.text)


def _code(entry: Mapping[str, Any]) -> str:
    """The code itself; compound systems put JSON around it."""
    arguments = _text(entry.get("arguments"))
    return arguments if entry.get("type") == "function" else read_code(arguments)


def _picture(result: Mapping[str, Any]) -> Result | None:
    """A picture and its data, one of them or both."""
    data: dict[str, Any] = {}
    for key, kind in PICTURES.items():
        if text := _text(result.get(key)):
            try:
                data[kind] = text if key == "svg" else base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                return None
            break
    if chart := _dict(result.get("chart")):
        parts = _list(result.get("charts"))
        data[CHART] = {**chart, "elements": parts} if parts else chart
    return Result(data=data) if data else None


def _usage(usage: Mapping[str, Any]) -> Usage:
    completion, prompt = _dict(usage.get("completion_tokens_details")), _dict(usage.get("prompt_tokens_details"))
    return Usage(
        prompt_tokens=_number(usage.get("prompt_tokens")),
        completion_tokens=_number(usage.get("completion_tokens")),
        reasoning_tokens=_number(completion.get("reasoning_tokens")),
        cached_tokens=_number(prompt.get("cached_tokens")),
    )


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


# --- errors -----------------------------------------------------------------------------------------------------------


def read_error(status: int, body: Any) -> BelljarError:
    """A server's error, as one of ours: whose fault it is decides the exit code."""
    error = _dict(_dict(body).get("error"))
    message = _text(error.get("message")) or _text(_dict(body).get("error")) or f"the server answered with {status}"
    code = _text(error.get("code"))
    if code in ("tool_use_failed", "json_validate_failed"):
        return ToolUseFailed(message, generation=_text(error.get("failed_generation")))
    if code == "model_not_found":
        return UnknownModel(message, model="")
    if status in BAD_STATUSES:
        return BadRequest(message, param=_text(error.get("param")) or None, code=code or None)
    return {401: Unauthorized, 403: Forbidden, 498: AtCapacity, 503: UpstreamUnavailable}.get(status, UpstreamError)(
        message
    )


# --- HTTP -------------------------------------------------------------------------------------------------------------


class Server:
    """A server at a URL, with or without the /v1 at its end. The sandbox is its own: there is no session to read."""

    session = None

    def __init__(self, url: str, key: str | None = None) -> None:
        self.base = url.rstrip("/").removesuffix("/v1") + "/v1"
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._proxied = not is_loopback(urlsplit(url).hostname or "")

    async def start(self, model: str | None) -> tuple[str, list[str]]:
        """The model to ask, and what to say of it: without one given, the first of those listed that can chat."""
        if model is not None:
            return model, []
        listed = await self.models()
        real = [name for name in listed if name != VERBATIM and not name.startswith(SYSTEMS) and can_chat(name)]
        if not real and VERBATIM not in listed:
            raise UnknownModel(f"{self.base} lists no model that can be asked; name one with --model", model="")
        return (real[0], [f"asking {real[0]}"]) if real else (VERBATIM, [NO_MODEL])

    async def close(self) -> None:
        """Nothing stays open between two requests."""

    async def models(self) -> list[str]:
        """The ids that it lists. Raises BelljarError."""
        try:
            async with self._session() as session, session.get(f"{self.base}/models") as response:
                body = await _read_body(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failure(error) from None
        return [identity for item in _list(_dict(body).get("data")) if (identity := _text(item.get("id")))]

    async def answer(self, request: Request) -> AsyncGenerator[Event, None]:
        """The answer, as it comes. Ends in one Finished or Failed."""
        try:
            async with aclosing(self._events(request)) as events:
                async for event in events:
                    yield event
        except BelljarError as error:
            yield Failed(error=error)
        except (aiohttp.ClientError, TimeoutError, OSError, SSEError) as error:
            yield Failed(error=self._failure(error))

    async def _events(self, request: Request) -> AsyncGenerator[Event, None]:
        reader = ChatReader(request.model)
        async with (
            self._session() as session,
            session.post(f"{self.base}/chat/completions", json=write_request(request)) as response,
        ):
            if response.content_type == "text/event-stream" and response.status == 200:
                async for chunk in _read_stream(response):
                    for event in reader.feed(chunk):
                        yield event
            else:
                for event in reader.feed(await _read_body(response)):
                    yield event
            for event in reader.end():
                yield event

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(headers=self._headers, timeout=TIMEOUT, trust_env=self._proxied)

    def _failure(self, error: Exception) -> BelljarError:
        if isinstance(error, aiohttp.InvalidURL):
            return BadRequest(f"{self.base}: no URL of a server")
        if isinstance(error, TimeoutError):
            return UpstreamTimeout(f"{self.base}: no answer in time")
        if isinstance(error, aiohttp.ClientConnectorError):
            return UpstreamUnavailable(f"{self.base}: {error.strerror or error}")
        return UpstreamError(f"{self.base}: {str(error) or type(error).__name__}")


async def _read_stream(response: aiohttp.ClientResponse) -> AsyncGenerator[Mapping[str, Any], None]:
    """The chunks of a stream, up to its [DONE]."""
    reader = SSEReader()
    async for data in response.content.iter_any():
        for event in reader.feed(data):
            if event.data == b"[DONE]":
                return
            yield _decode(event.data)
    for event in reader.end():
        if event.data != b"[DONE]":
            yield _decode(event.data)


async def _read_body(response: aiohttp.ClientResponse) -> Mapping[str, Any]:
    """A JSON object. Raises BelljarError for a status that tells of an error, or a body that is none."""
    data = bytearray()
    async for piece in response.content.iter_any():
        data += piece
        if len(data) > MAX_BODY:
            raise UpstreamError(f"the server's answer has more than {MAX_BODY:,} bytes")
    if response.status != 200:
        try:
            raise read_error(response.status, msgspec.json.decode(data))
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            raise read_error(response.status, None) from None
    return _decode(bytes(data))


def _decode(data: bytes) -> Mapping[str, Any]:
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        value = None
    if not isinstance(value, dict):
        raise UpstreamError("the server answered with something that is no JSON object")
    return value
