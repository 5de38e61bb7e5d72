"""The application over real HTTP: answers, errors in the dialect's form, limits, disconnects, heartbeats."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import time
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from belljar.errors import AtCapacity, UpstreamTimeout
from belljar.events import CallClosed, CallOpened, Failed, TextDelta, TurnStarted
from belljar.execution import Execution, Outcome
from belljar.server.app import create_app
from belljar.server.settings import HttpLimits, Settings

from .fakes import FakeService, ToyDialect, connected, serving, turn

STREAM = {"stream": True}


async def ask(url: str, body: Any = None, **options: Any) -> tuple[int, dict[str, str], bytes]:
    data = options.pop("data", None) or json.dumps(body or {}).encode()
    async with aiohttp.ClientSession() as session, session.post(f"{url}/toy/ask", data=data, **options) as response:
        return response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read()


async def get(url: str, method: str = "GET", **options: Any) -> tuple[int, dict[str, str], bytes]:
    async with aiohttp.ClientSession() as session, session.request(method, url, **options) as response:
        return response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read()


async def eventually(true: Any, seconds: float = 2.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        await asyncio.sleep(0.005)


# --- answers ----------------------------------------------------------------------------------------------------------


async def test_a_whole_answer() -> None:
    service = FakeService(turn("a b c"))
    async with serving(service) as (url, _):
        status, headers, body = await ask(url)
    answer = json.loads(body)
    assert (status, answer["text"]) == (200, "abc")
    assert headers["x-request-id"] == answer["id"]
    assert headers["x-request-id"].startswith("req_")
    assert headers["server"] == "belljar"
    assert headers["content-type"] == "application/json"
    assert int(headers["content-length"]) == len(body)
    assert service.open == 0


async def test_a_stream() -> None:
    service = FakeService(turn("a b c"))
    async with serving(service) as (url, _):
        status, headers, body = await ask(url, STREAM)
    assert status == 200
    assert body == b"data: a\n\ndata: b\n\ndata: c\n\ndata: [DONE]\n\n"
    assert headers["content-type"] == "text/event-stream"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"
    assert service.open == 0


async def test_each_event_is_sent_when_it_comes() -> None:
    gate = asyncio.Event()
    steps = turn("a b")
    steps.insert(2, gate)
    async with (
        serving(FakeService(steps)) as (url, _),
        aiohttp.ClientSession() as session,
        session.post(f"{url}/toy/ask", json=STREAM) as response,
    ):
        async with asyncio.timeout(2):
            assert await response.content.readuntil(b"\n\n") == b"data: a\n\n"
        gate.set()
        assert await response.read() == b"data: b\n\ndata: [DONE]\n\n"


async def test_the_answer_does_not_wait_for_the_cleaning_up() -> None:
    service = FakeService(cleanup=0.5)
    async with serving(service) as (url, app):
        for body in ({}, STREAM):
            start = time.monotonic()
            await ask(url, body)
            assert time.monotonic() - start < 0.4
        await eventually(lambda: not app.running)
        assert service.open == 0


async def test_models() -> None:
    async with serving() as (url, _):
        assert (await get(f"{url}/toy/models"))[2] == b'["m","a/b/c"]'
        for path in ("a/b/c", "a%2Fb%2Fc"):
            assert (await get(f"{url}/toy/models/{path}"))[2] == b'{"id":"a/b/c"}'
        assert (await get(f"{url}/toy/models/x"))[0] == 404


async def test_one_connection_takes_many_requests() -> None:
    async with serving() as (url, _), aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        for _ in range(5):
            async with session.post(f"{url}/toy/ask", json={}) as response:
                assert json.loads(await response.read())["text"] == "hello"


# --- bad input --------------------------------------------------------------------------------------------------------

BAD_BODIES = {
    "nothing": b"",
    "no JSON": b"{",
    "no object": b"[]",
    "no UTF-8": b"\xff\xfe{}",
    "nested": b"[" * 200 + b"]" * 200,
    "nested deeper than the stack": b"[" * 200_000,
    "a control character": b'{"a": "\x00"}',
}


@pytest.mark.parametrize("case", BAD_BODIES)
async def test_a_bad_body_is_the_dialects_400(case: str) -> None:
    async with serving() as (url, _):
        status, headers, body = await get(f"{url}/toy/ask", "POST", data=BAD_BODIES[case])
    assert status == 400
    assert json.loads(body)["toy"]
    assert headers["x-request-id"]


# method, path -> status, whether in the dialect's form, allow
PLACES = [
    ("GET", "/toy/nothing", 404, True, None),
    ("GET", "/toy", 404, True, None),
    ("GET", "/toynothing", 404, False, None),
    ("GET", "/nothing", 404, False, None),
    ("POST", "/nothing?x=1", 404, False, None),
    ("GET", "/toy/ask", 405, True, "POST"),
    ("DELETE", "/toy/models/a/b", 405, True, "GET, HEAD"),
    ("PUT", "/healthz", 405, False, "GET, HEAD"),
    ("POST", "/toy/ask/", 404, True, None),
    ("PATCH", "/toy/models", 405, True, "GET, HEAD"),
]


@pytest.mark.parametrize(("method", "path", "status", "toy", "allow"), PLACES)
async def test_places(method: str, path: str, status: int, toy: bool, allow: str | None) -> None:
    async with serving() as (url, _):
        got, headers, body = await get(url + path, method)
    assert (got, headers.get("allow")) == (status, allow)
    value = json.loads(body)
    assert value["toy"] if toy else value["error"]["message"]


async def test_head_and_options() -> None:
    async with serving() as (url, _):
        status, headers, body = await get(f"{url}/toy/models", "HEAD")
        assert (status, body, headers["content-type"]) == (200, b"", "application/json")
        status, headers, body = await get(f"{url}/toy/ask", "OPTIONS")
        assert (status, body, headers["allow"]) == (204, b"", "OPTIONS, POST")
        assert "content-length" not in headers


async def test_a_bug_is_a_500_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as (url, _):
        status, headers, body = await ask(url, {"bug": 1})
    message = json.loads(body)["toy"]
    assert status == 500
    assert headers["x-request-id"] in message
    assert "Zero" not in message
    assert "ZeroDivisionError" in caplog.text
    caplog.clear()


async def test_a_bug_in_mid_stream(caplog: pytest.LogCaptureFixture) -> None:
    service = FakeService([TurnStarted(turn=0, model="m"), TextDelta(text="a"), RuntimeError("secret words")])
    async with serving(service) as (url, _):
        status, headers, body = await ask(url, STREAM)
    assert status == 200
    assert body.startswith(b"data: a\n\nevent: error\ndata: an internal error")
    assert headers["x-request-id"].encode() in body
    assert b"secret" not in body
    assert "secret words" in caplog.text
    caplog.clear()


async def test_events_without_an_end_are_an_error(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(FakeService([TurnStarted(turn=0, model="m"), TextDelta(text="a")])) as (url, _):
        assert (await ask(url))[0] == 500
        assert b"event: error" in (await ask(url, STREAM))[2]
    caplog.clear()


# --- errors of the answer ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_an_early_error_has_its_own_status(stream: bool) -> None:
    async with serving(FakeService([Failed(error=AtCapacity("full"))])) as (url, _):
        status, headers, body = await ask(url, {"stream": stream})
    assert (status, headers["retry-after"], json.loads(body)) == (503, "1", {"toy": "full"})


async def test_a_late_error() -> None:
    steps = [TurnStarted(turn=0, model="m"), TextDelta(text="a"), Failed(error=UpstreamTimeout("slow"))]
    async with serving(FakeService(steps)) as (url, _):
        assert (await ask(url))[0] == 504
        status, _, body = await ask(url, STREAM)
    assert (status, body) == (200, b"data: a\n\nevent: error\ndata: slow\n\n")


# --- bodies -----------------------------------------------------------------------------------------------------------


async def test_a_body_that_is_too_large() -> None:
    async def pieces() -> Any:
        for _ in range(4):
            yield b" " * 500

    async with serving(settings=Settings(max_body=1000)) as (url, _):
        for data in (b" " * 1001, pieces()):
            status, _, body = await ask(url, data=data)
            assert (status, "1,000 bytes" in json.loads(body)["toy"]) == (413, True)
        assert (await ask(url, data=b"{}" + b" " * 998))[0] == 200


async def test_a_refused_body_leaves_the_connection_usable() -> None:
    async with serving(settings=Settings(max_body=1000)) as (url, _), aiohttp.ClientSession() as session:
        async with session.post(f"{url}/toy/ask", data=io.BytesIO(b" " * 3_000_000)) as response:
            assert response.status == 413
        async with session.post(f"{url}/toy/ask", data=b"{}") as response:
            assert response.status == 200


async def test_compressed_bodies() -> None:
    bomb = gzip.compress(b" " * 5_000_000)
    async with serving(settings=Settings(max_body=100_000)) as (url, _):

        async def status(data: bytes, encoding: str) -> int:
            return (await ask(url, data=data, headers={"content-encoding": encoding}))[0]

        assert await status(gzip.compress(b"{}"), "gzip") == 200
        assert await status(b"{}", "identity") == 200
        assert await status(bomb, "gzip") == 413
        assert await status(b"{}", "gzip") == 400
        assert await status(gzip.compress(b"{}")[:-6], "gzip") == 400
        assert await status(b"{}", "br") == 415


async def test_a_body_that_does_not_come() -> None:
    settings = Settings(heartbeat=0.2, http=HttpLimits(body_seconds=0.2))
    async with serving(settings=settings) as (url, app), connected(url) as (reader, writer):
        writer.write(b"POST /toy/ask HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{")
        answer = await asyncio.wait_for(reader.read(), 3)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in answer
        assert b'{"toy":"the body' in answer
        await eventually(lambda: not app.running)


# --- clients that go away ---------------------------------------------------------------------------------------------


def raw(body: Any) -> bytes:
    data = json.dumps(body).encode()
    return b"POST /toy/ask HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(data) + data


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_away(stream: bool) -> None:
    service = FakeService([TurnStarted(turn=0, model="m"), TextDelta(text="a"), asyncio.Event()])
    async with serving(service) as (url, app):
        async with connected(url) as (_, writer):
            writer.write(raw({"stream": stream}))
            await eventually(lambda: service.open == 1)
            await asyncio.sleep(0.02)
            start = time.monotonic()
        await asyncio.wait_for(service.closed.wait(), 2)
        assert time.monotonic() - start < 0.5
        await eventually(lambda: not app.running)
        assert b"belljar_clients_gone_total 1.0" in app.metrics.write()


async def test_a_client_that_goes_away_from_its_second_request() -> None:
    """Both come at once; the first one's end must not take the watch from the second."""

    class Service(FakeService):
        def answer(self, request: Any, asked: Any = None) -> Any:
            hanging = [TurnStarted(turn=0, model="m"), TextDelta(text="a"), asyncio.Event()]
            self.steps = hanging if request.stream else turn()
            return super().answer(request)

    service = Service(cleanup=0.1)
    async with serving(service) as (url, app):
        async with connected(url) as (reader, writer):
            writer.write(raw({}) + raw(STREAM))
            await asyncio.wait_for(reader.readuntil(b"data: a\n\n"), 3)
            await eventually(lambda: service.open == 1)  # the first one has ended altogether
            await asyncio.sleep(0.02)
        await eventually(lambda: not app.running)
        assert service.open == 0


