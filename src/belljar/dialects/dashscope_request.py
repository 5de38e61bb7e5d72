"""A DashScope request, native form: {"model", "input", "parameters"}, into a neutral one.

Promises: every documented parameter is read by one table (PARAMETERS), which says how it is checked and what becomes
of it; parameters that are not in it go to the upstream as they are; nothing a client sends raises anything but
ClientError. What a field means when it is not given depends on the model's generation, as the vendor has it (MODERN).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from belljar.dialects.base import Incoming, read_json
from belljar.dialects.dashscope_messages import read_input
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
    single,
    stops,
    text,
    whole,
    words,
)
from belljar.dialects.functions import read_function
from belljar.dialects.qwen_rules import (
    CODE_INTERPRETER,
    PYTHON,
    Switches,
    check_search,
    check_switches,
    effort_of,
    name_of,
    pass_thinking,
    read_format,
)
from belljar.errors import BadRequest
from belljar.model import Choice, Function, Mode, Request

KEY = "dashscope"  # of Request.extra
PASSTHROUGH = "passthrough"  # of Request.extra: parameters that are none of ours, for the upstream
PLACE = "parameters."

OPTION = "option"  # goes to the upstream under its own name, as Request.options
PASSED = "passed"  # is checked, and goes to the upstream as it is
OURS = "ours"  # is read below
NOTHING = "nothing"  # is checked, and has no effect here


def _any(value: Any, param: str) -> Any:
    """A value that is checked where it is used, or nowhere."""
    return value


PARAMETERS: Mapping[str, tuple[Check, str]] = {
    # what comes back, and how
    "result_format": (one_of("text", "message"), OURS),
    "incremental_output": (flag, OURS),
    "response_format": (mapping, OURS),
    "n": (single, NOTHING),
    # Qwen's switches
    "enable_code_interpreter": (flag, OURS),
    "enable_thinking": (flag, OURS),
    "thinking_budget": (whole(0), PASSED),
    "enable_search": (flag, OURS),
    "search_options": (mapping, NOTHING),
    # functions of the client's own
    "tools": (listing, OURS),
    "tool_choice": (_any, OURS),
    "parallel_tool_calls": (flag, OURS),
    # sampling
    "max_tokens": (whole(1), OPTION),
    "temperature": (number(0, 2), OPTION),
    "top_p": (number(0, 1), OPTION),
    "top_k": (whole(0), PASSED),
    "repetition_penalty": (number(0), PASSED),
    "presence_penalty": (number(-2, 2), OPTION),
    "frequency_penalty": (number(-2, 2), OPTION),
    "seed": (whole(0, 2**63 - 1), OPTION),
    "stop": (stops, OPTION),
    "logprobs": (flag, OPTION),
    "top_logprobs": (whole(0, 20), OPTION),
    # of services that are not here, and what the SDK tells of itself
    "max_input_tokens": (whole(1), NOTHING),
    "vl_high_resolution_images": (flag, NOTHING),
    "stream": (flag, NOTHING),  # a header says it
    "user_agent": (text, NOTHING),
}

SSE_HEADER, ASYNC_HEADER, PLUGIN_HEADER = "x-dashscope-sse", "x-dashscope-async", "x-dashscope-plugin"
MODERN = ("qwen3", "qwq", "qvq")  # how models' names begin that answer in messages and increments if nothing is said

MAX_TOOLS = 128
MODES = {mode.value: mode for mode in Mode}


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How the answer is to be written. `listed` content is that of the multimodal path: [{"text": ...}]."""

    thinking: bool = False
    as_text: bool = False
    incremental: bool = False
    listed: bool = False
    logprobs: bool = False


DEFAULT = Settings()


def settings_of(request: Request) -> Settings:
    """The settings of a request that this dialect has read; the default ones of any other."""
    found = request.extra.get(KEY)
    return found if isinstance(found, Settings) else DEFAULT


def wants_stream(headers: Mapping[str, str]) -> bool:
    """Whether the answer is to be a stream: headers alone say it."""
    if headers.get(SSE_HEADER, "").strip().lower() == "enable":
        return True
    return "text/event-stream" in headers.get("accept", "").lower()


