"""Errors as DashScope writes them: {"code", "message", "request_id"}, from a table; in a stream, an event "error".

The codes are those that the vendor's SDK tells apart (its second client chooses the exception by them). That client
sends a request again after 408, 409, 429 and 5xx, unless `x-should-retry` says otherwise: it says so where a client
would only repeat what took too long, or what this host cannot do. The older client raises nothing: it gives the status
and these three fields.
"""

from __future__ import annotations

import math

from belljar.dialects.base import Reply, write_json
from belljar.errors import (
    AtCapacity,
    BelljarError,
    ClientError,
    Forbidden,
    HostError,
    SandboxFailed,
    ShuttingDown,
    TooSlow,
    Unauthorized,
    UnknownModel,
    UnknownPath,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)

INVALID, INTERNAL = "InvalidParameter", "InternalError"
INVALID_KEY, DENIED = "InvalidApiKey", "AccessDenied"
NO_MODEL, UNAVAILABLE, TIMEOUT = "Model.NotExist", "ServiceUnavailable", "GatewayTimeout"

CODES: dict[type[BelljarError], str] = {
    BelljarError: INTERNAL,
    ClientError: INVALID,
    Unauthorized: INVALID_KEY,
    Forbidden: DENIED,
    UnknownPath: "NotFound",
    UnknownModel: NO_MODEL,
    TooSlow: "RequestTimeOut",
    AtCapacity: UNAVAILABLE,
    ShuttingDown: UNAVAILABLE,
    UpstreamError: INTERNAL,
    UpstreamRefused: INVALID,
    UpstreamUnavailable: UNAVAILABLE,
    UpstreamTimeout: TIMEOUT,
}
REFUSALS = {401: INVALID_KEY, 403: DENIED, 404: NO_MODEL, 429: "Throttling.RateQuota"}  # of an upstream, by its status


def write_error(error: BelljarError, request_id: str = "") -> Reply:
    """An error as a whole response."""
    headers = {} if may_try_again(error) else {"x-should-retry": "false"}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    return Reply(status=status_of(error), body=write_json(error_body(error, request_id)), headers=headers)


def stream_error(error: BelljarError, request_id: str, number: int) -> bytes:
    """An error as the last frame of a stream. The SDK reads its status in the line `status`, and passes over the one
    that the vendor's own frames have.
    """
    status = status_of(error)
    frame = b"id:%d\nevent:error\n:HTTP_STATUS/%d\nstatus:%d\ndata:%b\n\n"
    return frame % (number, status, status, write_json(error_body(error, request_id)))


def may_try_again(error: BelljarError) -> bool:
    """Whether the same request may do better."""
    return isinstance(error, SandboxFailed) or not isinstance(error, HostError | UpstreamTimeout)


def status_of(error: BelljarError) -> int:
    """The HTTP status."""
    return error.status if 400 <= error.status <= 599 else 502


def code_of(error: BelljarError) -> str:
    """The entry of the nearest class in CODES; for what an upstream refused, the one of its status."""
    if isinstance(error, UpstreamRefused):
        return REFUSALS.get(error.status, INVALID if 400 <= error.status < 500 else INTERNAL)
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def error_body(error: BelljarError, request_id: str) -> dict[str, str]:
    """The three fields; without `request_id` where it is not known: then clients take it from the response's header."""
    body = {"code": code_of(error), "message": str(error) or type(error).__name__}
    return body | {"request_id": request_id} if request_id else body
