"""What a dialect is: how it is found, what the server asks of it, what dialects share.

A dialect is pure: it takes values and returns values, knows no socket, no clock and no other dialect. Each module of
this package that serves clients offers its dialect as `DIALECT`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from belljar.errors import BadRequest, BelljarError
from belljar.events import Answer, Event
from belljar.model import Message, ModelInfo, Request
from belljar.packing import mended

MAX_DEPTH = 100  # levels of a JSON body: more than any schema needs, fewer than any parser's stack takes


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP request as a dialect sees it. Names of headers are lower case; `params` are taken from the path."""

    method: str
    path: str
    params: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    body: bytes = b""
    owner: str = ""  # stands for the API key; what is kept is kept apart by it


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A whole HTTP response."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}  # without content-length
    media_type: str = "application/json"


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What a writer is told of the answer that it is to write. `created` in whole seconds since 1970."""

    request_id: str
    created: int


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a kept conversation, as its dialect writes it: `body` is a JSON object with this `id` in it."""

    id: str
    body: Mapping[str, Any]


class Writer(Protocol):
    """Writes one answer. Use either `write` for every event (a stream), or `fold` once (a single body)."""

    media_type: str  # of the stream
    heartbeat: bytes  # what may be sent in a stream at any time between two writes, and means nothing

    def write(self, event: Event) -> bytes:
        """The frames for an event, empty where this vendor shows nothing of it. Finished and Failed close what is
        open and end the stream.
        """

    def fold(self, answer: Answer) -> bytes:
        """The whole answer as one JSON body. `answer.error` is None."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A path that a dialect serves. `path` is in Starlette's notation; `action` is one of ACTIONS."""

    method: str
    path: str
    action: str


ACTIONS = ("generate", "count", "models", "model", "kept", "input", "cancel", "delete")


class Dialect(Protocol):
    """One vendor's wire format for conversations."""

    name: str
    prefixes: Sequence[str]  # unknown paths below these are answered with this dialect's errors
    routes: Sequence[Route]
    systems: Sequence[str]  # names of models that stand for one of ours, as "groq/compound" does
    heartbeat: bytes  # white space that may precede a JSON body, to keep a waiting client's connection alive

    def claims(self, incoming: Incoming) -> bool:
        """Whether a request at a path that other dialects serve as well is surely meant for this one. Where nobody
        claims it, the first dialect by name has it.
        """

    def lenient(self) -> Dialect:
        """The same, without the vendor's refusals of what could well be done."""

    def read_key(self, incoming: Incoming) -> str | None:
        """The API key that a client sent, where this vendor's SDKs put it."""

    def read_request(self, incoming: Incoming) -> Request:
        """What is asked for. Raises ClientError."""

    def writer(self, request: Request, start: Start) -> Writer:
        """A writer for the answer to this request."""

    def write_count(self, tokens: int, request: Request) -> bytes:
        """The number of tokens of a request's prompt (action "count")."""

    def write_models(self, models: Sequence[ModelInfo]) -> bytes:
        """The list of models."""

    def write_model(self, model: ModelInfo) -> bytes:
        """One model."""

    def write_error(self, error: BelljarError, request: Request | None, request_id: str = "") -> Reply:
        """An error before the first byte of an answer; `request` where it could be read."""


class KeepingDialect(Dialect, Protocol):
    """A dialect whose answers can be kept: it has routes with the actions "kept", "cancel" and "delete", whose paths
    hold the answer's `id`, and may have one with the action "input". Its writers give the answer an id that ends in
    "_" and what `Start.request_id` ends in. What is kept is the body of the request, which is read again by
    `read_request`, and the events of the answer.
    """

    def read_view(self, incoming: Incoming, request: Request) -> Request:
        """A kept request, changed so that its writer writes what is asked for now: a body or a stream, from where on.
        The writer's `fold` is then given answers that go on (`finish` and `error` are None) or have failed, too.
        Raises ClientError.
        """

    def carry(self, request: Request) -> tuple[Message, ...]:
        """The messages of a kept request that belong to the conversation which goes on from it."""

    def write_deleted(self, identity: str) -> bytes:
        """An answer has been forgotten."""

    def write_input(self, incoming: Incoming, kept: Incoming, start: Start) -> bytes:
        """What a kept answer was asked with (action "input"): `kept` is the request of then, `incoming` that of now,
        which may want one page of it. Raises ClientError.
        """

    def write_items(self, kept: Incoming, answer: Answer, start: Start) -> Sequence[Item]:
        """What is added to a conversation: what was asked, and the answer."""

    def read_items(self, items: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
        """Items of a kept conversation as messages. Raises ClientError."""


def read_bearer(incoming: Incoming) -> str | None:
    """The token of an Authorization header (RFC 6750)."""
    scheme, _, token = incoming.headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


# --- JSON -------------------------------------------------------------------------------------------------------------

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


def write_json(value: Any) -> bytes:
    """Compact JSON; bytes values become base64. Halves of surrogate pairs, which a guest may print and UTF-8 cannot
    say, become "?".
    """
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(mended(value))


def read_json(body: bytes | str) -> Any:
    """A JSON value. Raises BadRequest: not JSON, or nested deeper than MAX_DEPTH."""
    try:
        value = _decoder.decode(body)
    except RecursionError:
        raise BadRequest(f"the JSON body is nested deeper than {MAX_DEPTH} levels") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None
    if _may_be_deep(body) and _depth(value) > MAX_DEPTH:
        raise BadRequest(f"the JSON body is nested deeper than {MAX_DEPTH} levels")
    return value


def _may_be_deep(body: bytes | str) -> bool:
    if isinstance(body, str):
        return body.count("[") + body.count("{") > MAX_DEPTH
    return body.count(b"[") + body.count(b"{") > MAX_DEPTH


def _depth(value: Any) -> int:
    """Levels of lists and objects, counted without recursion."""
    level, depth = [value], 0
    while level:
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        depth += 1
        if depth > MAX_DEPTH + 1:
            break
    return depth
