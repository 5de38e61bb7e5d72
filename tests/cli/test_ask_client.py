"""Asking a server: what is sent, and how chat completions become events again, whoever wrote them."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from belljar.cli.ask import exit_code
from belljar.cli.ask_client import ChatReader, Server, write_request
from belljar.dialects.base import Incoming, Start
from belljar.dialects.chat_completions import DIALECT
from belljar.errors import (
    AtCapacity,
    BadRequest,
    BelljarError,
    Forbidden,
    ToolUseFailed,
    Unauthorized,
    UnknownModel,
    UpstreamError,
    UpstreamUnavailable,
)
from belljar.events import (
    Answer,
    CallClosed,
    CallOpened,
    CallOutput,
    CallReady,
    CallShown,
    CallStarted,
    Event,
    Failed,
    Finish,
    Finished,
    Fold,
    ReasoningDelta,
    TextDelta,
    TurnEnded,
    TurnStarted,
    collect,
)
from belljar.execution import Execution, GuestError, Outcome, Output, Result
from belljar.model import File, Message, Request, Role, Text, Usage
from belljar.sse import SSEReader

PNG = b"\x89PNG\r\n\x1a\n picture"
ASKED = Request(
    model="some-model",
    messages=(
        Message(role=Role.SYSTEM, parts=(Text(text="Be brief."),)),
        Message(role=Role.USER, parts=(Text(text="How many?"), File(name="a.csv", media_type="text/csv", data=b"1,2"))),
    ),
    builtin=("python",),
    stream=True,
)

# --- what is sent -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("builtin", [("python",), ()])
@pytest.mark.parametrize("model", ["some-model", "groq/compound"])
def test_the_server_reads_what_was_asked(model: str, builtin: tuple[str, ...], stream: bool) -> None:
    request = Request(model=model, messages=ASKED.messages, builtin=builtin, stream=stream)
    read = read_request(request)
    assert (read.model, read.builtin, read.stream) == (model, builtin, stream)
    assert [(message.role, message.text) for message in read.messages] == [
        (Role.SYSTEM, "Be brief."),
        (Role.USER, "How many?"),
    ]
    assert read.messages[1].parts[1] == File(name="a.csv", media_type="text/csv", data=b"1,2")


def read_request(request: Request) -> Request:
    body = json.dumps(write_request(request)).encode()
    return DIALECT.read_request(Incoming(method="POST", path="/v1/chat/completions", body=body))


# --- what comes back --------------------------------------------------------------------------------------------------

ERROR = GuestError(name="E", value="v", traceback="Traceback ...\nE: v")
RESULTS = (Result(data={"text/plain": "<Figure>", "image/png": PNG}), Result(data={"text/plain": "42"}, is_main=True))
EVENTS: list[Event] = [
    TurnStarted(turn=0, model="m"),
    ReasoningDelta(text="Let me "),
    ReasoningDelta(text="see."),
    CallOpened(call="1", name="python", builtin=True),
    CallReady(call="1", arguments="print(1)\n"),
    TurnEnded(turn=0, model="m", finish=Finish.CALLS, usage=Usage(prompt_tokens=10, completion_tokens=5)),
    CallStarted(call="1"),
    CallOutput(call="1", output=Output(stream="stdout", text="a\n")),
    CallOutput(call="1", output=Output(stream="stderr", text="warned\n")),
    CallOutput(call="1", output=Output(stream="stdout", text="b\n")),
    *(CallShown(call="1", result=result) for result in RESULTS),
    CallClosed(
        call="1",
        execution=Execution(outcome=Outcome.OK, stdout="a\nb\n", stderr="warned\n", results=RESULTS),
        text="",
    ),
    TurnStarted(turn=1, model="m"),
    TextDelta(text="First."),
    CallOpened(call="2", name="python", builtin=True),
    CallReady(call="2", arguments="1/0"),
    TurnEnded(turn=1, model="m", finish=Finish.CALLS, usage=Usage(prompt_tokens=20, completion_tokens=6)),
    CallStarted(call="2"),
    CallClosed(call="2", execution=Execution(outcome=Outcome.ERROR, error=ERROR), text=""),
    TurnStarted(turn=2, model="m"),
    ReasoningDelta(text="So."),
    TextDelta(text="It is "),
    TextDelta(text="42."),
    TurnEnded(turn=2, model="m", finish=Finish.STOP, usage=Usage(prompt_tokens=30, completion_tokens=7)),
    Finished(finish=Finish.STOP),
]


def over_the_wire(events: Iterable[Event], model: str, stream: bool) -> list[Event]:
    """Written by the dialect, and read back."""
    request = read_request(Request(model=model, messages=ASKED.messages, builtin=("python",), stream=stream))
    writer = DIALECT.writer(request, Start(request_id="req_1", created=1))
    reader = ChatReader(model)
    if stream:
        data = b"".join(writer.write(event) for event in events)
        chunks = [json.loads(event.data) for event in SSEReader().feed(data) if event.data != b"[DONE]"]
    else:
        fold = Fold()
        for event in events:
            fold.add(event)
        chunks = [json.loads(writer.fold(fold.answer))]
    return [*(event for chunk in chunks for event in reader.feed(chunk)), *reader.end()]


def folded(events: Iterable[Event]) -> Answer:
    fold = Fold()
    for event in events:
        fold.add(event)
    return fold.answer


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("model", ["some-model", "groq/compound"])
def test_an_answer_survives_the_wire(model: str, stream: bool) -> None:
    answer = folded(over_the_wire(EVENTS, model, stream))
    assert answer.text == "First.\n\nIt is 42."
    assert "".join(answer.reasoning.split()) == "Letmesee.So."
    assert [call.arguments for call in answer.calls] == ["print(1)\n", "1/0"]
    outputs = [call.execution.stdout.strip() for call in answer.calls if call.execution]
    assert outputs == ["a\nb\nwarned\n42", ERROR.traceback]
    assert [call.execution.results for call in answer.calls if call.execution] == [
        (Result(data={"image/png": PNG}),),
        (),
    ]
    assert answer.finish is Finish.STOP
    assert answer.turns[0].usage is not None
    assert (answer.turns[0].usage.prompt_tokens, answer.turns[0].usage.completion_tokens) == (60, 18)


@pytest.mark.parametrize("model", ["some-model", "groq/compound"])
def test_live_output_is_shown_once(model: str) -> None:
    events = over_the_wire(EVENTS, model, stream=True)
    shown = [event.output.text for event in events if isinstance(event, CallOutput) and event.call == "call-0"]
    assert "".join(shown).split() == ["a", "warned", "b", "42"]
    assert sum(isinstance(event, CallShown) for event in events) == 1
    opened = [type(event).__name__ for event in events if isinstance(event, CallOpened | CallReady | CallStarted)]
    assert opened == ["CallOpened", "CallReady", "CallStarted"] * 2


@pytest.mark.parametrize("model", ["some-model", "groq/compound"])
def test_calls_are_closed_before_anything_else_comes(model: str) -> None:
    open_call = None
    for event in over_the_wire(EVENTS, model, stream=True):
        if isinstance(event, CallOpened):
            assert open_call is None
            open_call = event.call
        elif isinstance(event, CallClosed):
            assert open_call == event.call
            open_call = None
        elif not isinstance(event, CallReady | CallStarted | CallOutput | CallShown):
            assert open_call is None, event


@pytest.mark.parametrize("size", range(1, 12))
def test_a_transcript_is_cut_out_however_it_comes(size: int) -> None:
    text = "I think <t <tool>\npython(x)\n</tool>\n<output>y\n</output> so <tool>z</output>, and <tool"
    reader = ChatReader("groq/compound")
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    events = [e for piece in pieces for e in reader.feed({"choices": [{"delta": {"reasoning": piece}}]})]
    events += reader.feed({"choices": [{"finish_reason": "stop"}]})
    assert folded([*events, *reader.end()]).reasoning == "I think <t  so , and <tool"


LAST = {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}
ODD: dict[str, Any] = {
    "nothing": {},
    "null": {"choices": None, "usage": None, "x_groq": None},
    "no objects": {"choices": [1, "a"], "model": 5},
    "odd fields": {"choices": [{"delta": {"content": 5, "reasoning": [], "executed_tools": [1, {}, {"index": "x"}]}}]},
    "no base64": {"choices": [{"delta": {"executed_tools": [{"index": 0, "code_results": [{"png": "?"}]}]}}]},
    "odd usage": {"usage": {"prompt_tokens": "x", "completion_tokens_details": 5}},
}


@pytest.mark.parametrize("case", ODD)
def test_odd_chunks_do_no_harm(case: str) -> None:
    reader = ChatReader("m")
    events = [*reader.feed(ODD[case]), *reader.feed(LAST)]
    assert folded([*events, *reader.end()]).text == "x"


# --- over HTTP --------------------------------------------------------------------------------------------------------


def response(status: int, body: Any, kind: str = "application/json") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data


def error(status: int, message: str = "told so", **more: Any) -> bytes:
    return response(status, {"error": {"message": message, "type": "x", **more}})


def chunks(*bodies: Any, cut: int = 0) -> bytes:
    data = b"".join(b"data: %b\n\n" % (b if isinstance(b, bytes) else json.dumps(b).encode()) for b in bodies)
    return response(200, data, "text/event-stream")[: -cut or None]


@asynccontextmanager
async def canned(data: bytes) -> AsyncIterator[str]:
    """A server that answers everything with these bytes, and hangs up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.decode().lower().split("\r\n") if "content-length" in line), 0)
        await reader.readexactly(length)
        writer.write(data)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


