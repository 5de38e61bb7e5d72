"""What Alibaba's two chat dialects have in common, native DashScope and the compatible one: Qwen's switches and rules.

Promises: the code interpreter beside the client's own functions is refused, always; Qwen-Max without thinking or
without a stream is refused where the dialect is strict; a switch that was not given changes nothing. Pure.

The switch for thinking reaches an upstream in each of the three ways in which one may know it: `enable_thinking`
(DashScope itself), `chat_template_kwargs` (vLLM, SGLang, llama.cpp) and, where it is off, the effort "none".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from belljar.dialects.fields import filled, flag, mapping, maybe, member, one_of, refuse, schema, text
from belljar.model import Format

PYTHON = "python"  # the built-in tool
CODE_INTERPRETER = "code_interpreter"  # its name on the wire
NO_EFFORT = "none"
FORMAT_TYPES = ("text", "json_object", "json_schema")
MAX_FAMILY = "qwen3-max"  # how the names of models begin that run code in a stream and while thinking only

EXCLUSIVE = "cannot be true beside `{tools}`: the code interpreter and function calling are mutually exclusive"
NEEDS_THINKING = "must be true for `{model}` with `enable_code_interpreter`: this model runs code in thinking mode only"
NEEDS_STREAM = "needs a stream with `{model}`: this model supports the code interpreter in stream mode only"
NO_SEARCH = "is not available on this server: leave it out"


@dataclass(frozen=True, kw_only=True, slots=True)
class Switches:
    """Qwen's own switches, as a request sets them. `thinking` is None where nothing was said of it."""

    interpreter: bool = False
    thinking: bool | None = None


def name_of(model: str) -> str:
    """A model's name without the folder that hubs put before it, in lower case."""
    return model.rpartition("/")[2].lower()


def check_switches(
    switches: Switches, *, model: str, stream: bool, has_tools: bool, strict: bool, place: str = ""
) -> None:
    """Refuse what the vendor refuses; `place` is the path of the switches. Raises BadRequest."""
    if not switches.interpreter:
        return
    if has_tools:
        refuse(f"{place}enable_code_interpreter", EXCLUSIVE.format(tools=f"{place}tools"))
    if not strict or not name_of(model).startswith(MAX_FAMILY):
        return
    if not switches.thinking:
        refuse(f"{place}enable_thinking", NEEDS_THINKING.format(model=model[:80]))
    if not stream:
        refuse(f"{place}enable_code_interpreter", NEEDS_STREAM.format(model=model[:80]))


def check_search(wanted: bool | None, place: str = "") -> None:
    """There is no search here. Raises BadRequest where it is asked for."""
    if wanted:
        refuse(f"{place}enable_search", NO_SEARCH)


def pass_thinking(thinking: bool | None, passthrough: Mapping[str, Any]) -> dict[str, Any]:
    """What goes to the upstream as it is, with the switch for thinking where it was given."""
    if thinking is None:
        return dict(passthrough)
    given = passthrough.get("chat_template_kwargs")
    template = {"enable_thinking": thinking} | (given if isinstance(given, dict) else {})
    return {**passthrough, "enable_thinking": thinking, "chat_template_kwargs": template}


def effort_of(thinking: bool | None) -> str | None:
    """How much a model is to think: nothing where it is switched off, else as it does."""
    return NO_EFFORT if thinking is False else None


def read_format(value: Mapping[str, Any] | None, param: str) -> Format | None:
    """`response_format`; None for plain text. Raises BadRequest."""
    if value is None:
        return None
    kind = member(value, "type", one_of(*FORMAT_TYPES), param)
    if kind == "text":
        return None
    if kind == "json_object":
        return Format()
    place = f"{param}.json_schema"
    given = member(value, "json_schema", mapping, param)
    return Format(
        name=member(given, "name", filled, place),
        schema=maybe(given, "schema", schema, place),
        description=maybe(given, "description", text, place),
        strict=maybe(given, "strict", flag, place),
    )
