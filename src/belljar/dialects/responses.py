"""The dialect of OpenAI's Responses, which Groq and Qwen serve as well: what comes in, and who writes what goes out.

Promises: every documented field is read by one table (FIELDS); what is not to be had here is refused by name, and so is
what nobody knows; nothing a client sends raises anything but ClientError. Answers are kept unless `store` is false, so
that they can be asked for again and gone on from. The answer is written by responses_writer.

The path tells Qwen's way (QWEN): code runs in a sandbox of the request alone, `enable_thinking` and its like are read,
and what Alibaba does not know is ignored, as there. `strict` says whether Qwen-Max is refused the code interpreter
without thinking, as the vendor does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from belljar.dialects.base import (
    Incoming,
    Item,
    Reply,
    Route,
    Start,
    Writer,
    read_bearer,
    read_json,
    write_json,
)
from belljar.dialects.fields import kind_of, refuse, words
from belljar.dialects.qwen_rules import MAX_FAMILY, effort_of, name_of, pass_thinking
from belljar.dialects.responses_errors import write_error
from belljar.dialects.responses_fields import (
    COUNTED,
    ECHOED,
    ENCRYPTED,
    FIELDS,
    INCLUDES,
    LEVELS,
    LOGPROBS,
    OPTIONS,
    OUTPUTS,
    QWEN_FIELDS,
    QWEN_PASSED,
    REFUSED,
    read_format,
)
from belljar.dialects.responses_input import Input, read_input
from belljar.dialects.responses_items import output_items
from belljar.dialects.responses_listed import given_items, write_page
from belljar.dialects.responses_settings import CODE_INTERPRETER, KEY, Settings, key_of, settings_of
from belljar.dialects.responses_tools import Tools, read_tools
from belljar.dialects.responses_writer import ResponseWriter
from belljar.errors import BadRequest, BelljarError
from belljar.events import Answer
from belljar.model import Container, Message, ModelInfo, Request, Role, Text

QWEN = "/api/v2/apps/protocols/compatible-mode/v1"
ALIAS = "/api/openai/v1"  # in one of Groq's guides
BASES = ("/v1", "/openai/v1", ALIAS, QWEN)
PASSTHROUGH = "passthrough"  # of Request.extra: fields that are none of ours, for the upstream
COUNT, COMPACT = "/responses/input_tokens", "/responses/compact"
ROUTES = (
    ("POST", "/responses", "generate"),
    ("POST", COUNT, "count"),
    ("POST", COMPACT, "generate"),  # is refused
    ("GET", "/responses/{id}", "kept"),
    ("DELETE", "/responses/{id}", "delete"),
    ("POST", "/responses/{id}/cancel", "cancel"),
    ("GET", "/responses/{id}/input_items", "input"),
)
MODELS = (("GET", "/models", "models"), ("GET", "/models/{id:path}", "model"))
MAX_SEQUENCE = 10  # digits of a number of an event

NO_INPUT = "One of `input`, `previous_response_id` or `conversation` must be provided."
BOTH = (
    "Mutually exclusive parameters: 'previous_response_id' and 'conversation'. "
    "Ensure you are only providing one of them."
)
EXCLUSIVE = (
    "holds `code_interpreter` beside functions: the code interpreter and function calling are mutually exclusive"
)
NEEDS_THINKING = "must be true for `{model}` with `code_interpreter`: this model runs code in thinking mode only"


class Responses:
    """OpenAI's Responses. Holds no state but its strictness."""

    name = "responses"
    prefixes: Sequence[str] = ("/v1/responses", "/openai/v1/responses", ALIAS, QWEN)
    routes: Sequence[Route] = tuple(
        Route(method=method, path=base + path, action=action)
        for base in BASES
        for method, path, action in (*ROUTES, *(MODELS if base in (ALIAS, QWEN) else ()))
    )
    systems: Sequence[str] = ()
    heartbeat = b" "

    def __init__(self, *, strict: bool = True) -> None:
        self.strict = strict

    def claims(self, incoming: Incoming) -> bool:
        """Nothing needs to be claimed: its paths are its own."""
        return False

    def lenient(self) -> Responses:
        """The same, not strict."""
        return Responses(strict=False)

    def read_key(self, incoming: Incoming) -> str | None:
        """The bearer token."""
        return read_bearer(incoming)

    def read_request(self, incoming: Incoming) -> Request:
        """What is asked for. Raises BadRequest."""
        if incoming.path.endswith(COMPACT):
            refuse("responses/compact", "is not available on this server: conversations are not compacted here")
        body = read_json(incoming.body)
        if not isinstance(body, dict):
            refuse("body", f"must be a JSON object, not {kind_of(body)}")
        if incoming.path.startswith(QWEN):
            return _build(_read_fields(body, QWEN_FIELDS), qwen=True, strict=self.strict)
        return _build(_read_fields(body, COUNTED if incoming.path.endswith(COUNT) else FIELDS, refuses=True))

    def read_view(self, incoming: Incoming, request: Request) -> Request:
        """A kept request, as it is asked for now: `stream`, `starting_after`, `include`."""
        query = incoming.query
        stream, after = _switch(query.get("stream", ""), "stream"), query.get("starting_after", "")
        if after and not (after.isascii() and after.isdigit() and len(after) < MAX_SEQUENCE):
            refuse("starting_after", f"must be the sequence number of an event, not {after[:40]!r}")
        if after and not stream:
            refuse("starting_after", "needs `stream` to be true")
        wanted = ",".join((query.get("include[]", ""), query.get("include", ""))).split(",")
        include = _check_include([name for name in wanted if name])
        settings = settings_of(request)
        settings = replace(
            settings,
            after=int(after) if after else -1,
            outputs=settings.outputs or OUTPUTS in include,
            logprobs=settings.logprobs or LOGPROBS in include,
            encrypted=settings.encrypted or ENCRYPTED in include,
        )
        return msgspec.structs.replace(request, stream=stream, extra={**request.extra, KEY: settings})

    def carry(self, request: Request) -> tuple[Message, ...]:
        """All but the instructions, which are those of one response alone."""
        return request.messages[1:] if settings_of(request).echo.get("instructions") else request.messages

    def writer(self, request: Request, start: Start) -> Writer:
        """A writer for the answer to this request."""
        return ResponseWriter(request, start)

    def write_deleted(self, identity: str) -> bytes:
        """A response has been forgotten."""
        return write_json({"id": identity, "object": "response", "deleted": True})

    def write_input(self, incoming: Incoming, kept: Incoming, start: Start) -> bytes:
        """A page of the items that a response was asked with. Raises BadRequest, UnknownItem."""
        return write_page(given_items(_input_of(kept), key_of(start)), incoming.query)

    def write_items(self, kept: Incoming, answer: Answer, start: Start) -> Sequence[Item]:
        """What is added to a conversation: what was asked, and the answer with all that its code gave."""
        request = self.read_request(kept)
        settings = replace(settings_of(request), outputs=True)
        whole = msgspec.structs.replace(request, extra={**request.extra, KEY: settings})
        asked = [item for item in given_items(_input_of(kept), key_of(start)) if item["type"] != "item_reference"]
        return [Item(id=body["id"], body=body) for body in (*asked, *output_items(whole, answer, start))]

    def read_items(self, items: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
        """Items of a kept conversation as messages. Raises BadRequest."""
        return read_input(list(items), images_as_files=False, goes_on=True, complete=False, param="items").messages

    def write_count(self, tokens: int, request: Request) -> bytes:
        """The number of tokens of a request's prompt."""
        return write_json({"object": "response.input_tokens", "input_tokens": tokens})

    def write_models(self, models: Sequence[ModelInfo]) -> bytes:
        """The list of models."""
        return write_json({"object": "list", "data": [_model(model) for model in models]})

    def write_model(self, model: ModelInfo) -> bytes:
        """One model."""
        return write_json(_model(model))

    def write_error(self, error: BelljarError, request: Request | None, request_id: str = "") -> Reply:
        """An error before the first byte of an answer."""
        return write_error(error, request, request_id)


DIALECT = Responses()


def _model(model: ModelInfo) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owner}


