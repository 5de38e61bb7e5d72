"""Writes an answer as Gemini does: as one body, or as the chunks of a stream of events or of a JSON array.

Promises: a client that joins the chunks has the parts of the body; every chunk is a whole response, with the tokens as
far as they are counted; code comes in one piece when it starts, its result in another when it is over; the last chunk
says why the answer ended. An error in mid-stream is a chunk {"error": ...}, after which nothing is sent. Not covered:
errors before the first byte (gemini_errors).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from belljar.dialects.base import Start, write_json
from belljar.dialects.gemini_errors import error_body
from belljar.dialects.gemini_parts import FINISHES, Part, Parts, logprobs_of, parts_of_answer, usage_of
from belljar.dialects.gemini_settings import settings_of
from belljar.events import (
    Answer,
    CallClosed,
    CallOpened,
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
from belljar.model import Request

EVENTS, ARRAY = "text/event-stream", "application/json"
NO_PART: Part = {"text": ""}  # clients go through the parts of every chunk, and take one without parts for broken


class GeminiWriter:
    """One answer."""

    heartbeat = b"\n\n"  # the SDKs know no comments; in an array it is white space

    def __init__(self, request: Request, start: Start) -> None:
        self._settings = settings = settings_of(request)
        self.media_type = EVENTS if settings.sse else ARRAY
        self._seed = start.request_id
        self._parts = Parts(settings, self._seed)
        created = datetime.fromtimestamp(start.created, UTC)
        self._about = {
            "modelVersion": request.model,
            "responseId": start.request_id,
            "createTime": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        self._turns: list[TurnEnded] = []
        self._calls: dict[str, CallOpened] = {}
        self._arguments: dict[str, str] = {}
        self._pending: list[str] = []  # calls of the client's functions in this turn
        self._running: set[str] = set()  # calls whose code has begun to run
        self._tail = self._make_tail()
        self._begun = False

    # --- as one body --------------------------------------------------------------------------------------------------

    def fold(self, answer: Answer) -> bytes:
        """The whole answer."""
        candidate = {
            "content": {
                "parts": parts_of_answer(self._settings, self._seed, answer) or [NO_PART],
                "role": "model",
            },
            "finishReason": FINISHES[answer.finish or Finish.STOP],
            "index": 0,
        }
        extras = [extra for item in answer.items if isinstance(item, TextItem) for extra in item.extras]
        candidate |= logprobs_of(extras)
        usage = {"usageMetadata": usage_of(answer.turns, self._settings)}
        return write_json({"candidates": [candidate]} | usage | self._about)

    # --- as a stream --------------------------------------------------------------------------------------------------

    def write(self, event: Event) -> bytes:
        """The chunks for an event."""
        handler = _WRITES.get(type(event))
        return handler(self, event) if handler is not None else b""

    def _on_turn(self, event: TurnStarted) -> bytes:
        self._parts.turn()
        return b""

    def _on_reasoning(self, event: ReasoningDelta) -> bytes:
        return self._say(self._parts.reasoning(event.text))

    def _on_text(self, event: TextDelta) -> bytes:
        return self._say(self._parts.text(event.text), **(logprobs_of([event.extra]) if event.extra else {}))

    def _on_call(self, event: CallOpened) -> bytes:
        self._calls[event.call] = event
        if not event.builtin:
            self._pending.append(event.call)
        return b""

    def _on_ready(self, event: CallReady) -> bytes:
        self._arguments[event.call] = event.arguments
        return b""

    def _on_turn_end(self, event: TurnEnded) -> bytes:
        self._turns.append(event)
        self._tail = self._make_tail()
        pending, self._pending = self._pending, []
        calls = [(call, self._calls[call].name, self._arguments.get(call, "")) for call in pending]
        return self._say(self._parts.calls(calls))

    def _on_started(self, event: CallStarted) -> bytes:
        self._running.add(event.call)
        return self._say(self._parts.started(event.call, self._arguments.get(event.call, "")))

    def _on_closed(self, event: CallClosed) -> bytes:
        if event.call not in self._running:  # a budget was used up
            return b""
        return self._say(self._parts.closed(event.call, event.execution))

    def _on_finish(self, event: Finished) -> bytes:
        last = self._chunk([NO_PART], finishReason=FINISHES[event.finish])
        return last if self._settings.sse else last + b"]\n"

    def _on_failure(self, event: Failed) -> bytes:
        last = self._frame(write_json({"error": error_body(event.error)}))
        return last if self._settings.sse else last + b"]\n"

    # --- chunks -------------------------------------------------------------------------------------------------------

    def _make_tail(self) -> bytes:
        """The end that all chunks share until more tokens are counted."""
        return b"}],%b" % write_json({"usageMetadata": usage_of(self._turns, self._settings)} | self._about)[1:]

    def _say(self, parts: Sequence[Part], **fields: Any) -> bytes:
        return self._chunk(parts, **fields) if parts or fields else b""

    def _chunk(self, parts: Sequence[Part], **fields: Any) -> bytes:
        """A chunk with these parts; `fields` are further ones of the candidate."""
        beside = b"," + write_json(fields)[1:-1] if fields else b""
        content = b'{"candidates":[{"content":{"parts":%b,"role":"model"},"index":0' % write_json(parts or [NO_PART])
        return self._frame(content + beside + self._tail)

    def _frame(self, chunk: bytes) -> bytes:
        if self._settings.sse:
            return b"data: %b\r\n\r\n" % chunk
        opening, self._begun = b"," if self._begun else b"[", True
        return b"%b%b\r\n" % (opening, chunk)


_WRITES: dict[type, Callable[[GeminiWriter, Any], bytes]] = {
    TurnStarted: GeminiWriter._on_turn,
    ReasoningDelta: GeminiWriter._on_reasoning,
    TextDelta: GeminiWriter._on_text,
    CallOpened: GeminiWriter._on_call,
    CallReady: GeminiWriter._on_ready,
    TurnEnded: GeminiWriter._on_turn_end,
    CallStarted: GeminiWriter._on_started,
    CallClosed: GeminiWriter._on_closed,
    Finished: GeminiWriter._on_finish,
    Failed: GeminiWriter._on_failure,
}