HELLO = {"model": "m", "choices": [{"delta": {"content": "Hello"}}]}
DONE = {"choices": [{"delta": {}, "finish_reason": "stop"}]}

# what a server sends -> the error that comes of it, a word of its message, the exit code
FAULTS: dict[str, tuple[bytes, type[BelljarError], str, int]] = {
    "a bad request": (error(400), BadRequest, "told so", 2),
    "no key": (error(401), Unauthorized, "told so", 2),
    "not allowed": (error(403), Forbidden, "told so", 2),
    "no such model": (error(404, code="model_not_found"), UnknownModel, "told so", 2),
    "no such path": (response(404, b"<html>", "text/html"), BadRequest, "404", 2),
    "the model failed": (error(400, code="tool_use_failed"), ToolUseFailed, "told so", 1),
    "at capacity": (error(498), AtCapacity, "told so", 1),
    "overloaded": (error(503), UpstreamUnavailable, "told so", 1),
    "broken": (response(500, b"oops", "text/plain"), UpstreamError, "500", 1),
    "no JSON": (response(200, b"<html>"), UpstreamError, "no JSON object", 1),
    "no object": (response(200, []), UpstreamError, "no JSON object", 1),
    "a stream of garbage": (chunks(HELLO, b"{"), UpstreamError, "no JSON object", 1),
    "an error in mid-stream": (chunks(HELLO, {"error": {"message": "told so"}}), UpstreamError, "told so", 1),
    "a stream without an end": (chunks(HELLO), UpstreamError, "before it was complete", 1),
    "a stream that is cut off": (chunks(HELLO, DONE, b"[DONE]", cut=60), UpstreamError, "127.0.0.1", 1),
    "no HTTP": (b"hello\r\n\r\n", UpstreamError, "127.0.0.1", 1),
    "nothing": (b"", UpstreamError, "127.0.0.1", 1),
}


