"""The items of a response's `output`, as bodies, streams and conversations show them. Pure tables and values.

Promises: the items stand one for one, and in their order, for those of the answer, but for words and reasoning that are
empty; an item that a stream has closed is the item of the body. An exception in the code leaves its call "completed",
as at OpenAI; what ended the interpreter makes it "failed"; code that was never run, or not written to its end, is
"incomplete".

Reasoning is the model's own text, no summary of it. It is shown as a summary where the request asks for one
(`reasoning.summary`) and on Qwen's path, whose clients look for it there; else as `content` of type `reasoning_text`,
as OpenAI shows that of open models. `encrypted_content`, where it is asked for, is the same text in base64, so that
clients that keep no state can bring it back: it hides nothing from them.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from belljar.dialects.base import Start
from belljar.dialects.responses_citations import citations_of
from belljar.dialects.responses_settings import CONTAINER_PREFIX, Settings, id_of, item_id, settings_of
from belljar.dialects.shown import output_of, pictures_of, words_of
from belljar.events import Answer, CallItem, Finish, Item, ReasoningItem, TextItem
from belljar.execution import Execution, Outcome
from belljar.model import Request

Json = dict[str, Any]
CUT_OFF = (Finish.LENGTH, Finish.FILTERED)  # a turn that was not written to its end

# How an execution ended -> the status of its call.
RAN = {
    Outcome.OK: "completed",
    Outcome.ERROR: "completed",
    Outcome.EXITED: "completed",
    Outcome.TIMEOUT: "failed",
    Outcome.OUT_OF_MEMORY: "failed",
    Outcome.KILLED: "failed",
}


class Writing:
    """What the items of one answer are written with: who asked for it, and the names that they get."""

    def __init__(self, request: Request, start: Start) -> None:
        self.settings: Settings = settings_of(request)
        self._start = start
        asked = self.settings.echo.get("reasoning")
        asked = asked if isinstance(asked, Mapping) else {}
        self.summary = self.settings.qwen or bool(asked.get("summary") or asked.get("generate_summary"))

    def id_of(self, item: Item, place: int) -> str:
        """The item's id; `place` is its own among those that are written."""
        return item_id(self._prefix(item), self._start, place)

    def is_custom(self, item: CallItem) -> bool:
        """Whether it calls a custom tool, whose input is text."""
        return not item.builtin and item.name in self.settings.custom

    def container_of(self, answer: Answer) -> str:
        """The container's id. Clients need one, where code runs in a sandbox of this answer alone, too."""
        key = answer.housed.container if answer.housed is not None else id_of(self._start).rpartition("_")[2]
        return CONTAINER_PREFIX + key

    def item(self, answer: Answer, item: Item, place: int, status: str | None = None) -> Json:
        """An output item as it stands. Its status follows from the answer, unless it is given."""
        status = status or status_of(answer, item)
        head = {"id": self.id_of(item, place)}
        if isinstance(item, ReasoningItem):
            return head | self._reasoning(item.text)
        if isinstance(item, TextItem):
            content = [self.text_part(answer, item)]
            return head | {"type": "message", "status": status, "role": "assistant", "content": content}
        return head | (self._code_call(answer, item, status) if item.builtin else self._own_call(item, status))

    def opening(self, answer: Answer, item: Item, place: int) -> Json:
        """The same when it begins: without anything in it."""
        head = {"id": self.id_of(item, place)}
        if isinstance(item, ReasoningItem):
            return head | self._reasoning("")
        if isinstance(item, TextItem):
            return head | {"type": "message", "status": "in_progress", "role": "assistant", "content": []}
        if not item.builtin:
            return head | self._own_call(item, "in_progress")
        return head | self._code_call(answer, item, "in_progress")

    def text_part(self, answer: Answer, item: TextItem) -> Json:
        """The words of a message."""
        logprobs = logprobs_of(item.extras) if self.settings.logprobs else []
        annotations = citations_of(answer, item)
        return {"type": "output_text", "text": item.text, "annotations": annotations, "logprobs": logprobs}

    def _prefix(self, item: Item) -> str:
        if isinstance(item, CallItem):
            return "ci" if item.builtin else "ctc" if self.is_custom(item) else "fc"
        return "msg" if isinstance(item, TextItem) else "rs"

    def _reasoning(self, text: str) -> Json:
        kind = "summary_text" if self.summary else "reasoning_text"
        pieces = [{"type": kind, "text": text}] if text else []
        item: Json = {"type": "reasoning", "summary": pieces if self.summary else []}
        if not self.summary:
            item["content"] = pieces
        if self.settings.encrypted:
            item["encrypted_content"] = b64encode(text.encode("utf-8", "replace")).decode() if text else None
        return item

    def _code_call(self, answer: Answer, item: CallItem, status: str) -> Json:
        outputs = list(outputs_of(item)) if self.settings.outputs else None
        return {
            "type": "code_interpreter_call",
            "status": status,
            "code": item.arguments,
            "container_id": self.container_of(answer),
            "outputs": outputs,
        }

    def _own_call(self, item: CallItem, status: str) -> Json:
        call = {"status": status, "call_id": item.call, "name": item.name}
        if self.is_custom(item):
            return {"type": "custom_tool_call", **call, "input": input_of(item.arguments)}
        return {"type": "function_call", **call, "arguments": item.arguments}


