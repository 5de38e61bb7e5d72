"""Writes an answer as a response: as one body, or as the events of a stream.

Promises: the events come in the order in which OpenAI's do, with sequence numbers that count from 0 without a gap; the
same answer gives the same numbers, so that a stream can be gone on with after any of them; an item that is closed, and
the response that ends the stream, are those of the body; everything that was opened is closed before the end, before a
failure, too. An answer that its client has cancelled ends with `response.failed` as well, as clients know no other
event for it, with a response whose status is `cancelled` and whose error is null. Not covered: errors before the first
byte; output of code while it runs, for which there is no event: it comes with the item.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from belljar.dialects.base import Start, write_json
from belljar.dialects.responses_items import Json, Writing, input_of, logprobs_of, status_of
from belljar.dialects.responses_object import response_of, response_status
from belljar.events import (
    Accepted,
    Answer,
    ArgumentsDelta,
    CallClosed,
    CallItem,
    CallOpened,
    CallReady,
    CallStarted,
    Event,
    Failed,
    Finished,
    Fold,
    Housed,
    ReasoningDelta,
    ReasoningItem,
    TextDelta,
    TextItem,
    TurnEnded,
)
from belljar.model import Request

# Status of a response -> the event that ends its stream.
ENDS = {
    "completed": "response.completed",
    "incomplete": "response.incomplete",
    "failed": "response.failed",
    "cancelled": "response.failed",
}


@dataclass(slots=True)
class _Words:
    """A message or reasoning that is open."""

    item: TextItem | ReasoningItem
    place: int


@dataclass(slots=True)
class _Call:
    """A call that is open. `written` are its arguments as far as they were sent, or are kept back."""

    item: CallItem
    place: int
    written: str = ""
    ready: bool = False


class ResponseWriter:
    """One answer."""

    media_type = "text/event-stream"
    heartbeat = b": keep-alive\n\n"

    def __init__(self, request: Request, start: Start) -> None:
        self._request = request
        self._start = start
        self._writing = Writing(request, start)
        self._after = self._writing.settings.after
        self._fold = Fold()  # the answer so far: what is closed is written from it, as the body is
        self._count = 0  # events
        self._places = 0  # items
        self._running = False
        self._words: _Words | None = None
        self._kind: type | None = None  # of what was said last: what goes on with it is the same item
        self._calls: dict[str, _Call] = {}  # those that are open

    # --- as one body --------------------------------------------------------------------------------------------------

    def fold(self, answer: Answer) -> bytes:
        """The whole answer, or what there is of it."""
        return write_json(response_of(self._request, answer, self._start))

    # --- as a stream --------------------------------------------------------------------------------------------------

    def write(self, event: Event) -> bytes:
        """The frames for an event."""
        begun = b"" if self._running else self._begin(event)
        self._fold.add(event)
        handler = _WRITES.get(type(event))
        return begun + handler(self, event) if handler is not None else begun

    def _begin(self, event: Event) -> bytes:
        """What OpenAI says first: in the background an answer waits for its turn. Nothing is said before a model has
        begun, so that an early error keeps its own status.
        """
        if isinstance(event, Housed):
            return b""
        first = "queued" if self._request.background else "in_progress"
        frames = b""
        if not self._count:
            frames = self._stage("created", first) + (self._stage("queued", first) if first == "queued" else b"")
        if isinstance(event, Accepted):
            return frames
        self._running = True
        return frames + self._stage("in_progress", "in_progress")

    def _stage(self, kind: str, status: str) -> bytes:
        response = response_of(self._request, Answer(), self._start, status)
        return self._frame(f"response.{kind}", {"response": response})

    # --- what is said -------------------------------------------------------------------------------------------------

    def _on_reasoning(self, event: ReasoningDelta) -> bytes:
        frames = self._go_on(ReasoningDelta, event.text)
        if self._words is None or not event.text:
            return frames
        if self._writing.summary:
            return frames + self._said("reasoning_summary_text.delta", "summary_index", {"delta": event.text})
        return frames + self._said("reasoning_text.delta", "content_index", {"delta": event.text})

    def _on_text(self, event: TextDelta) -> bytes:
        frames = self._go_on(TextDelta, event.text)
        if self._words is None or not event.text:
            return frames
        logprobs = logprobs_of([event.extra]) if event.extra and self._writing.settings.logprobs else []
        return frames + self._said("output_text.delta", "content_index", {"delta": event.text, "logprobs": logprobs})

    def _go_on(self, kind: type, text: str) -> bytes:
        """Makes sure that there is an item for this text, where there is any."""
        frames = b"" if kind is self._kind else self._close_words()
        self._kind = kind
        if text and self._words is None:
            frames += self._close_ready() + self._open_words()
        return frames

    def _open_words(self) -> bytes:
        item = self._answer.items[-1]
        assert not isinstance(item, CallItem)
        place = self._next()
        self._words = _Words(item, place)
        frames = self._added(item, place)
        if isinstance(item, TextItem):
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            return frames + self._said("content_part.added", "content_index", {"part": part})
        if self._writing.summary:
            part = {"type": "summary_text", "text": ""}
            return frames + self._said("reasoning_summary_part.added", "summary_index", {"part": part})
        part = {"type": "reasoning_text", "text": ""}
        return frames + self._said("content_part.added", "content_index", {"part": part})

    def _close_words(self) -> bytes:
        """The message, or the reasoning, is over."""
        words, self._kind = self._words, None
        if words is None:
            return b""
        answer, item = self._answer, words.item
        if isinstance(item, TextItem):
            frames = self._close_text(answer, item)
        elif self._writing.summary:
            part = {"type": "summary_text", "text": item.text}
            frames = self._said("reasoning_summary_text.done", "summary_index", {"text": item.text})
            frames += self._said("reasoning_summary_part.done", "summary_index", {"part": part})
        else:
            part = {"type": "reasoning_text", "text": item.text}
            frames = self._said("reasoning_text.done", "content_index", {"text": item.text})
            frames += self._said("content_part.done", "content_index", {"part": part})
        self._words = None
        return frames + self._done(item, words.place)

    def _close_text(self, answer: Answer, item: TextItem) -> bytes:
        part = self._writing.text_part(answer, item)
        frames = [
            self._said("output_text.annotation.added", "content_index", {"annotation_index": n, "annotation": one})
            for n, one in enumerate(part["annotations"])
        ]
        whole = {"text": item.text, "logprobs": part["logprobs"]}
        frames.append(self._said("output_text.done", "content_index", whole))
        return b"".join([*frames, self._said("content_part.done", "content_index", {"part": part})])

    # --- what is called -----------------------------------------------------------------------------------------------

    def _on_call(self, event: CallOpened) -> bytes:
        frames = self._close_words() + self._close_ready()
        item, place = self._answer.items[-1], self._next()
        assert isinstance(item, CallItem)
        self._calls[event.call] = _Call(item, place)
        frames += self._added(item, place)
        return frames + self._of(item, place, "code_interpreter_call.in_progress", {}) if item.builtin else frames

    def _on_arguments(self, event: ArgumentsDelta) -> bytes:
        call = self._calls[event.call]
        call.written += event.text
        if self._writing.is_custom(call.item) or not event.text:  # its input is text within JSON: it comes whole
            return b""
        kind = "code_interpreter_call_code" if call.item.builtin else "function_call_arguments"
        return self._of(call.item, call.place, f"{kind}.delta", {"delta": event.text})

    def _on_ready(self, event: CallReady) -> bytes:
        call = self._calls[event.call]
        rest = event.arguments[len(call.written) :]
        return self._on_arguments(ArgumentsDelta(call=event.call, text=rest)) + self._end_arguments(call)

    def _end_arguments(self, call: _Call) -> bytes:
        call.ready = True
        item, place = call.item, call.place
        if item.builtin:
            return self._of(item, place, "code_interpreter_call_code.done", {"code": item.arguments})
        if not self._writing.is_custom(item):
            return self._of(item, place, "function_call_arguments.done", {"arguments": item.arguments})
        text = input_of(item.arguments)
        delta = self._of(item, place, "custom_tool_call_input.delta", {"delta": text}) if text else b""
        return delta + self._of(item, place, "custom_tool_call_input.done", {"input": text})

    def _on_started(self, event: CallStarted) -> bytes:
        call = self._calls[event.call]
        return self._of(call.item, call.place, "code_interpreter_call.interpreting", {})

    def _on_closed(self, event: CallClosed) -> bytes:
        call = self._calls[event.call]
        frames = b""
        if status_of(self._answer, call.item) == "completed":
            frames = self._of(call.item, call.place, "code_interpreter_call.completed", {})
        return frames + self._close_call(event.call)

    def _close_ready(self) -> bytes:
        """What the client is to call is said when something follows it."""
        ready = [name for name, call in self._calls.items() if call.ready and not call.item.builtin]
        return b"".join([self._close_call(name) for name in ready])

    def _close_call(self, name: str) -> bytes:
        call = self._calls.pop(name)
        frames = b""
        if not call.ready:  # cut off: what there is of it
            call.item.arguments = call.written
            frames = self._end_arguments(call)
        return frames + self._done(call.item, call.place)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _on_turn_end(self, event: TurnEnded) -> bytes:
        own = [name for name, call in self._calls.items() if not call.item.builtin]
        return self._close_words() + b"".join([self._close_call(name) for name in own])

    def _on_end(self, event: Finished | Failed) -> bytes:
        """Closes what is open, and says how it ended, and what it cost."""
        frames = self._close_words() + b"".join([self._close_call(name) for name in list(self._calls)])
        response = response_of(self._request, self._answer, self._start)
        if isinstance(event, Failed) and self._count < self._after:  # the client has seen what died with its server
            self._count = self._after + 1
        return frames + self._frame(ENDS[response_status(self._request, self._answer)], {"response": response})

    # --- frames -------------------------------------------------------------------------------------------------------

    @property
    def _answer(self) -> Answer:
        return self._fold.answer

    def _next(self) -> int:
        self._places += 1
        return self._places - 1

    def _added(self, item: TextItem | ReasoningItem | CallItem, place: int) -> bytes:
        opening = self._writing.opening(self._answer, item, place)
        return self._frame("response.output_item.added", {"output_index": place, "item": opening})

    def _done(self, item: TextItem | ReasoningItem | CallItem, place: int) -> bytes:
        whole = self._writing.item(self._answer, item, place)
        return self._frame("response.output_item.done", {"output_index": place, "item": whole})

    def _said(self, kind: str, index: str, fields: Json) -> bytes:
        """An event of the message or the reasoning that is open, whose only part is its first."""
        assert self._words is not None
        return self._of(self._words.item, self._words.place, kind, {index: 0, **fields})

    def _of(self, item: TextItem | ReasoningItem | CallItem, place: int, kind: str, fields: Json) -> bytes:
        """An event of an item."""
        head = {"item_id": self._writing.id_of(item, place), "output_index": place}
        return self._frame(f"response.{kind}", head | fields)

    def _frame(self, kind: str, fields: Json) -> bytes:
        """An event, unless the client has it already."""
        number = self._count
        self._count += 1
        if number <= self._after:
            return b""
        data = write_json({"type": kind, "sequence_number": number, **fields})
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


_WRITES: dict[type, Callable[[ResponseWriter, Any], bytes]] = {
    ReasoningDelta: ResponseWriter._on_reasoning,
    TextDelta: ResponseWriter._on_text,
    CallOpened: ResponseWriter._on_call,
    ArgumentsDelta: ResponseWriter._on_arguments,
    CallReady: ResponseWriter._on_ready,
    TurnEnded: ResponseWriter._on_turn_end,
    CallStarted: ResponseWriter._on_started,
    CallClosed: ResponseWriter._on_closed,
    Finished: ResponseWriter._on_end,
    Failed: ResponseWriter._on_end,
}