@pytest.mark.parametrize("case", FAULTS)
async def test_what_a_server_does_wrong(case: str) -> None:
    data, kind, words, code = FAULTS[case]
    async with canned(data) as url:
        answer = await collect(Server(url).answer(ASKED))
    assert type(answer.error) is kind, answer.error
    assert words in str(answer.error)
    assert exit_code(answer.error) == code
    assert answer.text == ("Hello" if HELLO["model"] and b"Hello" in data else "")


async def test_nobody_is_there() -> None:
    async with canned(b"") as url:
        pass
    answer = await collect(Server(url).answer(ASKED))
    assert type(answer.error) is UpstreamUnavailable
    assert "refused" in str(answer.error) or "Connect call failed" in str(answer.error)


async def test_no_url() -> None:
    events = [event async for event in Server("http://127.0.0.1:x").answer(ASKED)]
    assert isinstance(events[-1], Failed)
    assert isinstance(events[-1].error, BadRequest)


LISTS: dict[str, tuple[list[str], str]] = {
    "the first that can chat": (["text-embedding-3", "qwen3", "groq/compound", "belljar/verbatim"], "qwen3"),
    "only the built-in one": (["groq/compound", "belljar/verbatim"], "belljar/verbatim"),
}


@pytest.mark.parametrize("case", LISTS)
async def test_which_model_is_asked(case: str) -> None:
    listed, chosen = LISTS[case]
    async with canned(response(200, {"object": "list", "data": [{"id": name} for name in listed]})) as url:
        model, notes = await Server(url).start(None)
    assert model == chosen
    assert chosen in notes[0]


@pytest.mark.parametrize("listed", [[], ["whisper-large"]])
async def test_no_model_to_ask(listed: list[str]) -> None:
    async with canned(response(200, {"data": [{"id": name} for name in listed]})) as url:
        with pytest.raises(UnknownModel, match="--model"):
            await Server(url).start(None)


@pytest.mark.parametrize("given", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_urls_with_and_without_their_end(given: str) -> None:
    assert Server(given).base == "http://h:1/v1"
    assert Server("https://api.groq.com/openai").base == "https://api.groq.com/openai/v1"


def test_pictures_of_every_kind() -> None:
    data = base64.b64encode(PNG).decode()
    results = [{"text": "x"}, {"png": data}, {"jpeg": data}, {"svg": "<svg/>"}]
    entry = {"index": 0, "type": "function", "arguments": "x", "code_results": results}
    events = [*ChatReader("m").feed({"choices": [{"delta": {"executed_tools": [entry]}}]})]
    shown = [event.result.data for event in events if isinstance(event, CallShown)]
    assert shown == [{"image/png": PNG}, {"image/jpeg": PNG}, {"image/svg+xml": "<svg/>"}]


def test_charts_with_and_without_a_picture() -> None:
    data, line = base64.b64encode(PNG).decode(), {"type": "line", "elements": [{"label": "a", "points": [[1, 2]]}]}
    several = {"chart": {"type": "superchart", "elements": []}, "charts": [line]}
    results = [{"png": data, "chart": line}, several, {"chart": "words"}]
    entry = {"index": 0, "type": "function", "arguments": "x", "code_results": results}
    events = [*ChatReader("m").feed({"choices": [{"delta": {"executed_tools": [entry]}}]})]
    shown = [event.result for event in events if isinstance(event, CallShown)]
    assert [result.png for result in shown] == [PNG, None]
    assert [result.chart for result in shown] == [line, {"type": "superchart", "elements": [line]}]
