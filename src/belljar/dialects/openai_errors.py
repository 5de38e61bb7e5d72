"""What errors of OpenAI's form have in common, which Groq took over: a code for each class, whose fault it was, and
whether it helps to ask again.

Pure tables. The official SDKs send a request again after 408, 409, 429 and 5xx, unless `x-should-retry` says otherwise:
it says so where that would only repeat what took too long, or what this host cannot do.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from belljar.errors import (
    AtCapacity,
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

INVALID = "invalid_request_error"  # the `type` of what a client has to change, at both vendors


class Fault(enum.Enum):
    """Whose fault it was: each vendor has its own `type` for it."""

    CLIENT = enum.auto()
    FORBIDDEN = enum.auto()
    SERVER = enum.auto()
    UPSTREAM = enum.auto()


@dataclass(frozen=True, slots=True)
class Shape:
    """How a class of errors is told; `again` False tells clients not to repeat the request."""

    fault: Fault
    code: str | None = None
    again: bool = True


SHAPES: dict[type[BelljarError], Shape] = {
    BelljarError: Shape(Fault.SERVER),
    ClientError: Shape(Fault.CLIENT),
    Unauthorized: Shape(Fault.CLIENT, "invalid_api_key"),
    Forbidden: Shape(Fault.FORBIDDEN, "forbidden"),
    UnknownPath: Shape(Fault.CLIENT, "unknown_url"),
    UnknownModel: Shape(Fault.CLIENT, "model_not_found"),
    UnknownItem: Shape(Fault.CLIENT, "not_found"),
    Cancelled: Shape(Fault.CLIENT, "cancelled"),
    WrongMethod: Shape(Fault.CLIENT, "method_not_allowed"),
    TooSlow: Shape(Fault.CLIENT, "request_timeout"),
    SessionClosed: Shape(Fault.CLIENT, "session_closed"),
    TooLarge: Shape(Fault.CLIENT, "request_too_large"),
    UnsupportedEncoding: Shape(Fault.CLIENT, "unsupported_encoding"),
    ToolUseFailed: Shape(Fault.CLIENT, "tool_use_failed"),
    FormatFailed: Shape(Fault.CLIENT, "json_validate_failed"),
    AtCapacity: Shape(Fault.SERVER, "capacity_exceeded"),
    ShuttingDown: Shape(Fault.SERVER, "shutting_down"),
    HostError: Shape(Fault.SERVER, again=False),
    SandboxFailed: Shape(Fault.SERVER, "sandbox_failed"),
    UpstreamError: Shape(Fault.UPSTREAM, "upstream_failed"),
    UpstreamRefused: Shape(Fault.CLIENT),
    UpstreamUnavailable: Shape(Fault.UPSTREAM, "upstream_unavailable"),
    UpstreamTimeout: Shape(Fault.UPSTREAM, "upstream_timeout", again=False),
}


def shape_of(error: BelljarError) -> Shape:
    """The entry of the nearest class in SHAPES."""
    return next(SHAPES[kind] for kind in type(error).__mro__ if kind in SHAPES)


def status_of(error: BelljarError) -> int:
    """The HTTP status: the error's own, where that is one of an error."""
    return error.status if 400 <= error.status <= 599 else 502


def headers_of(error: BelljarError) -> dict[str, str]:
    """What tells a client whether to ask again, and when."""
    headers = {} if shape_of(error).again else {"x-should-retry": "false"}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    return headers
