"""The client's side of chat completions: what engines really send, as a table, cut and split in every way."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.dialects.upstream_chat import Blame, StreamReader, read_body
from belljar.dialects.upstream_thoughts import MAX_SPACE, Thoughts
from belljar.errors import UpstreamError, UpstreamRefused, UpstreamTimeout, UpstreamUnavailable
from belljar.events import (
    ArgumentsDelta,
    CallOpened,
    CallReady,
    Finish,
    Fold,
    TextDelta,
    TurnEnded,
    TurnEvent,
    TurnStarted,
)
from belljar.model import Call, Function, Message, Request, Role, Text, Usage
from belljar.sse import SSEReader, write_event

NAMES = ("python", "get", "get_weather", "search")
REQUEST = Request(
    model="m",
    messages=(Message(role=Role.USER, parts=(Text(text="hi"),)),),
    functions=tuple(Function(name=name) for name in NAMES),
)
ANY_ID = "made"  # an id that we make


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a turn's events come to."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str, str]] = field(default_factory=list)  # id, name, arguments
    finish: Finish = Finish.STOP
    usage: tuple[int, int] | None = None


def seen(events: Iterable[TurnEvent]) -> Seen:
    """Folds events, and holds them to the order and the promises that they make."""
    events = list(events)
    assert isinstance(events[0], TurnStarted)
    assert isinstance(events[-1], TurnEnded)
    assert sum(isinstance(event, TurnStarted | TurnEnded) for event in events) == 2
    fold, opened, deltas = Fold(), [], dict[str, str]()
    for event in events:
        fold.add(event)
        if isinstance(event, CallOpened):
            assert event.call
            assert event.call not in opened
            opened.append(event.call)
        if isinstance(event, ArgumentsDelta):
            deltas[event.call] = deltas.get(event.call, "") + event.text
        if isinstance(event, CallReady):
            assert event.arguments.startswith(deltas.get(event.call, ""))
    assert sorted(e.call for e in events if isinstance(e, CallReady)) == sorted(opened)
    ended = events[-1]
    calls = [
        (item.call if not item.call.startswith("call_") or len(item.call) != 29 else ANY_ID)
        for item in fold.answer.calls
    ]
    return Seen(
        text=fold.answer.text,
        reasoning=fold.answer.reasoning,
        calls=[(call, item.name, item.arguments) for call, item in zip(calls, fold.answer.calls, strict=True)],
        finish=ended.finish,
        usage=(ended.usage.prompt_tokens, ended.usage.completion_tokens) if ended.usage else None,
    )


def stream(chunks: Iterable[Any], *, thinks: bool = False, request: Request = REQUEST) -> list[TurnEvent]:
    reader = StreamReader(request, "m", 0, thinks=thinks)
    events = [event for chunk in chunks for event in reader.take(json.loads(json.dumps(chunk)))]
    return events + reader.end()


def raw(*pieces: bytes, thinks: bool = False) -> list[TurnEvent]:
    lines, reader, events = SSEReader(), StreamReader(REQUEST, "m", 0, thinks=thinks), list[TurnEvent]()
    for piece in pieces:
        for event in lines.feed(piece):
            events += reader.feed(event.data)
    return events + reader.end()


def chunk(delta: Any, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **more,
    }


def text(*pieces: str) -> list[Any]:
    return [chunk({"content": piece}) for piece in pieces]


def tool(**entry: Any) -> dict[str, Any]:
    """A delta of one tool call; `name` and `arguments` go where they belong."""
    function = {key: entry.pop(key) for key in ("name", "arguments") if key in entry}
    return chunk({"tool_calls": [{**entry, **({"function": function} if function else {})}]})


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


STOP, CALLS = chunk({}, "stop"), chunk({}, "tool_calls")
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
CODE = '{"code": "print(1)"}'
ONE = [("a", "python", CODE)]

# Text as it comes -> what it means.
TEXTS: dict[str, tuple[str, Seen]] = {
    "tags": ("<think>hm</think>x", Seen(text="x", reasoning="hm")),
    "tags with white space": ("\n<think>\nhm\n mm \n</think>\n\nx \n", Seen(text="x \n", reasoning="hm\n mm")),
    "tags, empty": ("<think>\n\n</think>\n\nx", Seen(text="x")),
    "tags, not closed": ("<think>hm </thi", Seen(reasoning="hm </thi")),
    "tags, only opened": ("<think>", Seen()),
    "half a tag": ("<thin", Seen(text="<thin")),
    "another tag": ("<table>", Seen(text="<table>")),
    "tags of Magistral": ("[THINK]hm[/THINK]x", Seen(text="x", reasoning="hm")),
    "tags later are text": ("Use <think>x</think>.", Seen(text="Use <think>x</think>.")),
    "tags twice": ("<think>a</think>b<think>c</think>", Seen(text="b<think>c</think>", reasoning="a")),
    "tags inside reasoning": ("<think>a </thin </think>b", Seen(text="b", reasoning="a </thin")),
    "white space only": (" \n ", Seen(text=" \n ")),
    "leading white space": ("\n\n x", Seen(text="\n\n x")),
    "a long white space": (" " * (MAX_SPACE + 1) + "<think>x", Seen(text=" " * (MAX_SPACE + 1) + "<think>x")),
    "a long white space inside": (
        "<think>a" + " " * (MAX_SPACE + 2) + "</think>b",
        Seen(reasoning="a  ", text="b"),
    ),
}

# What engines send -> what it means.
STREAMS: dict[str, tuple[list[Any], Seen]] = {
    "text": ([chunk({"role": "assistant", "content": ""}), *text("Hel", "lo"), STOP], Seen(text="Hello")),
    "no finish_reason at all": (text("Hello"), Seen(text="Hello")),
    "unknown finish_reason": ([*text("x"), chunk({}, "eos")], Seen(text="x")),
    "length": ([*text("x"), chunk({}, "length")], Seen(text="x", finish=Finish.LENGTH)),
    "content filter": ([*text("x"), chunk({}, "content_filter")], Seen(text="x", finish=Finish.FILTERED)),
    "finish in the last delta": ([chunk({"content": "x"}, "stop")], Seen(text="x")),
    "content null, a role each time": (
        [chunk({"role": "assistant", "content": None}), chunk({"role": "assistant", "content": "x"}), STOP],
        Seen(text="x"),
    ),
    "refusal": (
        [chunk({"refusal": "I can", "content": None}), chunk({"refusal": "not."}), STOP],
        Seen(text="I cannot."),
    ),
    "content as parts": (
        [chunk({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}), STOP],
        Seen(text="ab"),
    ),
    "thinking parts (Mistral)": (
        [
            chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}),
            chunk({"content": [{"type": "text", "text": "a"}]}),
            STOP,
        ],
        Seen(text="a", reasoning="hm"),
    ),
    "a message instead of a delta": (
        [{"choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}]}],
        Seen(text="x"),
    ),
    "delta and the whole message (Perplexity)": (
        [
            {"choices": [{"delta": {"content": "a"}, "message": {"content": "a"}}]},
            {"choices": [{"delta": {}, "message": {"content": "a"}, "finish_reason": "stop"}]},
        ],
        Seen(text="a"),
    ),
    "other choices are left out": (
        [*text("x"), {"choices": [{"index": 1, "delta": {"content": "y"}, "finish_reason": "stop"}]}, STOP],
        Seen(text="x"),
    ),
    "empty choices first (Azure)": ([{"choices": [], "prompt_filter_results": []}, *text("x"), STOP], Seen(text="x")),
    # reasoning
    "reasoning_content": (
        [chunk({"reasoning_content": "h"}), chunk({"reasoning_content": "m", "content": None}), *text("x"), STOP],
        Seen(text="x", reasoning="hm"),
    ),
    "reasoning": ([chunk({"reasoning": "hm", "content": ""}), *text("x"), STOP], Seen(text="x", reasoning="hm")),
    "reasoning null and empty": (
        [chunk({"reasoning": None, "reasoning_content": "", "content": "x"}), STOP],
        Seen(text="x"),
    ),
    "reasoning an object": (
        [chunk({"reasoning": {"content": "hm"}}), *text("x"), STOP],
        Seen(text="x", reasoning="hm"),
    ),
    "the same under two keys": (
        [chunk({"reasoning": "hm", "reasoning_content": "hm"}), *text("x"), STOP],
        Seen(text="x", reasoning="hm"),
    ),
    "reasoning_details beside it (OpenRouter)": (
        [chunk({"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}), *text("x"), STOP],
        Seen(text="x", reasoning="hm"),
    ),
    "reasoning_details alone": (
        [
            chunk(
                {
                    "reasoning_details": [
                        {"type": "reasoning.summary", "summary": "hm"},
                        {"type": "reasoning.encrypted", "data": "Zg=="},
                    ]
                }
            ),
            *text("x"),
            STOP,
        ],
        Seen(text="x", reasoning="hm"),
    ),
    "reasoning and text in one delta": (
        [chunk({"reasoning": "hm", "content": "x"}), STOP],
        Seen(text="x", reasoning="hm"),
    ),
    "tags after reasoning sent apart are text": (
        [chunk({"reasoning": "hm"}), *text("<think>x"), STOP],
        Seen(text="<think>x", reasoning="hm"),
    ),
    # calls
    "a call": (
        [tool(index=0, id="a", type="function", name="python", arguments=""), tool(index=0, arguments=CODE), CALLS],
        Seen(calls=ONE, finish=Finish.CALLS),
    ),
    "arguments split anywhere": (
        [tool(index=0, id="a", name="python"), *(tool(index=0, arguments=letter) for letter in CODE), CALLS],
        Seen(calls=ONE, finish=Finish.CALLS),
    ),
    "whole in one delta (Ollama)": (
        [
            chunk(
                {
                    "content": "",
                    "tool_calls": [
                        {"id": "a", "index": 0, "type": "function", "function": {"name": "python", "arguments": CODE}}
                    ],
                },
                "tool_calls",
            )
        ],
        Seen(calls=ONE, finish=Finish.CALLS),
    ),
    "finish says stop": (
        [tool(index=0, id="a", name="python", arguments=CODE), STOP],
        Seen(calls=ONE, finish=Finish.CALLS),
    ),
    "no finish": ([tool(index=0, id="a", name="python", arguments=CODE)], Seen(calls=ONE, finish=Finish.CALLS)),
    "finish says calls, none came": ([*text("x"), CALLS], Seen(text="x")),
    "cut off by length": (
        [tool(index=0, id="a", name="python", arguments='{"co'), chunk({}, "length")],
        Seen(calls=[("a", "python", '{"co')], finish=Finish.LENGTH),
    ),
    "length reached, but the call is whole": (
        [tool(index=0, id="a", name="python", arguments=CODE), chunk({}, "length")],
        Seen(calls=ONE, finish=Finish.CALLS),
    ),
    "arguments an object": (
        [tool(index=0, id="a", name="python", arguments={"code": "1"}), CALLS],
        Seen(calls=[("a", "python", '{"code":"1"}')], finish=Finish.CALLS),
    ),
    "arguments null": (
        [tool(index=0, id="a", name="get", arguments=None), CALLS],
        Seen(calls=[("a", "get", "{}")], finish=Finish.CALLS),
    ),
    "bare code": (
        [tool(index=0, id="a", name="python", arguments="print(1)"), tool(index=0, arguments="\nprint(2)"), CALLS],
        Seen(calls=[("a", "python", "print(1)\nprint(2)")], finish=Finish.CALLS),
    ),
    "text, then a call": (
        [*text("Let me see."), tool(index=0, id="a", name="python", arguments=CODE), CALLS],
        Seen(text="Let me see.", calls=ONE, finish=Finish.CALLS),
    ),
    "no id": (
        [tool(index=0, name="python", arguments=CODE), CALLS],
        Seen(calls=[(ANY_ID, "python", CODE)], finish=Finish.CALLS),
    ),
    "empty id (Gemini)": (
        [tool(index=0, id="", name="python", arguments=CODE), tool(index=0, id="", name="get", arguments="{}"), CALLS],
        Seen(calls=[(ANY_ID, "python", CODE), (ANY_ID, "get", "{}")], finish=Finish.CALLS),
    ),
    "id is a number": ([tool(index=0, id=7, name="get"), CALLS], Seen(calls=[("7", "get", "{}")], finish=Finish.CALLS)),
    "no index": (
        [tool(id="a", name="python", arguments=CODE), tool(id="b", name="get", arguments="{}"), CALLS],
        Seen(calls=[*ONE, ("b", "get", "{}")], finish=Finish.CALLS),
    ),
    "no index, split": (
        [
            tool(id="a", name="python", arguments='{"code": '),
            tool(arguments='"print(1)"}'),
            tool(id="b", name="get"),
            tool(arguments="{}"),
            CALLS,
        ],
        Seen(calls=[*ONE, ("b", "get", "{}")], finish=Finish.CALLS),
    ),
    "no index, no id": (
        [tool(name="python", arguments=CODE), tool(name="python", arguments=CODE), CALLS],
        Seen(calls=[(ANY_ID, "python", CODE)] * 2, finish=Finish.CALLS),
    ),
    "no index, id in each delta": (
        [
            tool(id="a", name="python", arguments='{"code": '),
            tool(id="a", name="python", arguments='"print(1)"}'),
            CALLS,
        ],
        Seen(calls=ONE, finish=Finish.CALLS),
    ),
    "index 0 for all": (
        [
            tool(index=0, id="a", name="python", arguments=CODE),
            tool(index=0, id="b", name="python", arguments=CODE),
            CALLS,
        ],
        Seen(calls=[*ONE, ("b", "python", CODE)], finish=Finish.CALLS),
    ),
    "index 0 for all, no arguments": (
        [tool(index=0, id="a", name="get", arguments=""), tool(index=0, id="b", name="search", arguments=""), CALLS],
        Seen(calls=[("a", "get", "{}"), ("b", "search", "{}")], finish=Finish.CALLS),
    ),
    "index counts deltas": (
        [
            tool(index=0, id="a", name="python"),
            tool(index=1, arguments='{"code": '),
            tool(index=2, arguments='"print(1)"}'),
            CALLS,
        ],
        Seen(calls=ONE, finish=Finish.CALLS),
    ),
    "index begins at 1": (
        [tool(index=1, id="a", name="python", arguments=CODE), CALLS],
        Seen(calls=ONE, finish=Finish.CALLS),
    ),
    "id and name in each delta": (
        [tool(index=0, id="a", name="python", arguments=piece) for piece in ('{"code"', ': "print', '(1)"}', "")],
        Seen(calls=ONE, finish=Finish.CALLS),
    ),
    "name in each delta, no id": (
        [tool(index=0, name="python", arguments=piece) for piece in ('{"code"', ': "print', '(1)"}', "")],
        Seen(calls=[(ANY_ID, "python", CODE)], finish=Finish.CALLS),
    ),
    "name null after the first": (
        [tool(index=0, id="a", name="python", arguments=""), tool(index=0, id=None, name=None, arguments=CODE), CALLS],
        Seen(calls=ONE, finish=Finish.CALLS),
    ),
    "name split": (
        [
            tool(index=0, id="a", name="get"),
            tool(index=0, name="_wea"),
            tool(index=0, name="ther", arguments="{}"),
            CALLS,
        ],
        Seen(calls=[("a", "get_weather", "{}")], finish=Finish.CALLS),
    ),
    "name from the beginning each time": (
        [
            tool(index=0, id="a", name="py"),
            tool(index=0, id="a", name="pyth"),
            tool(index=0, id="a", name="python", arguments=CODE),
            CALLS,
        ],
        Seen(calls=ONE, finish=Finish.CALLS),
    ),
    "name of the GPT-OSS kind": (
        [tool(index=0, id="a", name="functions.python<|channel|>json", arguments=CODE), CALLS],
        Seen(calls=ONE, finish=Finish.CALLS),
    ),
    "a function that was not offered": (
        [tool(index=0, id="a", name="un"), tool(index=0, name="known", arguments="{}"), CALLS],
        Seen(calls=[("a", "unknown", "{}")], finish=Finish.CALLS),
    ),
    "the same id for all": (
        [
            tool(index=0, id="a", name="python", arguments=CODE),
            tool(index=1, id="a", name="python", arguments=CODE),
            CALLS,
        ],
        Seen(calls=[*ONE, (ANY_ID, "python", CODE)], finish=Finish.CALLS),
    ),
    "the same id for all, no arguments": (
        [tool(index=0, id="a", name="get"), tool(index=1, id="a", name="get"), CALLS],
        Seen(calls=[("a", "get", "{}"), (ANY_ID, "get", "{}")], finish=Finish.CALLS),
    ),
    "the same id for all, bare code": (
        [
            tool(index=0, id="a", name="python", arguments="1"),
            tool(index=1, id="a", name="python", arguments="2"),
            CALLS,
        ],
        Seen(calls=[("a", "python", "1"), (ANY_ID, "python", "2")], finish=Finish.CALLS),
    ),
    "interleaved": (
        [
            tool(index=0, id="a", name="python"),
            tool(index=1, id="b", name="get"),
            tool(index=0, arguments='{"code": '),
            tool(index=1, arguments="{"),
            tool(index=0, arguments='"print(1)"}'),
            tool(index=1, arguments="}"),
            CALLS,
        ],
        Seen(calls=[*ONE, ("b", "get", "{}")], finish=Finish.CALLS),
    ),
    "several in one delta": (
        [
            chunk(
                {
                    "tool_calls": [
                        {"index": n, "id": "ab"[n], "function": {"name": "get", "arguments": "{}"}} for n in (0, 1)
                    ]
                }
            ),
            CALLS,
        ],
        Seen(calls=[("a", "get", "{}"), ("b", "get", "{}")], finish=Finish.CALLS),
    ),
    "id comes late": (
        [tool(index=0, name="python"), tool(index=0, id="a"), tool(index=0, arguments=CODE), CALLS],
        Seen(calls=ONE, finish=Finish.CALLS),
    ),
    "function_call (legacy)": (
        [
            chunk({"function_call": {"name": "python", "arguments": ""}}),
            chunk({"function_call": {"arguments": CODE}}),
            chunk({}, "function_call"),
        ],
        Seen(calls=[(ANY_ID, "python", CODE)], finish=Finish.CALLS),
    ),
    "text, very deep": ([chunk({"content": deep(300)}), *text("x"), STOP], Seen(text="x")),
    "calls null, calls garbage": (
        [chunk({"content": "x", "tool_calls": None}), chunk({"tool_calls": [None, 3]}), STOP],
        Seen(text="x"),
    ),
    # usage
    "usage in the last chunk": ([*text("x"), STOP, {"choices": [], "usage": USAGE}], Seen(text="x", usage=(3, 4))),
    "usage null before it": (
        [chunk({"content": "x"}, usage=None), STOP, {"choices": [], "usage": USAGE}],
        Seen(text="x", usage=(3, 4)),
    ),
    "usage in each chunk": (
        [chunk({"content": "x"}, usage={**USAGE, "completion_tokens": 1}), chunk({}, "stop", usage=USAGE)],
        Seen(text="x", usage=(3, 4)),
    ),
    "usage in x_groq": (
        [*text("x"), chunk({}, "stop", x_groq={"id": "r", "usage": USAGE})],
        Seen(text="x", usage=(3, 4)),
    ),
    "usage in the choice (Moonshot)": (
        [*text("x"), {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE}]}],
        Seen(text="x", usage=(3, 4)),
    ),
    "usage is nonsense": (
        [*text("x"), chunk({}, "stop", usage={"prompt_tokens": "3", "completion_tokens": -1})],
        Seen(text="x", usage=(0, 0)),
    ),
    "usage is empty": ([*text("x"), chunk({}, "stop", usage={})], Seen(text="x")),
}


@pytest.mark.parametrize("name", STREAMS)
def test_reads_what_engines_stream(name: str) -> None:
    chunks, expected = STREAMS[name]
    assert seen(stream(chunks)) == expected


@pytest.mark.parametrize("name", STREAMS)
def test_reads_the_same_cut_at_every_byte(name: str) -> None:
    chunks, expected = STREAMS[name]
    whole = b"".join(write_event(json.dumps(chunk).encode()) for chunk in chunks) + b"data: [DONE]\n\n"
    assert seen(raw(*(whole[place : place + 1] for place in range(len(whole))))) == expected
    for place in range(0, len(whole), 7):
        assert seen(raw(whole[:place], whole[place:])) == expected


@pytest.mark.parametrize("name", TEXTS)
def test_reads_tags_cut_anywhere(name: str) -> None:
    whole, expected = TEXTS[name]
    assert seen(stream(text(whole))) == expected
    assert seen(stream(text(*whole))) == expected
    for place in range(min(len(whole), 60)):
        assert seen(stream(text(whole[:place], whole[place:]))) == expected
    assert seen(read_body(body({"content": whole}), REQUEST, "m", 0)) == expected


# With the option that says that the template has opened <think>.
OPENED: dict[str, tuple[str, Seen]] = {
    "closed": ("hm\n</think>\n\nx", Seen(text="x", reasoning="hm")),
    "opened once more": ("<think>\nhm</think>x", Seen(text="x", reasoning="hm")),
    "closed at once": ("</think>x", Seen(text="x")),
    "never closed": ("hm", Seen(reasoning="hm")),
    "white space": (" \n", Seen()),
}


@pytest.mark.parametrize("name", OPENED)
def test_reads_reasoning_that_the_template_opened(name: str) -> None:
    whole, expected = OPENED[name]
    assert seen(stream(text(*whole), thinks=True)) == expected
    assert seen(stream(text(whole), thinks=True)) == expected
    assert seen(read_body(body({"content": whole}), REQUEST, "m", 0, thinks=True)) == expected


def test_only_what_may_be_a_tag_is_held_back() -> None:
    thoughts = Thoughts()
    assert thoughts.feed("<thin") == ("", "")
    assert thoughts.feed("g>") == ("", "<thing>")
    assert thoughts.feed("<think>") == ("", "<think>")
    thoughts = Thoughts()
    assert thoughts.feed("<think>a b ") == ("a b", "")
    assert thoughts.feed("c </thin") == (" c", "")
    assert thoughts.feed("g") == (" </thing", "")
    assert thoughts.feed("</think> x") == ("", "x")


# --- whole bodies -----------------------------------------------------------------------------------------------------


def body(message: Any, finish: str | None = "stop", **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return json.dumps({"id": "c", "object": "chat.completion", "choices": [choice], **more}).encode()


def called(**entry: Any) -> dict[str, Any]:
    function = {key: entry.pop(key) for key in ("name", "arguments") if key in entry}
    return {**entry, "function": function}


BODIES: dict[str, tuple[bytes, Seen]] = {
    "text": (body({"content": "Hello"}, usage=USAGE), Seen(text="Hello", usage=(3, 4))),
    "content null": (body({"content": None}), Seen()),
    "nothing": (body({}), Seen()),
    "message null": (json.dumps({"choices": [{"message": None}]}).encode(), Seen()),
    "reasoning": (body({"content": "x", "reasoning": "hm"}), Seen(text="x", reasoning="hm")),
    "only closed": (body({"content": "hm\n</think>\n\nx"}), Seen(text="x", reasoning="hm")),
    "closed in a quotation": (
        body({"content": "The tag `</think>` ends it."}),
        Seen(text="The tag `</think>` ends it."),
    ),
    "only closed, reasoning apart": (
        body({"content": "a\n</think>\nx", "reasoning": "hm"}),
        Seen(text="a\n</think>\nx", reasoning="hm"),
    ),
    "a call": (
        body({"content": None, "tool_calls": [called(id="a", name="python", arguments=CODE)]}, "tool_calls"),
        Seen(calls=ONE, finish=Finish.CALLS),
    ),
    "two calls, no ids": (
        body({"tool_calls": [called(name="get", arguments="{}"), called(name="get", arguments="{}")]}),
        Seen(calls=[(ANY_ID, "get", "{}")] * 2, finish=Finish.CALLS),
    ),
    "two calls of the same, without arguments": (
        body({"tool_calls": [called(id="a", name="get", arguments=""), called(id="b", name="get", arguments="")]}),
        Seen(calls=[("a", "get", "{}"), ("b", "get", "{}")], finish=Finish.CALLS),
    ),
    "arguments an object": (
        body({"tool_calls": [called(id="a", name="get", arguments={"x": 1})]}),
        Seen(calls=[("a", "get", '{"x":1}')], finish=Finish.CALLS),
    ),
    "function_call": (
        body({"function_call": {"name": "get", "arguments": "{}"}}, "function_call"),
        Seen(calls=[(ANY_ID, "get", "{}")], finish=Finish.CALLS),
    ),
    "half a surrogate pair": (body({"content": "a\ud83d b"}), Seen(text="a\ufffd b")),
    "not quite UTF-8": (b'{"choices":[{"message":{"content":"a\xffb"}}]}', Seen(text="a\ufffdb")),
}


@pytest.mark.parametrize("name", BODIES)
def test_reads_what_engines_answer_in_one_body(name: str) -> None:
    raw_body, expected = BODIES[name]
    assert seen(read_body(raw_body, REQUEST, "m", 0)) == expected


@pytest.mark.parametrize(
    "raw_body",
    [
        b"",
        b"[]",
        b"null",
        b"<html>",
        b"{",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":null}',
        b'{"choices":{}}',
        b"[" * 10_000,
    ],
)
def test_a_body_that_is_no_answer_is_the_upstreams_error(raw_body: bytes) -> None:
    with pytest.raises(UpstreamError) as caught:
        read_body(raw_body, REQUEST, "m", 0, blame=Blame("upstream x"))
    assert str(caught.value).startswith("upstream x ")
    assert caught.value.status == 502


def test_seconds_go_into_usage() -> None:
    ended = read_body(body({"content": "x"}, usage=USAGE), REQUEST, "label", 3, seconds=1.5)[-1]
    assert isinstance(ended, TurnEnded)
    assert (ended.turn, ended.model) == (3, "label")
    assert ended.usage == Usage(prompt_tokens=3, completion_tokens=4, seconds=1.5)


@pytest.mark.parametrize(
    ("usage", "cached", "reasoning"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 2}, "completion_tokens_details": {"reasoning_tokens": 1}}, 2, 1),
        ({"prompt_tokens_details": None, "completion_tokens_details": None}, 0, 0),
        ({"prompt_cache_hit_tokens": 2}, 2, 0),
        ({"cached_tokens": 2, "reasoning_tokens": 1}, 2, 1),
    ],
)
def test_reads_details_of_usage(usage: dict[str, Any], cached: int, reasoning: int) -> None:
    ended = read_body(body({"content": "x"}, usage={**USAGE, **usage}), REQUEST, "m", 0)[-1]
    assert isinstance(ended, TurnEnded)
    assert ended.usage is not None
    assert (ended.usage.cached_tokens, ended.usage.reasoning_tokens) == (cached, reasoning)


def test_says_who_answered_and_under_which_key_it_thought() -> None:
    chunks = [chunk({"role": "assistant"}, system_fingerprint="fp"), chunk({"reasoning_content": "hm"}), STOP]
    events = stream(chunks)
    assert events[0] == TurnStarted(turn=0, model="m", extra={"system_fingerprint": "fp"})
    ended = events[-1]
    assert isinstance(ended, TurnEnded)
    assert ended.extra == {"system_fingerprint": "fp", "reasoning_key": "reasoning_content"}


def test_logprobs_go_with_the_text_that_they_are_of() -> None:
    def piece(text: str) -> dict[str, Any]:
        found = chunk({"content": text})
        found["choices"][0]["logprobs"] = {"content": [{"token": text, "logprob": -1.0}], "refusal": None}
        return found

    def tokens(chunks: list[Any]) -> list[tuple[str, list[str]]]:
        deltas = [event for event in stream(chunks) if isinstance(event, TextDelta)]
        return [(d.text, [entry["token"] for entry in (d.extra or {})["logprobs"]["content"]]) for d in deltas]

    assert tokens([piece("a"), piece("b"), STOP]) == [("a", ["a"]), ("b", ["b"])]
    assert tokens([piece("<th"), piece("x"), STOP]) == [("<thx", ["<th", "x"])]
    assert tokens([piece("<think>"), piece("hm"), piece("</think>"), piece("a"), STOP])[-1][0] == "a"


def test_an_id_of_the_conversation_before_is_not_used_again() -> None:
    before = Message(role=Role.ASSISTANT, parts=(Call(id="a", name="python", arguments="{}"),))
    request = Request(model="m", messages=(before,), functions=REQUEST.functions)
    chunks = [tool(index=0, id="a", name="python", arguments=CODE), CALLS]
    assert seen(stream(chunks, request=request)).calls == [(ANY_ID, "python", CODE)]


# --- errors inside answers --------------------------------------------------------------------------------------------

ERRORS: dict[str, tuple[Any, type[UpstreamError], int, str]] = {
    "OpenAI's form": ({"error": {"message": "boom", "type": "server_error", "code": None}}, UpstreamError, 502, "boom"),
    "a text": ({"error": "boom"}, UpstreamError, 502, "boom"),
    "its status (OpenRouter)": ({"error": {"message": "busy", "code": 429}}, UpstreamRefused, 429, "busy"),
    "its status (Groq)": ({"error": {"message": "bad", "code": "x", "status_code": 400}}, UpstreamRefused, 400, "bad"),
    "its status as text": ({"error": {"message": "slow", "code": "504"}}, UpstreamTimeout, 504, "slow"),
    "overloaded": ({"error": {"message": "full", "code": 503}}, UpstreamUnavailable, 503, "full"),
    "our key": ({"error": {"message": "sk-1", "code": 401}}, UpstreamError, 502, "without a key"),
    "vLLM's old form": ({"object": "error", "message": "too long", "code": 400}, UpstreamRefused, 400, "too long"),
    "beside choices": ({"choices": [], "error": {"message": "boom"}}, UpstreamError, 502, "boom"),
    "no message": ({"error": {"x": 1}}, UpstreamError, 502, "no reason given"),
    "a finish_reason": (chunk({}, "error"), UpstreamError, 502, "gave up"),
    "not an object": (["x"], UpstreamError, 502, "no JSON object"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_in_the_middle_is_raised(name: str) -> None:
    value, kind, status, words = ERRORS[name]
    reader = StreamReader(REQUEST, "m", 0)
    assert reader.feed(json.dumps(text("x")[0]).encode())
    with pytest.raises(UpstreamError, match=words) as caught:
        reader.feed(json.dumps(value).encode())
    assert (type(caught.value), caught.value.status) == (kind, status)


# --- however it is split ----------------------------------------------------------------------------------------------

arguments = st.one_of(
    st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=2).map(json.dumps),
    st.text(min_size=1, max_size=30),
)
answers = st.fixed_dictionaries(
    {
        "reasoning": st.text(max_size=30),
        "text": st.one_of(
            st.text(max_size=30),
            st.lists(st.sampled_from(["<think>", "</think>", "<", "</th", "a", " ", "\n", "ink>"])).map("".join),
        ),
        "calls": st.lists(st.tuples(st.sampled_from(NAMES), arguments), max_size=3),
    }
)


def cut(data: st.DataObject, whole: str) -> list[str]:
    places = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    return [whole[start:end] for start, end in zip([0, *places], [*places, len(whole)], strict=True)]


@given(answers, st.data())
def test_a_turn_reads_the_same_however_it_is_split(answer: dict[str, Any], data: st.DataObject) -> None:
    chunks = [chunk({"reasoning": piece}) for piece in cut(data, answer["reasoning"])]
    chunks += [chunk({"content": piece}) for piece in cut(data, answer["text"])]
    for place, (name, written) in enumerate(answer["calls"]):
        pieces = cut(data, name)
        chunks += [tool(index=place, id=f"id{place}", name=pieces[0])]
        chunks += [tool(index=place, name=piece) for piece in pieces[1:]]
        chunks += [tool(index=place, arguments=piece) for piece in cut(data, written)]
    message = {"reasoning": answer["reasoning"], "content": answer["text"]}
    calls = [called(id=f"id{n}", name=name, arguments=written) for n, (name, written) in enumerate(answer["calls"])]
    chunks.append(STOP)
    whole = b"".join(write_event(json.dumps(chunk).encode()) for chunk in chunks) + b"data: [DONE]\n\n"
    places = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    parts = [whole[start:end] for start, end in zip([0, *places], [*places, len(whole)], strict=True)]
    expected = seen(stream(chunks))
    assert seen(raw(*parts)) == expected
    if "</think>" not in answer["text"]:  # else a whole body knows more than a stream
        assert seen(read_body(body({**message, "tool_calls": calls}), REQUEST, "m", 0)) == expected
    assert [(name, written) for _, name, written in expected.calls] == answer["calls"]


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 600), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "message",
                    "content",
                    "reasoning",
                    "tool_calls",
                    "function",
                    "name",
                    "arguments",
                    "index",
                    "id",
                    "usage",
                    "prompt_tokens",
                    "completion_tokens",
                    "finish_reason",
                    "error",
                    "code",
                    "logprobs",
                    "x_groq",
                    "type",
                    "text",
                    "function_call",
                    "refusal",
                    "reasoning_details",
                    "system_fingerprint",
                    "prompt_tokens_details",
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=20,
)


@given(json_values)
def test_nothing_but_upstream_errors_comes_of_nonsense(value: Any) -> None:
    for candidate in (value, {"choices": [value]}, {"choices": [{"delta": value}]}, {"error": value, "choices": value}):
        data = json.dumps(candidate).encode()
        try:
            reader = StreamReader(REQUEST, "m", 0)
            seen([*reader.feed(data), *reader.feed(data), *reader.end()])
        except UpstreamError:
            pass
        try:
            seen(read_body(data, REQUEST, "m", 0))
        except UpstreamError:
            pass


# --- messages of errors -----------------------------------------------------------------------------------------------

KEY = "sk-proj-0123456789abcdefghij"
REFUSALS: dict[str, tuple[int, bytes, type[UpstreamError], int, str]] = {
    "refused": (400, b'{"error":{"message":"bad","type":"t","code":"c","param":"p"}}', UpstreamRefused, 400, "bad"),
    "FastAPI": (
        422,
        b'{"detail":[{"loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]}',
        UpstreamRefused,
        422,
        "body.stream_options: Extra inputs",
    ),
    "a list (Gemini)": (
        400,
        b'[{"error":{"code":400,"message":"bad","status":"INVALID"}}]',
        UpstreamRefused,
        400,
        "bad",
    ),
    "a text (Ollama)": (404, b'{"error":"model "x" not found"}', UpstreamRefused, 404, 'model "x" not found'),
    "HTML": (404, b"<html><h1>404</h1>\n<p>Not Found</p></html>", UpstreamRefused, 404, "404 Not Found"),
    "empty": (400, b"", UpstreamRefused, 400, "no reason given"),
    "overloaded": (503, b'{"error":{"message":"Loading model"}}', UpstreamUnavailable, 503, "HTTP 503.*Loading model"),
    "broken": (500, b"Internal Server Error", UpstreamError, 502, "HTTP 500.*Internal Server Error"),
    "gateway": (504, b"", UpstreamTimeout, 504, "HTTP 504"),
    "no money": (402, b'{"error":{"message":"Insufficient credits"}}', UpstreamError, 502, "HTTP 402.*Insufficient"),
    "key refused": (
        401,
        f'{{"error":"bad key {KEY}"}}'.encode(),
        UpstreamError,
        502,
        "refused the key that it was sent",
    ),
    "not allowed": (
        403,
        b'{"error":"not in your country"}',
        UpstreamError,
        502,
        "refused the key.*not in your country",
    ),
    "key echoed": (400, f'{{"error":"what is {KEY}?"}}'.encode(), UpstreamRefused, 400, r"what is \*\*\*"),
    "key shortened": (400, b'{"error":"key sk-proj-0123***** bad"}', UpstreamRefused, 400, r"key \*\*\* bad"),
    "long": (400, b'{"error":"' + b"x" * 100_000 + b'"}', UpstreamRefused, 400, "xxx…$"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_becomes_an_error_without_the_key(name: str) -> None:
    status, answer, kind, ours, words = REFUSALS[name]
    error = Blame("upstream x (host)", KEY).refused(status, answer, 3.0)
    assert (type(error), error.status) == (kind, ours)
    message = str(error)
    assert message.startswith("upstream x (host)")
    assert KEY[:12] not in message
    assert len(message) < 1100
    assert "\n" not in message
    with pytest.raises(UpstreamError, match=words):
        raise error


def test_a_refusal_passes_on_what_the_upstream_said() -> None:
    error = Blame().refused(
        429, b'{"error":{"message":"slow down","type":"requests","code":"limit","param":null}}', 7.0
    )
    assert isinstance(error, UpstreamRefused)
    assert (error.code, error.kind, error.param, error.retry_after) == ("limit", "requests", None, 7.0)


def test_a_short_key_is_masked_too() -> None:
    assert str(Blame("x", "hush").refused(500, b"key hush")) == "x failed (HTTP 500): key ***"
    assert "hush" not in str(Blame("x", "hush").broken("sent 'hush'"))


def test_a_blame_does_not_show_its_key() -> None:
    assert KEY not in repr(Blame("x", KEY))