def _input_of(kept: Incoming) -> Any:
    return read_json(kept.body).get("input")


def _switch(value: str, param: str) -> bool:
    """A boolean in a query."""
    if value.lower() not in ("", "true", "false", "0", "1"):
        refuse(param, f"must be `true` or `false`, not {value[:40]!r}")
    return value.lower() in ("true", "1")


# --- the body ---------------------------------------------------------------------------------------------------------


def _read_fields(body: Mapping[str, Any], known: Mapping[str, Any], *, refuses: bool = False) -> dict[str, Any]:
    """The fields that are known and not null, checked. Raises BadRequest."""
    fields = {}
    for name, value in body.items():
        if name in known:
            if value is not None:
                fields[name] = known[name](value, name)
        elif refuses and name in REFUSED:
            if value is not None:
                refuse(name, "is not available on this server: leave it out", code="unsupported_parameter")
        elif refuses:
            shown = name[:80]
            raise BadRequest(f"Unknown parameter: {shown!r}.", param=shown, code="unknown_parameter")
    return fields


def _build(fields: Mapping[str, Any], *, qwen: bool = False, strict: bool = False) -> Request:
    """The request that checked fields make."""
    _check_state(fields)
    tools = read_tools(fields)
    thinking = fields.get("enable_thinking")
    if qwen:
        _check_qwen(fields, tools, thinking, strict=strict)
    previous, conversation = fields.get("previous_response_id"), fields.get("conversation")
    given = read_input(
        fields.get("input", []),
        images_as_files=bool(tools.builtin),
        goes_on=previous is not None or conversation is not None,
    )
    include = _check_include(fields.get("include", [])) if not qwen else fields.get("include", [])
    options = {option: fields[name] for name, option in OPTIONS.items() if name in fields}
    if LOGPROBS in include:
        options |= {"logprobs": True, "top_logprobs": fields.get("top_logprobs", 0)}
    passed = {name: fields[name] for name in QWEN_PASSED if name in fields}
    passthrough = pass_thinking(thinking, passed)
    settings = Settings(
        outputs=qwen or OUTPUTS in include,
        logprobs=LOGPROBS in include,
        encrypted=ENCRYPTED in include,
        echo=_echo(fields, tools),
        custom=tools.custom,
        qwen=qwen,
    )
    return Request(
        model=fields["model"],
        messages=_instructed(fields, given),
        builtin=tools.builtin,
        functions=tools.functions,
        choice=tools.choice,
        parallel=fields.get("parallel_tool_calls"),
        options=options,
        format=read_format(fields.get("text")),
        effort=effort_of(thinking) or LEVELS.get(fields.get("reasoning", {}).get("effort")),
        stream=fields.get("stream", False),
        max_calls=fields.get("max_tool_calls"),
        keep=fields.get("store", True),
        background=fields.get("background", False),
        previous=previous,
        conversation=conversation,
        container=None if qwen else _housing(tools.container, given),
        extra={KEY: settings, PASSTHROUGH: passthrough} if passthrough else {KEY: settings},
    )


