"""The client of one upstream: what it makes of good answers and of every way in which a server can be bad."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from belljar.errors import UpstreamError, UpstreamRefused, UpstreamTimeout, UpstreamUnavailable
from belljar.events import Finish, Fold, ReasoningDelta, TextDelta, TurnEnded, TurnEvent, TurnStarted
from belljar.model import Function, Message, ModelInfo, Request, Role, Text
from belljar.scripted import Fault, FunctionCall, ScriptedUpstream, Turn, fails, plain, thinks, unused_url
from belljar.scripted.scripts import Script
from belljar.sse import write_event
from belljar.upstream.client import Endpoint, Timeouts
from belljar.upstream.retry import Backoff, adapt, first_manners, read_retry_after

QUICK = Timeouts(connect=2, first=0.4, idle=0.3, turn=1.0)
PATIENT = Timeouts(connect=5, first=20, idle=20, turn=30)
KEY = "sk-test-0123456789abcdefghij"
MOST = 256 << 10


def asked(stream: bool = True, **more: Any) -> Request:
    user = Message(role=Role.USER, parts=(Text(text="hi"),))
    return Request(model="m", messages=(user,), stream=stream, functions=(Function(name="python"),), **more)


@asynccontextmanager
async def endpoint(url: str, **more: Any) -> AsyncIterator[Endpoint]:
    """An endpoint that leaves no task behind."""
    options: dict[str, Any] = {"timeouts": PATIENT, "backoff": Backoff(base=0.01), **more}
    one = Endpoint("test", url, options.pop("key", None), **options)
    await one.start()
    try:
        yield one
    finally:
        await one.close()
        await asyncio.sleep(0.01)
        assert asyncio.all_tasks() == {asyncio.current_task()}


@asynccontextmanager
async def meeting(script: Script, **more: Any) -> AsyncIterator[tuple[ScriptedUpstream, Endpoint]]:
    """A scripted upstream, and an endpoint that speaks to it. At the end no connection is open."""
    server = {name: more.pop(name) for name in ("listing", "models", "server_key") if name in more}
    if "server_key" in server:
        server["key"] = server.pop("server_key")
    async with ScriptedUpstream(script, **server) as upstream:
        async with endpoint(upstream.url, **more) as one:
            yield upstream, one
        await upstream.until(lambda: upstream.open_connections == 0)


async def turn(one: Endpoint, stream: bool = True, **more: Any) -> list[TurnEvent]:
    return [event async for event in one.turn("m", asked(stream), 0, sees_images=False, **more)]


async def gather(one: Endpoint, stream: bool, events: list[TurnEvent]) -> None:
    async for event in one.turn("m", asked(stream), 0, sees_images=False):
        events.append(event)


def words(events: list[TurnEvent]) -> str:
    fold = Fold()
    for event in events:
        fold.add(event)
    return fold.answer.text


both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])

# --- answers ----------------------------------------------------------------------------------------------------------


@both
async def test_an_answer(stream: bool) -> None:
    call = FunctionCall(name="python", arguments='{"code": "1"}', id="a")
    async with meeting(Turn(text="Hello, world", reasoning="hm", calls=(call,))) as (upstream, one):
        events = await turn(one, stream, label="label")
    fold = Fold()
    for event in events:
        fold.add(event)
    assert isinstance(events[0], TurnStarted)
    assert (events[0].model, events[0].extra) == ("label", {"system_fingerprint": "fp_scripted"})
    assert (fold.answer.text, fold.answer.reasoning) == ("Hello, world", "hm")
    assert [(item.call, item.name, item.arguments) for item in fold.answer.calls] == [("a", "python", '{"code": "1"}')]
    ended = events[-1]
    assert isinstance(ended, TurnEnded)
    assert ended.finish is Finish.CALLS
    assert ended.usage is not None
    assert (ended.usage.prompt_tokens, ended.usage.completion_tokens) == (11, 7)
    assert upstream.turns[0]["model"] == "m"
    assert upstream.turns[0]["stream"] is stream


@both
async def test_no_usage_is_none(stream: bool) -> None:
    async with meeting(plain("x", usage=None)) as (_, one):
        ended = (await turn(one, stream))[-1]
    assert isinstance(ended, TurnEnded)
    assert ended.usage is None


async def test_seconds_are_measured() -> None:
    async with meeting(plain("Hello, world", delay=0.1, pause=0.02)) as (_, one):
        streamed, whole = (await turn(one))[-1], (await turn(one, stream=False))[-1]
    assert isinstance(streamed, TurnEnded)
    assert isinstance(whole, TurnEnded)
    assert streamed.usage is not None
    assert whole.usage is not None
    assert streamed.usage.prompt_seconds is not None
    assert 0.1 <= streamed.usage.prompt_seconds < streamed.usage.seconds - 0.03
    assert whole.usage.prompt_seconds is None
    assert whole.usage.seconds >= 0.1


@pytest.mark.parametrize("sends", [True, False], ids=["sends a stream", "sends a body"])
@both
async def test_what_it_sends_counts_not_what_was_asked_for(stream: bool, sends: bool) -> None:
    async with meeting(plain("Hello", stream=sends)) as (_, one):
        assert words(await turn(one, stream)) == "Hello"


@both
async def test_reasoning_in_tags(stream: bool) -> None:
    async with meeting(thinks("hm", "x", "<think>", split=3)) as (_, one):
        events = await turn(one, stream)
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "hm"
    assert words(events) == "x"


async def test_reasoning_that_the_template_opened() -> None:
    async with meeting(plain("hm</think>x", split=2)) as (_, one):
        assert words(await turn(one, thinks=True)) == "x"


async def test_events_come_as_they_are_sent() -> None:
    async with meeting(plain("abcdef", split=1, pause=0.1)) as (_, one):
        began, first = time.monotonic(), None
        async for event in one.turn("m", asked(), 0, sees_images=False):
            if first is None and isinstance(event, TextDelta):
                first = time.monotonic() - began
        assert first is not None
        assert first < 0.35 < 0.6 < time.monotonic() - began


# --- connections ------------------------------------------------------------------------------------------------------


async def test_one_connection_serves_one_client() -> None:
    async with meeting(plain()) as (upstream, one):
        for stream in (True, False, True, False, True):
            await turn(one, stream)
        await one.models()
        assert upstream.connections == 1


async def test_many_clients_do_not_wait_for_each_other() -> None:
    async with meeting(plain("Hello, world", delay=0.3)) as (upstream, one):
        began = time.monotonic()
        answers = await asyncio.gather(*(turn(one, place % 2 == 0) for place in range(100)))
        assert time.monotonic() - began < 3
        assert {words(answer) for answer in answers} == {"Hello, world"}
        assert upstream.connections == 100
        await asyncio.gather(*(turn(one) for _ in range(100)))
        assert upstream.connections == 100


async def test_a_connection_that_was_closed_meanwhile_is_no_error() -> None:
    async with meeting([plain("a"), Turn(fault=Fault.RESET), plain("b")], backoff=Backoff(base=10)) as (upstream, one):
        assert words(await turn(one)) == "a"
        began = time.monotonic()
        assert words(await turn(one)) == "b"
        assert time.monotonic() - began < 1
        assert len(upstream.requests) == 3


async def test_an_answer_without_its_end_is_over_at_done() -> None:
    script = Turn(text="x", fault=Fault.STALL, after=1 << 20)
    async with meeting(script) as (upstream, one):
        began = time.monotonic()
        assert words(await turn(one)) == "x"
        assert time.monotonic() - began < 0.45  # and not when its connection is given up
        await upstream.until(lambda: upstream.open_connections == 0, 5)


# --- faults -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Case:
    """A fault, and what comes of it. `seen`: part of the answer is shown first; `tries`: how often it is asked."""

    turn: Turn
    error: type[UpstreamError] = UpstreamError
    says: str
    tries: int = 1
    seen: bool = False
    stream: tuple[bool, ...] = (True, False)


def bad(fault: Fault, **more: Any) -> Turn:
    return Turn(text="Hello, world. " * 10, fault=fault, **more)


FAULTS: dict[str, Case] = {
    "reset": Case(turn=bad(Fault.RESET), says="closed the connection instead of answering", tries=3),
    "silent": Case(turn=bad(Fault.SILENT), error=UpstreamTimeout, says="did not begin to answer within 0.4 seconds"),
    "slow head": Case(turn=plain(delay=5), error=UpstreamTimeout, says="did not begin to answer within 0.4 seconds"),
    "cut at once": Case(turn=bad(Fault.CUT), says="broke off", tries=3, stream=(False,)),
    "cut before an event": Case(turn=bad(Fault.CUT, after=20), says="without an answer|broke off", tries=3),
    "cut in the middle": Case(turn=bad(Fault.CUT, after=900), says="broke off", seen=True, stream=(True,)),
    "stall before an event": Case(turn=bad(Fault.STALL, after=20), error=UpstreamTimeout, says="sent nothing for 0.3"),
    "stall at once": Case(turn=bad(Fault.STALL), error=UpstreamTimeout, says="sent nothing for 0.4 seconds"),
    "stall in the middle": Case(
        turn=bad(Fault.STALL, after=900), error=UpstreamTimeout, says="sent nothing for 0.3", seen=True, stream=(True,)
    ),
    "garbage": Case(turn=bad(Fault.GARBAGE), says="no JSON", stream=(False,)),
    "garbage stream": Case(turn=bad(Fault.GARBAGE), says="without an answer: ", tries=3, stream=(True,)),
    "garbage events": Case(turn=Turn(frames=(b"{x",)), says="no JSON: '{x'", stream=(True,)),
    "not HTTP": Case(turn=bad(Fault.NOT_HTTP), says="not HTTP"),
    "a web page": Case(turn=bad(Fault.WRONG_TYPE), says="text/html.*is its URL right"),
    "endless": Case(turn=bad(Fault.ENDLESS), says="more than 262,144 bytes", seen=True, stream=(True,)),
    "endless body": Case(turn=bad(Fault.ENDLESS), says="more than 262,144 bytes", stream=(False,)),
    "endless, slowly": Case(
        turn=bad(Fault.ENDLESS, pause=0.02),
        error=UpstreamTimeout,
        says="did not finish its answer within 1 sec",
        seen=True,
        stream=(True,),
    ),
    "endless body, slowly": Case(
        turn=bad(Fault.ENDLESS, pause=0.02),
        error=UpstreamTimeout,
        says="did not finish its answer within 1 sec",
        stream=(False,),
    ),
    "error in the middle": Case(
        turn=bad(Fault.ERROR, after=3, error="CUDA out of memory"), says="CUDA", seen=True, stream=(True,)
    ),
    "error instead": Case(turn=bad(Fault.ERROR, error="CUDA out of memory"), says="CUDA out of memory"),
    "error with a status instead": Case(
        turn=bad(Fault.ERROR, error={"error": {"message": "no", "code": 429}}), error=UpstreamRefused, says="no"
    ),
    "no finish": Case(turn=bad(Fault.NO_FINISH), says="broke off", seen=True, stream=(True,)),
    "empty stream": Case(turn=Turn(frames=(), fault=Fault.NO_DONE), says="without an answer", tries=3, stream=(True,)),
    "empty body": Case(turn=Turn(body=b""), says="no JSON", stream=(False,)),
    "no choices": Case(turn=Turn(body={"id": "x"}), says="without choices", stream=(False,)),
    "redirect": Case(turn=Turn(status=307, headers=(("location", "/x"),)), says="redirect .HTTP 307. to /x"),
}


@pytest.mark.parametrize(
    ("name", "stream"), [(name, stream) for name, case in FAULTS.items() for stream in case.stream]
)
async def test_a_fault_ends_in_time_in_its_own_error(name: str, stream: bool) -> None:
    case = FAULTS[name]
    events: list[TurnEvent] = []
    async with meeting(case.turn, timeouts=QUICK, max_bytes=MOST, key=KEY) as (upstream, one):
        began = time.monotonic()
        with pytest.raises(UpstreamError, match=case.says) as caught:
            await gather(one, stream, events)
        assert time.monotonic() - began < 4
        assert type(caught.value) is case.error
        assert str(caught.value).startswith("upstream test (127.0.0.1:")
        assert KEY not in str(caught.value)
        assert len(upstream.requests) == case.tries
    assert bool(events) is case.seen
    assert not any(isinstance(event, TurnEnded) for event in events)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_refused(host: str) -> None:
    async with endpoint(unused_url().replace("127.0.0.1", host)) as one:
        with pytest.raises(
            UpstreamUnavailable, match=rf"upstream test \({host}:\d+\) cannot be reached: Connection refused"
        ):
            await turn(one)
        with pytest.raises(UpstreamUnavailable, match="cannot be reached"):
            await one.models()


async def test_unknown_host() -> None:
    async with endpoint("http://nowhere.invalid:1/v1", retries=0, backoff=None) as one:
        with pytest.raises(UpstreamUnavailable, match=r"upstream test \(nowhere.invalid:1\) cannot be reached: "):
            await turn(one)


@pytest.mark.parametrize(("answer", "says"), [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "TLS failed: "), (b"", "closed")])
async def test_tls_where_there_is_none(answer: bytes, says: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with endpoint(f"https://127.0.0.1:{port}/v1") as one:
            with pytest.raises(UpstreamUnavailable, match=f"cannot be reached: .*{says}"):
                await turn(one)


async def test_no_connection_within_its_time() -> None:
    listener = await asyncio.get_running_loop().run_in_executor(None, full_listener)
    try:
        port = listener[0].getsockname()[1]
        async with endpoint(
            f"http://127.0.0.1:{port}/v1", timeouts=Timeouts(connect=0.2), retries=0, backoff=None
        ) as one:
            with pytest.raises(UpstreamUnavailable, match=r"no connection within 0.2 seconds"):
                await turn(one)
    finally:
        for each in listener:
            each.close()


def full_listener() -> list[Any]:
    """A listener whose queue is full, so that the kernel answers nobody."""
    import socket

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    clients = [socket.socket() for _ in range(4)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex(listener.getsockname())
    time.sleep(0.1)
    return [listener, *clients]


FRAMES = (
    b'{"choices":[{"index":0,"delta":{"content":"Hello"}}]}',
    b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
)


async def test_cut_at_any_byte() -> None:
    sizes = [len(write_event(frame)) for frame in FRAMES]
    for after in [*range(1, sum(sizes) + 14, 6), sum(sizes)]:
        async with meeting(Turn(frames=FRAMES, fault=Fault.CUT, after=after), retries=0, backoff=None) as (_, one):
            events: list[TurnEvent] = []
            try:
                await gather(one, True, events)
            except UpstreamError:
                assert after < sum(sizes), "all was said"
            assert words(events) == ("Hello" if after >= sizes[0] else "")
            assert any(isinstance(event, TurnEnded) for event in events) is (after >= sum(sizes))


async def test_a_slow_reader_is_no_slow_upstream() -> None:
    timeouts = Timeouts(first=0.3, idle=0.2)
    async with meeting(plain("abcd", split=2, pause=0.01), timeouts=timeouts) as (_, one):
        said = ""
        async for event in one.turn("m", asked(), 0, sees_images=False):
            await asyncio.sleep(0.3)
            said += event.text if isinstance(event, TextDelta) else ""
        assert said == "abcd"


async def test_the_first_byte_may_take_longer() -> None:
    async with meeting(plain("x", delay=0.5), timeouts=Timeouts(first=5, idle=0.2)) as (_, one):
        assert words(await turn(one)) == "x"
        assert words(await turn(one, stream=False)) == "x"


# --- refusals and retries ---------------------------------------------------------------------------------------------

# status -> error, status for the client, tries
STATUSES: dict[int, tuple[type[UpstreamError], int, int]] = {
    400: (UpstreamRefused, 400, 1),
    401: (UpstreamError, 502, 1),
    402: (UpstreamError, 502, 1),
    403: (UpstreamError, 502, 1),
    404: (UpstreamRefused, 404, 1),
    405: (UpstreamError, 502, 1),
    408: (UpstreamTimeout, 504, 3),
    409: (UpstreamUnavailable, 503, 3),
    413: (UpstreamRefused, 413, 1),
    422: (UpstreamRefused, 422, 1),
    425: (UpstreamUnavailable, 503, 3),
    429: (UpstreamRefused, 429, 3),
    500: (UpstreamError, 502, 3),
    501: (UpstreamError, 502, 1),
    502: (UpstreamError, 502, 3),
    503: (UpstreamUnavailable, 503, 3),
    504: (UpstreamTimeout, 504, 3),
}


@pytest.mark.parametrize("status", STATUSES)
@both
async def test_a_status_becomes_its_error(status: int, stream: bool) -> None:
    kind, ours, tries = STATUSES[status]
    async with meeting(fails(status, f"because of {KEY}"), key=KEY) as (upstream, one):
        with pytest.raises(UpstreamError) as caught:
            await turn(one, stream)
        assert (type(caught.value), caught.value.status) == (kind, ours)
        assert len(upstream.requests) == tries
    assert KEY not in str(caught.value)
    assert "***" in str(caught.value) or status == 401


@pytest.mark.parametrize(
    "failure", [fails(503), fails(429), Turn(fault=Fault.RESET), Turn(fault=Fault.CUT, after=9)], ids=str
)
@both
async def test_it_is_asked_again_where_nothing_was_shown(failure: Turn, stream: bool) -> None:
    async with meeting([failure, failure, plain("x")]) as (upstream, one):
        assert words(await turn(one, stream)) == "x"
        assert len(upstream.requests) == 3
        assert upstream.turns[0] == upstream.turns[2]


async def test_retry_after_is_waited_for() -> None:
    async with meeting([fails(429, retry_after="0.3"), plain("x")]) as (_, one):
        began = time.monotonic()
        assert words(await turn(one)) == "x"
        assert time.monotonic() - began >= 0.3


async def test_a_long_retry_after_is_the_clients_matter() -> None:
    async with meeting(fails(429, retry_after="60")) as (upstream, one):
        with pytest.raises(UpstreamRefused) as caught:
            await turn(one)
        assert caught.value.retry_after == 60
        assert len(upstream.requests) == 1


async def test_what_it_said_is_passed_on() -> None:
    error = {"error": {"message": "too long", "type": "invalid_request_error", "code": "context", "param": "messages"}}
    async with meeting(fails(400, error)) as (_, one):
        with pytest.raises(UpstreamRefused, match="too long") as caught:
            await turn(one)
    assert (caught.value.code, caught.value.kind, caught.value.param) == (
        "context",
        "invalid_request_error",
        "messages",
    )


async def test_a_huge_refusal_is_cut() -> None:
    async with meeting(fails(400, b"x" * 20_000_000)) as (_, one):
        with pytest.raises(UpstreamRefused) as caught:
            await turn(one)
    assert len(str(caught.value)) < 1100


async def test_the_key_is_sent_and_a_wrong_one_is_our_matter() -> None:
    async with meeting(plain("x"), server_key=KEY, key=KEY) as (_, one):
        assert words(await turn(one)) == "x"
        assert await one.models()
    async with meeting(plain("x"), server_key=KEY, key=KEY[:-1]) as (_, one):
        with pytest.raises(UpstreamError, match="refused the key that it was sent") as caught:
            await turn(one)
        assert caught.value.status == 502
        assert KEY[:-1] not in str(caught.value)


REFUSED_PARAMETERS: dict[str, tuple[str, str, str]] = {
    "stream_options": ("stream_options", "Unrecognized request argument supplied: stream_options", ""),
    "parallel": ("parallel_tool_calls", "Unsupported parameter: 'parallel_tool_calls' is not supported.", ""),
    "tokens": (
        "max_tokens",
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "max_completion_tokens",
    ),
}


@pytest.mark.parametrize("name", REFUSED_PARAMETERS)
async def test_a_parameter_that_it_does_not_know_is_left_out_from_then_on(name: str) -> None:
    parameter, message, instead = REFUSED_PARAMETERS[name]

    def script(body: Any) -> Turn:
        return fails(400, message) if parameter in body else plain("x")

    request = asked(parallel=True, options={"max_completion_tokens": 5})
    async with meeting(script) as (upstream, one):
        for _ in range(2):
            events = [event async for event in one.turn("m", request, 0, sees_images=False)]
            assert words(events) == "x"
        assert [parameter in body for body in upstream.turns] == [True, False, False]
        assert not instead or upstream.turns[-1][instead] == 5


async def test_a_parameter_refused_whatever_is_done_is_told() -> None:
    async with meeting(fails(400, "stream_options is not supported")) as (upstream, one):
        with pytest.raises(UpstreamRefused, match="stream_options"):
            await turn(one)
        assert len(upstream.requests) == 2


@pytest.mark.parametrize(
    ("message", "host", "key"),
    [
        ("max_tokens is too large: 5", "x", "max_tokens"),
        ("max_completion_tokens is too large: 5", "api.openai.com", "max_completion_tokens"),
        ("Extra inputs are not permitted: max_completion_tokens", "api.openai.com", "max_tokens"),
    ],
)
def test_only_a_parameter_that_is_not_known_changes_manners(message: str, host: str, key: str) -> None:
    assert adapt(first_manners(host), message).tokens_key == key


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_reads_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert read_retry_after(headers) == seconds


@pytest.mark.parametrize(
    ("tried", "asked_for", "at_once", "low", "high"),
    [
        (1, None, False, 0.125, 0.25),
        (2, None, False, 0.25, 0.5),
        (1, 3.0, False, 3.0, 3.0),
        (1, None, True, 0.0, 0.0),
        (2, None, True, 0.25, 0.5),
    ],
)
def test_waits_longer_each_time(tried: int, asked_for: float | None, at_once: bool, low: float, high: float) -> None:
    waits = [Backoff().wait(tried, asked_for, at_once=at_once) for _ in range(50)]
    assert all(wait is not None and low <= wait <= high for wait in waits)
    assert len(set(waits)) > 1 or low == high


def test_gives_up() -> None:
    assert Backoff().wait(3, None) is None
    assert Backoff().wait(1, 5.1) is None
    assert Backoff(retries=0).wait(1, None, at_once=True) is None


# --- the client goes --------------------------------------------------------------------------------------------------


async def test_closing_the_iterator_closes_the_connection() -> None:
    async with meeting(plain("Hello, world", pause=0.05)) as (upstream, one):
        async with aclosing(one.turn("m", asked(), 0, sees_images=False)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    break
        await upstream.until_cancelled(seconds=1)


WAITS: dict[str, Callable[[], Turn]] = {
    "before the head": lambda: plain(delay=30),
    "before the first event": lambda: Turn(text="x" * 100, fault=Fault.STALL, after=10),
    "in mid-stream": lambda: Turn(text="x" * 1000, fault=Fault.STALL, after=900),
    "between tries": lambda: fails(503, retry_after="4"),
}


@pytest.mark.parametrize("name", WAITS)
@both
async def test_a_cancelled_turn_ends_at_once(name: str, stream: bool) -> None:
    async with meeting(WAITS[name]()) as (upstream, one):
        task = asyncio.create_task(turn(one, stream))
        await upstream.until(lambda: bool(upstream.requests))
        await asyncio.sleep(0.05)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if name == "between tries":
            assert len(upstream.requests) == 1
        else:
            await upstream.until_cancelled(seconds=1)
        assert time.monotonic() - began < 0.5


async def test_closing_the_endpoint_ends_its_turns() -> None:
    async with ScriptedUpstream(plain("x" * 100, pause=0.05)) as upstream, endpoint(upstream.url) as one:
        task = asyncio.create_task(turn(one))
        await upstream.until(lambda: upstream.playing == 1)
        await asyncio.sleep(0.1)
        await one.close()
        with pytest.raises(UpstreamError):
            await task
        await upstream.until_cancelled(seconds=1)


# --- the list of models -----------------------------------------------------------------------------------------------

LISTINGS: dict[str, tuple[Any, list[str]]] = {
    "OpenAI": ({"object": "list", "data": [{"id": "a"}, {"id": "b/c:d"}]}, ["a", "b/c:d"]),
    "a bare list (Together)": ([{"id": "a"}], ["a"]),
    "Ollama": ({"models": [{"name": "a:latest", "model": "a:latest"}]}, ["a:latest"]),
    "both (llama.cpp)": ({"models": [{"name": "x"}], "data": [{"id": "a"}]}, ["a"]),
    "null": ({"object": "list", "data": None}, []),
    "names": ({"data": ["a", "b"]}, ["a", "b"]),
    "nonsense in it": ({"data": [None, 3, {}, {"id": ""}, {"id": 5}, {"id": "a", "created": "x"}, {"id": "a"}]}, ["a"]),
}


@pytest.mark.parametrize("name", LISTINGS)
async def test_lists_models(name: str) -> None:
    listing, expected = LISTINGS[name]
    async with meeting(plain(), listing=listing) as (_, one):
        assert [model.id for model in await one.models()] == expected


async def test_says_what_is_known_of_a_model() -> None:
    entry = {"id": "a", "created": 5, "owned_by": "me", "max_model_len": 4096, "permission": [{}]}
    async with meeting(plain(), listing={"data": [entry, {"id": "b"}]}) as (_, one):
        assert await one.models() == [
            ModelInfo(id="a", owner="me", created=5, extra={"max_model_len": 4096}),
            ModelInfo(id="b", owner="test"),
        ]


@pytest.mark.parametrize("listing", ["x", {"hello": 1}, 5, None, {"error": "no"}])
async def test_what_is_no_list_is_an_error(listing: Any) -> None:
    async with meeting(plain(), listing=listing) as (_, one):
        with pytest.raises(UpstreamError):
            await one.models()


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "must look like"),
        ("localhost:8000", "must look like"),
        ("ftp://x/v1", "must look like"),
        ("http://", "must look like|is none"),
        ("http://user:secret@x/v1", "holds a password"),
        ("http://x:99999/v1", "is none"),
    ],
)
def test_refuses_a_url_that_cannot_be(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        Endpoint("test", url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["a\nb", "a b", "ключ"])
def test_refuses_a_key_that_cannot_be(key: str) -> None:
    with pytest.raises(ValueError, match="the key of upstream test") as caught:
        Endpoint("test", "http://x/v1", key)
    assert key not in str(caught.value)


@pytest.mark.parametrize("tail", ["", "/", "/chat/completions"])
async def test_takes_a_url_as_people_give_it(tail: str) -> None:
    async with ScriptedUpstream(plain("x")) as upstream, endpoint(upstream.url + tail) as one:
        assert one.url == upstream.url
        assert words(await turn(one)) == "x"
