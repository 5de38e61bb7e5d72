"""The response object: what stands around the items, in a body and in the first and last events of a stream.

Promises: every field is always there, null where nothing is known; what the request said is repeated as it was said.
`completed_at` is counted from the seconds that were measured, so that the same answer is always written the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from belljar.dialects.base import Start
from belljar.dialects.responses_errors import error_object
from belljar.dialects.responses_items import Json, output_items
from belljar.dialects.responses_settings import CODE_INTERPRETER, CONVERSATION_PREFIX, Settings, id_of, settings_of
from belljar.errors import BelljarError, Cancelled, ClientError
from belljar.events import Answer, Finish
from belljar.model import Request

STATUSES = {
    Finish.STOP: "completed",
    Finish.CALLS: "completed",
    Finish.LENGTH: "incomplete",
    Finish.FILTERED: "incomplete",
}
REASONS = {Finish.LENGTH: "max_output_tokens", Finish.FILTERED: "content_filter"}  # of `incomplete_details`

RESPONSE_PREFIX = "resp_"
ERROR_CODES = ("server_error", "rate_limit_exceeded", "invalid_prompt")  # of `error`, among OpenAI's

# Fields that repeat the request -> what they say where it said nothing.
DEFAULTS: Mapping[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
MERGED = ("reasoning", "text")  # objects, of which a request may say only a part


def response_of(request: Request, answer: Answer, start: Start, status: str | None = None) -> Json:
    """The response as it stands. Its status follows from the answer, unless it is given."""
    settings = settings_of(request)
    status = status or response_status(request, answer)
    failed = answer.error if status == "failed" else None
    conversation = _prefixed(CONVERSATION_PREFIX, request.conversation)
    reason = REASONS.get(answer.finish) if answer.finish is not None else None
    return _echo(settings) | {
        "id": id_of(start),
        "object": "response",
        "created_at": start.created,
        "status": status,
        "background": request.background,
        "completed_at": start.created + _seconds(answer) if status == "completed" else None,
        "error": _error_of(failed) if failed is not None else None,
        "incomplete_details": {"reason": reason} if reason is not None else None,
        "model": request.model,
        "output": output_items(request, answer, start),
        "previous_response_id": _prefixed(RESPONSE_PREFIX, request.previous),
        "conversation": {"id": conversation} if conversation is not None else None,
        "store": request.keep,
        "usage": usage_of(answer, settings),
    }


def response_status(request: Request, answer: Answer) -> str:
    """How an answer stands."""
    if answer.error is not None:
        return "cancelled" if isinstance(answer.error, Cancelled) else "failed"
    if answer.finish is not None:
        return STATUSES[answer.finish]
    has_begun = answer.items or answer.turns or answer.housed is not None
    return "queued" if request.background and not has_begun else "in_progress"


def usage_of(answer: Answer, settings: Settings) -> Json | None:
    """The tokens of all turns; None where no upstream has counted. On Qwen's path also how often code ran."""
    known = [turn.usage for turn in answer.turns if turn.usage is not None]
    if not known:
        return None
    usage = sum(known[1:], known[0])
    runs = sum(call.builtin and call.started and call.execution is not None for call in answer.calls)
    tools = {"x_tools": {CODE_INTERPRETER: {"count": runs}}} if settings.qwen and runs else {}
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
        **tools,
    }


def _echo(settings: Settings) -> Json:
    """What the request said, over what is so where it said nothing."""
    said = {name: value for name, value in settings.echo.items() if value is not None}
    whole: Json = {**DEFAULTS, **said}
    for name in MERGED:
        value = said.get(name)
        if isinstance(value, Mapping):
            whole[name] = {**DEFAULTS[name], **value}
    return whole


def _prefixed(prefix: str, identity: str | None) -> str | None:
    """An id as clients know it."""
    return identity if identity is None or identity.startswith(prefix) else prefix + identity


def _error_of(error: BelljarError) -> Json:
    """Why it failed. Typed clients know the codes of ERROR_CODES only: any other becomes the nearest of them."""
    told = error_object(error)
    if told["code"] in ERROR_CODES:
        return told
    return told | {"code": "invalid_prompt" if isinstance(error, ClientError) else "server_error"}


def _seconds(answer: Answer) -> int:
    """How long it took, in whole seconds: turns, executions, waiting for a sandbox."""
    turns = sum(turn.usage.seconds for turn in answer.turns if turn.usage is not None)
    runs = sum(call.execution.duration for call in answer.calls if call.execution is not None)
    return math.ceil(turns + runs + answer.queue_seconds)
