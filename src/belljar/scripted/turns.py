"""What a scripted upstream answers, as values, and the bytes that this makes.

Promises: one Turn gives the same answer as a stream and as one body; whatever a fault says happens where it says.
Not covered: more than one choice, logprobs, tokens as a real tokenizer counts them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from belljar.sse import write_event

DONE = write_event(b"[DONE]")
GARBAGE = bytes(range(128, 256)) * 4
HTML = b"<!doctype html><title>It works!</title><p>This is the default page of another server."
IDENTITY = {"id": "chatcmpl-scripted", "created": 1_700_000_000, "system_fingerprint": "fp_scripted"}
THINK_TAG = "<think>"  # as `reasoning_key`: inside the text

_encode = msgspec.json.Encoder().encode


class Fault(enum.Enum):
    """How an answer goes wrong. `Turn.after` says when: bytes of the body for CUT and STALL, frames for ERROR."""

    RESET = "the connection is reset instead of an answer"
    SILENT = "nothing is ever answered"
    CUT = "the connection ends in mid-answer"
    STALL = "the answer stops, and the connection stays open"
    GARBAGE = "the body is no JSON and no event stream, though the content type says so"
    NOT_HTTP = "what is answered is not HTTP"
    WRONG_TYPE = "a page of HTML with status 200"
    ENDLESS = "the answer never ends"
    ERROR = "an error object in the middle of the stream; not streaming, instead of the answer, with status 200"
    NO_DONE = "the stream ends without [DONE]"
    NO_FINISH = "the stream ends without a finish_reason, usage and [DONE]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Tokens that the answer claims."""

    prompt: int = 11
    completion: int = 7
    cached: int = 0
    reasoning: int = 0

    def write(self) -> dict[str, Any]:
        """As a `usage` object."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class FunctionCall:
    """A call that the model makes. `arguments` is text; without an `id`, one is made from its place."""

    name: str
    arguments: str
    id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One answer. Seconds for `delay` (before the first byte) and `pause` (between frames); `split` in characters.

    `frames` (JSON values or bytes, each one event of a stream) and `body` replace what would be made of the rest.
    `stream` says whether the answer is one, whatever was asked for.
    With a `status` other than 200, `error` is the body: a text, a JSON value, or bytes as they are.
    """

    text: str = ""
    reasoning: str = ""
    reasoning_key: str = "reasoning_content"
    calls: tuple[FunctionCall, ...] = ()
    finish: str | None = None  # None: "tool_calls" where there are calls, else "stop"
    usage: Counts | None = Counts()
    split: int = 8
    delay: float = 0.0
    pause: float = 0.0
    status: int = 200
    error: Any = "the script says so"
    headers: tuple[tuple[str, str], ...] = ()
    fault: Fault | None = None
    after: int = 0
    frames: tuple[Any, ...] | None = None
    body: Any = None
    stream: bool | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """The bytes of one answer: `parts` are sent one after the other, then the connection is kept, or closed.

    `again` is a part that is sent for ever; `stay` keeps the connection open without ending the answer.
    """

    parts: tuple[bytes, ...]
    close: bool = False
    again: bytes = b""
    stay: bool = False


def render(turn: Turn, model: str, *, stream: bool, usage: bool) -> Rendered:
    """The bytes of a turn; `usage` as stream_options.include_usage says. Made once, where it can be hashed."""
    try:
        return _cached(turn, model, stream, usage)
    except TypeError:
        return _render(turn, model, stream, usage)


