"""Errors as Google writes them: every class of ours has a status of theirs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from belljar import errors
from belljar.dialects.gemini import DIALECT
from belljar.dialects.gemini_errors import STATUSES
from belljar.errors import (
    AtCapacity,
    BadRequest,
    BelljarError,
    FormatFailed,
    ToolUseFailed,
    UnknownModel,
    UpstreamRefused,
)
from dialects.gemini_helpers import HELLO, read

TYPES = "type.googleapis.com/google.rpc."
MADE = {
    BadRequest: BadRequest("no", param="contents[0]"),
    UnknownModel: UnknownModel("no", model="m"),
    ToolUseFailed: ToolUseFailed("no", generation="x"),
    FormatFailed: FormatFailed("no", generation="x"),
    UpstreamRefused: UpstreamRefused("no", status=429, retry_after=2.5),
}


def classes(kind: type[BelljarError] = BelljarError) -> Iterator[type[BelljarError]]:
    for inner in kind.__subclasses__():
        if inner.__module__ == errors.__name__:
            yield inner
        yield from classes(inner)


def written(error: BelljarError) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(DIALECT.write_error(error, None).body)["error"]
    return body


@pytest.mark.parametrize("kind", sorted(set(classes()), key=lambda kind: kind.__name__))
def test_every_class_of_errors(kind: type[BelljarError]) -> None:
    error = MADE.get(kind) or kind("no")
    reply = DIALECT.write_error(error, None)
    body = written(error)
    assert body["code"] == reply.status == error.status
    assert body["message"] == "no"
    assert body["status"] in STATUSES.values()
    assert set(body) == {"code", "message", "status", "details"}


STATED: list[tuple[int, str]] = [
    (400, "INVALID_ARGUMENT"), (401, "UNAUTHENTICATED"), (403, "PERMISSION_DENIED"), (404, "NOT_FOUND"),
    (418, "INVALID_ARGUMENT"), (422, "INVALID_ARGUMENT"), (429, "RESOURCE_EXHAUSTED"), (499, "CANCELLED"),
    (500, "INTERNAL"), (503, "UNAVAILABLE"), (504, "DEADLINE_EXCEEDED"), (529, "INTERNAL"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "name"), STATED)
def test_statuses(status: int, name: str) -> None:
    error = UpstreamRefused("no", status=status)
    assert (written(error)["code"], written(error)["status"]) == (status, name)


def test_a_status_that_is_no_error() -> None:
    assert written(UpstreamRefused("no", status=302))["code"] == 502


DETAILS: list[tuple[BelljarError, list[dict[str, Any]]]] = [
    (MADE[BadRequest],
     [{"@type": TYPES + "BadRequest", "fieldViolations": [{"field": "contents[0]", "description": "no"}]}]),
    (MADE[UnknownModel],
     [{"@type": TYPES + "ResourceInfo", "resourceType": "model", "resourceName": "models/m"}]),
    (MADE[ToolUseFailed], [{"@type": TYPES + "DebugInfo", "detail": "x"}]),
    (MADE[UpstreamRefused], [{"@type": TYPES + "RetryInfo", "retryDelay": "3s"}]),
    (AtCapacity("no"), [{"@type": TYPES + "RetryInfo", "retryDelay": "1s"}]),
    (BadRequest("no"), []),
]  # fmt: skip


@pytest.mark.parametrize(("error", "details"), DETAILS)
def test_details(error: BelljarError, details: list[dict[str, Any]]) -> None:
    assert written(error)["details"] == details


def test_when_to_come_again() -> None:
    assert DIALECT.write_error(AtCapacity("no"), None).headers == {"retry-after": "1"}
    assert DIALECT.write_error(BadRequest("no"), None).headers == {}


def test_an_array_is_answered_by_an_array() -> None:
    array, events = read(HELLO, "streamGenerateContent"), read(HELLO, "streamGenerateContent", {"alt": "sse"})
    assert json.loads(DIALECT.write_error(BadRequest("no"), array).body)[0]["error"]["code"] == 400
    for request in (events, read(HELLO), None):
        assert json.loads(DIALECT.write_error(BadRequest("no"), request).body)["error"]["code"] == 400
