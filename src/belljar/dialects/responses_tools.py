"""The tools of a response, the container that code runs in, and which of the tools the model may or must call.

Promises: `code_interpreter` becomes the built-in tool `python`, `function` and `custom` functions of the client's own;
whatever else OpenAI knows is refused by name: nothing asked for is silently left out. What the answer repeats of the
tools is as the client wrote it. The grammar of a custom tool is told to the model, and not enforced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from belljar.dialects.fields import (
    filled,
    kind_of,
    listing,
    mapping,
    maybe,
    member,
    one_of,
    refuse,
    text,
    texts,
    words,
)
from belljar.dialects.functions import read_function, read_name
from belljar.dialects.responses_settings import CODE_INTERPRETER, CONTAINER_PREFIX, FILE_PREFIX, PYTHON
from belljar.model import Choice, Container, Function, Mode

MAX_TOOLS = 128
MAX_FILES = 1_000
MAX_ID = 64
FUNCTION, CUSTOM = "function", "custom"
TYPES = (CODE_INTERPRETER, FUNCTION, CUSTOM)
# Tools of OpenAI's, Groq's and Alibaba's that Belljar does not have.
UNAVAILABLE = (
    "apply_patch",
    "browser_search",
    "computer",
    "computer_use",
    "computer_use_preview",
    "computer-preview",
    "file_search",
    "image_generation",
    "image_search",
    "local_shell",
    "mcp",
    "namespace",
    "programmatic_tool_calling",
    "shell",
    "tool_search",
    "web_extractor",
    "web_search",
    "web_search_2025_08_26",
    "web_search_image",
    "web_search_preview",
    "web_search_preview_2025_03_11",
)
MEMORY = {f"{size}g": size << 30 for size in (1, 4, 16, 64)}  # bytes
MODES = {mode.value: mode for mode in Mode}
CUSTOM_PARAMETERS = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}
SYNTAXES = {"lark": "Lark grammar", "regex": "regular expression"}
GRAMMAR = "{description}\n\n`input` must follow this {syntax}:\n{definition}"
UNAVAILABLE_HERE = "is `{name}`, which is not available on this server; here there is {instead}"


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """What the fields about tools say together. `container` is None where no code is to run.

    `echo` is the list as the response repeats it, `custom` holds the names of custom tools.
    """

    builtin: tuple[str, ...] = ()
    functions: tuple[Function, ...] = ()
    custom: frozenset[str] = frozenset()
    container: Container | None = None
    choice: Choice = Choice()
    echo: tuple[Mapping[str, Any], ...] = ()


NO_TOOLS = Tools()


def read_tools(fields: Mapping[str, Any]) -> Tools:
    """All fields about tools of a request. Raises BadRequest."""
    if fields.get("tools") is None and fields.get("tool_choice") is None:
        return NO_TOOLS
    tools = _read_list(fields.get("tools") or [])
    return _choose(fields["tool_choice"], tools) if fields.get("tool_choice") is not None else tools


# --- the list ---------------------------------------------------------------------------------------------------------


def _read_list(values: Sequence[Any]) -> Tools:
    if len(values) > MAX_TOOLS:
        refuse("tools", f"must hold at most {MAX_TOOLS} tools")
    container: Container | None = None
    functions: dict[str, Function] = {}
    custom: set[str] = set()
    echo = []
    for at, value in enumerate(values):
        place = f"tools.{at}"
        kind = read_type(mapping(value, place), place)
        if kind == CODE_INTERPRETER:
            if container is not None:
                refuse(f"{place}.type", f"is `{kind}` for the second time: one is enough")
            container = _read_interpreter(value, place)
            echo.append(value if value.get("container") is not None else value | {"container": {"type": "auto"}})
            continue
        function = (_read_custom if kind == CUSTOM else read_function)(value, place)
        if function.name in functions:
            refuse(f"{place}.name", f"`{function.name}` is the name of another tool: give each its own")
        functions[function.name] = function
        custom |= {function.name} if kind == CUSTOM else set()
        echo.append(value if kind == CUSTOM else {"strict": True, "parameters": None, "description": None} | value)
    if container is not None and PYTHON in functions:
        refuse("tools", f"holds a function called `{PYTHON}`, the name that `{CODE_INTERPRETER}` has: rename it")
    return Tools(
        builtin=(PYTHON,) if container is not None else (),
        functions=tuple(functions.values()),
        custom=frozenset(custom),
        container=container,
        echo=tuple(echo),
    )


def read_type(value: Mapping[str, Any], param: str) -> str:
    """The type of a tool that there is here. Raises BadRequest."""
    kind: str = member(value, "type", text, param)
    if kind in UNAVAILABLE:
        refuse(f"{param}.type", UNAVAILABLE_HERE.format(name=kind, instead=words(TYPES)), code="unsupported_value")
    if kind not in TYPES:
        refuse(f"{param}.type", f"must be one of {words(TYPES)}, not {kind[:40]!r}", code="invalid_value")
    return kind


def _read_custom(value: Mapping[str, Any], param: str) -> Function:
    """A tool that takes any text, as a function that takes it as `input`."""
    name, description = read_name(value, param), maybe(value, "description", text, param) or ""
    given, place = maybe(value, "format", mapping, param) or {"type": "text"}, f"{param}.format"
    if member(given, "type", one_of("text", "grammar"), place) == "grammar":
        syntax = SYNTAXES[member(given, "syntax", one_of(*SYNTAXES), place)]
        definition = member(given, "definition", text, place)
        description = GRAMMAR.format(description=description, syntax=syntax, definition=definition).strip()
    return Function(name=name, description=description, parameters=CUSTOM_PARAMETERS)


# --- the container ----------------------------------------------------------------------------------------------------


def _read_interpreter(value: Mapping[str, Any], param: str) -> Container:
    """What `container` asks for: one that there is, or a new one, as it is where nothing is said."""
    for at, caller in enumerate(maybe(value, "allowed_callers", texts, param) or ("direct",)):
        if caller != "direct":
            refuse(f"{param}.allowed_callers.{at}", "must be `direct`: nothing else calls tools on this server")
    given, place = value.get("container"), f"{param}.container"
    if given is None:
        return Container()
    if isinstance(given, str):
        return Container(id=container_id(given, place))
    if not isinstance(given, dict):
        refuse(place, f"must be the id of a container or an object, not {kind_of(given)}")
    member(given, "type", one_of("auto"), place)
    memory = maybe(given, "memory_limit", one_of(*MEMORY), place)
    check_network(given, place)
    return Container(files=read_file_ids(given, place), memory=MEMORY[memory] if memory is not None else None)


def container_id(value: str, param: str) -> str:
    """A container's id without its prefix. Raises BadRequest."""
    if not value.startswith(CONTAINER_PREFIX) or not value > CONTAINER_PREFIX or len(value) > MAX_ID:
        refuse(param, f"is no id of a container: it must begin with `{CONTAINER_PREFIX}`, as {value[:80]!r} does not")
    return value.removeprefix(CONTAINER_PREFIX)


