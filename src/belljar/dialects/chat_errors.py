"""Errors as Groq writes them: {"error": {"message", "type", "code", "param", "failed_generation"}}, from tables."""

from __future__ import annotations

from typing import Any

from belljar.dialects import openai_errors
from belljar.dialects.base import Reply, write_json
from belljar.dialects.chat_settings import settings_of
from belljar.dialects.openai_errors import INVALID, Fault, headers_of, shape_of
from belljar.errors import AtCapacity, BelljarError, FormatFailed, ToolUseFailed, UnknownModel, UpstreamRefused
from belljar.model import Request

UPSTREAM = "upstream_error"
TYPES = {
    Fault.CLIENT: INVALID,
    Fault.FORBIDDEN: "permissions_error",
    Fault.SERVER: "internal_server_error",
    Fault.UPSTREAM: UPSTREAM,
}
FLEX_AT_CAPACITY = 498  # what Groq's flex tier answers instead of 503
REFUSALS = {401: "authentication_error", 403: "permissions_error", 429: "requests"}  # types of an upstream's, if unsaid


def write_error(error: BelljarError, request: Request | None) -> Reply:
    """An error as a whole response."""
    body = write_json({"error": error_body(error)})
    return Reply(status=status_of(error, request), body=body, headers=headers_of(error))


def stream_error(error: BelljarError, request: Request | None) -> bytes:
    """An error as the last event of a stream."""
    body = write_json({"error": error_body(error) | {"status_code": status_of(error, request)}})
    return b"event: error\ndata: %b\n\n" % body


def status_of(error: BelljarError, request: Request | None) -> int:
    """The HTTP status: the error's own, but for Groq's flex tier."""
    if isinstance(error, AtCapacity) and settings_of(request).tier == "flex":
        return FLEX_AT_CAPACITY
    return openai_errors.status_of(error)


def error_body(error: BelljarError) -> dict[str, Any]:
    """What stands under "error"."""
    shape = shape_of(error)
    kind = TYPES[shape.fault]
    if isinstance(error, UpstreamRefused):
        kind = error.kind or REFUSALS.get(error.status, INVALID if error.status < 500 else UPSTREAM)
    code, param = getattr(error, "code", None) or shape.code, getattr(error, "param", None)
    body: dict[str, Any] = {"message": str(error) or type(error).__name__, "type": kind}
    if isinstance(error, UnknownModel):
        param = "model"
    if isinstance(error, ToolUseFailed | FormatFailed):
        body["failed_generation"] = error.generation
    optional = {"code": code, "param": param}
    return body | {name: value for name, value in optional.items() if value is not None}
