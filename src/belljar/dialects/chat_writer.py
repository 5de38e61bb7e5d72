"""Writes an answer as a chat completion: as one body, or as the chunks of a stream.

Promises: a client that merges the chunks has the message of the body; one completion id throughout; an executed tool is
sent when it starts, again with what it has printed so far (up to LIVE_OUTPUT characters of it, LIVE_BYTES in all), and
once more when it is over: the entry with the same `index` that comes last counts. An error in mid-stream is an event
"error", after which nothing is sent. Not covered: errors before the first byte (chat_errors).

Differences from Groq's compound systems, all on the safe side: the first chunk says the role, and the id stays.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from belljar.dialects.base import Start, write_json
from belljar.dialects.chat_errors import stream_error
from belljar.dialects.chat_settings import settings_of
from belljar.dialects.chat_shapes import (
    FINISHES,
    LEGACY_FINISHES,
    calls_of,
    executed_tool,
    joined_logprobs,
    usage_breakdown,
    usage_of,
)
from belljar.dialects.chat_words import Piece, Words, words_of_answer
from belljar.events import (
    Answer,
    ArgumentsDelta,
    CallClosed,
    CallOpened,
    CallOutput,
    CallReady,
    CallStarted,
    Event,
    Failed,
    Finish,
    Finished,
    ReasoningDelta,
    TextDelta,
    TextItem,
    TurnEnded,
    TurnStarted,
)
from belljar.model import Extra, Request

LIVE_OUTPUT = 8 << 10  # characters of a running execution's output up to which it is shown as it grows
LIVE_BYTES = 256 << 10  # of chunks that show it, for one execution: each repeats what came before

FINGERPRINT = "system_fingerprint"
DONE = b"data: [DONE]\n\n"
_OPEN = b',"logprobs":null,"finish_reason":null}]}\n\n'


@dataclass(slots=True)
class _Call:
    """A call while it is written and runs. `index` counts the client's own calls, or the executed tools."""

    id: str
    name: str
    builtin: bool
    index: int = -1
    arguments: str = ""
    sent: int = 0  # characters of the arguments
    output: list[str] = field(default_factory=list)
    printed: int = 0  # characters
    live: int = LIVE_BYTES  # bytes that may still be sent of it while it runs


