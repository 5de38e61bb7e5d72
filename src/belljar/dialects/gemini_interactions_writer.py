"""Writes an answer as an interaction: as one body, or as the events of a stream.

Promises: a client that merges the deltas of a stream has the steps of the body; the same events give the same bytes, so
that a stream can be gone on with from any event; every step is closed, before an error, too. Code comes in one piece
when it begins to run, what it gave when it is over. Not covered: errors before the first byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from belljar.dialects.base import Start, write_json
from belljar.dialects.gemini_interactions_errors import error_body
from belljar.dialects.gemini_interactions_settings import id_of, settings_of
from belljar.dialects.gemini_interactions_steps import (
    Json,
    code_call,
    code_result,
    function_call,
    input_of,
    output,
    pictures,
    text_content,
    thought,
    usage_of,
    words_of_result,
)
from belljar.errors import BelljarError, Cancelled
from belljar.events import (
    Answer,
    ArgumentsDelta,
    CallClosed,
    CallItem,
    CallOpened,
    CallReady,
    CallStarted,
    Event,
    Failed,
    Finish,
    Finished,
    Item,
    ReasoningDelta,
    ReasoningItem,
    TextDelta,
    TextItem,
    TurnEnded,
    TurnStarted,
)
from belljar.model import Request

DONE = b"event: done\ndata: [DONE]\n\n"
STATUSES = {
    Finish.STOP: "completed",
    Finish.LENGTH: "incomplete",
    Finish.CALLS: "requires_action",
    Finish.FILTERED: "incomplete",
}


@dataclass(slots=True)
class _Call:
    """A call while it is written. `index` is its step's, where it has one; code that did not run has none."""

    id: str
    name: str
    builtin: bool
    index: int = -1
    stopped: bool = False
    arguments: str = ""
    sent: int = 0  # characters of the arguments

    @property
    def is_open(self) -> bool:
        """Whether its step is."""
        return self.index >= 0 and not self.stopped


