"""Kept answers: apart by owner, bounded, followed while they are written, gone on from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from belljar.dialects.base import Start
from belljar.errors import AtCapacity, BadRequest, Cancelled, ShuttingDown, UnknownItem, UpstreamError
from belljar.events import (
    CallClosed,
    CallOpened,
    CallReady,
    CallStarted,
    Event,
    Failed,
    Finish,
    Finished,
    TextDelta,
    TurnEnded,
    TurnStarted,
)
from belljar.execution import Execution, Outcome, Result
from belljar.model import Call, CallResult, File, Image, Message, Request, Role, Text
from belljar.server import memory as module
from belljar.server.memory import WEIGHT, Memory, Record, key_of

PNG = b"\x89PNG picture"
SYSTEM = Message(role=Role.SYSTEM, parts=(Text(text="Be."),))
QUESTION = Message(role=Role.USER, parts=(Text(text="question"),))
STOP = Finished(finish=Finish.STOP)


def request(*messages: Message, **fields: Any) -> Request:
    return Request(model="m", messages=messages or (QUESTION,), **{"owner": "a", "keep": True} | fields)


def answer(text: str = "answer") -> list[Event]:
    return [
        TurnStarted(turn=0, model="m"),
        TextDelta(text=text),
        TurnEnded(turn=0, model="m", finish=Finish.STOP),
        STOP,
    ]


async def played(events: Sequence[Event | asyncio.Event]) -> AsyncGenerator[Event, None]:
    for event in events:
        if isinstance(event, asyncio.Event):
            await event.wait()
        else:
            yield event


numbers = iter(range(10_000))


def begin(memory: Memory, asked: Request | None = None, dialect: str = "d") -> Record:
    asked = asked or request()
    return memory.open(dialect, asked, memory.extend(asked), Start(request_id=f"req_{next(numbers)}", created=0))


async def keep(memory: Memory, events: Sequence[Event | asyncio.Event], asked: Request | None = None) -> Record:
    record = begin(memory, asked)
    async for _ in memory.tape(record, played(events)):
        pass
    return record


async def test_an_answer_is_found_by_its_owner_and_dialect_alone() -> None:
    memory = Memory()
    record = await keep(memory, answer())
    assert memory.find("a", f"v1_{record.id}", "d") is record
    assert memory.find("a", f"resp_{record.id}") is record
    for owner, name, dialect in (("b", record.id, "d"), ("a", record.id, "other"), ("a", "nope", "d")):
        with pytest.raises(UnknownItem):
            memory.find(owner, f"v1_{name}", dialect)
    await memory.delete("a", f"v1_{record.id}", "d")
    with pytest.raises(UnknownItem):
        memory.find("a", record.id)


def test_keys() -> None:
    assert key_of("v1_abc") == key_of("req_abc") == key_of("abc") == "abc"


async def test_what_its_client_leaves_is_not_kept() -> None:
    memory = Memory()
    record = begin(memory)
    events = memory.tape(record, played(answer()))
    await anext(events)
    assert memory.find("a", record.id) is record
    await events.aclose()
    with pytest.raises(UnknownItem):
        memory.find("a", record.id)


async def test_what_fails_at_once_is_not_kept() -> None:
    memory = Memory()
    record = await keep(memory, [Failed(error=UpstreamError("x"))])
    with pytest.raises(UnknownItem):
        memory.find("a", record.id)


# --- going on ---------------------------------------------------------------------------------------------------------


async def test_a_conversation_goes_on() -> None:
    memory = Memory()
    first = await keep(memory, answer("one"), request(SYSTEM, QUESTION))
    again = Message(role=Role.USER, parts=(Text(text="again"),))
    second = await keep(memory, answer("two"), request(again, previous=f"v1_{first.id}"))
    other = Message(role=Role.SYSTEM, parts=(Text(text="Be other."),))
    whole = memory.extend(request(other, QUESTION, previous=f"v1_{second.id}"))
    said = [(message.role.value, message.text) for message in whole.messages]
    assert said == [
        ("system", "Be other."),
        ("user", "question"),
        ("assistant", "one"),
        ("user", "again"),
        ("assistant", "two"),
        ("user", "question"),
    ]
    assert whole.previous is None
    assert second.request.previous == f"v1_{first.id}"


def test_nothing_changes_without_a_previous_answer() -> None:
    asked = request()
    assert Memory().extend(asked) is asked


async def test_code_comes_back_as_calls_and_results() -> None:
    execution = Execution(outcome=Outcome.OK, results=(Result(data={"image/png": PNG}),))
    events: list[Event] = [
        TurnStarted(turn=0, model="m"),
        TextDelta(text="Let me."),
        CallOpened(call="c1", name="python", builtin=True),
        CallReady(call="c1", arguments="print(1)"),
        CallOpened(call="f1", name="weather"),
        CallReady(call="f1", arguments='{"city": "Rome"}'),
        TurnEnded(turn=0, model="m", finish=Finish.CALLS),
        CallStarted(call="c1"),
        CallClosed(call="c1", execution=execution, text="1"),
        Finished(finish=Finish.CALLS),
    ]
    memory = Memory()
    record = await keep(memory, events)
    result = Message(role=Role.TOOL, parts=(CallResult(call="f1", text="sunny"),))
    whole = memory.extend(request(result, previous=record.id))
    python = Call(id="c1", name="python", arguments='{"code":"print(1)"}', builtin=True)
    weather = Call(id="f1", name="weather", arguments='{"city": "Rome"}')
    shown = Image(media_type="image/png", data=PNG)
    assert whole.messages == (
        QUESTION,
        Message(role=Role.ASSISTANT, parts=(Text(text="Let me."), python, weather)),
        Message(role=Role.TOOL, parts=(CallResult(call="c1", text="1", images=(shown,), builtin=True),)),
        result,
    )
    with pytest.raises(BadRequest, match="'f1' has no result"):
        memory.extend(request(previous=record.id))
    stranger = Message(role=Role.TOOL, parts=(CallResult(call="f2", text="x"),))
    with pytest.raises(BadRequest, match="no function call 'f2'"):
        memory.extend(request(result, stranger, previous=record.id))


async def test_what_cannot_be_gone_on_from() -> None:
    memory = Memory()
    failed = await keep(memory, [*answer()[:2], Failed(error=UpstreamError("it broke"))])
    with pytest.raises(BadRequest, match="it broke"):
        memory.extend(request(previous=failed.id))
    with pytest.raises(BadRequest, match="still being written"):
        memory.extend(request(previous=begin(memory).id))
    with pytest.raises(UnknownItem):
        memory.extend(request(previous="nope"))
    kept = await keep(memory, answer())
    with pytest.raises(UnknownItem):
        memory.extend(request(previous=kept.id, owner="b"))


# --- in the background ------------------------------------------------------------------------------------------------


async def test_an_answer_is_followed_while_it_is_written() -> None:
    memory, gate = Memory(), asyncio.Event()
    events = answer()
    record = begin(memory, request(background=True))
    memory.play(record, played([*events[:2], gate, *events[2:]]))
    follower = memory.follow(record)
    assert [await anext(follower), await anext(follower)] == events[:2]
    assert record.answer.text == "answer"
    assert not record.ended
    gate.set()
    assert [event async for event in follower] == events[2:]
    assert [event async for event in memory.follow(record)] == events
    await memory.close()


async def test_cancelling() -> None:
    memory, closed = Memory(), []

    async def endless() -> AsyncGenerator[Event, None]:
        try:
            yield TurnStarted(turn=0, model="m")
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    record = begin(memory, request(background=True))
    memory.play(record, endless())
    follower = memory.follow(record)
    await anext(follower)
    await memory.cancel(record)
    last = await anext(follower)
    assert isinstance(last, Failed)
    assert isinstance(last.error, Cancelled)
    assert closed == [True]
    await memory.cancel(record)  # once more changes nothing
    assert len(record.events) == 2
    with pytest.raises(BadRequest, match="background"):
        await memory.cancel(await keep(memory, answer()))


async def test_deleting_ends_it() -> None:
    memory = Memory()
    record = begin(memory, request(background=True))
    memory.play(record, played([asyncio.Event()]))
    await memory.delete("a", record.id, "d")
    assert record.ended
    assert record.task is not None
    assert record.task.done()


async def test_closing_ends_everything() -> None:
    memory = Memory()
    records = [begin(memory, request(background=True)) for _ in range(3)]
    for record in records:
        memory.play(record, played([asyncio.Event()]))
    await memory.close()
    for record in records:
        last = record.events[-1]
        assert isinstance(last, Failed)
        assert isinstance(last.error, ShuttingDown)
    with pytest.raises(UnknownItem):
        memory.find("a", records[0].id)


async def test_there_are_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_RUNNING", 1)
    memory = Memory()
    memory.play(begin(memory, request(background=True)), played([asyncio.Event()]))
    refused = begin(memory, request(background=True))
    events = played(answer())
    with pytest.raises(AtCapacity):
        memory.play(refused, events)
    with pytest.raises(UnknownItem):
        memory.find("a", refused.id)
    await memory.close()


# --- bounds -----------------------------------------------------------------------------------------------------------


async def test_answers_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    memory = Memory(lifetime=10)
    record = await keep(memory, answer())
    running = begin(memory)
    now[0] += 10
    with pytest.raises(UnknownItem):
        memory.find("a", record.id)
    assert memory.find("a", running.id) is running


async def test_the_number_is_bounded() -> None:
    memory = Memory(most=2)
    records = [await keep(memory, answer()) for _ in range(3)]
    with pytest.raises(UnknownItem):
        memory.find("a", records[0].id)
    assert [memory.find("a", record.id) for record in records[1:]] == records[1:]


async def test_who_holds_most_makes_room() -> None:
    big = request(Message(role=Role.USER, parts=(File(name="f", media_type="x/y", data=b"x" * 40_000),)))
    memory = Memory(room=100_000)
    small = await keep(memory, answer(), request(owner="b"))
    first, second = await keep(memory, answer(), big), await keep(memory, answer(), big)
    assert memory.find("a", first.id) is first
    third = await keep(memory, answer(), big)
    with pytest.raises(UnknownItem):
        memory.find("a", first.id)
    assert memory.find("a", second.id) is second
    assert memory.find("a", third.id) is third
    assert memory.find("b", small.id) is small


async def test_what_is_too_large_is_not_kept_but_given() -> None:
    memory = Memory(room=1000)
    text = "x" * 2000
    record = begin(memory)
    given = [event async for event in memory.tape(record, played(answer(text)))]
    assert TextDelta(text=text) in given
    with pytest.raises(UnknownItem):
        memory.find("a", record.id)


async def test_everything_counts() -> None:
    memory = Memory()
    record = begin(
        memory, request(Message(role=Role.USER, parts=(File(name="f", media_type="x/y", data=b"x" * 1000),)))
    )
    assert record.size == WEIGHT + 1000
    execution = Execution(outcome=Outcome.OK, stdout="x" * 100, results=(Result(data={"image/png": b"x" * 1000}),))
    assert record.add(CallClosed(call="c", execution=execution, text="x" * 10)) == WEIGHT + 1110
    assert record.size == 2 * WEIGHT + 2110
