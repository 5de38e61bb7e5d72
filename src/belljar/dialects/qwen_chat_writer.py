"""Writes an answer as Qwen's compatible mode does: one chat completion, or the chunks of a stream; and its errors.

Promises: a client that merges the chunks has the message of the body; each delta says both `content` and, in thinking
mode, `reasoning_content`, one of them null; `usage` is null in every chunk but the last one of a stream that was asked
to include it. Of code that ran only its count is shown, in `usage.plugins`. An error in mid-stream is a frame with
"error", after which nothing is sent.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from belljar.dialects import chat_errors
from belljar.dialects.base import Reply, Start, write_json
from belljar.dialects.chat_shapes import FINISHES, calls_of, joined_logprobs
from belljar.dialects.qwen_shapes import plugins_of, sum_of, tool_call
from belljar.dialects.qwen_words import CONTENT, REASONING, Piece, Words, words_of
from belljar.errors import BadRequest, BelljarError
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

KEY = "qwen_chat"  # of Request.extra
DONE = b"data: [DONE]\n\n"
INVALID_CODE = "invalid_parameter_error"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How the answer is to be written."""

    thinking: bool = False
    include_usage: bool = False


DEFAULT = Settings()


def settings_of(request: Request) -> Settings:
    """The settings of a request that this dialect has read; the default ones of any other."""
    found = request.extra.get(KEY)
    return found if isinstance(found, Settings) else DEFAULT


@dataclass(slots=True)
class _Call:
    """A call while it is written and runs. `index` counts the client's own, -1 stands for a built-in one."""

    id: str
    index: int
    sent: int = 0  # characters of the arguments
    started: bool = False


class QwenChatWriter:
    """One answer."""

    media_type = "text/event-stream"
    heartbeat = b": keep-alive\n\n"

    def __init__(self, request: Request, start: Start) -> None:
        self._model = request.model
        self._settings = settings = settings_of(request)
        self._start = start
        self._id = f"chatcmpl-{uuid.uuid4()}"
        self._words = Words(thinking=settings.thinking)
        self._begun = False
        self._calls: dict[str, _Call] = {}
        self._own = 0  # calls of the client's functions
        self._turns: list[TurnEnded] = []
        self._executions = 0
        self._tail = b",%b}\n\n" % write_json(self._identity("chat.completion.chunk", None))[1:-1]

    # --- as one body --------------------------------------------------------------------------------------------------

    def fold(self, answer: Answer) -> bytes:
        """The whole answer."""
        words = words_of(answer, thinking=self._settings.thinking)
        message: dict[str, Any] = {"role": "assistant", "content": words[CONTENT]}
        if self._settings.thinking:
            message[REASONING] = words[REASONING]
        message |= calls_of((call for call in answer.calls if not call.builtin), False)
        extras = [extra for item in answer.items if isinstance(item, TextItem) for extra in item.extras]
        finish = FINISHES[answer.finish or Finish.STOP]
        choice = {"message": message, "finish_reason": finish, "index": 0, "logprobs": joined_logprobs(extras)}
        executions = sum(call.started and call.execution is not None for call in answer.calls)
        usage = _usage_of(answer.turns, executions)
        return write_json({"choices": [choice]} | self._identity("chat.completion", usage))

    def _identity(self, kind: str, usage: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "object": kind,
            "usage": usage,
            "created": self._start.created,
            "system_fingerprint": None,
            "model": self._model,
            "id": self._id,
        }

    # --- as a stream --------------------------------------------------------------------------------------------------

    def write(self, event: Event) -> bytes:
        """The chunks for an event."""
        handler = _WRITES.get(type(event))
        return handler(self, event) if handler is not None else b""

    def _on_turn(self, event: TurnStarted) -> bytes:
        self._words.turn()
        if self._begun:
            return b""
        self._begun = True
        first = {"content": None, "role": "assistant", REASONING: ""}
        return self._chunk(first if self._settings.thinking else {"content": "", "role": "assistant"})

    def _on_reasoning(self, event: ReasoningDelta) -> bytes:
        return self._say(self._words.reasoning(event.text))

    def _on_text(self, event: TextDelta) -> bytes:
        return self._say(self._words.text(event.text), event.extra.get("logprobs") if event.extra else None)

    def _on_call(self, event: CallOpened) -> bytes:
        self._words.turn()
        if event.builtin:
            self._calls[event.call] = _Call(event.call, -1)
            return b""
        call = self._calls[event.call] = _Call(event.call, self._own)
        self._own += 1
        return self._chunk({"content": None, "tool_calls": [tool_call(call.index, call.id, "", event.name)]})

    def _on_arguments(self, event: ArgumentsDelta) -> bytes:
        call = self._calls[event.call]
        if call.index < 0 or not event.text:
            return b""
        call.sent += len(event.text)
        return self._chunk({"content": None, "tool_calls": [tool_call(call.index, "", event.text)]})

    def _on_ready(self, event: CallReady) -> bytes:
        sent = self._calls[event.call].sent
        return self._on_arguments(ArgumentsDelta(call=event.call, text=event.arguments[sent:]))

    def _on_started(self, event: CallStarted) -> bytes:
        self._calls[event.call].started = True
        return b""

    def _on_closed(self, event: CallClosed) -> bytes:
        self._executions += self._calls[event.call].started
        return b""

    def _on_turn_end(self, event: TurnEnded) -> bytes:
        self._turns.append(event)
        return b""

    def _on_finish(self, event: Finished) -> bytes:
        """Says why it ended and, where asked, what it cost."""
        last = self._chunk({"content": ""} | ({REASONING: None} if self._settings.thinking else {}), event.finish)
        if self._settings.include_usage:
            usage = _usage_of(self._turns, self._executions)
            last += b"data: %b\n\n" % write_json({"choices": []} | self._identity("chat.completion.chunk", usage))
        return last + DONE

    def _on_failure(self, event: Failed) -> bytes:
        return b"data: %b\n\n" % write_json(error_body(event.error, self._start.request_id))

    # --- chunks -------------------------------------------------------------------------------------------------------

    def _say(self, piece: Piece, logprobs: Any = None) -> bytes:
        field, text = piece
        if not text and logprobs is None:
            return b""
        delta: dict[str, Any] = {CONTENT: None, REASONING: None} if self._settings.thinking else {}
        return self._chunk(delta | {field: text}, logprobs=logprobs)

    def _chunk(self, delta: dict[str, Any], finish: Finish | None = None, logprobs: Any = None) -> bytes:
        reason = FINISHES[finish] if finish is not None else None
        choice = {"delta": delta, "finish_reason": reason, "index": 0, "logprobs": logprobs}
        return b'data: {"choices":[%b]%b' % (write_json(choice), self._tail)