class InteractionWriter:
    """One answer."""

    media_type = "text/event-stream"
    heartbeat = b": keep-alive\n\n"

    def __init__(self, request: Request, start: Start) -> None:
        self._request = request
        self._settings = settings_of(request)
        self._start = start
        self._count = 0  # events written
        self._steps = 0
        self._begun = False
        self._open = -1  # the step of words or thoughts that is open
        self._kind: type | None = None  # of the last delta: what goes on with it is the same step
        self._calls: dict[str, _Call] = {}
        self._turns: list[TurnEnded] = []

    # --- as one body --------------------------------------------------------------------------------------------------

    def fold(self, answer: Answer) -> bytes:
        """The whole answer, or what there is of it."""
        body = self._interaction(_status(answer.finish, answer.error))
        if self._request.previous is not None:
            body["previous_interaction_id"] = self._request.previous
        if self._settings.include_input:
            body["input"] = input_of(self._request.messages)
        body["steps"] = list(self._steps_of(answer))
        if answer.error is not None:
            body["errors"] = [error_body(answer.error)]
        usage = usage_of(answer.turns)
        return write_json(body if usage is None else body | {"usage": usage})

    def _steps_of(self, answer: Answer) -> Iterator[Json]:
        """The steps in the order of a stream: what a turn says, then what it runs."""
        for _, group in groupby(answer.items, key=lambda item: item.turn):
            items = list(group)
            for item in items:
                step = self._maybe_said(item)
                if step is not None:
                    yield step
            for item in items:
                if isinstance(item, CallItem) and item.builtin and item.started:
                    yield code_call(item.call, item.arguments)
                    if item.execution is not None:
                        yield code_result(item.call, item.execution)

    def _maybe_said(self, item: Item) -> Json | None:
        if isinstance(item, TextItem):
            return output(item.text) if item.text else None
        if isinstance(item, ReasoningItem):
            return thought(item.text) if item.text and self._settings.thoughts else None
        return None if item.builtin else function_call(item.call, item.name, item.arguments)

    def _interaction(self, status: str) -> Json:
        at = datetime.fromtimestamp(self._start.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "id": id_of(self._start),
            "status": status,
            "object": "interaction",
            "model": self._request.model,
            "created": at,
            "updated": at,
            "service_tier": "standard",
        }

    # --- as a stream --------------------------------------------------------------------------------------------------

    def write(self, event: Event) -> bytes:
        """The frames for an event."""
        handler = _WRITES.get(type(event))
        return handler(self, event) if handler is not None else b""

    def _on_turn(self, event: TurnStarted) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        identity = id_of(self._start)
        short = {"id": identity, "status": "in_progress", "object": "interaction", "model": self._request.model}
        created = self._frame("interaction.created", {"interaction": short})
        return created + self._frame("interaction.status_update", {"interaction_id": identity, "status": "in_progress"})

    def _on_reasoning(self, event: ReasoningDelta) -> bytes:
        text = event.text if self._settings.thoughts else ""
        return self._say(ReasoningDelta, text, "thought", {"type": "thought_summary", "content": text_content(text)})

    def _on_text(self, event: TextDelta) -> bytes:
        return self._say(TextDelta, event.text, "model_output", text_content(event.text))

    def _say(self, kind: type, text: str, step: str, delta: Json) -> bytes:
        frames = b"" if kind is self._kind else self._close()
        self._kind = kind
        if not text:
            return frames
        if self._open < 0:
            self._open = self._next()
            frames += self._frame("step.start", {"index": self._open, "step": {"type": step}})
        return frames + self._delta(self._open, delta)

    def _on_call(self, event: CallOpened) -> bytes:
        frames = self._close()
        call = self._calls[event.call] = _Call(event.call, event.name, event.builtin)
        if call.builtin:
            return frames
        call.index = self._next()
        return frames + self._frame("step.start", {"index": call.index, "step": function_call(call.id, call.name, "")})

    def _on_arguments(self, event: ArgumentsDelta) -> bytes:
        call = self._calls[event.call]
        if call.builtin or not event.text:
            return b""
        call.sent += len(event.text)
        return self._delta(call.index, {"type": "arguments_delta", "arguments": event.text})

    def _on_ready(self, event: CallReady) -> bytes:
        call = self._calls[event.call]
        call.arguments = event.arguments
        if call.builtin:
            return b""
        rest = self._on_arguments(ArgumentsDelta(call=event.call, text=event.arguments[call.sent :]))
        return rest + self._stop(call)

    def _on_turn_end(self, event: TurnEnded) -> bytes:
        self._turns.append(event)
        return self._close()

    def _on_started(self, event: CallStarted) -> bytes:
        call = self._calls[event.call]
        index = call.index = self._next()
        step = code_call(call.id, call.arguments)
        start = self._frame("step.start", {"index": index, "step": step | {"arguments": {}}})
        return start + self._delta(index, {"type": step["type"], "arguments": step["arguments"]}) + self._stop(call)

    def _on_closed(self, event: CallClosed) -> bytes:
        if self._calls[event.call].index < 0:
            return b""
        index, step = self._next(), code_result(event.call, event.execution)
        result = {"type": step["type"], "result": words_of_result(event.execution), "is_error": step["is_error"]}
        start = {"type": step["type"], "call_id": event.call, "result": ""}
        frames = [self._frame("step.start", {"index": index, "step": start}), self._delta(index, result)]
        frames += [self._delta(index, picture) for picture in pictures(event.execution)]
        return b"".join([*frames, self._frame("step.stop", {"index": index})])

    def _on_finish(self, event: Finished) -> bytes:
        interaction = self._interaction(STATUSES[event.finish])
        usage = usage_of(self._turns)
        if usage is not None:
            interaction["usage"] = usage
        return self._close() + self._frame("interaction.completed", {"interaction": interaction}) + DONE

    def _on_failure(self, event: Failed) -> bytes:
        """Closes what is open, and says what went wrong; or that the client itself has ended it."""
        frames = self._close() + b"".join(self._stop(call) for call in self._calls.values() if call.is_open)
        if isinstance(event.error, Cancelled):
            told = {"interaction_id": id_of(self._start), "status": _status(None, event.error)}
            return frames + self._frame("interaction.status_update", told) + DONE
        return frames + self._frame("error", {"error": error_body(event.error)})

    # --- frames -------------------------------------------------------------------------------------------------------

    def _next(self) -> int:
        self._steps += 1
        return self._steps - 1

    def _close(self) -> bytes:
        """The step of words or thoughts ends."""
        index, self._open, self._kind = self._open, -1, None
        return self._frame("step.stop", {"index": index}) if index >= 0 else b""

    def _stop(self, call: _Call) -> bytes:
        call.stopped = True
        return self._frame("step.stop", {"index": call.index})

    def _delta(self, index: int, delta: Json) -> bytes:
        return self._frame("step.delta", {"index": index, "delta": delta})

    def _frame(self, kind: str, data: Json) -> bytes:
        """An event, unless the client has it already."""
        self._count += 1
        if self._count <= self._settings.after:
            return b""
        body = write_json(data | {"event_type": kind, "event_id": str(self._count)})
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), body)


def _status(finish: Finish | None, error: BelljarError | None) -> str:
    """How an interaction stands."""
    if error is not None:
        return "cancelled" if isinstance(error, Cancelled) else "failed"
    return "in_progress" if finish is None else STATUSES[finish]


_WRITES: dict[type, Callable[[InteractionWriter, Any], bytes]] = {
    TurnStarted: InteractionWriter._on_turn,
    ReasoningDelta: InteractionWriter._on_reasoning,
    TextDelta: InteractionWriter._on_text,
    CallOpened: InteractionWriter._on_call,
    ArgumentsDelta: InteractionWriter._on_arguments,
    CallReady: InteractionWriter._on_ready,
    TurnEnded: InteractionWriter._on_turn_end,
    CallStarted: InteractionWriter._on_started,
    CallClosed: InteractionWriter._on_closed,
    Finished: InteractionWriter._on_finish,
    Failed: InteractionWriter._on_failure,
}
