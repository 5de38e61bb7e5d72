"""The tools of a chat completions request: what the model may call, what it must, and what a compound system may use.

Promises: `code_interpreter` becomes the built-in tool `python`, `function` a function of the client's own; whatever
else Groq knows is refused by name, as it is not to be had here: nothing asked for is silently left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from belljar.dialects.chat_settings import CODE_INTERPRETER, PYTHON, SYSTEMS, UNAVAILABLE, System
from belljar.dialects.fields import filled, kind_of, mapping, maybe, member, refuse, text, texts, words
from belljar.dialects.functions import read_function
from belljar.model import Choice, Function, Mode

MAX_TOOLS = 128
TYPES = ("function", CODE_INTERPRETER)
ENABLED = (CODE_INTERPRETER, "web_search", "visit_website", "browser_automation", "wolfram_alpha")  # as Groq has them
ANY = Choice()
MODES = {mode.value: mode for mode in Mode}

OWN_TOOLS = "cannot hold functions with model `{model}`, which has its own tools: leave them out, or use another model"
UNAVAILABLE_HERE = "is `{name}`, which is not available on this server; here there is {instead}"


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """What the fields about tools say together. `legacy` is True for `functions`."""

    builtin: tuple[str, ...] = ()
    functions: tuple[Function, ...] = ()
    choice: Choice = ANY
    legacy: bool = False
    planning: str | None = None
    answering: str | None = None


ABOUT_TOOLS = ("tools", "functions", "tool_choice", "function_call", "compound_custom")
NO_TOOLS = Tools()


def read_tools(fields: Mapping[str, Any], model: str) -> Tools:
    """All fields about tools of a request. Raises BadRequest."""
    system = SYSTEMS.get(model)
    if system is None and fields.keys().isdisjoint(ABOUT_TOOLS):
        return NO_TOOLS
    custom = _read_custom(fields.get("compound_custom") or {}, system, model)
    builtin, functions = _read_list(fields.get("tools") or [])
    legacy = fields.get("functions") or []
    if legacy and fields.get("tools"):
        refuse("functions", "cannot be given beside `tools`: use `tools` alone")
    functions += [
        read_function(mapping(item, f"functions.{at}"), f"functions.{at}", filled) for at, item in enumerate(legacy)
    ]
    if system is not None:
        if functions:
            refuse("functions" if legacy else "tools", OWN_TOOLS.format(model=model))
        builtin = custom.builtin
    _check_names(functions, builtin, "functions" if legacy else "tools")
    return Tools(
        builtin=tuple(builtin),
        functions=tuple(functions),
        choice=_read_choice(fields, builtin, functions),
        legacy=bool(legacy),
        planning=custom.planning,
        answering=custom.answering,
    )


# --- the list ---------------------------------------------------------------------------------------------------------


def _read_list(values: list[Any]) -> tuple[tuple[str, ...], list[Function]]:
    """The built-in tools and the functions among them."""
    if len(values) > MAX_TOOLS:
        refuse("tools", f"must hold at most {MAX_TOOLS} tools")
    builtin: tuple[str, ...] = ()
    functions = []
    for at, value in enumerate(values):
        place = f"tools.{at}"
        kind = member(mapping(value, place), "type", text, place)
        if kind == CODE_INTERPRETER:
            builtin = (PYTHON,)
        elif kind == "function":
            functions.append(read_function(member(value, "function", mapping, place), f"{place}.function", filled))
        elif kind in UNAVAILABLE:
            refuse(f"{place}.type", UNAVAILABLE_HERE.format(name=kind, instead=words(TYPES)))
        else:
            refuse(f"{place}.type", f"must be one of {words(TYPES)}, not {kind[:40]!r}")
    return builtin, functions


def _check_names(functions: list[Function], builtin: tuple[str, ...], param: str) -> None:
    names: set[str] = set()
    for function in functions:
        if function.name in names:
            refuse(param, f"holds two functions called `{function.name}`: give each a name of its own")
        if function.name in builtin:
            refuse(param, f"holds a function called `{function.name}`, the name that `code_interpreter` has: rename it")
        names.add(function.name)


# --- the choice -------------------------------------------------------------------------------------------------------


def _read_choice(fields: Mapping[str, Any], builtin: tuple[str, ...], functions: list[Function]) -> Choice:
    """`tool_choice`, or the older `function_call`."""
    param = "tool_choice" if fields.get("tool_choice") is not None else "function_call"
    value = fields.get(param)
    if value is None:
        return ANY
    if isinstance(value, str):
        return Choice(mode=_read_mode(value, param, bool(builtin or functions)))
    if not isinstance(value, dict):
        refuse(param, f"must be one of {words(MODES)}, or an object that names a tool, not {kind_of(value)}")
    name, place = NAMED[param](value, param)
    known = {**dict.fromkeys(function.name for function in functions), **dict.fromkeys(builtin)}
    if name == CODE_INTERPRETER and name not in known:
        name = PYTHON
    if name not in known:
        refuse(place, f"names {name[:80]!r}, which is not in `tools`: add it there, or choose one of them")
    return Choice(mode=Mode.REQUIRED, name=name)


def _read_mode(value: str, param: str, has_tools: bool) -> Mode:
    mode = MODES.get(value)
    if mode is None:
        refuse(param, f"must be one of {words(MODES)}, or an object that names a tool, not {value[:40]!r}")
    if mode is Mode.REQUIRED and not has_tools:
        refuse(param, "is `required`, but there are no `tools`: add some, or leave it out")
    return mode


def _name_in_choice(value: Mapping[str, Any], param: str) -> tuple[str, str]:
    kind = member(value, "type", text, param)
    if kind == CODE_INTERPRETER:
        return PYTHON, f"{param}.type"
    if kind != "function":
        refuse(f"{param}.type", f"must be one of {words(TYPES)}, not {kind[:40]!r}")
    place = f"{param}.function"
    return member(member(value, "function", mapping, param), "name", text, place), f"{place}.name"


def _name_in_call(value: Mapping[str, Any], param: str) -> tuple[str, str]:
    return member(value, "name", text, param), f"{param}.name"


NAMED: Mapping[str, Callable[[Mapping[str, Any], str], tuple[str, str]]] = {
    "tool_choice": _name_in_choice,
    "function_call": _name_in_call,
}

# --- compound systems -------------------------------------------------------------------------------------------------


def _read_custom(value: Mapping[str, Any], system: System | None, model: str) -> Tools:
    """`compound_custom`: which models a system asks, and which of its tools it may use."""
    if system is None:
        if value:
            refuse("compound_custom", f"is for {words(SYSTEMS)}, not for `{model[:80]}`: leave it out")
        return Tools()
    models = maybe(value, "models", mapping, "compound_custom") or {}
    tools = maybe(value, "tools", mapping, "compound_custom") or {}
    place = "compound_custom.models"
    return Tools(
        builtin=_read_enabled(maybe(tools, "enabled_tools", texts, "compound_custom.tools")),
        planning=maybe(models, "reasoning_model", filled, place),
        answering=maybe(models, "answering_model", filled, place),
    )


def _read_enabled(names: list[str] | None) -> tuple[str, ...]:
    """The built-in tools that a system may use: all there are, unless it was told which."""
    if names is None:
        return (PYTHON,)
    for at, name in enumerate(names):
        place = f"compound_custom.tools.enabled_tools.{at}"
        if name not in ENABLED:
            refuse(place, f"must be one of {words(ENABLED)}, not {name[:40]!r}")
        if name != CODE_INTERPRETER:
            refuse(place, UNAVAILABLE_HERE.format(name=name, instead=f"`{CODE_INTERPRETER}`"))
    return (PYTHON,) if names else ()