def head(status: int, media_type: str, *headers: tuple[str, str]) -> bytes:
    """The head of a response, without its last empty line's framing header: that is among `headers`."""
    lines = [
        f"HTTP/1.1 {status} Scripted",
        f"content-type: {media_type}",
        *(f"{name}: {text}" for name, text in headers),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def whole(status: int, body: bytes, media_type: str = "application/json", *headers: tuple[str, str]) -> bytes:
    """A response with a body of known length."""
    return head(status, media_type, *headers, ("content-length", str(len(body)))) + body


def write_error(error: Any, status: int) -> bytes:
    """An error body of OpenAI's form around a text; anything else as it is."""
    if isinstance(error, bytes):
        return error
    if isinstance(error, str):
        error = {"error": {"message": error, "type": "scripted_error", "param": None, "code": str(status)}}
    return _encode(error)


# --- answers ----------------------------------------------------------------------------------------------------------


def _render(turn: Turn, model: str, stream: bool, usage: bool) -> Rendered:
    if turn.status != 200:
        media_type = "text/html" if isinstance(turn.error, bytes) else "application/json"
        return Rendered((whole(turn.status, write_error(turn.error, turn.status), media_type, *turn.headers),))
    early = _EARLY.get(turn.fault)
    if early is not None:
        return early
    stream = stream if turn.stream is None else turn.stream
    return _stream(turn, model, usage) if stream else _body(turn, model)


_cached = lru_cache(maxsize=256)(_render)
_EARLY: dict[Fault | None, Rendered] = {
    Fault.RESET: Rendered((), close=True),
    Fault.SILENT: Rendered((), stay=True),
    Fault.NOT_HTTP: Rendered((b"SSH-2.0-OpenSSH_9.6\r\n" + GARBAGE,), close=True),
    Fault.WRONG_TYPE: Rendered((whole(200, HTML, "text/html; charset=utf-8"),)),
}


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _body(turn: Turn, model: str) -> Rendered:
    body = turn.body if isinstance(turn.body, bytes) else _encode(turn.body or _completion(turn, model))
    if turn.fault is Fault.GARBAGE:
        body = GARBAGE
    if turn.fault is Fault.ERROR:
        body = write_error(turn.error, 500)
    if turn.fault is Fault.ENDLESS:
        start = head(200, "application/json", *turn.headers, ("transfer-encoding", "chunked"))
        return Rendered((start + _chunk(b'{"id":"'),), again=_chunk(b"endless " * 512))
    answer = whole(200, body, "application/json", *turn.headers)
    if turn.fault in _SHORT:
        return _short(answer[: len(answer) - len(body)], (body,), turn, _raw)
    return Rendered((answer,))


def _stream(turn: Turn, model: str, usage: bool) -> Rendered:
    start = head(200, "text/event-stream", *turn.headers, ("transfer-encoding", "chunked"))
    if turn.fault is Fault.GARBAGE:
        return Rendered((start + _chunk(GARBAGE) + _chunk(b""),))
    frames = tuple(_frames(turn, model, usage))
    if turn.fault is Fault.ENDLESS:
        more = write_event(_encode(_delta(model, {"content": "endless "})))
        return Rendered((start, *map(_chunk, frames[:1])), again=_chunk(more))
    if turn.fault is Fault.ERROR:
        failure = _chunk(write_event(write_error(turn.error, 500)))
        return Rendered((start, *map(_chunk, frames[: turn.after]), failure + _chunk(b"")))
    if turn.fault in _SHORT:
        return _short(start, frames, turn, _chunk)
    parts = [_chunk(frame) for frame in frames]
    parts[-1:] = [b"".join([*parts[-1:], _chunk(b"")])]
    if not turn.pause:
        return Rendered((start + b"".join(parts),))
    return Rendered((start, *parts))


def _raw(data: bytes) -> bytes:
    return data


_SHORT = {Fault.CUT, Fault.STALL}


def _short(start: bytes, frames: tuple[bytes, ...], turn: Turn, frame: Any) -> Rendered:
    """The answer up to byte `after` of its body, frame by frame."""
    parts, left = [start], turn.after
    for data in frames:
        if left > 0:
            parts.append(frame(data[:left]))
        left -= len(data)
    return Rendered(tuple(parts), close=turn.fault is Fault.CUT, stay=turn.fault is Fault.STALL)


# --- what is in them --------------------------------------------------------------------------------------------------


def _finish(turn: Turn) -> str:
    return turn.finish or ("tool_calls" if turn.calls else "stop")


def _text(turn: Turn) -> str:
    if turn.reasoning and turn.reasoning_key == THINK_TAG:
        return f"<think>\n{turn.reasoning}\n</think>\n\n{turn.text}"
    return turn.text


def _has_reasoning(turn: Turn) -> bool:
    return bool(turn.reasoning) and turn.reasoning_key != THINK_TAG


def _completion(turn: Turn, model: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": _text(turn) or None}
    if _has_reasoning(turn):
        message[turn.reasoning_key] = turn.reasoning
    if turn.calls:
        message["tool_calls"] = [
            {
                "id": call.id or f"call_{place}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for place, call in enumerate(turn.calls)
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(turn)}
    counted = {"usage": turn.usage.write()} if turn.usage else {}
    return {**IDENTITY, "object": "chat.completion", "model": model, "choices": [choice], **counted}


def _delta(model: str, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {**IDENTITY, "object": "chat.completion.chunk", "model": model, "choices": [choice]}


def _pieces(text: str, size: int) -> Iterator[str]:
    for start in range(0, len(text), max(size, 1)):
        yield text[start : start + max(size, 1)]


def _deltas(turn: Turn) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": ""}
    if _has_reasoning(turn):
        yield from ({turn.reasoning_key: piece} for piece in _pieces(turn.reasoning, turn.split))
    yield from ({"content": piece} for piece in _pieces(_text(turn), turn.split))
    for place, call in enumerate(turn.calls):
        opened = {"name": call.name, "arguments": ""}
        yield {
            "tool_calls": [{"index": place, "id": call.id or f"call_{place}", "type": "function", "function": opened}]
        }
        for piece in _pieces(call.arguments, turn.split):
            yield {"tool_calls": [{"index": place, "function": {"arguments": piece}}]}


def _frames(turn: Turn, model: str, usage: bool) -> Iterator[bytes]:
    if turn.frames is not None:
        yield from (write_event(item if isinstance(item, bytes) else _encode(item)) for item in turn.frames)
    else:
        yield from (write_event(_encode(_delta(model, delta))) for delta in _deltas(turn))
        if turn.fault is Fault.NO_FINISH:
            return
        yield write_event(_encode(_delta(model, {}, _finish(turn))))
        if usage and turn.usage:
            last = {**_delta(model, {}), "choices": [], "usage": turn.usage.write()}
            yield write_event(_encode(last))
    if turn.fault is not Fault.NO_DONE:
        yield DONE