def read_request(incoming: Incoming, *, listed: bool, strict: bool) -> Request:
    """What is asked for. `listed` says that it is the multimodal path. Raises BadRequest."""
    body = read_json(incoming.body)
    if not isinstance(body, dict):
        refuse("body", f"must be a JSON object, not {kind_of(body)}")
    if incoming.headers.get(ASYNC_HEADER, "").strip().lower() == "enable":
        refuse("X-DashScope-Async", "is not supported here: leave it out")
    model = member(body, "model", filled, "")
    given = member(body, "input", mapping, "")
    fields, options, passed = _read_parameters(maybe(body, "parameters", mapping, "") or {})
    switches = _read_switches(fields, incoming.headers)
    stream = wants_stream(incoming.headers)
    functions = _read_tools(fields.get("tools") or [])
    check_switches(switches, model=model, stream=stream, has_tools=bool(functions), strict=strict, place=PLACE)
    check_search(fields.get("enable_search"), PLACE)
    passthrough = pass_thinking(switches.thinking, passed)
    settings = _read_settings(fields, options, model, switches, listed)
    return Request(
        model=model,
        messages=read_input(given, images_as_files=switches.interpreter),
        builtin=(PYTHON,) if switches.interpreter else (),
        functions=functions,
        choice=_read_choice(fields.get("tool_choice"), functions),
        parallel=fields.get("parallel_tool_calls"),
        options=options,
        format=read_format(fields.get("response_format"), f"{PLACE}response_format"),
        effort=effort_of(switches.thinking),
        stream=stream,
        extra={KEY: settings, PASSTHROUGH: passthrough} if passthrough else {KEY: settings},
    )


def _read_parameters(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What is read here, what are options of the model, and what is passed on unread."""
    places: dict[str, dict[str, Any]] = {OURS: {}, OPTION: {}, PASSED: {}, NOTHING: {}}
    for name, value in values.items():
        if value is not None:
            check, place = PARAMETERS.get(name, (_any, PASSED))
            places[place][name] = check(value, PLACE + name)
    options = places[OPTION]
    if "top_logprobs" in options and not options.get("logprobs"):
        refuse(f"{PLACE}top_logprobs", f"needs `{PLACE}logprobs` to be true")
    return places[OURS], options, places[PASSED]


def _read_switches(fields: Mapping[str, Any], headers: Mapping[str, str]) -> Switches:
    """Qwen's switches; the code interpreter may be asked for in a header as well, as in older clients."""
    plugins = _read_plugins(headers.get(PLUGIN_HEADER, "").strip() or "{}")
    return Switches(
        interpreter=fields.get("enable_code_interpreter", CODE_INTERPRETER in plugins),
        thinking=fields.get("enable_thinking"),
    )


def _read_plugins(header: str) -> dict[str, Any]:
    try:
        plugins = read_json(header)
    except BadRequest:
        plugins = None
    if not isinstance(plugins, dict) or any(name != CODE_INTERPRETER for name in plugins):
        refuse("X-DashScope-Plugin", f"must be a JSON object with `{CODE_INTERPRETER}` alone: no other is here")
    return plugins


def _read_settings(
    fields: Mapping[str, Any], options: Mapping[str, Any], model: str, switches: Switches, listed: bool
) -> Settings:
    thinking = bool(switches.thinking)
    modern = thinking or switches.interpreter or name_of(model).startswith(MODERN)
    in_messages = listed or modern or bool(fields.get("tools"))
    return Settings(
        thinking=thinking,
        as_text=fields.get("result_format", "message" if in_messages else "text") == "text" and not fields.get("tools"),
        incremental=fields.get("incremental_output", modern),
        listed=listed,
        logprobs=options.get("logprobs", False),
    )


# --- tools ------------------------------------------------------------------------------------------------------------


def _read_tools(values: list[Any]) -> tuple[Function, ...]:
    """The client's own functions."""
    if len(values) > MAX_TOOLS:
        refuse(f"{PLACE}tools", f"must hold at most {MAX_TOOLS} tools")
    functions: dict[str, Function] = {}
    for at, value in enumerate(values):
        place = f"{PLACE}tools.{at}"
        maybe(mapping(value, place), "type", one_of("function"), place)
        function = read_function(member(value, "function", mapping, place), f"{place}.function", filled)
        if function.name in functions:
            refuse(f"{place}.function.name", f"is that of another tool, `{function.name}`: give each a name of its own")
        functions[function.name] = function
    return tuple(functions.values())


def _read_choice(value: Any, functions: tuple[Function, ...]) -> Choice:
    """`tool_choice`: a word, or an object that names a function."""
    param = f"{PLACE}tool_choice"
    if value is None:
        return Choice()
    if isinstance(value, str):
        if value not in MODES:
            refuse(param, f"must be one of {words(MODES)}, or an object that names a tool, not {value[:40]!r}")
        if MODES[value] is Mode.REQUIRED and not functions:
            refuse(param, "is `required`, but there are no `parameters.tools`: add some, or leave it out")
        return Choice(mode=MODES[value])
    function = member(mapping(value, param), "function", mapping, param)
    name = member(function, "name", text, f"{param}.function")
    if all(name != function.name for function in functions):
        refuse(f"{param}.function.name", f"names {name[:80]!r}, which is not in `parameters.tools`")
    return Choice(mode=Mode.REQUIRED, name=name)