async def test_a_client_that_goes_away_under_another_server() -> None:
    """Under any ASGI server, by its own message."""
    service = FakeService([TurnStarted(turn=0, model="m"), TextDelta(text="a"), asyncio.Event()])
    app = create_app(service, Settings(), dialects={"toy": ToyDialect()})
    messages = [{"type": "http.request", "body": b'{"stream": true}', "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await eventually(lambda: len(sent) == 2)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/toy/ask", "query_string": b"", "headers": []}
    await asyncio.wait_for(app(scope, receive, send), 3)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert service.open == 0


async def test_a_client_that_goes_away_before_its_body_is_whole(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as (url, app), connected(url) as (_, writer):
        writer.write(b"POST /toy/ask HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{")
        await eventually(lambda: len(app.running) == 1)
        writer.close()
        await eventually(lambda: not app.running)
        assert not [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")]


async def test_a_client_that_takes_nothing() -> None:
    steps = [TurnStarted(turn=0, model="m"), *[TextDelta(text="x" * 200_000) for _ in range(200)]]
    service = FakeService(steps)
    settings = Settings(http=HttpLimits(send_seconds=0.3))
    async with serving(service, settings) as (url, app), connected(url, limit=1000) as (_, writer):
        writer.write(raw(STREAM))
        await eventually(lambda: service.open == 1)
        await asyncio.wait_for(service.closed.wait(), 5)
        await eventually(lambda: not app.running)


# --- heartbeats -------------------------------------------------------------------------------------------------------


async def test_a_stream_is_kept_alive() -> None:
    steps = turn("a b")
    steps.insert(2, 0.35)
    async with serving(FakeService([0.25, *steps]), Settings(heartbeat=0.1)) as (url, _):
        status, _, body = await ask(url, STREAM)
    head, beats, tail = body.partition(b"data: a\n\n")
    assert status == 200
    assert beats
    assert head == b": beat\n\n" * head.count(b"beat")
    assert 1 <= head.count(b"beat") <= 3
    assert tail.endswith(b"data: b\n\ndata: [DONE]\n\n")
    assert 2 <= tail.count(b": beat\n\n") <= 4


async def test_a_single_body_is_kept_alive_with_white_space() -> None:
    async with serving(FakeService([0.5, *turn("a b")]), Settings(heartbeat=0.1)) as (url, _):
        status, headers, body = await ask(url)
    assert status == 200
    assert "content-length" not in headers
    assert body.startswith(b" ")
    assert json.loads(body)["text"] == "ab"
    assert headers["content-type"] == "application/json"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_after_heartbeats_is_a_body(stream: bool) -> None:
    service = FakeService([0.4, Failed(error=UpstreamTimeout("slow"))])
    async with serving(service, Settings(heartbeat=0.1)) as (url, _):
        status, _, body = await ask(url, {"stream": stream})
    assert status == 200
    rest = body.replace(b": beat\n\n", b"").strip()
    assert rest == (b"event: error\ndata: slow" if stream else b'{"toy":"slow"}')


async def test_a_quick_answer_has_no_heartbeat() -> None:
    async with serving(settings=Settings(heartbeat=0.5)) as (url, _):
        assert b"beat" not in (await ask(url, STREAM))[2]
        assert (await ask(url))[2][:1] == b"{"


# --- health and metrics -----------------------------------------------------------------------------------------------


async def test_health() -> None:
    service = FakeService()
    async with serving(service) as (url, app):
        assert json.loads((await get(f"{url}/healthz"))[2]) == {"status": "alive"}
        status, _, body = await get(f"{url}/readyz")
        assert (status, json.loads(body)) == (200, {"status": "ready", "sandboxes": service.pool})
        for state in ("starting", "stopping"):
            app.state = state
            status, _, body = await get(f"{url}/readyz")
            assert (status, json.loads(body)["status"]) == (503, state)
            assert (await get(f"{url}/healthz"))[0] == 200
            status, headers, _ = await ask(url)
            assert status == 503
            assert ("connection" in headers) == (state == "stopping")
        app.state = "serving"
        service.pool = {"ready": 0, "in_use": 0, "starting": 0}
        assert (await get(f"{url}/readyz"))[0] == 503


async def test_metrics() -> None:
    execution = Execution(outcome=Outcome.TIMEOUT, duration=0.5)
    steps = turn()
    steps.insert(1, CallOpened(call="c", name="python", builtin=True))
    steps.insert(-1, CallClosed(call="c", execution=execution, text=""))
    service = FakeService(steps)
    async with serving(service) as (url, _):
        for index in range(3):
            await ask(url, {"stream": bool(index)})
        await get(f"{url}/toy/nothing/{'x' * 50}")
        service.steps = [Failed(error=UpstreamTimeout("slow"))]
        await ask(url)
        _, headers, body = await get(f"{url}/metrics")
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }

    def value(name: str, **labels: str) -> float:
        return samples[f"belljar_{name}", tuple(sorted(labels.items()))]

    plain = {"dialect": "toy", "action": "generate", "stream": "false"}
    assert value("requests_total", **plain, status="200") == 1
    assert value("requests_total", **plain, status="504") == 1
    assert value("requests_total", **plain | {"stream": "true"}, status="200") == 2
    assert value("requests_total", **plain | {"action": ""}, status="404") == 1
    assert value("turns_total", model="m", finish="stop") == 3
    assert value("tokens_total", model="m", kind="prompt") == 9
    assert value("executions_total", outcome="timeout") == 3
    assert value("execution_seconds_sum") == 1.5
    assert value("sandbox_wait_seconds_count") == 3
    assert value("upstream_errors_total", error="upstream_timeout") == 1
    assert value("requests_in_flight") == 1  # the one that asks
    assert value("sandboxes", state="ready") == 2
    assert value("request_seconds_count", dialect="toy", stream="true") == 2
    assert value("first_byte_seconds_count", dialect="toy", stream="false") == 2


async def test_names_of_models_cannot_make_labels_without_end() -> None:
    service = FakeService()
    async with serving(service) as (url, app):
        for index in range(60):
            service.steps = turn(model=f"model-{index}")
            await ask(url)
        text = app.metrics.write().decode()
    assert text.count("belljar_turns_total{") == 51
    assert 'model="other"} 10.0' in text
