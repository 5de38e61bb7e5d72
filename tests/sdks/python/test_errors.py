"""Errors as the official SDKs' own classes, with the fields that their users read; what is sent again, and what not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import groq
import httpx
import openai
import pytest

from belljar.upstream.client import Timeouts
from sdks.script import COMPOUND, MODELS, STATUSES
from sdks.ways import INTERPRETER, groq_client, openai_client
from servers import Belljar, start_belljar

HELLO = [{"role": "user", "content": "Hello."}]
FUNCTION = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
CLASSES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    413: "APIStatusError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    498: "APIStatusError",
    500: "InternalServerError",
    502: "InternalServerError",
    503: "InternalServerError",
    504: "InternalServerError",
}
CLIENTS = [(groq, groq_client), (openai, openai_client)]
IDS = ["groq", "openai"]


def failure(sdk: Any, client: Any, status: int, **request: Any) -> dict[str, Any]:
    """Ask, be refused by the class for this status; the inner error object."""
    with pytest.raises(sdk.APIStatusError) as caught:
        client.chat.completions.create(**{"model": "test/thinks", "messages": HELLO} | request)
    assert caught.value.status_code == status, caught.value
    assert type(caught.value).__name__ == CLASSES[status]
    assert caught.value.response.headers["x-request-id"].startswith("req_")
    body = caught.value.body
    error = body["error"] if sdk is groq else body  # the OpenAI SDK unwraps it
    assert error["message"]
    assert error["type"]
    return error


def enabled(tool: str) -> dict[str, Any]:
    """A request of a compound system with this tool enabled."""
    return {"model": "groq/compound", "extra_body": {"compound_custom": {"tools": {"enabled_tools": [tool]}}}}


def in_schema(schema: Any) -> dict[str, Any]:
    """A request for an answer by a schema."""
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


NAMED = {"type": "function", "function": {"name": "other"}}
BAD: list[tuple[dict[str, Any], int, str | None, str]] = [  # request, status, code, what the message speaks of
    ({"model": "no/such-model"}, 404, "model_not_found", "no/such-model"),
    ({"messages": []}, 400, None, "messages"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, 400, None, "role"),
    ({"messages": [{"role": "user", "content": 5}]}, 400, None, "content"),
    ({"n": 2}, 400, None, "n"),
    ({"temperature": "hot"}, 400, None, "temperature"),
    ({"tools": [{"type": "browser_search"}]}, 400, None, "browser_search"),
    ({"tools": [{"type": "teleport"}]}, 400, None, "teleport"),
    ({"tools": [{"type": "function"}]}, 400, None, "function"),
    ({"tool_choice": "required"}, 400, None, "tool"),
    ({"tools": [INTERPRETER, {"type": "function", "function": {"name": "python"}}]}, 400, None, "python"),
    ({"tools": [FUNCTION], "tool_choice": NAMED}, 400, None, "other"),
    (in_schema({"type": 5}), 400, None, "schema"),
    ({"model": "groq/compound", "tools": [FUNCTION]}, 400, None, "tools"),
    (enabled("web_search"), 400, None, "web_search"),
    (enabled("divine"), 400, None, "divine"),
    ({"model": "groq/compound", "extra_headers": {"Groq-Model-Version": "1999-01-01"}}, 400, None, "2025-07-23"),
    ({"extra_body": {"reasoning_format": "raw", "include_reasoning": True}}, 400, None, "include_reasoning"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("request_", "status", "code", "about"), BAD)
@pytest.mark.parametrize(("sdk", "client_of"), CLIENTS, ids=IDS)
def test_bad_request(
    belljar: Belljar,
    sdk: Any,
    client_of: Any,
    request_: dict[str, Any],
    status: int,
    code: str | None,
    about: str,
    stream: bool,
) -> None:
    with client_of(belljar.url) as client:
        error = failure(sdk, client, status, stream=stream, **request_)
    assert error["type"] == "invalid_request_error"
    assert code is None or error["code"] == code
    assert about in error["message"]


# --- tools and formats that the model does not comply with ------------------------------------------------------------

USE_FAILED = [  # model, request, what the model wrote
    ("test/stubborn", {"tools": [INTERPRETER], "tool_choice": "required"}, "I would rather not."),
    ("test/stubborn", {"tools": [FUNCTION], "tool_choice": "required"}, "I would rather not."),
    (
        "test/stubborn",
        {"tools": [FUNCTION], "tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
        "I would rather not.",
    ),
    ("test/stranger", {"tools": [FUNCTION]}, "launch_rocket"),
    ("test/garbled", {"tools": [FUNCTION]}, '{"city": '),
]


@pytest.mark.parametrize(("model", "request_", "generation"), USE_FAILED)
@pytest.mark.parametrize(("sdk", "client_of"), CLIENTS, ids=IDS)
def test_tool_use_failed(
    belljar: Belljar, sdk: Any, client_of: Any, model: str, request_: dict[str, Any], generation: str
) -> None:
    with client_of(belljar.url) as client:
        error = failure(sdk, client, 400, model=model, **request_)
    assert error["code"] == "tool_use_failed"
    assert generation in error["failed_generation"]


@pytest.mark.parametrize(("model", "request_", "generation"), USE_FAILED)
def test_tool_use_failed_in_a_stream(belljar: Belljar, model: str, request_: dict[str, Any], generation: str) -> None:
    with groq_client(belljar.url) as client, pytest.raises(groq.APIError) as caught:
        list(client.chat.completions.create(model=model, messages=HELLO, stream=True, **request_))
    body: Any = caught.value.body
    error = body.get("error", body)  # whole, where nothing had been sent yet
    assert error["code"] == "tool_use_failed"
    assert generation in error["failed_generation"]


def test_strangers_are_let_through_where_validation_is_off(belljar: Belljar) -> None:
    with groq_client(belljar.url) as client:
        completion = client.chat.completions.create(
            model="test/stranger", messages=HELLO, tools=[FUNCTION], disable_tool_validation=True
        )
    assert completion.choices[0].message.tool_calls[0].function.name == "launch_rocket"


@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    ],
    ids=["object", "schema"],
)
def test_format_failed(belljar: Belljar, response_format: dict[str, Any]) -> None:
    with groq_client(belljar.url) as client:
        error = failure(groq, client, 400, model="test/stubborn", response_format=response_format)
    assert error["code"] == "json_validate_failed"
    assert error["failed_generation"] == "I would rather not."


# --- keys, sizes, paths -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sdk", "client_of"), CLIENTS, ids=IDS)
def test_keys(belljar: Belljar, sdk: Any, client_of: Any) -> None:
    url = belljar.listen(api_key=("right",))
    with client_of(url, api_key="wrong") as client:
        assert failure(sdk, client, 401)["code"] == "invalid_api_key"
        with pytest.raises(sdk.AuthenticationError):
            client.models.list()
    with client_of(url, api_key="right") as client:
        assert client.models.list().data
        assert client.chat.completions.create(model="test/thinks", messages=HELLO).choices


@pytest.mark.parametrize(("sdk", "client_of"), CLIENTS, ids=IDS)
def test_too_large(belljar: Belljar, sdk: Any, client_of: Any) -> None:
    with client_of(belljar.listen(max_body=10_000)) as client:
        error = failure(sdk, client, 413, messages=[{"role": "user", "content": "x" * 20_000}])
    assert "10,000" in error["message"]


@pytest.mark.parametrize(("sdk", "client_of"), CLIENTS, ids=IDS)
def test_unknown_things(belljar: Belljar, sdk: Any, client_of: Any) -> None:
    with client_of(belljar.url) as client:
        with pytest.raises(sdk.NotFoundError, match="no/such-model"):
            client.models.retrieve("no/such-model")
        with pytest.raises(sdk.NotFoundError):
            client.embeddings.create(model="x", input="x")
        with pytest.raises(sdk.APIStatusError) as caught:
            client.models.delete("openai/gpt-oss-20b")
        assert caught.value.status_code in (404, 405)


# --- the upstream's failures ------------------------------------------------------------------------------------------

PASSED_ON = {400: 400, 401: 502, 404: 404, 422: 422, 429: 429, 500: 502, 503: 503}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_upstream_refuses(belljar: Belljar, status: int, stream: bool) -> None:
    with groq_client(belljar.url) as client, pytest.raises(groq.APIStatusError) as caught:
        client.chat.completions.create(model=f"test/status-{status}", messages=HELLO, stream=stream)
    answered = caught.value.status_code
    assert answered == PASSED_ON[status] or (status == 500 and answered in (500, 502, 503))
    assert type(caught.value).__name__ == CLASSES[answered]
    if status == 429:
        assert float(caught.value.response.headers["retry-after"]) == 1
    if status in (400, 404, 422, 429):
        assert f"no luck: {status}" in caught.value.body["error"]["message"]


@pytest.mark.parametrize("model", ["test/breaks", "test/cut"])
@pytest.mark.parametrize(("sdk", "client_of"), CLIENTS, ids=IDS)
def test_failure_in_mid_stream(belljar: Belljar, sdk: Any, client_of: Any, model: str) -> None:
    seen = []
    with client_of(belljar.url) as client:
        stream = client.chat.completions.create(model=model, messages=HELLO, stream=True)
        with pytest.raises(sdk.APIError) as caught:
            seen.extend(chunk.choices[0].delta.content for chunk in stream)
    assert "".join(filter(None, seen))  # it had begun
    assert not isinstance(caught.value, sdk.APIStatusError)
    assert caught.value.body["message"]
    assert 500 <= caught.value.body["status_code"] <= 504


# --- what is sent again -----------------------------------------------------------------------------------------------


class Counter:
    """Counts what a client really sends."""

    def __init__(self) -> None:
        self.sent = 0

    def __call__(self, request: httpx.Request) -> None:
        self.sent += 1

    def client(self) -> httpx.Client:
        return groq.DefaultHttpxClient(event_hooks={"request": [self]})


@pytest.mark.parametrize(
    ("model", "request_", "sent"),
    [
        ("test/status-400", {}, 1),
        ("no/such-model", {}, 1),
        ("test/stubborn", {"tools": [INTERPRETER], "tool_choice": "required"}, 1),
        ("test/status-429", {}, 2),  # the upstream says: later
    ],
)
def test_retries(belljar: Belljar, model: str, request_: dict[str, Any], sent: int) -> None:
    counter = Counter()
    with (
        groq_client(belljar.url, max_retries=1, http_client=counter.client()) as client,
        pytest.raises(groq.APIStatusError),
    ):
        client.chat.completions.create(model=model, messages=HELLO, **request_)
    assert counter.sent == sent


# --- no sandbox is free -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowded(no_proxy: None) -> Iterator[Belljar]:
    """A server with one sandbox, no queue for it, and no patience with its upstream."""
    upstream = {"retries": 0, "timeouts": Timeouts(first=0.5)}
    with start_belljar(MODELS, models=COMPOUND, upstream=upstream, ready=1, max_sandboxes=1, queue=0) as running:
        yield running


def test_what_took_too_long_is_not_sent_again(crowded: Belljar) -> None:
    counter = Counter()
    with (
        groq_client(crowded.url, max_retries=1, http_client=counter.client()) as client,
        pytest.raises(groq.InternalServerError) as caught,
    ):
        client.chat.completions.create(model="test/silent", messages=HELLO)
    assert caught.value.status_code == 504
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert counter.sent == 1


def test_at_capacity(crowded: Belljar) -> None:
    counter = Counter()
    patient = groq_client(crowded.url, max_retries=1, http_client=counter.client())
    with groq_client(crowded.url) as client, patient:
        spin = {"model": "test/spin", "messages": HELLO, "tools": [INTERPRETER]}
        holder = client.chat.completions.create(stream=True, **spin)
        crowded.until(lambda: crowded.in_use == 1)
        assert "capacity" in failure(groq, client, 503, **spin)["message"]
        assert failure(groq, client, 498, service_tier="flex", **spin)["code"] == "capacity_exceeded"
        with pytest.raises(groq.InternalServerError) as caught:
            patient.chat.completions.create(**spin)
        assert counter.sent == 2  # nothing was done yet: to ask again is right
        assert float(caught.value.response.headers["retry-after"]) > 0
        assert client.chat.completions.create(model="test/thinks", messages=HELLO).choices  # needs no sandbox
        holder.close()
    crowded.until(lambda: crowded.in_use == 0, 1.0)
