"""The dialect of Google's Interactions API: what comes in, and who writes what goes out.

Promises: every documented field is read by one table (FIELDS); what is not to be had here is refused by name, and so is
what nobody knows; nothing a client sends raises anything but ClientError. Answers are kept unless `store` is false, so
that they can be asked for again and gone on from. The answer is written by gemini_interactions_writer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from belljar.dialects.base import Dialect, Incoming, Reply, Route, Start, Writer, read_json, write_json
from belljar.dialects.fields import (
    Check,
    filled,
    flag,
    kind_of,
    mapping,
    number,
    one_of,
    refuse,
    schema,
    text,
    texts,
    whole,
    words,
)
from belljar.dialects.gemini_interactions_errors import write_error
from belljar.dialects.gemini_interactions_input import read_input
from belljar.dialects.gemini_interactions_settings import KEY, Settings, settings_of
from belljar.dialects.gemini_interactions_tools import read_choice, read_tools
from belljar.dialects.gemini_interactions_writer import InteractionWriter
from belljar.dialects.google import VERSIONS, read_key
from belljar.errors import BelljarError
from belljar.model import Choice, Format, Message, ModelInfo, Request, Role, Text

FOLDERS = ("/{version}/interactions", "/{version}/projects/{{project}}/locations/{{location}}/interactions")
ROUTES = (
    ("POST", "", "generate"),
    ("GET", "/{id}", "kept"),
    ("POST", "/{id}/cancel", "cancel"),
    ("DELETE", "/{id}", "delete"),
)


def _any(value: Any, param: str) -> Any:
    """A value that is checked where it is used."""
    return value


def _absent(value: Any, param: str) -> Any:
    """Something that there is not here."""
    refuse(param, "is not available on this server: leave it out")


def _texts_only(value: Any, param: str) -> Any:
    """Kinds of output, of which there is one."""
    for at, kind in enumerate(texts(value, param)):
        if kind.lower() != "text":
            refuse(f"{param}.{at}", f"must be `text`: nothing else is written here, not {kind[:40]!r}")
    return value


FIELDS: Mapping[str, Check] = {
    "model": filled,
    "input": _any,
    "tools": _any,
    "system_instruction": text,
    "generation_config": mapping,
    "response_format": _any,
    "response_mime_type": one_of("application/json", "text/plain"),
    "response_modalities": _texts_only,
    "stream": flag,
    "store": flag,
    "background": flag,
    "previous_interaction_id": filled,
    "service_tier": text,
    "safety_settings": _any,
    "labels": mapping,
    # of services that are not here
    "agent": _absent,
    "agent_config": _absent,
    "cached_content": _absent,
    "continuation_token": _absent,
    "environment": _absent,
    "webhook_config": _absent,
}
LEVELS = {"minimal": "minimal", "low": "low", "medium": "medium", "high": "high", "xhigh": "high"}  # -> effort
CONFIG: Mapping[str, tuple[Check, str | None]] = {  # of `generation_config` -> its name as an option; None: read below
    "temperature": (number(0, 2), "temperature"),
    "top_p": (number(0, 1), "top_p"),
    "seed": (whole(-(2**63), 2**63 - 1), "seed"),
    "stop_sequences": (texts, "stop"),
    "max_output_tokens": (whole(1), "max_completion_tokens"),
    "presence_penalty": (number(-2, 2), "presence_penalty"),
    "frequency_penalty": (number(-2, 2), "frequency_penalty"),
    "thinking_level": (one_of(*LEVELS), None),
    "thinking_summaries": (one_of("auto", "none"), None),
    "tool_choice": (_any, None),
    "image_config": (_absent, None),
    "speech_config": (_absent, None),
    "transcription_config": (_absent, None),
    "video_config": (_absent, None),
}
OTHER_OUTPUTS = ("audio", "image", "video")
MAX_STOPS = 5


class GeminiInteractions:
    """Google's Interactions API. Holds no state."""

    name = "gemini_interactions"
    prefixes: Sequence[str] = tuple(f"/{version}/interactions" for version in VERSIONS)
    routes: Sequence[Route] = tuple(
        Route(method=method, path=folder.format(version=version) + path, action=action)
        for version in VERSIONS
        for folder in FOLDERS
        for method, path, action in ROUTES
    )
    systems: Sequence[str] = ()
    heartbeat = b" "

    def claims(self, incoming: Incoming) -> bool:
        """Nothing needs to be claimed: its paths are its own."""
        return False

    def lenient(self) -> Dialect:
        """The same: this vendor refuses nothing that could be done."""
        return self

    def read_key(self, incoming: Incoming) -> str | None:
        """The header of Google's SDKs, `?key=` as people write it, or a bearer token."""
        return read_key(incoming)

    def read_request(self, incoming: Incoming) -> Request:
        """What is asked for. Raises BadRequest."""
        body = read_json(incoming.body)
        if not isinstance(body, dict):
            refuse("body", f"must be a JSON object, not {kind_of(body)}")
        fields = {}
        for name, value in body.items():
            if name not in FIELDS:
                refuse(name[:80], "is not a parameter of this API", code="parameter_unknown")
            if value is not None:
                fields[name] = FIELDS[name](value, name)
        return _build(fields)

    def read_view(self, incoming: Incoming, request: Request) -> Request:
        """A kept request, as it is asked for now: `stream`, `last_event_id`, `include_input`."""
        query = incoming.query
        stream = _switch(query.get("stream", ""), "stream")
        after = query.get("last_event_id", "")
        if after and not (after.isascii() and after.isdigit() and len(after) < 10):
            refuse("last_event_id", f"{after[:40]!r} is the id of no event of this interaction")
        if after and not stream:
            refuse("last_event_id", "needs `stream` to be true")
        settings = replace(
            settings_of(request),
            after=int(after or 0),
            include_input=_switch(query.get("include_input", ""), "include_input"),
        )
        return msgspec.structs.replace(request, stream=stream, extra={**request.extra, KEY: settings})

    def writer(self, request: Request, start: Start) -> Writer:
        """A writer for the answer to this request."""
        return InteractionWriter(request, start)

    def carry(self, request: Request) -> tuple[Message, ...]:
        """All but the system instruction, which is not inherited."""
        return tuple(message for message in request.messages if message.role is not Role.SYSTEM)

    def write_deleted(self, identity: str) -> bytes:
        """Nothing more is said of it."""
        return b"{}"

    def write_count(self, tokens: int, request: Request) -> bytes:
        """Not served: no route has this action."""
        return write_json({"total_tokens": tokens})

    def write_models(self, models: Sequence[ModelInfo]) -> bytes:
        """Not served: no route has this action."""
        return write_json({"models": [{"name": f"models/{model.id}"} for model in models]})

    def write_model(self, model: ModelInfo) -> bytes:
        """Not served: no route has this action."""
        return write_json({"name": f"models/{model.id}"})

    def write_error(self, error: BelljarError, request: Request | None, request_id: str = "") -> Reply:
        """An error before the first byte of an answer."""
        return write_error(error)