class ChatWriter:
    """One answer."""

    media_type = "text/event-stream"
    heartbeat = b": keep-alive\n\n"

    def __init__(self, request: Request, start: Start) -> None:
        self._request = request
        self._settings = settings = settings_of(request)
        self._start = start
        self._id = f"chatcmpl-{uuid.uuid4()}"
        self._x_groq: dict[str, Any] = {"id": start.request_id}
        if settings.seed is not None:
            self._x_groq["seed"] = settings.seed
        if settings.version is not None:
            self._x_groq["model_version"] = settings.version
        self._fingerprint: Any = None
        self._words: Words | None = None  # None before the first chunk of a stream
        self._calls: dict[str, _Call] = {}
        self._counts = {True: 0, False: 0}  # builtin or not -> the next index
        self._turns: list[TurnEnded] = []
        self._base = self._head = b""  # of a chunk: up to its choices, up to its delta

    # --- as one body --------------------------------------------------------------------------------------------------

    def fold(self, answer: Answer) -> bytes:
        """The whole answer."""
        usage = usage_of(answer.turns, answer.queue_seconds if self._request.builtin else None)
        finish = self._finishes[answer.finish or Finish.STOP]
        choice = {"index": 0, "message": self._message(answer), "logprobs": _logprobs(answer), "finish_reason": finish}
        body = self._identity("chat.completion")
        body["choices"] = [choice]
        if usage is not None:
            body["usage"] = usage
        if self._settings.compound:
            body["usage_breakdown"] = usage_breakdown(answer.turns)
        elif answer.extra.get(FINGERPRINT) is not None:
            body[FINGERPRINT] = answer.extra[FINGERPRINT]
        body["service_tier"] = self._settings.tier
        body["x_groq"] = self._x_groq
        return write_json(body)

    def _message(self, answer: Answer) -> dict[str, Any]:
        """The message; `content` is left out beside calls only, where there is none."""
        calls = calls_of((call for call in answer.calls if not call.builtin), self._settings.legacy)
        words = words_of_answer(self._settings, answer)
        message: dict[str, Any] = {"role": "assistant"}
        if not calls or "content" in words:
            message["content"] = words.get("content", "")
        if "reasoning" in words:
            message["reasoning"] = words["reasoning"]
        executed = self._executed(answer)
        if executed:
            message["executed_tools"] = executed
        return message | calls

    def _executed(self, answer: Answer) -> list[dict[str, Any]]:
        ran = [call for call in answer.calls if call.started and call.execution is not None]
        return [executed_tool(self._settings.compound, n, call.arguments, call.execution) for n, call in enumerate(ran)]

    def _identity(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._start.created, "model": self._request.model}

    @property
    def _finishes(self) -> Mapping[Finish, str]:
        return LEGACY_FINISHES if self._settings.legacy else FINISHES

    # --- as a stream --------------------------------------------------------------------------------------------------

    def write(self, event: Event) -> bytes:
        """The chunks for an event."""
        handler = _WRITES.get(type(event))
        return handler(self, event) if handler is not None else b""

    def _on_turn(self, event: TurnStarted) -> bytes:
        self._identify(event.extra)
        if self._words is not None:
            self._words.turn()
            return b""
        self._words = Words(self._settings)
        return self._chunk(b'{"role":"assistant","content":""}', x_groq=self._x_groq)

    def _on_reasoning(self, event: ReasoningDelta) -> bytes:
        return self._say(self._said.reasoning(event.text))

    def _on_text(self, event: TextDelta) -> bytes:
        piece = self._said.text(event.text)
        logprobs = event.extra.get("logprobs") if event.extra else None
        return (
            self._say(piece) if logprobs is None else self._chunk(write_json({"content": piece[1]}), logprobs=logprobs)
        )

    def _on_call(self, event: CallOpened) -> bytes:
        self._said.turn()
        call = self._calls[event.call] = _Call(event.call, event.name, event.builtin)
        if event.builtin:
            return b""
        call.index = self._count(builtin=False)
        opening = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        return self._chunk_of_call(call, opening)

    def _on_arguments(self, event: ArgumentsDelta) -> bytes:
        call = self._calls[event.call]
        if call.builtin or not event.text:
            return b""
        call.sent += len(event.text)
        return self._chunk_of_call(call, {"function": {"arguments": event.text}})

    def _on_ready(self, event: CallReady) -> bytes:
        call = self._calls[event.call]
        call.arguments = event.arguments
        return self._on_arguments(ArgumentsDelta(call=event.call, text=event.arguments[call.sent :]))

    def _on_started(self, event: CallStarted) -> bytes:
        call = self._calls[event.call]
        call.index = self._count(builtin=True)
        return self._say(self._said.started(call.arguments)) + self._chunk_of_tool(self._running(call))

    def _on_output(self, event: CallOutput) -> bytes:
        call = self._calls[event.call]
        call.printed += len(event.output.text)
        if call.printed > LIVE_OUTPUT or call.live <= 0:
            call.output.clear()
            return b""
        call.output.append(event.output.text)
        chunk = self._chunk_of_tool(self._running(call))
        call.live -= len(chunk)
        return chunk

    def _on_closed(self, event: CallClosed) -> bytes:
        call = self._calls[event.call]
        if call.index < 0:  # its code did not run: a budget was used up
            return b""
        item = executed_tool(self._settings.compound, call.index, call.arguments, event.execution)
        return self._say(self._said.closed(event.execution)) + self._chunk_of_tool(item)

    def _on_turn_end(self, event: TurnEnded) -> bytes:
        self._turns.append(event)
        self._identify(event.extra)
        return b""

    def _on_finish(self, event: Finished) -> bytes:
        """Closes what is open, says why it ended and what it cost."""
        last = self._say(self._said.end())
        usage = usage_of(self._turns, event.queue_seconds if self._request.builtin else None)
        cost = {} if usage is None else {"usage": usage}
        if self._settings.compound:
            cost["usage_breakdown"] = usage_breakdown(self._turns)
        finish = self._finishes[event.finish]
        last += self._chunk(b"{}", finish=finish, x_groq=self._x_groq | cost, service_tier=self._settings.tier)
        if self._settings.include_usage and usage is not None:
            last += b"%b%b}\n\n" % (self._base, write_json({"choices": []} | cost | {"x_groq": self._x_groq})[1:-1])
        return last + DONE

    def _on_failure(self, event: Failed) -> bytes:
        return stream_error(event.error, self._request)

    # --- chunks -------------------------------------------------------------------------------------------------------

    @property
    def _said(self) -> Words:
        if self._words is None:
            raise RuntimeError("a stream of events begins with TurnStarted")
        return self._words

    def _identify(self, extra: Extra) -> None:
        """Make the beginning that all chunks share; again where the upstream says something else of itself."""
        fingerprint = None if self._settings.compound else extra.get(FINGERPRINT)
        if self._base and (fingerprint is None or fingerprint == self._fingerprint):
            return
        self._fingerprint = fingerprint
        identity = self._identity("chat.completion.chunk")
        if fingerprint is not None:
            identity[FINGERPRINT] = fingerprint
        self._base = b"data: %b," % write_json(identity)[:-1]
        self._head = self._base + b'"choices":[{"index":0,"delta":'

    def _chunk(self, delta: bytes, *, logprobs: Any = None, finish: str | None = None, **beside: Any) -> bytes:
        """A chunk with this delta; `beside` are fields beside the choices."""
        if logprobs is None and finish is None and not beside:
            return self._head + delta + _OPEN
        after = b',"logprobs":%b,"finish_reason":%b}]' % (write_json(logprobs), write_json(finish))
        fields = b"," + write_json(beside)[1:-1] if beside else b""
        return self._head + delta + after + fields + b"}\n\n"

    def _say(self, piece: Piece) -> bytes:
        name, text = piece
        if not text:
            return b""
        return self._head + _DELTAS[name, self._settings.compound] % write_json(text) + _OPEN

    def _count(self, *, builtin: bool) -> int:
        index = self._counts[builtin]
        self._counts[builtin] += 1
        return index

    def _running(self, call: _Call) -> dict[str, Any]:
        return executed_tool(self._settings.compound, call.index, call.arguments, None, "".join(call.output))

    def _chunk_of_tool(self, item: dict[str, Any]) -> bytes:
        return self._chunk(b'{"executed_tools":[%b]}' % write_json(item))

    def _chunk_of_call(self, call: _Call, more: dict[str, Any]) -> bytes:
        if not self._settings.legacy:
            return self._chunk(b'{"tool_calls":[%b]}' % write_json({"index": call.index} | more))
        return self._chunk(b'{"function_call":%b}' % write_json(more["function"])) if call.index == 0 else b""


# A field of the message, and whether it is a compound system's -> its delta.
_DELTAS = {
    ("content", False): b'{"content":%b}',
    ("content", True): b'{"content":%b}',
    ("reasoning", False): b'{"reasoning":%b,"channel":"analysis"}',
    ("reasoning", True): b'{"reasoning":%b}',
}

_WRITES: dict[type, Callable[[ChatWriter, Any], bytes]] = {
    TurnStarted: ChatWriter._on_turn,
    ReasoningDelta: ChatWriter._on_reasoning,
    TextDelta: ChatWriter._on_text,
    CallOpened: ChatWriter._on_call,
    ArgumentsDelta: ChatWriter._on_arguments,
    CallReady: ChatWriter._on_ready,
    TurnEnded: ChatWriter._on_turn_end,
    CallStarted: ChatWriter._on_started,
    CallOutput: ChatWriter._on_output,
    CallClosed: ChatWriter._on_closed,
    Finished: ChatWriter._on_finish,
    Failed: ChatWriter._on_failure,
}


def _logprobs(answer: Answer) -> dict[str, Any] | None:
    return joined_logprobs(extra for item in answer.items if isinstance(item, TextItem) for extra in item.extras)
