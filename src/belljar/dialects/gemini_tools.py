"""The tools of a Gemini request: what the model may call, and what it must.

Promises: `codeExecution` becomes the built-in tool `python`, a function declaration a function of the client's own;
whatever else Google knows is refused by name, as it is not to be had here: nothing asked for is silently left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from belljar.dialects.fields import filled, mapping, refuse, text, words
from belljar.dialects.gemini_fields import anything, each, message, read_message, texts, word_of
from belljar.dialects.gemini_schema import read_json_schema, read_schema
from belljar.dialects.gemini_settings import PYTHON
from belljar.model import Choice, Function, Mode

MAX_FUNCTIONS = 512
NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
ANY = Choice()
AVAILABLE = ("codeExecution", "functionDeclarations")
# Tools that Google knows, and Belljar does not have.
UNAVAILABLE = (
    "computerUse",
    "enterpriseWebSearch",
    "exaAiSearch",
    "fileSearch",
    "googleMaps",
    "googleSearch",
    "googleSearchRetrieval",
    "mcpServers",
    "parallelAiSearch",
    "retrieval",
    "urlContext",
)
MODES = ("MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED")
NAMING = ("ANY", "VALIDATED")  # modes in which allowedFunctionNames says something

CONFIG = {"functionCallingConfig": mapping, "retrievalConfig": anything, "includeServerSideToolInvocations": anything}
CALLING = {"mode": word_of(MODES), "allowedFunctionNames": texts, "streamFunctionCallArguments": anything}
FUNCTION = {
    "name": filled,
    "description": text,
    "parameters": read_schema,
    "parametersJsonSchema": read_json_schema,
    "response": anything,
    "responseJsonSchema": anything,
    "behavior": anything,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Tools:
    """What the fields about tools say together."""

    builtin: tuple[str, ...] = ()
    functions: tuple[Function, ...] = ()
    choice: Choice = ANY


def read_tools(tools: Any, config: Any) -> Tools:
    """`tools` and `toolConfig`; None where they are absent. Raises BadRequest."""
    builtin: tuple[str, ...] = ()
    functions: list[Function] = []
    for value, place in each([] if tools is None else tools, "tools"):
        tool = message(value, place)
        for name in tool:
            _check_known(name, place)
        if "codeExecution" in tool:
            mapping(tool["codeExecution"], f"{place}.codeExecution")
            builtin = (PYTHON,)
        functions += _read_functions(tool.get("functionDeclarations"), f"{place}.functionDeclarations")
    _check_names(functions, builtin)
    return _choose(builtin, functions, {} if config is None else read_message(config, CONFIG, "toolConfig"))


def _check_known(name: str, param: str) -> None:
    if name in UNAVAILABLE:
        refuse(f"{param}.{name}", f"is not available on this server; here there is {words(AVAILABLE)}")
    if name not in AVAILABLE:
        refuse(f"{param}.{name}"[:200], f"is no known tool; here there is {words(AVAILABLE)}")


def _read_functions(value: Any, param: str) -> Iterator[Function]:
    for item, place in each([] if value is None else value, param):
        given = read_message(item, FUNCTION, place)
        if not NAME.fullmatch(given.get("name", "")):
            refuse(f"{place}.name", "must be 1 to 128 letters, digits, `_`, `-`, `.` or `:`")
        if "parameters" in given and "parametersJsonSchema" in given:
            refuse(f"{place}.parametersJsonSchema", "cannot be given beside `parameters`: give only one of them")
        parameters = given.get("parameters", given.get("parametersJsonSchema"))
        yield Function(name=given["name"], description=given.get("description", ""), parameters=parameters)


def _check_names(functions: list[Function], builtin: tuple[str, ...]) -> None:
    if len(functions) > MAX_FUNCTIONS:
        refuse("tools", f"must hold at most {MAX_FUNCTIONS} functions")
    names: set[str] = set()
    for function in functions:
        if function.name in names:
            refuse("tools", f"holds two functions called `{function.name}`: give each a name of its own")
        if function.name in builtin:
            refuse("tools", f"holds a function called `{function.name}`, the name that code execution has: rename it")
        names.add(function.name)


# --- the choice -------------------------------------------------------------------------------------------------------


def _choose(builtin: tuple[str, ...], functions: list[Function], config: Mapping[str, Any]) -> Tools:
    """Who may be called. The mode is about functions: code may be executed in all of them."""
    place = "toolConfig.functionCallingConfig"
    calling = read_message(config.get("functionCallingConfig", {}), CALLING, place)
    mode, allowed = calling.get("mode", "AUTO"), calling.get("allowedFunctionNames") or []
    if allowed and mode not in NAMING:
        refuse(f"{place}.allowedFunctionNames", f"needs one of {words(NAMING)} as `mode`")
    known = {function.name: function for function in functions}
    for at, name in enumerate(allowed):
        if name not in known:
            refuse(f"{place}.allowedFunctionNames[{at}]", f"names {name[:80]!r}, which is in no `functionDeclarations`")
    if allowed:
        functions = [known[name] for name in dict.fromkeys(allowed)]
    choice = ANY
    if mode == "NONE" and builtin:
        functions = []
    elif mode == "NONE" and functions:
        choice = Choice(mode=Mode.NONE)
    elif mode == "ANY":
        if not functions:
            refuse(f"{place}.mode", "is `ANY`, but there are no `functionDeclarations`: add some, or leave it out")
        choice = Choice(mode=Mode.REQUIRED, name=functions[0].name if len(functions) == 1 else None)
    return Tools(builtin=builtin, functions=tuple(functions), choice=choice)