def _check_state(fields: Mapping[str, Any]) -> None:
    """What must be there, and what of a conversation's state does not go together. Raises BadRequest."""
    if "model" not in fields:
        raise BadRequest("Missing required parameter: 'model'.", param="model", code="missing_required_parameter")
    goes_on = "previous_response_id" in fields or "conversation" in fields
    if "input" not in fields and not goes_on:
        raise BadRequest(NO_INPUT, param="input", code="missing_required_parameter")
    if fields.get("input") == [] and not goes_on:
        refuse("input", "must not be empty")
    if "previous_response_id" in fields and "conversation" in fields:
        raise BadRequest(BOTH, param="previous_response_id", code="mutually_exclusive_parameters")
    if fields.get("background") and not fields.get("store", True):
        refuse("background", "needs `store` to be true: the response is asked for later")


def _check_qwen(fields: Mapping[str, Any], tools: Tools, thinking: bool | None, *, strict: bool) -> None:
    """Refuse what Alibaba refuses. Raises BadRequest."""
    if fields.get("background"):
        refuse("background", "is not available at this path: leave it out", code="InvalidParameter")
    if tools.container is None:
        return
    if any(tool.get("type") != CODE_INTERPRETER for tool in tools.echo):
        refuse("tools", EXCLUSIVE, code="InvalidParameter")
    if strict and not thinking and name_of(fields["model"]).startswith(MAX_FAMILY):
        refuse("enable_thinking", NEEDS_THINKING.format(model=fields["model"][:80]), code="InvalidParameter")


def _check_include(names: Sequence[str]) -> Sequence[str]:
    for at, name in enumerate(names):
        if name not in INCLUDES:
            refuse(f"include.{at}", f"must be one of {words(INCLUDES)}, not {name[:80]!r}", code="invalid_value")
    return names


def _instructed(fields: Mapping[str, Any], given: Input) -> tuple[Message, ...]:
    """The messages, with the instructions in front."""
    told = fields.get("instructions")
    return (Message(role=Role.SYSTEM, parts=(Text(text=told),)), *given.messages) if told else given.messages


def _housing(container: Container | None, given: Input) -> Container | None:
    """The container, with those that the input tells of."""
    if container is None or container.id is not None or not given.containers:
        return container
    return msgspec.structs.replace(container, seen=given.containers)


def _echo(fields: Mapping[str, Any], tools: Tools) -> dict[str, Any]:
    """What the response repeats of its request."""
    echo = {name: fields[name] for name in ECHOED if name in fields}
    return echo | ({"tools": list(tools.echo)} if tools.echo else {})
