"""Writes an answer in DashScope's native form: as one body, or as the frames of a stream.

Promises: frames are spaced as the SDK's parser wants them (nothing after a colon), their ids count from 1; increments,
joined, are the message of the body, and the last of cumulative frames is it; code that has run is in `tool_info` of the
next frame and of all that follow, and is counted in `usage.plugins`; `usage` sums the turns that are over. What code
gave is shown nowhere: the vendor tells it to the model alone. An error in mid-stream is an event "error", after which
nothing is sent.

Cumulative streams, and `tool_info` in all of them, repeat what came before in each frame, as the vendor has it: their
size grows with the square of the answer's. Not covered: errors before the first byte (dashscope_errors).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from belljar.dialects.base import Start, write_json
from belljar.dialects.dashscope_errors import stream_error
from belljar.dialects.dashscope_request import settings_of
from belljar.dialects.qwen_shapes import FINISHES, GOES_ON, joined_logprobs, tool_call, tool_info, usage_of
from belljar.dialects.qwen_words import CONTENT, REASONING, Piece, Words, words_of
from belljar.events import (
    Answer,
    ArgumentsDelta,
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


@dataclass(slots=True)
class _Call:
    """A call while it is written and runs; `index` counts the client's own."""

    id: str
    name: str
    builtin: bool
    index: int = -1
    arguments: str = ""
    started: bool = False