DIALECT = GeminiInteractions()


def _switch(value: str, param: str) -> bool:
    """A boolean in a query."""
    if value.lower() not in ("", "true", "false", "0", "1"):
        refuse(param, f"must be `true` or `false`, not {value[:40]!r}")
    return value.lower() in ("true", "1")


def _build(fields: Mapping[str, Any]) -> Request:
    """The request that checked fields make."""
    for name in ("model", "input"):
        if name not in fields:
            refuse(name, "is required")
    builtin, functions = read_tools(fields.get("tools"))
    config, options = _read_config(fields.get("generation_config") or {})
    choice = Choice()
    if config.get("tool_choice") is not None:
        choice, builtin, functions = read_choice(config["tool_choice"], builtin, functions)
    previous, keep = fields.get("previous_interaction_id"), fields.get("store", True)
    if fields.get("background") and not keep:
        refuse("background", "needs `store` to be true: the answer is asked for later")
    level = config.get("thinking_level")
    return Request(
        model=fields["model"].removeprefix("models/"),
        messages=_read_messages(fields, images_as_files=bool(builtin)),
        builtin=builtin,
        functions=functions,
        choice=choice,
        options=options,
        format=_read_format(fields),
        effort=LEVELS[level] if level is not None else None,
        stream=fields.get("stream", False),
        keep=keep,
        background=fields.get("background", False),
        previous=previous,
        extra={KEY: Settings(thoughts=config.get("thinking_summaries") == "auto")},
    )


def _read_messages(fields: Mapping[str, Any], *, images_as_files: bool) -> tuple[Message, ...]:
    goes_on = "previous_interaction_id" in fields
    messages = read_input(fields["input"], images_as_files=images_as_files, goes_on=goes_on)
    instruction = fields.get("system_instruction")
    return (Message(role=Role.SYSTEM, parts=(Text(text=instruction),)), *messages) if instruction else messages


def _read_config(value: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`generation_config`: what is read here, and the options of the upstream."""
    config: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for name, given in value.items():
        place = f"generation_config.{name[:80]}"
        if name not in CONFIG:
            refuse(place, "is not a parameter of this API", code="parameter_unknown")
        check, option = CONFIG[name]
        if given is not None:
            (config if option is None else options)[option or name] = check(given, place)
    if len(options.get("stop", ())) > MAX_STOPS:
        refuse("generation_config.stop_sequences", f"must hold at most {MAX_STOPS} texts")
    if not options.get("stop", True):
        del options["stop"]
    return config, options


def _read_format(fields: Mapping[str, Any]) -> Format | None:
    """`response_format`, one or a list of one, and the older `response_mime_type`; None for plain text."""
    value, place = fields.get("response_format"), "response_format"
    if isinstance(value, list):
        if len(value) > 1:
            refuse(place, "must hold one format: nothing but text is written here")
        value, place = (value[0], f"{place}.0") if value else (None, place)
    if value is None:
        return Format() if fields.get("response_mime_type") == "application/json" else None
    kind = mapping(value, place).get("type")
    if kind in OTHER_OUTPUTS:
        refuse(f"{place}.type", f"is `{kind}`, which is not available on this server; here there is {words(['text'])}")
    if kind != "text":  # the schema itself, as this API had it at first
        return Format(schema=schema(value, place))
    is_json = value.get("mime_type") == "application/json" or value.get("schema") is not None
    if not is_json:
        return None
    given = value.get("schema")
    return Format(schema=schema(given, f"{place}.schema") if given is not None else None)
