"""The dialect of chat completions, as Groq serves them: what comes in, and who writes what goes out.

Promises: every documented field is read by one table (FIELDS), which says how it is checked and what becomes of it;
fields that are none of Groq's go to the upstream as they are; nothing a client sends raises anything but ClientError.
The answer is written by chat_writer, errors by chat_errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from belljar.dialects.base import Dialect, Incoming, Reply, Route, Start, Writer, read_bearer, read_json, write_json
from belljar.dialects.chat_errors import write_error
from belljar.dialects.chat_messages import read_messages
from belljar.dialects.chat_settings import (
    FORMATS,
    KEY,
    PASSTHROUGH,
    SYSTEMS,
    TIERS,
    VERSION_HEADER,
    VERSIONS,
    Settings,
)
from belljar.dialects.chat_tools import Tools, read_tools
from belljar.dialects.chat_writer import ChatWriter
from belljar.dialects.fields import (
    Check,
    bias,
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
    single,
    stops,
    text,
    texts,
    whole,
    words,
)
from belljar.errors import BelljarError
from belljar.model import Format, ModelInfo, Request

OPTION = "option"  # goes to the upstream under its own name, as Request.options
OURS = "ours"  # is read below
NOTHING = "nothing"  # is checked, and has no effect here


def _any(value: Any, param: str) -> Any:
    """A value that is checked where it is used."""
    return value


FIELDS: Mapping[str, tuple[Check, str]] = {
    "messages": (listing, OURS),
    "model": (filled, OURS),
    # tools
    "tools": (listing, OURS),
    "tool_choice": (_any, OURS),
    "functions": (listing, OURS),
    "function_call": (_any, OURS),
    "parallel_tool_calls": (flag, OURS),
    "disable_tool_validation": (flag, OURS),
    "compound_custom": (mapping, OURS),
    # what comes back, and how
    "stream": (flag, OURS),
    "stream_options": (mapping, OURS),
    "response_format": (mapping, OURS),
    "reasoning_effort": (one_of("none", "default", "minimal", "low", "medium", "high"), OURS),
    "reasoning_format": (one_of(*FORMATS), OURS),
    "include_reasoning": (flag, OURS),
    "service_tier": (one_of(*TIERS), OURS),
    "n": (single, NOTHING),
    # sampling
    "max_completion_tokens": (whole(1), OPTION),
    "max_tokens": (whole(1), OPTION),
    "temperature": (number(0, 2), OPTION),
    "top_p": (number(0, 1), OPTION),
    "frequency_penalty": (number(-2, 2), OPTION),
    "presence_penalty": (number(-2, 2), OPTION),
    "seed": (whole(-(2**63), 2**63 - 1), OPTION),
    "stop": (stops, OPTION),
    "logit_bias": (bias, OPTION),
    "logprobs": (flag, OPTION),
    "top_logprobs": (whole(0, 20), OPTION),
    "user": (text, OPTION),
    # files beside the messages
    "documents": (listing, OURS),
    # of services that are not here
    "citation_options": (one_of("enabled", "disabled"), NOTHING),
    "search_settings": (mapping, NOTHING),
    "include_domains": (texts, NOTHING),
    "exclude_domains": (texts, NOTHING),
    "metadata": (mapping, NOTHING),
    "store": (flag, NOTHING),
}

DEFAULT_EFFORT = "default"  # says that the model is to do as it does
FORMAT_TYPES = ("text", "json_object", "json_schema")


class ChatCompletions:
    """Groq's chat completions. Holds no state."""

    name = "chat_completions"
    prefixes: Sequence[str] = ("/openai/v1", "/v1")
    routes: Sequence[Route] = tuple(
        Route(method=method, path=prefix + path, action=action)
        for prefix in ("/openai/v1", "/v1")
        for method, path, action in (
            ("POST", "/chat/completions", "generate"),
            ("GET", "/models", "models"),
            ("GET", "/models/{id:path}", "model"),
        )
    )
    systems: Sequence[str] = tuple(SYSTEMS)
    heartbeat = b" "

    def claims(self, incoming: Incoming) -> bool:
        """Nothing marks a request as one of this dialect."""
        return False

    def write_count(self, tokens: int, request: Request) -> bytes:
        """Not served: no route has this action."""
        return write_json({"total_tokens": tokens})

    def lenient(self) -> Dialect:
        """The same: this vendor refuses nothing that could be done."""
        return self

    def read_key(self, incoming: Incoming) -> str | None:
        """The bearer token."""
        return read_bearer(incoming)

    def read_request(self, incoming: Incoming) -> Request:
        """What is asked for. Raises BadRequest."""
        body = read_json(incoming.body)
        if not isinstance(body, dict):
            refuse("body", f"must be a JSON object, not {kind_of(body)}")
        fields: dict[str, dict[str, Any]] = {OPTION: {}, OURS: {}, NOTHING: {}}
        passthrough = {}
        for name, value in body.items():
            if name not in FIELDS:
                passthrough[name] = value
            elif value is not None:
                check, place = FIELDS[name]
                fields[place][name] = check(value, name)
        return _build(fields[OURS], _read_options(fields[OPTION]), passthrough, incoming.headers)

    def writer(self, request: Request, start: Start) -> Writer:
        """A writer for the answer to this request."""
        return ChatWriter(request, start)

    def write_models(self, models: Sequence[ModelInfo]) -> bytes:
        """The list of models."""
        return write_json({"object": "list", "data": [_model(model) for model in models]})

    def write_model(self, model: ModelInfo) -> bytes:
        """One model."""
        return write_json(_model(model))

    def write_error(self, error: BelljarError, request: Request | None, request_id: str = "") -> Reply:
        """An error before the first byte of an answer."""
        return write_error(error, request)


