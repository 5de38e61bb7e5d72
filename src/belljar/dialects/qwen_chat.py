"""The dialect of Qwen's OpenAI-compatible mode: chat completions with Alibaba's switches beside the standard fields.

Built on chat completions: its table of fields, its messages and its functions; what is Qwen's is in EXTRAS. Promises:
fields that are in neither table go to the upstream as they are; nothing a client sends raises anything but ClientError.
The code that ran and what it gave are not shown, as the vendor has it: only its count in `usage.plugins` tells of it.

`strict` says whether Qwen-Max is refused the code interpreter without thinking or without a stream, as the vendor does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from belljar.dialects.base import Incoming, Reply, Route, Start, Writer, read_bearer, read_json, write_json
from belljar.dialects.chat_completions import FIELDS, OPTION
from belljar.dialects.chat_messages import read_messages
from belljar.dialects.chat_settings import SYSTEMS
from belljar.dialects.chat_tools import read_tools
from belljar.dialects.fields import Check, flag, kind_of, mapping, maybe, number, refuse, whole
from belljar.dialects.qwen_chat_writer import KEY, QwenChatWriter, Settings, write_error
from belljar.dialects.qwen_rules import (
    PYTHON,
    Switches,
    check_search,
    check_switches,
    effort_of,
    pass_thinking,
    read_format,
)
from belljar.errors import BelljarError
from belljar.model import ModelInfo, Request

PASSTHROUGH = "passthrough"  # of Request.extra: fields that are none of ours, for the upstream
PASSED = "passed"  # is checked, and goes to the upstream as it is
OURS = "ours"  # is read below
NOTHING = "nothing"  # is checked, and has no effect here

EXTRAS: Mapping[str, tuple[Check, str]] = {
    "enable_code_interpreter": (flag, OURS),
    "enable_thinking": (flag, OURS),
    "thinking_budget": (whole(0), PASSED),
    "enable_search": (flag, OURS),
    "search_options": (mapping, NOTHING),
    "top_k": (whole(0), PASSED),
    "repetition_penalty": (number(0), PASSED),
    "vl_high_resolution_images": (flag, NOTHING),
}
NOT_HERE = ("compound_custom", "reasoning_format", "include_reasoning", "service_tier")  # Groq's own
OLD = ("functions", "function_call")
READ: Mapping[str, tuple[Check, str]] = {
    **{name: entry for name, entry in FIELDS.items() if name not in (*NOT_HERE, *OLD)},
    **EXTRAS,
}
DEFAULT_EFFORT = "default"  # says that the model is to do as it does
PREFIX = "/compatible-mode/v1"


class QwenChat:
    """The compatible mode. Holds no state but its strictness."""

    name = "qwen_chat"
    prefixes: Sequence[str] = (PREFIX,)
    routes: Sequence[Route] = (
        Route(method="POST", path=f"{PREFIX}/chat/completions", action="generate"),
        Route(method="GET", path=f"{PREFIX}/models", action="models"),
        Route(method="GET", path=f"{PREFIX}/models/{{id:path}}", action="model"),
    )
    systems: Sequence[str] = ()
    heartbeat = b" "

    def __init__(self, *, strict: bool = True) -> None:
        self.strict = strict

    def claims(self, incoming: Incoming) -> bool:
        """Nothing marks a request as one of this dialect; its paths are its own."""
        return False

    def lenient(self) -> QwenChat:
        """The same, not strict."""
        return QwenChat(strict=False)

    def read_key(self, incoming: Incoming) -> str | None:
        """The bearer token."""
        return read_bearer(incoming)

    def read_request(self, incoming: Incoming) -> Request:
        """What is asked for. Raises BadRequest."""
        body = read_json(incoming.body)
        if not isinstance(body, dict):
            refuse("body", f"must be a JSON object, not {kind_of(body)}")
        fields: dict[str, Any] = {}
        options: dict[str, Any] = {}
        passed: dict[str, Any] = {}
        for name, value in body.items():
            if name not in READ:
                passed[name] = value
            elif value is not None:
                check, place = READ[name]
                {OPTION: options, PASSED: passed}.get(place, fields)[name] = check(value, name)
        return _build(fields, options, passed, strict=self.strict)

    def writer(self, request: Request, start: Start) -> Writer:
        """A writer for the answer to this request."""
        return QwenChatWriter(request, start)

    def write_count(self, tokens: int, request: Request) -> bytes:
        """Not served: no route has this action."""
        return write_json({"total_tokens": tokens})

    def write_models(self, models: Sequence[ModelInfo]) -> bytes:
        """The list of models."""
        return write_json({"object": "list", "data": [_model(model) for model in models]})

    def write_model(self, model: ModelInfo) -> bytes:
        """One model."""
        return write_json(_model(model))

    def write_error(self, error: BelljarError, request: Request | None, request_id: str = "") -> Reply:
        """An error before the first byte of an answer."""
        return write_error(error, request_id)


DIALECT = QwenChat()


def _model(model: ModelInfo) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owner}


def _build(fields: Mapping[str, Any], options: dict[str, Any], passed: dict[str, Any], *, strict: bool) -> Request:
    """The request that checked fields make."""
    for name in ("model", "messages"):
        if name not in fields:
            refuse(name, "is required")
    for name in OLD:
        if passed.get(name) is not None:
            refuse(name, "is not supported here: use `tools` and `tool_choice`")
    model = fields["model"]
    if model in SYSTEMS:
        refuse("model", f"is `{model}`, a system of another vendor: ask for it at /openai/v1")
    stream = fields.get("stream", False)
    tools = read_tools(fields, model)
    switches = Switches(
        interpreter=fields.get("enable_code_interpreter", False) or bool(tools.builtin),
        thinking=fields.get("enable_thinking"),
    )
    check_switches(switches, model=model, stream=stream, has_tools=bool(tools.functions), strict=strict)
    check_search(fields.get("enable_search"))
    _check_options(options)
    effort = fields.get("reasoning_effort", DEFAULT_EFFORT)
    passthrough = pass_thinking(switches.thinking, passed)
    settings = Settings(
        thinking=bool(switches.thinking),
        include_usage=bool(maybe(fields.get("stream_options") or {}, "include_usage", flag, "stream_options")),
    )
    return Request(
        model=model,
        messages=read_messages(fields["messages"], fields.get("documents"), images_as_files=switches.interpreter),
        builtin=(PYTHON,) if switches.interpreter else (),
        functions=tools.functions,
        choice=tools.choice,
        parallel=fields.get("parallel_tool_calls"),
        options=options,
        format=read_format(fields.get("response_format"), "response_format"),
        effort=effort_of(switches.thinking) or (effort if effort != DEFAULT_EFFORT else None),
        stream=stream,
        validate_calls=not fields.get("disable_tool_validation", False),
        extra={KEY: settings, PASSTHROUGH: passthrough} if passthrough else {KEY: settings},
    )


def _check_options(options: dict[str, Any]) -> None:
    """Sampling parameters that do not fit each other. Raises BadRequest."""
    if "max_tokens" in options and options["max_tokens"] != options.get("max_completion_tokens", options["max_tokens"]):
        refuse("max_tokens", "differs from `max_completion_tokens`: give only one of them")
    if "top_logprobs" in options and not options.get("logprobs"):
        refuse("top_logprobs", "needs `logprobs` to be true")
