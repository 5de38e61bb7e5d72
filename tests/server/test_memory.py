"""Kept answers: apart by owner, followed while they are written, gone on from, there after a restart."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from belljar.dialects.base import Incoming, Item, Start
from belljar.errors import AtCapacity, BadRequest, Cancelled, HostError, ShuttingDown, UnknownItem, UpstreamError
from belljar.events import (
    Accepted,
    Answer,
    CallClosed,
    CallOpened,
    CallReady,
    CallStarted,
    Event,
    Failed,
    Finish,
    Finished,
    Housed,
    ReasoningDelta,
    TextDelta,
    TurnEnded,
    TurnStarted,
)
from belljar.execution import Execution, Outcome, Result
from belljar.model import Call, CallResult, Container, Image, ItemRef, Message, Request, Role, Text, new_id
from belljar.server import memory as module
from belljar.server.memory import Asked, Memory, Record, key_of
from belljar.store.rows import ConversationRow
from belljar.store.store import Store

PNG = b"\x89PNG picture"
SYSTEM = Message(role=Role.SYSTEM, parts=(Text(text="Be."),))
QUESTION = Message(role=Role.USER, parts=(Text(text="question"),))
STOP = Finished(finish=Finish.STOP)


class Words:
    """A dialect whose bodies are numbers of requests, and whose items are texts."""

    name = "d"

    def __init__(self) -> None:
        self.requests: dict[bytes, Request] = {}

    def keep(self, request: Request) -> bytes:
        body = str(len(self.requests)).encode()
        self.requests[body] = request
        return body

    def read_request(self, incoming: Incoming) -> Request:
        return self.requests[incoming.body]

    def carry(self, request: Request) -> tuple[Message, ...]:
        return tuple(message for message in request.messages if message.role is not Role.SYSTEM)

    def write_items(self, kept: Incoming, answer: Answer, start: Start) -> Sequence[Item]:
        asked = self.requests[kept.body].messages[-1].text
        return [
            Item(id=new_id("msg_"), body={"role": role, "text": text})
            for role, text in (("user", asked), ("assistant", answer.text))
        ]

    def read_items(self, items: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
        return tuple(Message(role=Role(item["role"]), parts=(Text(text=item["text"]),)) for item in items)


WORDS = Words()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "kept")
    yield store
    await store.close()


@pytest.fixture
async def memory(store: Store) -> AsyncIterator[Memory]:
    memory = over(store)
    yield memory
    await memory.close()


def over(store: Store, **options: Any) -> Memory:
    other = Words()
    other.requests = WORDS.requests
    other.name = "other"
    return Memory(store, {"d": WORDS, "other": other}, **options)  # type: ignore[dict-item]


def request(*messages: Message, **fields: Any) -> Request:
    return Request(model="m", messages=messages or (QUESTION,), **{"owner": "a", "keep": True} | fields)


def say(text: str, role: Role = Role.USER) -> Message:
    return Message(role=role, parts=(Text(text=text),))


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


def begin(memory: Memory, asked: Request | None = None, dialect: str = "d") -> Record:
    asked = asked or request()
    incoming = Incoming(method="POST", path="/v1/words", body=WORDS.keep(asked), owner=asked.owner)
    start = Start(request_id=new_id("req_"), created=1)
    return memory.open(Asked(dialect=dialect, incoming=incoming, start=start), asked)


async def keep(memory: Memory, events: Sequence[Event | asyncio.Event], asked: Request | None = None) -> Record:
    record = begin(memory, asked)
    async for _ in memory.tape(record, played(events)):
        pass
    return record


def texts(request: Request) -> list[tuple[str, str]]:
    return [(message.role.value, message.text) for message in request.messages]


async def test_an_answer_is_found_by_its_owner_and_dialect_alone(memory: Memory) -> None:
    record = await keep(memory, answer())
    for name, dialect in ((f"v1_{record.id}", "d"), (f"resp_{record.id}", None)):
        found = await memory.find("a", name, dialect)
        assert (found.events, found.request, found.ended) == (record.events, record.request, True)
    for owner, name, dialect in (("b", record.id, "d"), ("a", record.id, "other"), ("a", "nope", "d")):
        with pytest.raises(UnknownItem):
            await memory.find(owner, f"v1_{name}", dialect)
        with pytest.raises(UnknownItem):
            await memory.delete(owner, f"v1_{name}", dialect)
    await memory.delete("a", f"v1_{record.id}", "d")
    with pytest.raises(UnknownItem):
        await memory.find("a", record.id)


def test_keys() -> None:
    assert key_of("v1_abc") == key_of("req_abc") == key_of("abc") == "abc"


async def test_what_its_client_leaves_is_not_kept(memory: Memory) -> None:
    record = begin(memory)
    events = memory.tape(record, played(answer()))
    await anext(events)
    assert await memory.find("a", record.id) is record
    await events.aclose()
    with pytest.raises(UnknownItem):
        await memory.find("a", record.id)


@pytest.mark.parametrize("before", [[], [Housed(container="c")]])
async def test_what_fails_at_once_is_not_kept(memory: Memory, before: list[Event]) -> None:
    record = await keep(memory, [*before, Failed(error=UpstreamError("x"))])
    with pytest.raises(UnknownItem):
        await memory.find("a", record.id)


async def test_what_is_deleted_while_it_is_written_is_not_kept(memory: Memory) -> None:
    record = begin(memory)
    events = memory.tape(record, played(answer()))
    first = await anext(events)
    with pytest.raises(UnknownItem):  # the store knows it only when it is whole
        await memory.find("b", record.id)
    await memory.delete("a", record.id, "d")
    assert [first, *[event async for event in events]] == answer()
    with pytest.raises(UnknownItem):
        await memory.find("a", record.id)


async def test_nobody_waits_while_a_large_answer_is_packed_and_read(
    memory: Memory, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def noting(work: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def noted(value: Any) -> Any:
            threads.append(threading.current_thread())
            return work(value)

        return noted

    for name in ("squeeze", "unsqueeze", "pack", "unpack"):
        monkeypatch.setattr(module, name, noting(getattr(module, name)))
    record = await keep(memory, answer(os.urandom(200_000).hex()))
    assert (await memory.find("a", record.id)).events == record.events
    assert len(threads) == 4
    assert threading.current_thread() not in threads


async def test_what_is_deleted_while_it_is_stored_is_gone(
    memory: Memory, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, add = begin(memory), store.answers.add

    async def delete_first(row: Any) -> None:
        await memory.delete("a", record.id, "d")
        await add(row)

    monkeypatch.setattr(store.answers, "add", delete_first)
    assert [event async for event in memory.tape(record, played(answer()))] == answer()
    assert await store.answers.get("a", record.id) is None


async def test_who_looks_on_is_told_that_the_client_has_gone(memory: Memory) -> None:
    record = begin(memory)
    events = memory.tape(record, played(answer()))
    assert await anext(events) == answer()[0]
    follower = memory.follow(record)
    assert await anext(follower) == answer()[0]
    await events.aclose()
    (last,) = [event async for event in follower]
    assert isinstance(last, Failed)
    assert isinstance(last.error, Cancelled)


async def test_what_is_not_to_be_kept_is_not_found_while_it_is_written(memory: Memory, store: Store) -> None:
    await store.conversations.add(ConversationRow(id="k", owner="a", created=1, expires=2e10))
    record = begin(memory, request(conversation="k", keep=False))
    events = memory.tape(record, played(answer()))
    await anext(events)
    with pytest.raises(UnknownItem):
        await memory.find("a", record.id)
    await events.aclose()


async def test_the_end_is_told_when_it_is_stored(memory: Memory, store: Store) -> None:
    record = begin(memory)
    async for event in memory.tape(record, played(answer())):
        assert (await store.answers.get("a", record.id) is not None) == (event == STOP) == record.ended


async def test_what_cannot_be_stored_is_told(
    memory: Memory, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def add(row: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(store.answers, "add", add)
    events = [event async for event in memory.tape(begin(memory), played(answer()))]
    assert events[:-1] == answer()[:-1]
    assert isinstance(events[-1], Failed)
    assert "could not be kept" in str(events[-1].error)
    assert "no space left" in caplog.text


async def test_a_restart(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = over(store)
    kept = await keep(memory, answer("one"))
    running = begin(memory, request(background=True))
    await memory.play(running, played([*answer()[:2], asyncio.Event()]))
    later = over(store)
    assert (await later.find("a", kept.id)).answer.text == "one"
    assert not (await later.find("a", running.id)).ended  # its server lives
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: time.time() + module.LEASE + 1))
    found = await later.find("a", running.id)  # nobody has renewed its lease
    assert found.ended
    assert isinstance(found.answer.error, HostError)
    await memory.close()


# --- going on ---------------------------------------------------------------------------------------------------------


async def test_a_conversation_goes_on(memory: Memory) -> None:
    first = await keep(memory, answer("one"), request(SYSTEM, QUESTION))
    second = await keep(memory, answer("two"), request(say("again"), previous=f"v1_{first.id}"))
    other = Message(role=Role.SYSTEM, parts=(Text(text="Be other."),))
    whole = await memory.extend(request(other, QUESTION, previous=f"v1_{second.id}"), "d")
    assert texts(whole) == [
        ("system", "Be other."),
        ("user", "question"),
        ("assistant", "one"),
        ("user", "again"),
        ("assistant", "two"),
        ("user", "question"),
    ]
    assert whole.previous is None
    assert second.request.previous == f"v1_{first.id}"


async def test_a_conversation_with_a_hole(memory: Memory) -> None:
    first = await keep(memory, answer("one"))
    second = await keep(memory, answer("two"), request(say("again"), previous=f"v1_{first.id}"))
    await memory.delete("a", first.id, "d")
    with pytest.raises(UnknownItem) as caught:
        await memory.extend(request(previous=f"v1_{second.id}"), "d")
    assert caught.value.item == f"v1_{second.id}"  # what the request has named


async def test_nothing_changes_without_a_previous_answer(memory: Memory) -> None:
    asked = request()
    assert await memory.extend(asked, "d") is asked


async def test_containers_go_on(memory: Memory) -> None:
    box = Container()
    first = await keep(memory, [Housed(container="c1"), *answer()], request(container=box))
    second = await keep(memory, [Housed(container="c2"), *answer()], request(container=box, previous=first.id))
    whole = await memory.extend(request(container=Container(seen=("c0",)), previous=second.id), "d")
    assert whole.container == Container(seen=("c1", "c2", "c0"))
    assert (await memory.extend(request(previous=second.id), "d")).container is None


async def test_items_are_replaced_by_what_was_said(memory: Memory) -> None:
    events: list[Event] = [
        TurnStarted(turn=0, model="m"),
        ReasoningDelta(text="hm"),
        TextDelta(text=""),
        CallOpened(call="f1", name="weather"),
        CallReady(call="f1", arguments="{}"),
        TurnEnded(turn=0, model="m", finish=Finish.CALLS),
        Finished(finish=Finish.CALLS),
    ]
    calling, words = await keep(memory, events), await keep(memory, answer("words"))
    ref = [
        Message(role=Role.ASSISTANT, parts=(ItemRef(id=f"x_{r.id}{at:04x}"),))
        for r, at in ((calling, 0), (calling, 1), (words, 0))
    ]
    result = Message(role=Role.TOOL, parts=(CallResult(call="f1", text="sunny"),))
    whole = await memory.extend(request(QUESTION, *ref[:2], result, ref[2], QUESTION), "d")
    call = Message(role=Role.ASSISTANT, parts=(Call(id="f1", name="weather", arguments="{}"),))
    assert whole.messages == (QUESTION, call, result, say("words", Role.ASSISTANT), QUESTION)
    only = await memory.extend(request(QUESTION, ref[0]), "d")
    assert only.messages == (QUESTION,)
    for name in (f"x_{calling.id}", "x", f"x_{'0' * 24}0000", f"x_{words.id}0001", f"x_{words.id}-001"):
        with pytest.raises(UnknownItem):
            await memory.extend(request(Message(role=Role.ASSISTANT, parts=(ItemRef(id=name),))), "d")


@pytest.mark.parametrize("kept", [True, False])
async def test_kept_conversations(memory: Memory, store: Store, kept: bool) -> None:
    await store.conversations.add(ConversationRow(id="k", owner="a", created=1, expires=2e10))
    for number in range(2):
        asked = request(say(f"q{number}"), conversation="k", keep=kept, container=Container())
        whole = await memory.extend(asked, "d")
        record = await keep(memory, [Housed(container="c"), *answer(f"a{number}")], asked)
    assert texts(whole) == [("user", "q0"), ("assistant", "a0"), ("user", "q1")]
    assert whole.container == Container(seen=("c",))
    assert whole.conversation is None
    assert (await store.answers.get("a", record.id) is not None) == kept
    for owner, name in (("b", "k"), ("a", "other")):
        with pytest.raises(UnknownItem):
            await memory.extend(request(conversation=name, owner=owner), "d")


async def test_a_conversation_that_is_deleted_meanwhile(memory: Memory, store: Store) -> None:
    await store.conversations.add(ConversationRow(id="k", owner="a", created=1, expires=2e10))
    record, gate = begin(memory, request(conversation="k")), asyncio.Event()
    events = memory.tape(record, played([*answer()[:-1], gate, STOP]))
    await anext(events)
    await store.conversations.delete("a", "k")
    gate.set()
    last = [event async for event in events][-1]
    assert isinstance(last, Failed)
    assert isinstance(last.error, UnknownItem)


async def test_a_conversation_that_is_deleted_while_nobody_waits(memory: Memory, store: Store) -> None:
    await store.conversations.add(ConversationRow(id="k", owner="a", created=1, expires=2e10))
    record, gate = begin(memory, request(conversation="k", background=True)), asyncio.Event()
    await memory.play(record, played([gate, *answer()]))
    await store.conversations.delete("a", "k")
    gate.set()
    *_, last = [event async for event in memory.follow(record)]
    for event in (last, (await memory.find("a", record.id)).events[-1]):
        assert isinstance(event, Failed)
        assert isinstance(event.error, UnknownItem)


async def test_a_call_that_was_cut_off_is_left_out(memory: Memory) -> None:
    events: list[Event] = [
        TurnStarted(turn=0, model="m"),
        TextDelta(text="Let me."),
        CallOpened(call="f1", name="weather"),
        CallReady(call="f1", arguments="{}"),
        CallOpened(call="f2", name="weather"),
        CallReady(call="f2", arguments='{"ci'),
        TurnEnded(turn=0, model="m", finish=Finish.LENGTH),
        Finished(finish=Finish.LENGTH),
    ]
    record = await keep(memory, events)
    result = Message(role=Role.TOOL, parts=(CallResult(call="f1", text="sunny"),))
    whole = await memory.extend(request(result, previous=record.id), "d")
    assert whole.messages[1].parts == (Text(text="Let me."), Call(id="f1", name="weather", arguments="{}"))
    assert whole.messages[2:] == (result,)


async def test_code_comes_back_as_calls_and_results(memory: Memory) -> None:
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
    record = await keep(memory, events)
    result = Message(role=Role.TOOL, parts=(CallResult(call="f1", text="sunny"),))
    whole = await memory.extend(request(result, previous=record.id), "d")
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
        await memory.extend(request(previous=record.id), "d")
    stranger = Message(role=Role.TOOL, parts=(CallResult(call="f2", text="x"),))
    with pytest.raises(BadRequest, match="no function call 'f2'"):
        await memory.extend(request(result, stranger, previous=record.id), "d")


async def test_what_cannot_be_gone_on_from(memory: Memory) -> None:
    failed = await keep(memory, [*answer()[:2], Failed(error=UpstreamError("it broke"))])
    with pytest.raises(BadRequest, match="it broke"):
        await memory.extend(request(previous=failed.id), "d")
    with pytest.raises(BadRequest, match="still being written"):
        await memory.extend(request(previous=begin(memory).id), "d")
    with pytest.raises(UnknownItem):
        await memory.extend(request(previous="nope"), "d")
    kept = await keep(memory, answer())
    with pytest.raises(UnknownItem):
        await memory.extend(request(previous=kept.id, owner="b"), "d")


# --- in the background ------------------------------------------------------------------------------------------------


async def test_an_answer_is_followed_while_it_is_written(memory: Memory) -> None:
    gate = asyncio.Event()
    events = answer()
    record = begin(memory, request(background=True))
    await memory.play(record, played([*events[:2], gate, *events[2:]]))
    follower = memory.follow(record)
    assert [await anext(follower) for _ in range(3)] == [Accepted(), *events[:2]]
    assert record.answer.text == "answer"
    assert not record.ended
    gate.set()
    assert [event async for event in follower] == events[2:]
    assert [event async for event in memory.follow(record)] == [Accepted(), *events]
    await memory.close()


async def test_cancelling(memory: Memory) -> None:
    closed: list[bool] = []

    async def endless() -> AsyncGenerator[Event, None]:
        try:
            yield TurnStarted(turn=0, model="m")
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    record = begin(memory, request(background=True))
    await memory.play(record, endless())
    follower = memory.follow(record)
    assert isinstance(await anext(follower), Accepted)
    assert isinstance(await anext(follower), TurnStarted)
    await memory.cancel(record)
    last = await anext(follower)
    assert isinstance(last, Failed)
    assert isinstance(last.error, Cancelled)
    assert closed == [True]
    await memory.cancel(record)  # once more changes nothing
    assert len(record.events) == 3
    with pytest.raises(BadRequest, match="background"):
        await memory.cancel(await keep(memory, answer()))


async def test_cancelling_ends_though_who_asked_for_it_goes(
    memory: Memory, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping, may_save, save = asyncio.Event(), asyncio.Event(), store.answers.save

    async def slow(row: Any) -> bool:
        stopping.set()
        await may_save.wait()
        return await save(row)

    record = begin(memory, request(background=True))
    await memory.play(record, played([asyncio.Event()]))
    monkeypatch.setattr(store.answers, "save", slow)
    asking = [asyncio.create_task(memory.cancel(record)) for _ in range(2)]
    await stopping.wait()
    asking[0].cancel()
    may_save.set()
    await asyncio.gather(*asking, return_exceptions=True)
    assert [type(event) for event in record.events] == [Accepted, Failed]
    assert isinstance((await memory.find("a", record.id)).answer.error, Cancelled)


async def test_deleting_ends_it(memory: Memory) -> None:
    record = begin(memory, request(background=True))
    await memory.play(record, played([asyncio.Event()]))
    await memory.delete("a", record.id, "d")
    assert record.ended
    assert record.task is not None
    assert record.task.done()


async def test_closing_ends_everything(memory: Memory) -> None:
    records = [begin(memory, request(background=True)) for _ in range(3)]
    for record in records:
        await memory.play(record, played([asyncio.Event()]))
    await memory.close()
    for record in records:
        last = record.events[-1]
        assert isinstance(last, Failed)
        assert isinstance(last.error, ShuttingDown)
    found = await memory.find("a", records[0].id)
    assert isinstance(found.answer.error, ShuttingDown)


async def test_half_of_them_is_left_to_others(store: Store) -> None:
    memory = over(store, most_running=4)
    for owner in ("a", "a", "b"):
        await memory.play(begin(memory, request(background=True, owner=owner)), played([asyncio.Event()]))
    with pytest.raises(AtCapacity):
        await memory.play(begin(memory, request(background=True, owner="a")), played(answer()))
    await memory.play(begin(memory, request(background=True, owner="b")), played([asyncio.Event()]))
    with pytest.raises(AtCapacity):
        await memory.play(begin(memory, request(background=True, owner="c")), played(answer()))
    await memory.close()


async def test_there_are_only_so_many(store: Store) -> None:
    memory = over(store, most_running=1)
    await memory.play(begin(memory, request(background=True)), played([asyncio.Event()]))
    refused = begin(memory, request(background=True))
    events = played(answer())
    with pytest.raises(AtCapacity):
        await memory.play(refused, events)
    with pytest.raises(UnknownItem):
        await memory.find("a", refused.id)
    await memory.close()
