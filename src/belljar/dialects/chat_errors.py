"""Errors as Groq writes them: {"error": {"message", "type", "code", "param", "failed_generation"}}, from a table.

The official SDKs send a request again after 408, 409, 429 and 5xx, unless `x-should-retry` says otherwise: it says so
where it would only repeat what took too long, or what this host cannot do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from belljar.dialects.base import Reply, write_json
from belljar.dialects.chat_settings import settings_of
from belljar.errors import (
    AtCapacity,
    BadRequest,
    BelljarError,
    Cancelled,
    ClientError,
    Forbidden,
    FormatFailed,
    HostError,
    SandboxFailed,
    SessionClosed,
    ShuttingDown,
    TooLarge,
    ToolUseFailed,
    TooSlow,
    Unauthorized,
    UnknownItem,
    UnknownModel,
    UnknownPath,
    UnsupportedEncoding,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
    WrongMethod,
)
from belljar.model import Request

INVALID = "invalid_request_error"
INTERNAL = "internal_server_error"


@dataclass(frozen=True, slots=True)
class Shape:
    """An error's `type` and `code`; `again` False tells clients not to repeat the request."""

    type: str
    code: str | None = None
    again: bool = True


SHAPES: dict[type[BelljarError], Shape] = {
    BelljarError: Shape(INTERNAL),
    ClientError: Shape(INVALID),
    BadRequest: Shape(INVALID),
    Unauthorized: Shape(INVALID, "invalid_api_key"),
    Forbidden: Shape("permissions_error", "forbidden"),
    UnknownPath: Shape(INVALID, "unknown_url"),
    UnknownModel: Shape(INVALID, "model_not_found"),
    UnknownItem: Shape(INVALID, "not_found"),
    Cancelled: Shape(INVALID, "cancelled"),
    WrongMethod: Shape(INVALID, "method_not_allowed"),
    TooSlow: Shape(INVALID, "request_timeout"),
    SessionClosed: Shape(INVALID, "session_closed"),
    TooLarge: Shape(INVALID, "request_too_large"),
    UnsupportedEncoding: Shape(INVALID, "unsupported_encoding"),
    ToolUseFailed: Shape(INVALID, "tool_use_failed"),
    FormatFailed: Shape(INVALID, "json_validate_failed"),
    AtCapacity: Shape(INTERNAL, "capacity_exceeded"),
    ShuttingDown: Shape(INTERNAL, "shutting_down"),
    HostError: Shape(INTERNAL, again=False),
    SandboxFailed: Shape(INTERNAL, "sandbox_failed"),
    UpstreamError: Shape("upstream_error", "upstream_failed"),
    UpstreamRefused: Shape(INVALID),
    UpstreamUnavailable: Shape("upstream_error", "upstream_unavailable"),
    UpstreamTimeout: Shape("upstream_error", "upstream_timeout", again=False),
}

FLEX_AT_CAPACITY = 498  # what Groq's flex tier answers instead of 503
REFUSALS = {401: "authentication_error", 403: "permissions_error", 429: "requests"}  # types of an upstream's, if unsaid


def write_error(error: BelljarError, request: Request | None) -> Reply:
    """An error as a whole response."""
    headers = {} if shape_of(error).again else {"x-should-retry": "false"}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    return Reply(status=status_of(error, request), body=write_json({"error": error_body(error)}), headers=headers)


def stream_error(error: BelljarError, request: Request | None) -> bytes:
    """An error as the last event of a stream."""
    body = write_json({"error": error_body(error) | {"status_code": status_of(error, request)}})
    return b"event: error\ndata: %b\n\n" % body


def shape_of(error: BelljarError) -> Shape:
    """The entry of the nearest class in SHAPES."""
    return next(SHAPES[kind] for kind in type(error).__mro__ if kind in SHAPES)


def status_of(error: BelljarError, request: Request | None) -> int:
    """The HTTP status: the error's own, but for Groq's flex tier."""
    if isinstance(error, AtCapacity) and settings_of(request).tier == "flex":
        return FLEX_AT_CAPACITY
    return error.status if 400 <= error.status <= 599 else 502


def error_body(error: BelljarError) -> dict[str, Any]:
    """What stands under "error"."""
    shape = shape_of(error)
    kind = shape.type
    if isinstance(error, UpstreamRefused):
        kind = error.kind or REFUSALS.get(error.status, INVALID if error.status < 500 else "upstream_error")
    code, param = getattr(error, "code", None) or shape.code, getattr(error, "param", None)
    body: dict[str, Any] = {"message": str(error) or type(error).__name__, "type": kind}
    if isinstance(error, UnknownModel):
        param = "model"
    if isinstance(error, ToolUseFailed | FormatFailed):
        body["failed_generation"] = error.generation
    optional = {"code": code, "param": param}
    return body | {name: value for name, value in optional.items() if value is not None}