class DashScopeWriter:
    """One answer."""

    media_type = "text/event-stream"
    heartbeat = b":\n"  # a comment, without the empty line that would end a frame

    def __init__(self, request: Request, start: Start) -> None:
        self._settings = settings = settings_of(request)
        self._request_id = start.request_id
        self._words = Words(thinking=settings.thinking)
        self._whole = {CONTENT: "", REASONING: ""}  # so far, of a cumulative stream
        self._logprobs: list[Any] = []
        self._calls: dict[str, _Call] = {}
        self._turns: list[TurnEnded] = []
        self._executions: list[dict[str, Any]] = []
        self._frames = 0
        self._tool_info = b""  # written, as a field of `output`
        self._tail = b""  # of a frame, behind its output
        self._tally()

    # --- as one body --------------------------------------------------------------------------------------------------

    def fold(self, answer: Answer) -> bytes:
        """The whole answer."""
        words = words_of(answer, thinking=self._settings.thinking)
        finish = FINISHES[answer.finish or Finish.STOP]
        executions = [tool_info(call.arguments) for call in answer.calls if call.started and call.execution is not None]
        if self._settings.as_text:
            output: dict[str, Any] = {"text": words[CONTENT], "finish_reason": finish}
        else:
            own = [call for call in answer.calls if not call.builtin]
            calls = [tool_call(n, call.call, call.arguments, call.name) for n, call in enumerate(own)]
            message = self._message(words[CONTENT], words[REASONING], calls)
            choice: dict[str, Any] = {"message": message, "finish_reason": finish}
            if self._settings.logprobs:
                extras = [extra for item in answer.items if isinstance(item, TextItem) for extra in item.extras]
                choice["logprobs"] = joined_logprobs(extras)
            output = {"choices": [choice]}
        if executions:
            output["tool_info"] = executions
        usage = usage_of(answer.turns, len(executions))
        return write_json({"output": output, "usage": usage, "request_id": self._request_id})

    def _message(self, content: str, reasoning: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
        said: Any = ([{"text": content}] if content else []) if self._settings.listed else content
        message = {"role": "assistant", "content": said}
        if self._settings.thinking:
            message["reasoning_content"] = reasoning
        return message | {"tool_calls": calls} if calls else message

    # --- as a stream --------------------------------------------------------------------------------------------------

    def write(self, event: Event) -> bytes:
        """The frames for an event."""
        handler = _WRITES.get(type(event))
        return handler(self, event) if handler is not None else b""

    def _on_turn(self, event: TurnStarted) -> bytes:
        self._words.turn()
        return b""

    def _on_reasoning(self, event: ReasoningDelta) -> bytes:
        return self._say(self._words.reasoning(event.text))

    def _on_text(self, event: TextDelta) -> bytes:
        piece = self._words.text(event.text)
        found = joined_logprobs([event.extra]) if self._settings.logprobs and event.extra else None
        return self._say(piece, found["content"] if found else [])

    def _on_call(self, event: CallOpened) -> bytes:
        self._words.turn()
        call = self._calls[event.call] = _Call(event.call, event.name, event.builtin)
        if event.builtin:
            return b""
        call.index = sum(not known.builtin for known in self._calls.values()) - 1
        return self._show(call, tool_call(call.index, call.id, "", call.name))

    def _on_arguments(self, event: ArgumentsDelta) -> bytes:
        call = self._calls[event.call]
        call.arguments += event.text
        if call.builtin or not event.text:
            return b""
        return self._show(call, tool_call(call.index, "", event.text))

    def _on_ready(self, event: CallReady) -> bytes:
        call = self._calls[event.call]
        if call.builtin:
            call.arguments = event.arguments
            return b""
        return self._on_arguments(ArgumentsDelta(call=event.call, text=event.arguments[len(call.arguments) :]))

    def _on_started(self, event: CallStarted) -> bytes:
        self._calls[event.call].started = True
        return b""

    def _on_closed(self, event: CallClosed) -> bytes:
        call = self._calls[event.call]
        if not call.started:  # its code did not run: a budget was used up
            return b""
        self._executions.append(tool_info(call.arguments))
        self._tool_info = b',"tool_info":%b' % write_json(self._executions)
        self._tally()
        return self._frame()

    def _on_turn_end(self, event: TurnEnded) -> bytes:
        self._turns.append(event)
        self._tally()
        return b""

    def _on_finish(self, event: Finished) -> bytes:
        """Says why it ended and what it cost."""
        return self._frame(finish=FINISHES[event.finish])

    def _on_failure(self, event: Failed) -> bytes:
        self._frames += 1
        return stream_error(event.error, self._request_id, self._frames)

    # --- frames -------------------------------------------------------------------------------------------------------

    def _tally(self) -> None:
        usage = usage_of(self._turns, len(self._executions))
        self._tail = b'},"usage":%b,"request_id":%b}\n\n' % (write_json(usage), write_json(self._request_id))

    def _say(self, piece: Piece, logprobs: list[Any] | None = None) -> bytes:
        field, text = piece
        if not text and not logprobs:
            return b""
        if self._settings.incremental:
            return self._frame({field: text}, logprobs=logprobs or [])
        self._whole[field] += text
        self._logprobs += logprobs or []
        return self._frame()

    def _show(self, call: _Call, more: dict[str, Any]) -> bytes:
        """A call of the client's, or more of it."""
        return self._frame(calls=[more]) if self._settings.incremental else self._frame()

    def _frame(
        self,
        words: dict[str, str] | None = None,
        *,
        calls: list[dict[str, Any]] | None = None,
        logprobs: list[Any] | None = None,
        finish: str = GOES_ON,
    ) -> bytes:
        """A frame with these increments; of a cumulative stream, with all that there is."""
        said = words or {}
        if not self._settings.incremental:
            said, logprobs = self._whole, self._logprobs
            own = [call for call in self._calls.values() if not call.builtin]
            calls = [tool_call(call.index, call.id, call.arguments, call.name) for call in own]
        self._frames += 1
        head = b"id:%d\nevent:result\n:HTTP_STATUS/200\ndata:" % self._frames
        output: dict[str, Any]
        if self._settings.as_text:
            output = {"text": said.get(CONTENT, ""), "finish_reason": finish}
        else:
            message = self._message(said.get(CONTENT, ""), said.get(REASONING, ""), calls or [])
            choice: dict[str, Any] = {"message": message, "finish_reason": finish}
            if self._settings.logprobs:
                choice["logprobs"] = {"content": logprobs} if logprobs else None
            output = {"choices": [choice]}
        return b'%b{"output":%b%b%b' % (head, write_json(output)[:-1], self._tool_info, self._tail)


_WRITES: dict[type, Callable[[DashScopeWriter, Any], bytes]] = {
    TurnStarted: DashScopeWriter._on_turn,
    ReasoningDelta: DashScopeWriter._on_reasoning,
    TextDelta: DashScopeWriter._on_text,
    CallOpened: DashScopeWriter._on_call,
    ArgumentsDelta: DashScopeWriter._on_arguments,
    CallReady: DashScopeWriter._on_ready,
    CallStarted: DashScopeWriter._on_started,
    CallClosed: DashScopeWriter._on_closed,
    TurnEnded: DashScopeWriter._on_turn_end,
    Finished: DashScopeWriter._on_finish,
    Failed: DashScopeWriter._on_failure,
}