def read_file_ids(value: Mapping[str, Any], param: str) -> tuple[str, ...]:
    """The ids under `file_ids`, without their prefix. Raises BadRequest."""
    given = maybe(value, "file_ids", texts, param) or []
    if len(given) > MAX_FILES:
        refuse(f"{param}.file_ids", f"must hold at most {MAX_FILES:,} files")
    return tuple(
        dict.fromkeys(
            file_id(identity, f"{param}.file_ids.{at}" if param else f"file_ids.{at}")
            for at, identity in enumerate(given)
        )
    )


def file_id(value: str, param: str) -> str:
    """The id of an uploaded file without its prefix. Raises BadRequest."""
    if not filled(value, param).startswith(FILE_PREFIX) or not value > FILE_PREFIX or len(value) > MAX_ID:
        refuse(param, f"is no id of a file: it must begin with `{FILE_PREFIX}`, as {value[:80]!r} does not")
    return value.removeprefix(FILE_PREFIX)


def check_network(value: Mapping[str, Any], param: str) -> None:
    """`network_policy`: there is no network in a container. Raises BadRequest where one is asked for."""
    place = f"{param}.network_policy" if param else "network_policy"
    policy = maybe(value, "network_policy", mapping, param)
    if policy is not None and member(policy, "type", one_of("disabled", "allowlist"), place) != "disabled":
        refuse(f"{place}.type", "must be `disabled`: code has no network on this server", code="unsupported_value")


