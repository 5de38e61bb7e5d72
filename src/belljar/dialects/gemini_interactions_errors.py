"""Errors of the Interactions API: {"error": {"message", "code"}}, with Google's words as codes, from a table."""

from __future__ import annotations

import math
from typing import Any

from belljar.dialects.base import Reply, write_json
from belljar.errors import (
    AtCapacity,
    BelljarError,
    Cancelled,
    ClientError,
    Forbidden,
    ShuttingDown,
    Unauthorized,
    UnknownItem,
    UnknownModel,
    UnknownPath,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)

CODES: dict[type[BelljarError], str] = {
    BelljarError: "api_error",
    ClientError: "invalid_request",
    Unauthorized: "authentication",
    Forbidden: "permission_denied",
    UnknownPath: "not_found",
    UnknownItem: "not_found",
    UnknownModel: "model_not_found",
    Cancelled: "cancelled",
    AtCapacity: "service_unavailable",
    ShuttingDown: "service_unavailable",
    UpstreamUnavailable: "service_unavailable",
    UpstreamTimeout: "deadline_exceeded",
}
REFUSALS = {  # the status of an upstream's refusal -> code
    400: "invalid_request",
    401: "authentication",
    402: "payment_required",
    403: "permission_denied",
    404: "not_found",
    409: "aborted",
    422: "invalid_request",
    429: "rate_limit_exceeded",
    503: "service_unavailable",
    504: "deadline_exceeded",
}
OWN_CODES = ("failed_precondition", "parameter_unknown")  # which readers may give


def write_error(error: BelljarError) -> Reply:
    """An error as a whole response."""
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    status = error.status if 400 <= error.status <= 599 else 502
    return Reply(status=status, body=write_json({"error": error_body(error)}), headers=headers)


def error_body(error: BelljarError) -> dict[str, Any]:
    """What stands under "error"."""
    return {"message": str(error) or type(error).__name__, "code": code_of(error)}


def code_of(error: BelljarError) -> str:
    """Google's word for it."""
    if isinstance(error, UpstreamRefused):
        return REFUSALS.get(error.status, "invalid_request" if error.status < 500 else "api_error")
    own = getattr(error, "code", None)
    return own if own in OWN_CODES else next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)