def output_items(request: Request, answer: Answer, start: Start) -> list[Json]:
    """`output`: all items of an answer."""
    writing = Writing(request, start)
    return [writing.item(answer, item, place) for place, item in enumerate(written_items(answer))]


def written_items(answer: Answer) -> Iterator[Item]:
    """The items that are shown."""
    return (item for item in answer.items if isinstance(item, CallItem) or item.text)


def status_of(answer: Answer, item: Item) -> str:
    """How an item stands: what is said is over when something else of its turn follows, or the turn ends."""
    is_over = answer.finish is not None or answer.error is not None
    if isinstance(item, CallItem) and item.builtin:
        if item.execution is not None:
            return RAN[item.execution.outcome] if item.started else "incomplete"
        if is_over:
            return "incomplete"
        return "interpreting" if item.started else "in_progress"
    is_last = next(other for other in reversed(answer.items) if other.turn == item.turn) is item
    ended = next((turn for turn in answer.turns if turn.turn == item.turn), None)
    if ended is not None:
        return "incomplete" if is_last and ended.finish in CUT_OFF else "completed"
    if is_last or (isinstance(item, CallItem) and not item.arguments):
        return "incomplete" if is_over else "in_progress"
    return "completed"


# --- what code gave ---------------------------------------------------------------------------------------------------


def outputs_of(item: CallItem) -> Iterator[Json]:
    """The words, then the pictures, of code that ran."""
    if item.execution is None or not item.started:
        return
    logs = logs_of(item.execution)
    if logs:
        yield {"type": "logs", "logs": logs}
    for kind, content in pictures_of(item.execution):
        data = content.encode("utf-8", "replace") if isinstance(content, str) else content
        yield {"type": "image", "url": f"data:{kind};base64,{b64encode(data).decode()}"}


def logs_of(execution: Execution) -> str:
    """What a person would see of it in words. It ends in a new line where the code has printed one, not elsewhere."""
    text = output_of(execution)
    is_printed = execution.error is None and not any(words_of(result) for result in execution.results)
    if is_printed and (execution.stderr or execution.stdout).endswith("\n"):
        return text
    return text.removesuffix("\n")


def input_of(arguments: str) -> str:
    """The text that a custom tool is called with: what stands under "input"; all of it where there is no such thing."""
    try:
        value = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return arguments
    found = value.get("input") if isinstance(value, dict) else None
    return found if isinstance(found, str) else arguments


# --- log probabilities ------------------------------------------------------------------------------------------------


def logprobs_of(extras: Iterable[Mapping[str, Any]]) -> list[Json]:
    """The upstream's `logprobs` of pieces of text, of which chat completions are written, as this dialect has them."""
    found = [extra["logprobs"] for extra in extras if isinstance(extra.get("logprobs"), Mapping)]
    tokens = [token for piece in found for token in piece.get("content") or () if isinstance(token, Mapping)]
    return [
        _logprob(token) | {"top_logprobs": [_logprob(other) for other in token.get("top_logprobs") or ()]}
        for token in tokens
    ]


def _logprob(token: Mapping[str, Any]) -> Json:
    text = str(token.get("token", ""))
    data = token.get("bytes")
    content = data if isinstance(data, list) else list(text.encode("utf-8", "replace"))
    return {"token": text, "bytes": content, "logprob": token.get("logprob", 0.0)}
