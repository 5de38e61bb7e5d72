"""Long executions and clients that go away: heartbeats that every SDK takes, and nothing left running for nobody."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import groq
import pytest

from sdks.ways import INTERPRETER, KEY, WAYS, groq_async, groq_client, openai_client
from servers import Belljar

CODE = "```python\nimport time\ntime.sleep({seconds})\nprint('awake')\n```"
SLOW, SLOWER = (
    {
        "model": "belljar/verbatim",
        "messages": [{"role": "user", "content": CODE.format(seconds=seconds)}],
        "tools": [INTERPRETER],
    }
    for seconds in (0.35, 0.9)
)
SPIN = {"model": "test/spin", "messages": [{"role": "user", "content": "Spin."}], "tools": [INTERPRETER]}
LONG = {"model": "test/long", "messages": [{"role": "user", "content": "Talk."}]}
LATE = {
    "model": "test/late",  # it answers after heartbeats have begun, and not as it was told to
    "messages": [{"role": "user", "content": "Run something."}],
    "tools": [INTERPRETER],
    "tool_choice": "required",
}
SILENT = {"model": "test/silent", "messages": [{"role": "user", "content": "Say nothing."}]}


def raw(url: str, request: dict[str, Any]) -> tuple[http.client.HTTPResponse, bytes]:
    """A response and its body, as they come over the wire."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    with contextlib.closing(connection):
        headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
        connection.request("POST", "/openai/v1/chat/completions", json.dumps(request), headers)
        response = connection.getresponse()
        return response, response.read()


# --- heartbeats -------------------------------------------------------------------------------------------------------


def test_a_slow_body_is_announced_by_white_space(impatient: str) -> None:
    response, body = raw(impatient, SLOW)
    assert response.status == 200
    assert response.headers["content-type"].startswith("application/json")
    assert len(body) - len(body.lstrip()) >= 3
    assert "awake" in json.loads(body)["choices"][0]["message"]["content"]


def test_a_slow_stream_has_comments(impatient: str) -> None:
    response, body = raw(impatient, {**SLOW, "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    frames = body.decode().split("\n\n")
    assert sum(frame.startswith(":") for frame in frames) >= 3
    assert frames[-2:] == ["data: [DONE]", ""]


@pytest.mark.parametrize("way", WAYS)
def test_every_client_takes_heartbeats(impatient: str, way: str) -> None:
    seen = WAYS[way](impatient, SLOW, {})
    [tool] = seen.tools.values()
    assert tool["code_results"] == [{"text": "awake"}]
    assert "awake" in seen.content


@pytest.mark.parametrize("client_of", [groq_client, openai_client])
def test_heartbeats_keep_a_client_from_giving_up(belljar: Belljar, impatient: str, client_of: Any) -> None:
    with client_of(impatient, timeout=0.4) as client:  # of silence
        assert "awake" in client.chat.completions.create(**SLOWER).choices[0].message.content
    with client_of(belljar.url, timeout=0.4) as client, pytest.raises(Exception, match="timed out"):
        client.chat.completions.create(**SLOWER)


def test_an_error_after_heartbeats_is_the_body(impatient: str) -> None:
    """Its status is gone by then. An SDK sees an answer without choices."""
    response, body = raw(impatient, LATE)
    assert response.status == 200
    assert json.loads(body)["error"]["code"] == "tool_use_failed"


def test_an_error_after_heartbeats_in_a_stream(impatient: str) -> None:
    with groq_client(impatient) as client, pytest.raises(groq.APIError) as caught:
        list(client.chat.completions.create(stream=True, **LATE))
    assert caught.value.body["code"] == "tool_use_failed"
    assert caught.value.body["status_code"] == 400


# --- clients that go away ---------------------------------------------------------------------------------------------


def begun(belljar: Belljar) -> bool:
    return belljar.in_use > 0


def all_given_back(belljar: Belljar, cancelled: int) -> None:
    """Within a second: no sandbox in use, no upstream turn played for nobody."""
    belljar.until(lambda: belljar.in_use == 0 and len(belljar.upstream.cancelled) >= cancelled, 1.0)
    assert belljar.upstream.playing == 0


@pytest.mark.parametrize("client_of", [groq_client, openai_client])
def test_gone_while_the_model_speaks(belljar: Belljar, client_of: Any) -> None:
    cancelled = len(belljar.upstream.cancelled)
    with client_of(belljar.url) as client:
        stream = client.chat.completions.create(stream=True, **LONG)
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        stream.close()
        all_given_back(belljar, cancelled + 1)


@pytest.mark.parametrize("client_of", [groq_client, openai_client])
def test_gone_while_code_runs(belljar: Belljar, client_of: Any) -> None:
    cancelled = len(belljar.upstream.cancelled)
    with client_of(belljar.url) as client:
        stream = client.chat.completions.create(stream=True, **SPIN)
        for chunk in stream:
            if getattr(chunk.choices[0].delta, "executed_tools", None):
                break
        belljar.until(lambda: belljar.in_use == 1)
        stream.close()
        all_given_back(belljar, cancelled)


@pytest.mark.parametrize("request_", [SPIN, SILENT], ids=["code runs", "the model is silent"])
def test_gone_without_a_stream(belljar: Belljar, request_: dict[str, Any]) -> None:
    cancelled = len(belljar.upstream.cancelled)
    with groq_client(belljar.url, timeout=0.3) as client, pytest.raises(groq.APITimeoutError):
        client.chat.completions.create(**request_)
    all_given_back(belljar, cancelled + (request_ is not SPIN))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_cancelled_task(belljar: Belljar, stream: bool) -> None:
    async with groq_async(belljar.url) as client:

        async def ask() -> None:
            answer = await client.chat.completions.create(stream=stream, **SPIN)
            async for _ in answer:
                pass

        task = asyncio.create_task(ask())
        await asyncio.to_thread(belljar.until, lambda: begun(belljar))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(all_given_back, belljar, 0)


def test_reset_connection(belljar: Belljar) -> None:
    """Not closed but cut off: TCP's RST."""
    body = json.dumps({**SPIN, "stream": True}).encode()
    with socket.create_connection(urlsplit(belljar.url).netloc.split(":")) as client:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        belljar.until(lambda: begun(belljar))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    all_given_back(belljar, 0)


def test_many_go_at_once(belljar: Belljar) -> None:
    cancelled = len(belljar.upstream.cancelled)
    with groq_client(belljar.url) as client:
        streams = [client.chat.completions.create(stream=True, **(SPIN if n % 2 else LONG)) for n in range(12)]
        for stream in streams:
            next(iter(stream))
        belljar.until(lambda: belljar.in_use == 6)
        for stream in streams:
            stream.close()
        began = time.monotonic()
        all_given_back(belljar, cancelled + 6)
    assert time.monotonic() - began < 1.0
