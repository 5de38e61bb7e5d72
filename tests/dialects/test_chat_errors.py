"""Errors of chat completions: each class has a status, a type and a code, and tells clients when to repeat."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from belljar import errors
from belljar.dialects.chat_completions import DIALECT
from belljar.dialects.chat_errors import stream_error
from belljar.errors import BelljarError
from belljar.model import Request
from dialects.chat_helpers import PLAIN, read

INVALID, INTERNAL, UPSTREAM = "invalid_request_error", "internal_server_error", "upstream_error"
FLEX = read(PLAIN | {"service_tier": "flex"})

# error, request where it matters, status, type, code, whether a client is told not to repeat it
CASES: list[tuple[BelljarError, Request | None, int, str, str | None, bool]] = [
    (errors.BadRequest("x", param="a.0"), None, 400, INVALID, None, False),
    (errors.BadRequest("x", code="c"), None, 400, INVALID, "c", False),
    (errors.Unauthorized("x"), None, 401, INVALID, "invalid_api_key", False),
    (errors.Forbidden("x"), None, 403, "permissions_error", "forbidden", False),
    (errors.UnknownPath("x"), None, 404, INVALID, "unknown_url", False),
    (errors.UnknownModel("x", model="m"), None, 404, INVALID, "model_not_found", False),
    (errors.UnknownItem("x"), None, 404, INVALID, "not_found", False),
    (errors.Expired("x"), None, 400, INVALID, None, False),
    (errors.Cancelled("x"), None, 499, INVALID, "cancelled", False),
    (errors.WrongMethod("x"), None, 405, INVALID, "method_not_allowed", False),
    (errors.TooSlow("x"), None, 408, INVALID, "request_timeout", False),
    (errors.SessionClosed("x"), None, 410, INVALID, "session_closed", False),
    (errors.TooLarge("x"), None, 413, INVALID, "request_too_large", False),
    (errors.FileError("x"), None, 400, INVALID, None, False),
    (errors.UnsupportedEncoding("x"), None, 415, INVALID, "unsupported_encoding", False),
    (errors.ToolUseFailed("x", generation="g"), None, 400, INVALID, "tool_use_failed", False),
    (errors.FormatFailed("x", generation="g"), None, 400, INVALID, "json_validate_failed", False),
    (errors.AtCapacity("x"), None, 503, INTERNAL, "capacity_exceeded", False),
    (errors.AtCapacity("x"), FLEX, 498, INTERNAL, "capacity_exceeded", False),
    (errors.ShuttingDown("x"), None, 503, INTERNAL, "shutting_down", False),
    (errors.HostError("x"), None, 500, INTERNAL, None, True),
    (errors.IsolationUnavailable("x"), None, 500, INTERNAL, None, True),
    (errors.ImageError("x"), None, 500, INTERNAL, None, True),
    (errors.SandboxFailed("x"), None, 500, INTERNAL, "sandbox_failed", False),
    (errors.UpstreamError("x"), None, 502, UPSTREAM, "upstream_failed", False),
    (errors.UpstreamUnavailable("x"), None, 503, UPSTREAM, "upstream_unavailable", False),
    (errors.UpstreamTimeout("x"), None, 504, UPSTREAM, "upstream_timeout", True),
    (errors.UpstreamRefused("x", status=429, code="c", kind="k"), None, 429, "k", "c", False),
    (errors.UpstreamRefused("x", status=429), None, 429, "requests", None, False),
    (errors.UpstreamRefused("x", status=400), None, 400, INVALID, None, False),
    (errors.UpstreamRefused("x", status=500), None, 500, UPSTREAM, None, False),
    (errors.UpstreamRefused("x", status=302), None, 502, INVALID, None, False),
]


@pytest.mark.parametrize(
    ("error", "request_", "status", "kind", "code", "final"),
    CASES,
    ids=[f"{type(case[0]).__name__}-{case[2]}" for case in CASES],
)
def test_error(
    error: BelljarError, request_: Request | None, status: int, kind: str, code: str | None, final: bool
) -> None:
    reply = DIALECT.write_error(error, request_)
    body = json.loads(reply.body)["error"]
    assert (reply.status, reply.media_type) == (status, "application/json")
    assert (body["message"], body["type"], body.get("code")) == ("x", kind, code)
    assert (reply.headers.get("x-should-retry") == "false") is final
    assert json.loads(stream_error(error, request_).partition(b"data: ")[2])["error"] == body | {"status_code": status}


def kinds(parent: type[BelljarError]) -> Iterator[type[BelljarError]]:
    for kind in parent.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_every_class_of_errors_has_a_case() -> None:
    ours = {kind for kind in kinds(BelljarError) if kind.__module__ == errors.__name__}
    abstract = {errors.ClientError}
    assert ours - abstract - {type(case[0]) for case in CASES} == set()


def test_details() -> None:
    assert json.loads(DIALECT.write_error(errors.BadRequest("x", param="messages.0.role"), None).body) == {
        "error": {"message": "x", "type": INVALID, "param": "messages.0.role"}
    }
    failed = json.loads(DIALECT.write_error(errors.ToolUseFailed("x", generation="wrong\ud800"), None).body)
    assert failed["error"]["failed_generation"] == "wrong?"
    assert json.loads(DIALECT.write_error(errors.UnknownModel("x", model="m"), None).body)["error"]["param"] == "model"
    assert json.loads(DIALECT.write_error(errors.HostError(), None).body)["error"]["message"]


@pytest.mark.parametrize(("seconds", "header"), [(0.2, "1"), (1.0, "1"), (1.5, "2"), (30, "30")])
def test_when_to_come_again(seconds: float, header: str) -> None:
    error = errors.UpstreamRefused("x", status=429, retry_after=seconds)
    assert DIALECT.write_error(error, None).headers["retry-after"] == header
    assert DIALECT.write_error(errors.AtCapacity("x"), None).headers["retry-after"] == "1"
    assert "retry-after" not in DIALECT.write_error(errors.UpstreamUnavailable("x"), None).headers
