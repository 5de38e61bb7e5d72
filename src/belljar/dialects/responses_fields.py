"""The fields of a request for a response, as tables: how each is checked, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from belljar.dialects.fields import (
    Check,
    filled,
    flag,
    kind_of,
    listing,
    mapping,
    maybe,
    member,
    number,
    one_of,
    refuse,
    schema,
    text,
    texts,
    whole,
)
from belljar.dialects.qwen_rules import check_search
from belljar.dialects.responses_settings import CONVERSATION_PREFIX
from belljar.model import Format

MAX_PAIRS, MAX_KEY, MAX_VALUE = 16, 64, 512  # of `metadata`
# of `reasoning.effort` -> what the upstream is asked for
LEVELS = {
    "none": "none",
    "minimal": "minimal",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
SUMMARIES = ("auto", "concise", "detailed")
VERBOSITIES = ("low", "medium", "high")
FORMAT_TYPES = ("text", "json_object", "json_schema")

OUTPUTS = "code_interpreter_call.outputs"
LOGPROBS = "message.output_text.logprobs"
ENCRYPTED = "reasoning.encrypted_content"
INCLUDES = (  # of which those that are not named here have no effect: there is nothing that they could show
    OUTPUTS,
    ENCRYPTED,
    LOGPROBS,
    "message.input_image.image_url",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "computer_call_output.output.image_url",
)


def _any(value: Any, param: str) -> Any:
    """A value that is checked where it is used."""
    return value


def metadata(value: Any, param: str) -> dict[str, str]:
    """Up to 16 pairs of texts. Raises BadRequest."""
    pairs: dict[str, str] = mapping(value, param)
    if len(pairs) > MAX_PAIRS:
        refuse(param, f"must have at most {MAX_PAIRS} pairs")
    for name, given in pairs.items():
        if len(name) > MAX_KEY:
            refuse(param, f"must have keys of at most {MAX_KEY} characters")
        if len(text(given, f"{param}.{name}")) > MAX_VALUE:
            refuse(f"{param}.{name}", f"must have at most {MAX_VALUE} characters")
    return pairs


def conversation(value: Any, param: str) -> str:
    """The id of a conversation without its prefix: given as it is, or in an object. Raises BadRequest."""
    if isinstance(value, dict):
        value, param = member(value, "id", text, param), f"{param}.id"
    elif not isinstance(value, str):
        refuse(param, f"must be the id of a conversation or an object, not {kind_of(value)}")
    if not value.startswith(CONVERSATION_PREFIX) or value == CONVERSATION_PREFIX or len(value) > MAX_KEY:
        refuse(param, f"is no id of a conversation: it must begin with `{CONVERSATION_PREFIX}`, not {value[:80]!r}")
    return str(value).removeprefix(CONVERSATION_PREFIX)


def _reasoning(value: Any, param: str) -> dict[str, Any]:
    """How much the model is to think, and whether that is shown as a summary."""
    given: dict[str, Any] = mapping(value, param)
    maybe(given, "effort", one_of(*LEVELS), param)
    for name in ("summary", "generate_summary"):
        maybe(given, name, one_of(*SUMMARIES), param)
    return given


def _wording(value: Any, param: str) -> dict[str, Any]:
    """`text`: format and verbosity."""
    given: dict[str, Any] = mapping(value, param)
    maybe(given, "format", mapping, param)
    maybe(given, "verbosity", one_of(*VERBOSITIES), param)
    return given


FIELDS: Mapping[str, Check] = {
    "model": filled,
    "input": _any,
    "instructions": text,
    # tools
    "tools": listing,
    "tool_choice": _any,
    "parallel_tool_calls": flag,
    "max_tool_calls": whole(1),
    # what comes back, and how
    "include": texts,
    "stream": flag,
    "stream_options": mapping,
    "background": flag,
    "text": _wording,
    "reasoning": _reasoning,
    "metadata": metadata,
    # what is remembered
    "store": flag,
    "previous_response_id": filled,
    "conversation": conversation,
    # sampling
    "max_output_tokens": whole(1),
    "temperature": number(0, 2),
    "top_p": number(0, 1),
    "top_logprobs": whole(0, 20),
    # of services that are not here: accepted, without effect
    "truncation": one_of("auto", "disabled"),
    "service_tier": text,
    "user": text,
    "safety_identifier": text,
    "prompt_cache_key": text,
    "prompt_cache_options": mapping,
    "prompt_cache_retention": text,
}
# What asks for something that there is not here.
REFUSED = (
    "access_programs",
    "background_options",
    "context_management",
    "image",
    "moderation",
    "prompt",
)
COUNTED: Mapping[str, Check] = {**FIELDS, "personality": text}  # of POST responses/input_tokens
QWEN_FIELDS: Mapping[str, Check] = {
    **FIELDS,
    "enable_thinking": flag,
    "enable_search": lambda value, param: check_search(flag(value, param)),
    "thinking_budget": whole(0),
    "top_k": whole(0),
    "repetition_penalty": number(0),
    "seed": whole(-(2**63), 2**63 - 1),
}
QWEN_PASSED = ("thinking_budget", "top_k", "repetition_penalty", "seed")  # go to the upstream as they are
OPTIONS = {  # field -> its name as an option of the upstream
    "max_output_tokens": "max_completion_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
}
ECHOED = (  # what the response repeats as it was
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "temperature",
    "text",
    "tool_choice",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
)


def read_format(value: Mapping[str, Any] | None) -> Format | None:
    """`text.format`; None for plain text. Raises BadRequest."""
    given, param = (value or {}).get("format"), "text.format"
    if given is None:
        return None
    kind = member(given, "type", one_of(*FORMAT_TYPES), param)
    if kind == "text":
        return None
    if kind == "json_object":
        return Format()
    return Format(
        name=member(given, "name", filled, param),
        schema=member(given, "schema", schema, param),
        description=maybe(given, "description", text, param),
        strict=maybe(given, "strict", flag, param),
    )
