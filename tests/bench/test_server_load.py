"""The load of `belljar bench server`: what counts as a right answer, and that each request is counted once."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from belljar.bench import server_load
from belljar.bench.server_answer import Answer, Step
from belljar.bench.server_contestants import DIALECTS, PLAIN, TWO_TURNS, DialectSteps
from belljar.bench.server_load import MOST_REASONS, OTHER, Result, Work
from belljar.bench.server_wires import WIRES
from belljar.scripted import Fault, ScriptedUpstream, Turn, plain, unused_url
from belljar.scripted.scripts import ANSWER, Script, code_then

# --- answers ----------------------------------------------------------------------------------------------------------

TEXT = Step(body={}, text="Hello, you")
CALL = Step(body={}, calls=1)
CODE = Step(body={}, text="Hello, you", output="1")


def whole(message: dict[str, Any], finish: str | None = "stop") -> bytes:
    return json.dumps({"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}).encode()


def streamed(*deltas: dict[str, Any], finish: str | None = "stop", end: bytes = b"data: [DONE]\n\n") -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": finish})
    return b"".join(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n" for choice in choices) + end


def tool(output: str | None = None, text: str | None = None, index: int = 0) -> dict[str, Any]:
    results = None if text is None else [{"text": text}]
    return {"executed_tools": [{"index": index, "type": "function", "output": output, "code_results": results}]}


HELLO = {"content": "Hello, "}, {"content": "you"}
CALLED = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "python", "arguments": "{}"}}]}
USAGE = b'data: {"choices":[],"usage":{"total_tokens":3}}\n\ndata: [DONE]\n\n'
NO_FAULT = ""

WHOLE = [
    (TEXT, whole({"content": "Hello, you"}), NO_FAULT),
    (TEXT, b"  \n " + whole({"content": "Hello, you"}), NO_FAULT),  # white space keeps a slow answer alive
    (TEXT, whole({"content": "Hello, "}), "text is"),
    (TEXT, whole({"content": None}), "text is"),
    (TEXT, whole({"content": "Hello, you"}, None), "finish_reason is None"),
    (TEXT, whole({"content": "Hello, you"}, "length"), "finish_reason is 'length'"),
    (TEXT, whole({"content": "Hello, you"} | CALLED, "tool_calls"), "calls is 1"),
    (TEXT, whole({"content": "Hello, you"} | tool(text="1")), "output is ['1']"),
    (TEXT, whole({"content": "Hello, you"})[:-1], "not the JSON"),
    (TEXT, b"", "not the JSON"),
    (TEXT, b'{"choices":[{"message":"Hello, you"}]}', "not the JSON"),
    (TEXT, b'{"error":{"message":"busy"}}', "busy"),
    (CALL, whole({"content": None} | CALLED, "tool_calls"), NO_FAULT),
    (CALL, whole({"content": None}, "tool_calls"), "calls is 0"),
    (CODE, whole({"content": "Hello, you"} | tool(text="1\n")), NO_FAULT),
    (CODE, whole({"content": "Hello, you"} | tool(output="1\n")), NO_FAULT),
    (CODE, whole({"content": "Hello, you"}), "output is []"),
    (CODE, whole({"content": "Hello, you"} | tool(text="2")), "output is ['2']"),
    (CODE, whole({"content": "Hello, you"} | tool(text="at capacity")), "output is ['at capacity']"),
]
STREAMED = [
    (TEXT, streamed(*HELLO), NO_FAULT),
    (TEXT, b": alive\n\n" + streamed({"role": "assistant", "content": ""}, *HELLO, end=USAGE), NO_FAULT),
    (TEXT, streamed(*HELLO, end=b""), "before [DONE]"),
    (TEXT, streamed(*HELLO, end=b"data: [DONE]"), "before [DONE]"),
    (TEXT, streamed(*HELLO)[:40], "before [DONE]"),
    (TEXT, streamed(*HELLO, finish=None), "finish_reason is None"),
    (TEXT, streamed(*HELLO, *HELLO), "text is"),
    (TEXT, streamed(HELLO[0]), "text is"),
    (TEXT, streamed(*HELLO) * 2, "not a frame"),
    (TEXT, b'event: error\ndata: {"error":{"message":"gone"}}\n\n', "not a frame"),
    (TEXT, streamed(*HELLO, end=b'data: {"error":{"message":"gone"}}\n\ndata: [DONE]\n\n'), "gone"),
    (TEXT, b"data: {\n\n" + streamed(*HELLO), "not the JSON"),
    (CALL, streamed(CALLED, CALLED, finish="tool_calls"), NO_FAULT),
    (CALL, streamed(finish="tool_calls"), "calls is 0"),
    (CODE, streamed(tool(), tool(text="1"), *HELLO), NO_FAULT),
    (CODE, streamed(tool(text="1"), tool(text="1", index=1), *HELLO), "output is ['1', '1']"),
    (CODE, streamed(tool(), *HELLO), "output is ['']"),
]
CASES = [(False, *case) for case in WHOLE] + [(True, *case) for case in STREAMED]


def judge(step: Step, pieces: list[bytes], *, stream: bool, status: int = 200) -> tuple[Answer, str]:
    answer = Answer(step, stream=stream)
    for moment, piece in enumerate(pieces, 1):
        answer.feed(piece, moment)
    return answer, answer.fault(status)


@pytest.mark.parametrize(("stream", "step", "body", "fault"), CASES)
def test_an_answer_is_right_or_its_fault_is_named(stream: bool, step: Step, body: bytes, fault: str) -> None:
    cuts = [[body], *([body[:at], body[at:]] for at in range(1, len(body)))]
    faults = {judge(step, pieces, stream=stream)[1] for pieces in cuts}
    assert len(faults) == 1
    assert (fault in faults.pop()) if fault else faults == {""}


def test_a_status_other_than_200_is_a_fault_whatever_the_body() -> None:
    assert judge(TEXT, [whole({"content": "Hello, you"})], stream=False, status=503)[1].startswith("status 503: {")


def test_the_first_text_has_its_time() -> None:
    frames = [frame + b"\n\n" for frame in streamed({"role": "assistant", "content": ""}, *HELLO).split(b"\n\n")[:-1]]
    assert judge(TEXT, frames, stream=True)[0].first == 2
    assert judge(TEXT, [whole({"content": "Hello, you"})], stream=False)[0].first is None


# --- the load ---------------------------------------------------------------------------------------------------------


def work(url: str, *steps: Step, stream: bool = False, **more: Any) -> Work:
    place = urlsplit(url)
    assert place.hostname is not None
    assert place.port is not None
    fields = {"clients": 4, "seconds": 0.05, "patience": 5.0} | more
    return Work(host=place.hostname, port=place.port, steps=list(steps), stream=stream, **fields)


@pytest.mark.parametrize("stream", [False, True])
async def test_every_request_is_counted_once(stream: bool) -> None:
    async with ScriptedUpstream(plain()) as upstream:
        result = await server_load.run(work(upstream.url, *PLAIN, stream=stream))
        assert len(upstream.turns) == len(result.total) >= 4
        assert upstream.connections == 4
    assert result.failures == {}
    assert len(result.first) == (len(result.total) if stream else 0)
    assert 0 < min(result.total) <= max(result.total) <= result.seconds < 5
    assert all(first <= total for first, total in zip(result.first, result.total, strict=False))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_of_two_turns_is_one_sample(stream: bool) -> None:
    async with ScriptedUpstream(code_then("print(1)", ANSWER)) as upstream:
        result = await server_load.run(work(upstream.url, *TWO_TURNS, stream=stream))
        assert len(upstream.turns) == 2 * len(result.total) > 0
    assert result.failures == {}
    assert len(result.first) == (len(result.total) if stream else 0)


async def test_a_pause_is_between_requests_and_not_in_their_time() -> None:
    async with ScriptedUpstream(plain()) as upstream:
        result = await server_load.run(work(upstream.url, *PLAIN, clients=1, seconds=0.3, pause=0.1))
    assert 2 <= len(result.total) <= 4
    assert max(result.total) < 0.1


def broken(**fields: Any) -> Turn:
    return plain(**fields)


FAULTS: list[tuple[str, Turn, bool | None, str]] = [  # None: streaming or not
    ("another text", Turn(text="something else"), None, "text is"),
    ("status", Turn(status=500), None, "status 500"),
    ("reset", broken(fault=Fault.RESET), None, "cut"),
    ("cut", broken(fault=Fault.CUT, after=30), None, "cut"),
    ("stalled", broken(fault=Fault.STALL, after=30), None, "no answer within"),
    ("silent", broken(fault=Fault.SILENT), None, "no answer within"),
    ("endless", broken(fault=Fault.ENDLESS, pause=0.01), None, "no answer within"),
    ("not HTTP", broken(fault=Fault.NOT_HTTP), None, "not HTTP"),
    ("a page", broken(fault=Fault.WRONG_TYPE), False, "not the JSON"),
    ("garbage", broken(fault=Fault.GARBAGE), False, "not the JSON"),
    ("garbage", broken(fault=Fault.GARBAGE), True, "before [DONE]"),
    ("error", broken(fault=Fault.ERROR, after=2), None, "the script says so"),
    ("no end", broken(fault=Fault.NO_DONE), True, "before [DONE]"),
    ("no finish", broken(fault=Fault.NO_FINISH), True, "before [DONE]"),
    ("cut off by length", broken(finish="length"), None, "finish_reason is 'length'"),
]
FAULT_CASES = [
    pytest.param(turn, stream, reason, id=f"{name}, {'stream' if stream else 'whole'}")
    for name, turn, only, reason in FAULTS
    for stream in ([False, True] if only is None else [only])
]


@pytest.mark.parametrize(("turn", "stream", "reason"), FAULT_CASES)
async def test_whatever_goes_wrong_is_a_counted_failure(turn: Turn, stream: bool, reason: str) -> None:
    async with ScriptedUpstream(turn) as upstream:
        result = await server_load.run(work(upstream.url, *PLAIN, stream=stream, clients=2, patience=0.2))
        assert sum(result.failures.values()) == len(upstream.turns) >= 2
    assert result.total == result.first == []
    assert all(reason in failure for failure in result.failures)


async def test_right_answers_between_wrong_ones_are_counted_apart() -> None:
    def every_third(ask: list[int]) -> Callable[[Any], Turn]:
        def script(body: Any) -> Turn:
            ask.append(1)
            return Turn(text="wrong") if len(ask) % 3 == 0 else plain()

        return script

    asked: list[int] = []
    script: Script = every_third(asked)
    async with ScriptedUpstream(script) as upstream:
        result = await server_load.run(work(upstream.url, *PLAIN, seconds=0.2))
    assert sum(result.failures.values()) == len(asked) // 3 > 0
    assert len(result.total) == len(asked) - len(asked) // 3


async def test_a_server_that_cannot_be_reached_is_a_failure_too() -> None:
    result = await server_load.run(work(unused_url(), *PLAIN, clients=3))
    assert set(result.failures) == {"the server could not be reached"}
    assert sum(result.failures.values()) >= 3


async def test_bytes_after_an_answer_fail_the_next_request() -> None:
    body = whole({"content": ANSWER})
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body

    handlers: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.current_task())
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b'"stream":false}')
            writer.write(answer)
            await asyncio.sleep(0.05)
            writer.write(b"HTTP/1.1 ")
            await reader.read()
        writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        asked = work(f"http://127.0.0.1:{port}", *PLAIN, clients=1, seconds=0.15, pause=0.1)
        result = await server_load.run(asked)
        await asyncio.gather(*(handler for handler in handlers if handler))
    assert result.total
    assert list(result.failures) == ["bytes after the end of an answer: b'HTTP/1.1 '"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
async def test_each_dialect_is_asked_at_its_own_path(dialect: DialectSteps, stream: bool) -> None:
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length:")[2].split()[0])
            seen.append(head + await reader.readexactly(size))
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        result = await server_load.run(work(url, dialect.coded, stream=stream, clients=1, seconds=0))
    assert list(result.failures) == ["status 204: "]
    head, _, body = seen[0].partition(b"\r\n\r\n")
    way = WIRES[dialect.coded.wire].way(stream=stream)
    assert head.startswith(b"POST %s HTTP/1.1\r\n" % way.path.encode())
    assert (b"x-dashscope-sse: enable" in head) == (stream and dialect.name == "dashscope")
    assert json.loads(body) == {**dialect.coded.body, **way.fields}


def test_very_many_reasons_stay_few() -> None:
    result = Result()
    for number in range(MOST_REASONS * 2):
        result.fail(f"reason {number}")
    result.fail("reason 0", 2)
    assert len(result.failures) == MOST_REASONS + 1
    assert result.failures[OTHER] == MOST_REASONS
    assert result.failures["reason 0"] == 3


def test_the_process_answers_line_by_line_and_ends_with_its_input() -> None:
    lines = json.dumps(
        {
            "host": "127.0.0.1",
            "port": urlsplit(unused_url()).port,
            "stream": False,
            "clients": 1,
            "seconds": 0.01,
            "steps": [{"body": {}}],
        }
    )
    done = subprocess.run(
        [sys.executable, "-m", "belljar.bench.server_load"],
        input=f"{lines}\n{lines}\n", capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [list(result["failures"]) for result in results] == [["the server could not be reached"]] * 2
    assert done.returncode == 0