DIALECT = ChatCompletions()


def _model(model: ModelInfo) -> dict[str, Any]:
    own = {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owner, "active": True}
    return own | {name: value for name, value in model.extra.items() if name not in own}


def _build(
    fields: Mapping[str, Any], options: dict[str, Any], passthrough: dict[str, Any], headers: Mapping[str, str]
) -> Request:
    """The request that checked fields make."""
    for name in ("model", "messages"):
        if name not in fields:
            refuse(name, "is required")
    model = fields["model"]
    system = SYSTEMS.get(model)
    tools = read_tools(fields, model)
    effort = fields.get("reasoning_effort")
    settings = _read_settings(fields, options, tools, headers)
    return Request(
        model=model,
        messages=read_messages(fields["messages"], fields.get("documents"), images_as_files=bool(tools.builtin)),
        builtin=tools.builtin,
        functions=tools.functions,
        choice=tools.choice,
        parallel=False if tools.legacy else fields.get("parallel_tool_calls"),
        options=options,
        format=_read_format(fields.get("response_format"), settings),
        effort=effort if effort != DEFAULT_EFFORT else None,
        stream=fields.get("stream", False),
        planning=tools.planning,
        answering=tools.answering,
        max_calls=system.max_calls if system else None,
        validate_calls=not fields.get("disable_tool_validation", False),
        extra={KEY: settings, PASSTHROUGH: passthrough} if passthrough else {KEY: settings},
    )


def _read_options(options: dict[str, Any]) -> dict[str, Any]:
    """Sampling parameters that fit each other."""
    if "max_tokens" in options and "max_completion_tokens" in options:
        if options["max_tokens"] != options["max_completion_tokens"]:
            refuse("max_tokens", "differs from `max_completion_tokens`: give only one of them")
        del options["max_tokens"]
    if "top_logprobs" in options and not options.get("logprobs"):
        refuse("top_logprobs", "needs `logprobs` to be true")
    return options


def _read_settings(
    fields: Mapping[str, Any], options: Mapping[str, Any], tools: Tools, headers: Mapping[str, str]
) -> Settings:
    """How the answer is to be written."""
    compound = fields["model"] in SYSTEMS
    return Settings(
        compound=compound,
        reasoning=_read_reasoning(fields),
        include_usage=bool(maybe(fields.get("stream_options") or {}, "include_usage", flag, "stream_options")),
        tier=TIERS[fields.get("service_tier", "auto")],
        version=_read_version(headers) if compound else None,
        seed=options.get("seed"),
        legacy=tools.legacy,
    )


def _read_reasoning(fields: Mapping[str, Any]) -> str:
    """Where reasoning goes: one of FORMATS."""
    if "include_reasoning" not in fields:
        return str(fields.get("reasoning_format", "parsed"))
    if "reasoning_format" in fields:
        refuse("include_reasoning", "cannot be given beside `reasoning_format`: give only one of them")
    return "parsed" if fields["include_reasoning"] else "hidden"


def _read_version(headers: Mapping[str, str]) -> str:
    """The version of a compound system that is in effect. Raises BadRequest."""
    given = headers.get(VERSION_HEADER, "").strip()
    if given not in VERSIONS:
        known = words(version for version in VERSIONS if version)
        refuse("Groq-Model-Version", f"must be one of {known}, or absent, not {given[:40]!r}")
    return VERSIONS[given]


def _read_format(value: Mapping[str, Any] | None, settings: Settings) -> Format | None:
    """`response_format`; None for plain text."""
    if value is None:
        return None
    kind = member(value, "type", one_of(*FORMAT_TYPES), "response_format")
    if kind == "text":
        return None
    if settings.reasoning == "raw":
        refuse("reasoning_format", "cannot be `raw` with JSON as `response_format`: use `parsed` or `hidden`")
    if kind == "json_object":
        return Format()
    place = "response_format.json_schema"
    given = member(value, "json_schema", mapping, "response_format")
    return Format(
        name=member(given, "name", filled, place),
        schema=maybe(given, "schema", schema, place),
        description=maybe(given, "description", text, place),
        strict=maybe(given, "strict", flag, place),
    )
