"""The tools of an interaction, and which of them the model may or must call.

Promises: `code_execution` becomes the built-in tool `python`, `function` a function of the client's own; whatever else
Google knows is refused by name: nothing asked for is silently left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from belljar.dialects.fields import kind_of, listing, mapping, maybe, member, refuse, text, texts, words
from belljar.dialects.functions import read_name
from belljar.dialects.gemini_interactions_settings import CODE_EXECUTION, PYTHON, UNAVAILABLE
from belljar.model import Choice, Function, Mode

MAX_TOOLS = 128
TYPES = ("function", CODE_EXECUTION)
MODES = {"auto": Mode.AUTO, "any": Mode.REQUIRED, "none": Mode.NONE, "validated": Mode.AUTO}
UNAVAILABLE_HERE = "is `{name}`, which is not available on this server; here there is {instead}"

Builtin = tuple[str, ...]
Functions = tuple[Function, ...]


def read_tools(value: Any) -> tuple[Builtin, Functions]:
    """The built-in tools and the functions among `tools`. Raises BadRequest."""
    if value is None:
        return (), ()
    items = listing([value] if isinstance(value, dict) else value, "tools")
    if len(items) > MAX_TOOLS:
        refuse("tools", f"must hold at most {MAX_TOOLS} tools")
    builtin: Builtin = ()
    functions: dict[str, Function] = {}
    for at, item in enumerate(items):
        place = f"tools.{at}"
        kind = member(mapping(item, place), "type", text, place)
        if kind == CODE_EXECUTION:
            builtin = (PYTHON,)
        elif kind == "function":
            function = _read_function(item, place)
            if function.name in functions:
                refuse(f"{place}.name", f"`{function.name}` is the name of another function: give each its own")
            functions[function.name] = function
        elif kind in UNAVAILABLE:
            refuse(f"{place}.type", UNAVAILABLE_HERE.format(name=kind, instead=words(TYPES)))
        else:
            refuse(f"{place}.type", f"must be one of {words(TYPES)}, not {kind[:40]!r}")
    if builtin and PYTHON in functions:
        refuse("tools", f"holds a function called `{PYTHON}`, the name that `{CODE_EXECUTION}` has: rename it")
    return builtin, tuple(functions.values())


def _read_function(value: Mapping[str, Any], param: str) -> Function:
    return Function(
        name=read_name(value, param),
        description=maybe(value, "description", text, param) or "",
        parameters=maybe(value, "parameters", mapping, param),
    )


def read_choice(value: Any, builtin: Builtin, functions: Functions) -> tuple[Choice, Builtin, Functions]:
    """`tool_choice`: a mode, or the tools that are allowed; with what is left of the tools. Raises BadRequest."""
    param = "generation_config.tool_choice"
    if isinstance(value, str):
        return Choice(mode=_mode(value, param, bool(builtin or functions))), builtin, functions
    if not isinstance(value, dict):
        refuse(param, f"must be one of {words(MODES)}, or an object, not {kind_of(value)}")
    place = f"{param}.allowed_tools"
    allowed = member(value, "allowed_tools", mapping, param)
    names = maybe(allowed, "tools", texts, place)
    mode = _mode(maybe(allowed, "mode", text, place) or "auto", f"{place}.mode", bool(builtin or functions))
    if names is None:
        return Choice(mode=mode), builtin, functions
    known = {function.name for function in functions} | {CODE_EXECUTION for _ in builtin}
    for at, name in enumerate(names):
        if name not in known:
            refuse(f"{place}.tools.{at}", f"names {name[:80]!r}, which is not in `tools`")
    builtin = builtin if CODE_EXECUTION in names else ()
    functions = tuple(function for function in functions if function.name in names)
    if mode is Mode.REQUIRED and len(set(names)) == 1:
        return Choice(mode=mode, name=PYTHON if builtin else functions[0].name), builtin, functions
    if not builtin and not functions:
        return Choice(), builtin, functions
    return Choice(mode=mode), builtin, functions


def _mode(value: str, param: str, has_tools: bool) -> Mode:
    mode = MODES.get(value.lower())
    if mode is None:
        refuse(param, f"must be one of {words(MODES)}, not {value[:40]!r}")
    if mode is Mode.REQUIRED and not has_tools:
        refuse(param, f"is `{value}`, but there are no `tools`: add some, or leave it out")
    return mode
