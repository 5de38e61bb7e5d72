"""The pieces of an answer that bodies and streams of both dialects of Alibaba share: usage, code that ran, calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from belljar.dialects.qwen_rules import CODE_INTERPRETER
from belljar.events import Finish, TurnEnded
from belljar.model import Usage

GOES_ON = "null"  # the finish reason, a string, of all frames but the last
FINISHES = {
    Finish.STOP: "stop",
    Finish.LENGTH: "length",
    Finish.CALLS: "tool_calls",
    Finish.FILTERED: "content_filter",
}


def sum_of(turns: Iterable[TurnEnded]) -> Usage:
    """The tokens of all turns; what no upstream has counted is zero."""
    return sum((turn.usage for turn in turns if turn.usage is not None), Usage())


def usage_of(turns: Sequence[TurnEnded], executions: int) -> dict[str, Any]:
    """The usage so far, native form: tokens of all turns that are over, and how often code ran."""
    usage = sum_of(turns)
    whole: dict[str, Any] = {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    if usage.reasoning_tokens:
        whole["output_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    if usage.cached_tokens:
        whole["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    return whole | plugins_of(executions)


def plugins_of(executions: int) -> dict[str, Any]:
    """How often code ran, as a field of usage; nothing where it did not."""
    return {"plugins": {CODE_INTERPRETER: {"count": executions}}} if executions else {}


def tool_info(code: str) -> dict[str, Any]:
    """An entry of `tool_info`: code that ran. What it gave is for the model alone."""
    return {CODE_INTERPRETER: {"code": code}, "type": CODE_INTERPRETER}


def tool_call(index: int, identity: str, arguments: str, name: str | None = None) -> dict[str, Any]:
    """A call of the client's function, or more of one: then without its name and with "" as its id."""
    function = {"name": name, "arguments": arguments} if name is not None else {"arguments": arguments}
    return {"index": index, "id": identity, "type": "function", "function": function}


def joined_logprobs(extras: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The `logprobs` of all pieces of text as one object; None where there are none."""
    pieces = [extra["logprobs"] for extra in extras if isinstance(extra.get("logprobs"), Mapping)]
    content = [token for piece in pieces for token in piece.get("content") or ()]
    return {"content": content} if content else None
