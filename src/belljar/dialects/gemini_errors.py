"""Errors as Google writes them: {"error": {"code", "message", "status", "details"}}, from tables."""

from __future__ import annotations

import math
from typing import Any

from belljar.dialects.base import Reply, write_json
from belljar.dialects.gemini_settings import settings_of
from belljar.errors import (
    BadRequest,
    BelljarError,
    FormatFailed,
    ToolUseFailed,
    UnknownModel,
    UpstreamRefused,
)
from belljar.model import Request

STATUSES = {  # HTTP status -> the name of the code that Google's RPC has for it
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    410: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
TYPES = "type.googleapis.com/google.rpc."


def write_error(error: BelljarError, request: Request | None) -> Reply:
    """An error as a whole response; in a list, where the client waits for one."""
    body: Any = {"error": error_body(error)}
    if request is not None and request.stream and not settings_of(request).sse:
        body = [body]
    headers = {} if error.retry_after is None else {"retry-after": str(_seconds(error.retry_after))}
    return Reply(status=status_of(error), body=write_json(body), headers=headers)


def status_of(error: BelljarError) -> int:
    """The HTTP status."""
    return error.status if 400 <= error.status <= 599 else 502


def error_body(error: BelljarError) -> dict[str, Any]:
    """What stands under "error"."""
    status = status_of(error)
    name = STATUSES.get(status, "INVALID_ARGUMENT" if status < 500 else "INTERNAL")
    message = str(error) or type(error).__name__
    return {"code": status, "message": message, "status": name, "details": _details(error, message)}


def _details(error: BelljarError, message: str) -> list[dict[str, Any]]:
    details: list[dict[str, Any]] = []
    if isinstance(error, BadRequest | UpstreamRefused) and error.param:
        details.append(_detail("BadRequest", fieldViolations=[{"field": error.param, "description": message}]))
    if isinstance(error, UnknownModel):
        details.append(_detail("ResourceInfo", resourceType="model", resourceName=f"models/{error.model}"))
    if isinstance(error, ToolUseFailed | FormatFailed):
        details.append(_detail("DebugInfo", detail=error.generation))
    if error.retry_after is not None:
        details.append(_detail("RetryInfo", retryDelay=f"{_seconds(error.retry_after)}s"))
    return details


def _detail(kind: str, **fields: Any) -> dict[str, Any]:
    return {"@type": TYPES + kind, **fields}


def _seconds(after: float) -> int:
    return max(1, math.ceil(after))