# --- the choice -------------------------------------------------------------------------------------------------------


def _choose(value: Any, tools: Tools) -> Tools:
    """`tool_choice`: a mode, one tool, or the tools that are allowed; with what is left of the tools."""
    param = "tool_choice"
    if isinstance(value, str):
        return _with(tools, Choice(mode=_mode(value, param, tools)))
    if not isinstance(value, dict):
        refuse(param, f"must be one of {words(MODES)}, or an object, not {kind_of(value)}")
    if value.get("type") == "allowed_tools":
        return _allow(value, param, tools)
    return _with(tools, Choice(mode=Mode.REQUIRED, name=_name(value, param, tools)))


def _with(tools: Tools, choice: Choice, names: Sequence[str] | None = None) -> Tools:
    """The tools with a choice, and no others than those of `names`."""
    left = [*tools.builtin, *(function.name for function in tools.functions)] if names is None else names
    return Tools(
        builtin=tuple(name for name in tools.builtin if name in left),
        functions=tuple(function for function in tools.functions if function.name in left),
        custom=tools.custom,
        container=tools.container if PYTHON in left else None,
        choice=choice,
        echo=tools.echo,
    )


def _mode(value: str, param: str, tools: Tools) -> Mode:
    mode = MODES.get(value)
    if mode is None:
        refuse(param, f"must be one of {words(MODES)}, or an object, not {value[:40]!r}", code="invalid_value")
    if mode is Mode.REQUIRED and not (tools.builtin or tools.functions):
        refuse(param, "is `required`, but there are no `tools`: add some, or leave it out")
    return mode


def _allow(value: Mapping[str, Any], param: str, tools: Tools) -> Tools:
    mode = member(value, "mode", one_of("auto", "required"), param)
    given = member(value, "tools", listing, param)
    names = []
    for at, item in enumerate(given):
        place = f"{param}.tools.{at}"
        names.append(_name(mapping(item, place), place, tools))
    if not names:
        refuse(f"{param}.tools", "must not be empty")
    if mode == "auto":
        return _with(tools, Choice(mode=Mode.AUTO), names)
    return _with(tools, Choice(mode=Mode.REQUIRED, name=names[0] if len(set(names)) == 1 else None), names)


def _name(value: Mapping[str, Any], param: str, tools: Tools) -> str:
    """The tool that an object names, which must be one of the request's."""
    kind = read_type(value, param)
    name, place = _NAMES[kind](value, param)
    if not _holds(tools, kind, name):
        shown = CODE_INTERPRETER if kind == CODE_INTERPRETER else name
        refuse(place, f"names {shown[:80]!r}, which is not in `tools`: add it there, or choose one of them")
    return name


def _holds(tools: Tools, kind: str, name: str) -> bool:
    if kind == CODE_INTERPRETER:
        return name in tools.builtin
    return any(f.name == name and (name in tools.custom) == (kind == CUSTOM) for f in tools.functions)


def _name_of_function(value: Mapping[str, Any], param: str) -> tuple[str, str]:
    return member(value, "name", text, param), f"{param}.name"


def _name_of_interpreter(value: Mapping[str, Any], param: str) -> tuple[str, str]:
    return PYTHON, f"{param}.type"


_NAMES: Mapping[str, Callable[[Mapping[str, Any], str], tuple[str, str]]] = {
    CODE_INTERPRETER: _name_of_interpreter,
    FUNCTION: _name_of_function,
    CUSTOM: _name_of_function,
}
