"""What the tests of chat completions share: reading and writing in one line, and merging chunks as clients do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from belljar.dialects.base import Incoming, Start
from belljar.dialects.chat_completions import DIALECT
from belljar.events import (
    ArgumentsDelta,
    CallClosed,
    CallOpened,
    CallOutput,
    CallReady,
    CallShown,
    CallStarted,
    Event,
    Finish,
    Finished,
    Fold,
    ReasoningDelta,
    TextDelta,
    TurnEnded,
    TurnStarted,
)
from belljar.execution import Execution, Outcome, Output, Result
from belljar.model import Request, Usage
from belljar.sse import SSEReader

PLAIN: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
GPT_OSS = PLAIN | {"model": "openai/gpt-oss-20b", "tools": [{"type": "code_interpreter"}]}
COMPOUND = PLAIN | {"model": "groq/compound"}
START = Start(request_id="req_1", created=1_700_000_000)
PNG = b"\x89PNG\r\n\x1a\n picture"


def read(body: Any, headers: Mapping[str, str] | None = None) -> Request:
    """Read a body given as a value or as bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return DIALECT.read_request(
        Incoming(method="POST", path="/openai/v1/chat/completions", headers=headers or {}, body=data)
    )


def read_user(*parts: Any, **fields: Any) -> Request:
    """Read a request with one message of the user's, of these parts."""
    return read(PLAIN | {"messages": [{"role": "user", "content": list(parts)}]} | fields)


def fold(events: Iterable[Event], body: Any = None) -> dict[str, Any]:
    """The whole answer to a request, as a client parses it."""
    folding = Fold()
    for event in events:
        folding.add(event)
    writer = DIALECT.writer(read(PLAIN if body is None else body), START)
    answer: dict[str, Any] = json.loads(writer.fold(folding.answer))
    return answer


def stream(events: Iterable[Event], body: Any = None) -> bytes:
    """The stream that answers a request."""
    writer = DIALECT.writer(read((PLAIN if body is None else body) | {"stream": True}), START)
    return b"".join(writer.write(event) for event in events)


def frames(data: bytes) -> list[Any]:
    """The chunks of a stream, up to [DONE]."""
    reader = SSEReader()
    events = [*reader.feed(data), *reader.end()]
    return [json.loads(event.data) for event in events if event.data != b"[DONE]"]


def deltas(data: bytes) -> list[Any]:
    """Their deltas."""
    return [chunk["choices"][0]["delta"] for chunk in frames(data) if chunk["choices"]]


def merge(chunks: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Chunks as one answer: texts are joined, calls by their index, of executed tools the last one counts."""
    message: dict[str, Any] = {}
    tools: dict[int, Any] = {}
    calls: dict[int, Any] = {}
    logprobs: dict[str, list[Any]] = {}
    whole: dict[str, Any] = {}
    for chunk in chunks:
        whole |= {name: value for name, value in chunk.items() if name != "choices"}
        for choice in chunk["choices"]:
            delta = choice["delta"]
            for name in ("role", "content", "reasoning"):
                if name in delta:
                    message[name] = message.get(name, "") + delta[name]
            tools |= {tool["index"]: tool for tool in delta.get("executed_tools", ())}
            for call in delta.get("tool_calls", ()):
                merge_call(calls.setdefault(call["index"], {"function": {"name": "", "arguments": ""}}), call)
            if "function_call" in delta:
                merge_call(message.setdefault("function_call", {"name": "", "arguments": ""}), delta["function_call"])
            for name, values in (choice["logprobs"] or {}).items():
                logprobs.setdefault(name, []).extend(values)
            whole["finish_reason"] = choice["finish_reason"]
    if tools:
        message["executed_tools"] = [tools[index] for index in sorted(tools)]
    if calls:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
    return whole | {"message": message, "logprobs": logprobs or None}


def merge_call(call: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        if name == "function":
            merge_call(call["function"], value)
        elif name in ("name", "arguments"):
            call[name] += value
        elif name != "index":
            call[name] = value


# --- answers ----------------------------------------------------------------------------------------------------------


def turn(number: int, *events: Event, finish: Finish = Finish.STOP, model: str = "m", **extra: Any) -> list[Event]:
    """A model's turn around what it says."""
    usage = Usage(prompt_tokens=10, completion_tokens=5, prompt_seconds=0.25, seconds=1.0)
    start = TurnStarted(turn=number, model=model, extra={"system_fingerprint": "fp_1"})
    return [start, *events, TurnEnded(turn=number, model=model, finish=finish, usage=usage, extra=extra)]


def written(code: str, call: str = "c1") -> list[Event]:
    """A model writes code."""
    return [
        CallOpened(call=call, name="python", builtin=True),
        ArgumentsDelta(call=call, text=code[:3]),
        CallReady(call=call, arguments=code),
    ]


def ran(execution: Execution, call: str = "c1", *outputs: str) -> list[Event]:
    """It runs."""
    shown = [CallShown(call=call, result=result) for result in execution.results]
    printed = [CallOutput(call=call, output=Output(stream="stdout", text=text)) for text in outputs]
    return [CallStarted(call=call), *printed, *shown, CallClosed(call=call, execution=execution, text="told")]


def asked(arguments: str, call: str = "f1", name: str = "weather", cut: int = 4) -> list[Event]:
    """A model calls a function of the client's."""
    return [
        CallOpened(call=call, name=name),
        ArgumentsDelta(call=call, text=arguments[:cut]),
        ArgumentsDelta(call=call, text=arguments[cut:]),
        CallReady(call=call, arguments=arguments),
    ]


ROOT = Execution(outcome=Outcome.OK, results=(Result(data={"text/plain": "10.04987562112089"}, is_main=True),))


def one_execution(execution: Execution = ROOT, code: str = "import math\nmath.sqrt(101)\n") -> list[Event]:
    """An answer with one execution."""
    return [
        *turn(0, ReasoningDelta(text="We need "), ReasoningDelta(text="sqrt."), *written(code), finish=Finish.CALLS),
        *ran(execution, "c1", "10.0", "49"),
        *turn(1, TextDelta(text="It is "), TextDelta(text="10.05.")),
        Finished(finish=Finish.STOP, queue_seconds=0.125),
    ]