_WRITES: dict[type, Callable[[QwenChatWriter, Any], bytes]] = {
    TurnStarted: QwenChatWriter._on_turn,
    ReasoningDelta: QwenChatWriter._on_reasoning,
    TextDelta: QwenChatWriter._on_text,
    CallOpened: QwenChatWriter._on_call,
    ArgumentsDelta: QwenChatWriter._on_arguments,
    CallReady: QwenChatWriter._on_ready,
    CallStarted: QwenChatWriter._on_started,
    CallClosed: QwenChatWriter._on_closed,
    TurnEnded: QwenChatWriter._on_turn_end,
    Finished: QwenChatWriter._on_finish,
    Failed: QwenChatWriter._on_failure,
}


def _usage_of(turns: Sequence[TurnEnded], executions: int) -> dict[str, Any]:
    """The tokens of all turns, and how often code ran."""
    usage = sum_of(turns)
    whole: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    if usage.reasoning_tokens:
        whole["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    whole["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    return whole | plugins_of(executions)


# --- errors -----------------------------------------------------------------------------------------------------------


def write_error(error: BelljarError, request_id: str = "") -> Reply:
    """An error as a whole response: its status and headers are those of chat completions."""
    reply = chat_errors.write_error(error, None)
    return Reply(status=reply.status, body=write_json(error_body(error, request_id)), headers=reply.headers)


def error_body(error: BelljarError, request_id: str) -> dict[str, Any]:
    """OpenAI's form, all four fields always there; `request_id` beside it, where it is known."""
    told = {"param": None, "code": None} | chat_errors.error_body(error)
    if told["code"] is None and isinstance(error, BadRequest):
        told["code"] = INVALID_CODE
    return {"error": told} | ({"request_id": request_id} if request_id else {})
