"""HTTP as it should not be: heads that are too large, too slow or no HTTP at all; what a refused body leaves behind."""

from __future__ import annotations

import asyncio
import json

import pytest

from belljar.server.settings import HttpLimits, Settings

from .fakes import FakeService, connected, serving, turn

GET = b"GET /toy/models HTTP/1.1\r\nhost: localhost\r\n"
POST = b"POST /toy/ask HTTP/1.1\r\nhost: localhost\r\n"
QUICK = Settings(http=HttpLimits(head_seconds=0.3, head_bytes=4096, headers=20, drain_seconds=0.3, idle_seconds=1))

# What is sent -> the status of what comes back, None where the connection just ends.
HEADS = {
    "no HTTP": (b"hello\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a long path": (b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n", 431),
    "a long path without an end": (b"GET /" + b"x" * 5000, 431),
    "a long header": (GET + b"a: " + b"x" * 5000 + b"\r\n\r\n", 431),
    "a long header without an end": (GET + b"a: " + b"x" * 5000, 431),
    "many headers": (GET + b"a: b\r\n" * 25 + b"\r\n", 431),
    "a slow head": (GET, 408),
    "nothing": (b"", None),
    "a slow first line": (b"G", 408),
    "two lengths": (POST + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}", 400),
    "length and chunks": (POST + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "no number": (POST + b"content-length: x\r\n\r\n", 400),
    "a space in a name": (GET + b"a b: c\r\n\r\n", 400),
    "a proxy's request": (b"CONNECT example.org:443 HTTP/1.1\r\n\r\n", 400),
    "a path that is no ASCII": (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
}


@pytest.mark.parametrize("case", HEADS)
async def test_bad_heads(case: str) -> None:
    sent, status = HEADS[case]
    async with serving(settings=QUICK) as (url, app), connected(url) as (reader, writer):
        writer.write(sent)
        answer = await asyncio.wait_for(reader.read(), 3)
        assert not app.running
    if status is None:
        assert answer == b""
        return
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in head
    assert json.loads(body)["error"]["message"]


async def test_a_head_byte_by_byte_is_fine() -> None:
    async with serving(settings=QUICK) as (url, _), connected(url) as (reader, writer):
        for byte in GET + b"\r\n":
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await asyncio.wait_for(reader.readline(), 3)).startswith(b"HTTP/1.1 200 ")


async def test_a_slow_second_head() -> None:
    async with serving(settings=QUICK) as (url, _), connected(url) as (reader, writer):
        writer.write(GET + b"\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b'["m","a/b/c"]'), 3)).startswith(b"HTTP/1.1 200 ")
        writer.write(b"GET /toy")
        assert (await asyncio.wait_for(reader.read(), 3)).startswith(b"HTTP/1.1 408 ")


async def test_an_idle_connection_ends() -> None:
    async with serving(settings=QUICK) as (url, _), connected(url) as (reader, writer):
        writer.write(GET + b"\r\n")
        assert (await asyncio.wait_for(reader.read(), 3)).endswith(b'["m","a/b/c"]')


async def test_a_pipeline_is_answered_in_order() -> None:
    async with serving(FakeService(turn("a b"))) as (url, _), connected(url) as (reader, writer):
        body = b'{"stream": true}'
        writer.write((POST + b"content-length: 2\r\n\r\n{}") + (POST + b"content-length: 16\r\n\r\n" + body))
        writer.write(GET + b"connection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 3)
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.index(b'"text":"ab"') < answer.index(b"data: a") < answer.index(b'"a/b/c"')


async def test_rubbish_after_a_request_does_not_go_into_its_answer() -> None:
    gate = asyncio.Event()
    steps = turn("a b")
    steps.insert(2, gate)
    service = FakeService(steps)
    async with serving(service) as (url, _), connected(url) as (reader, writer):
        writer.write(POST + b'content-length: 16\r\n\r\n{"stream": true}')
        await asyncio.wait_for(reader.readuntil(b"data: a\n\n"), 3)
        writer.write(b"rubbish\r\n\r\n")
        rest = await asyncio.wait_for(reader.read(), 3)
        assert b"HTTP/1.1" not in rest
        await asyncio.wait_for(service.closed.wait(), 3)


async def test_a_body_that_goes_on_after_its_refusal() -> None:
    settings = Settings(max_body=1000, http=QUICK.http)
    async with serving(settings=settings) as (url, _), connected(url) as (reader, writer):
        writer.write(POST + b"content-length: 100000000\r\n\r\n" + b"x" * 1000)
        assert (await asyncio.wait_for(reader.readline(), 3)).startswith(b"HTTP/1.1 413 ")
        await asyncio.wait_for(reader.read(), 3)  # it ends


async def test_who_expects_to_be_told_to_go_on() -> None:
    async with serving(settings=Settings(max_body=1000)) as (url, _):
        async with connected(url) as (reader, writer):
            writer.write(POST + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n")
            assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 3) == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"{}")
            assert (await asyncio.wait_for(reader.readline(), 3)).startswith(b"HTTP/1.1 200 ")
        async with connected(url) as (reader, writer):
            writer.write(POST + b"expect: 100-continue\r\ncontent-length: 2000\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 3)
            assert answer.startswith(b"HTTP/1.1 413 ")
            assert b"connection: close" in answer


async def test_an_upgrade_is_passed_over() -> None:
    async with serving() as (url, _), connected(url) as (reader, writer):
        writer.write(GET + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n")
        assert (await asyncio.wait_for(reader.readline(), 3)).startswith(b"HTTP/1.1 200 ")


async def test_http_1_0() -> None:
    async with serving() as (url, _), connected(url) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 3)).endswith(b'{"status":"alive"}\n')
