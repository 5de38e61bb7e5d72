"""The loop over models that do anything: what it promises holds whatever they say, and what they are sent is sound."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from belljar.dialects.chat_completions import DIALECT
from belljar.dialects.upstream_request import write_request
from belljar.errors import BelljarError, HostError, UpstreamRefused, UpstreamUnavailable
from belljar.events import (
    CallClosed,
    CallOpened,
    CallStarted,
    Event,
    Failed,
    Finish,
    Finished,
    ReasoningDelta,
    TextDelta,
    TurnEnded,
    TurnEvent,
    TurnStarted,
)
from belljar.loop import LAST_CALL, LEAST_TOLD, Budget, Models, run
from belljar.model import Call, CallResult, Choice, Format, Function, Message, Mode, Request, Role, Text, Usage
from conversations import check_body
from dialects.chat_helpers import START, frames, merge
from models import call
from test_loop import FakeTool, check_order, fold

NOTES = 200  # characters of notes beside the output of a call


@dataclass(frozen=True)
class Said:
    """A turn: what is said, how it ends; `error` comes before anything, or `late` in the end."""

    events: tuple[TurnEvent, ...] = ()
    finish: Finish | None = None
    error: BelljarError | None = None
    late: bool = False
    counted: bool = True


class Anything:
    """A model that plays turns, whatever it is asked; the last one for ever."""

    id = "anything"

    def __init__(self, turns: Sequence[Said], *, sees_images: bool) -> None:
        self.sees_images = sees_images
        self.asked: list[Request] = []
        self.closed = 0
        self._turns = turns

    async def turn(self, request: Request, number: int) -> AsyncGenerator[TurnEvent, None]:
        said = self._turns[min(len(self.asked), len(self._turns) - 1)]
        self.asked.append(request)
        try:
            if said.error is not None and not said.late:
                raise said.error
            yield TurnStarted(turn=number, model=self.id)
            for event in said.events:
                yield event
            if said.error is not None:
                raise said.error
            calls = any(isinstance(event, CallOpened) for event in said.events)
            finish = said.finish or (Finish.CALLS if calls else Finish.STOP)
            usage = Usage(prompt_tokens=3, completion_tokens=2) if said.counted else None
            extra = {"reasoning_key": "reasoning"}
            yield TurnEnded(turn=number, model=self.id, finish=finish, usage=usage, extra=extra)
        finally:
            self.closed += 1


NAMES = ("python", "python", "code_interpreter", "weather", "browser.search", "to=a b", "")
ARGUMENTS = ('{"code": "x = 1"}', "x", "plot", "much", "broken", "capacity", "{}", "{oops", '{"city": "Rome"}', "")
TEXTS = ("", " ", "Well. ", '{"n": 1}', "```python\n1\n```")
words = st.sampled_from(TEXTS).map(lambda text: (TextDelta(text=text),))
thoughts = st.sampled_from(TEXTS).map(lambda text: (ReasoningDelta(text=text),))
calls = st.builds(
    lambda name, arguments, identity, pieces: tuple(call(arguments, name, identity, pieces)),
    st.sampled_from(NAMES),
    st.sampled_from(ARGUMENTS),
    st.sampled_from(("c1", "c2", "old")),
    st.integers(1, 4),
)
errors = st.sampled_from(
    [None] * 24 + [UpstreamUnavailable("gone"), UpstreamRefused("no", status=400), UpstreamRefused("no", status=429)]
)
runs = st.builds(
    lambda before, arguments, after: Said((*before, *call(arguments), *after)),
    st.one_of(words, thoughts),
    st.sampled_from(ARGUMENTS[:4]),
    st.sampled_from([(), (), tuple(call("y", "python", "c2")), tuple(call("{}", "browser", "c3"))]),
)
whatever = st.builds(
    lambda pieces, finish, error, late, counted: Said(sum(pieces, ()), finish, error, late, counted),
    st.lists(st.one_of(words, thoughts, calls, calls), max_size=4),
    st.sampled_from([None] * 6 + [Finish.LENGTH, Finish.FILTERED, Finish.STOP]),
    errors,
    st.booleans(),
    st.booleans(),
)
turns = st.one_of(runs, runs, whatever)
HELLO = Message(role=Role.USER, parts=(Text(text="hi"),))
HISTORY = (
    HELLO,
    Message(role=Role.ASSISTANT, parts=(Call(id="old", name="python", arguments='{"code": "1"}', builtin=True),)),
    Message(role=Role.TOOL, parts=(CallResult(call="old", text="1", builtin=True),)),
    Message(role=Role.ASSISTANT, parts=(Text(text="1"),)),
    HELLO,
)
WEATHER = Function(name="weather", parameters={"type": "object"})
SCHEMA = Format(schema={"type": "object", "required": ["n"]})
requests = st.builds(
    Request,
    model=st.just("m"),
    messages=st.sampled_from([(HELLO,), HISTORY]),
    builtin=st.sampled_from([("python",)] * 4 + [()]),
    functions=st.sampled_from([(), (WEATHER,)]),
    choice=st.sampled_from([Choice()] * 8 + [Choice(mode=mode) for mode in Mode] + [Choice(name="weather")]),
    format=st.sampled_from([None, None, SCHEMA]),
    max_calls=st.sampled_from([None, None, 1]),
    validate_calls=st.sampled_from([True, True, False]),
    options=st.sampled_from([{}, {"max_completion_tokens": 5}]),
)
budgets = st.builds(
    Budget,
    calls=st.sampled_from([1, 2, 3, 7]),
    turns=st.sampled_from([1, 2, 4, 9]),
    seconds=st.sampled_from([0.0, 60.0, 60.0]),
    told=st.sampled_from([100, 5000]),
)
models = st.builds(Anything, st.lists(turns, min_size=1, max_size=5), sees_images=st.booleans())


@given(requests, models, st.one_of(st.none(), models), budgets)
def test_whatever_models_do(request: Request, planner: Anything, answerer: Anything | None, budget: Budget) -> None:
    tool = FakeTool()
    tools = [tool] if request.builtin else []
    who = Models(planner=planner, answerer=answerer or planner)

    async def events() -> list[Event]:
        return [event async for event in run(request, who, tools, budget)]

    heard = asyncio.run(events())
    asked = [planner, *([answerer] if answerer else [])]
    check_order(heard)
    check_end(heard[-1])
    assert [model.closed for model in asked] == [len(model.asked) for model in asked]
    assert sum(len(model.asked) for model in asked) <= budget.turns + 2  # the last answer, and that in words
    assert tool.closed == len(tools)
    check_executions(heard, tool, request, budget)
    for model in asked:
        check_asked(model, request, budget)
    check_ways_to_write(heard, request)


def check_end(end: Event) -> None:
    """It is an answer, or an error that is not ours."""
    assert isinstance(end, Finished | Failed)
    assert not isinstance(end, Failed) or type(end.error) is not HostError, end


def check_executions(heard: Sequence[Event], tool: FakeTool, request: Request, budget: Budget) -> None:
    started = [event.call for event in heard if isinstance(event, CallStarted)]
    closed = [event.call for event in heard if isinstance(event, CallClosed)]
    opened = [event.call for event in heard if isinstance(event, CallOpened) and event.builtin]
    assert len(tool.ran) == len(started) == len(set(started))
    assert len(started) <= min(budget.calls, request.max_calls or budget.calls)
    assert set(started) <= set(opened)
    assert len(closed) == len(set(closed))
    if request.choice.mode is Mode.NONE:
        assert not started


def check_asked(model: Anything, request: Request, budget: Budget) -> None:
    for asked in model.asked:
        body = json.loads(write_request(asked, "m", sees_images=model.sees_images))
        # Without a tool of ours, what the client asks for is passed on as it is.
        own = bool(request.functions) and (not request.builtin or request.choice.mode is Mode.NONE)
        in_words = all(message["role"] != "tool" for message in body["messages"])
        check_body(body | ({"response_format": None} if own else {}), alternating=in_words)
        results = [p for m in asked.messages for p in m.parts if isinstance(p, CallResult) and p.call != "old"]
        assert sum(len(part.text) for part in results) <= budget.told + len(results) * (
            LEAST_TOLD + NOTES + len(LAST_CALL)
        )


def check_ways_to_write(heard: Sequence[Event], request: Request) -> None:
    """A stream says the same as a body."""
    writer = DIALECT.writer(request, START)
    merged = merge(chunk for chunk in frames(b"".join(map(writer.write, heard))) if "choices" in chunk)
    if isinstance(heard[-1], Failed):
        return
    (choice,) = json.loads(DIALECT.writer(request, START).fold(fold(heard)))["choices"]
    message = {name: value for name, value in merged["message"].items() if value or name in choice["message"]}
    assert message == choice["message"]
    assert merged["finish_reason"] == choice["finish_reason"]
