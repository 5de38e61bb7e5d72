"""Answers that are kept: to be asked for again, to be gone on from, to be written while nobody waits.

Promises: an answer is seen by its owner alone, and through the dialect that it was asked in; what is kept is bounded in
bytes and number, and expires: the oldest of whoever holds most goes first; what is asked for again is written from the
same events as the first time; closing ends every answer that is still being written. Not covered: what survives a
restart.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import msgspec

from belljar.dialects.base import Start
from belljar.errors import AtCapacity, BadRequest, BelljarError, Cancelled, ShuttingDown, UnknownItem
from belljar.events import Answer, CallItem, Event, Failed, Finished, Fold, Item, TextItem
from belljar.execution import Execution
from belljar.model import Call, CallResult, Image, Message, Part, Request, Role, Text
from belljar.partial import write_code

LIFETIME = 48 * 3600.0  # seconds
ROOM = 256 << 20  # bytes of all owners
MOST = 10_000  # answers of all owners
MOST_RUNNING = 256  # answers that are written while nobody waits
WEIGHT = 250  # bytes of an event or a part, beside its text
SEEN_IMAGES = ("image/png", "image/jpeg")  # of what code displayed: what models take
MOST_IMAGES = 4  # of one call, and none above this size
LARGEST_IMAGE = 4 << 20


@dataclass(kw_only=True, eq=False, slots=True)
class Record:
    """A kept answer. `request` is as its dialect read it; `messages` are the whole conversation before the answer."""

    id: str
    dialect: str
    request: Request
    messages: tuple[Message, ...]
    start: Start
    expires: float
    events: list[Event] = field(default_factory=list)
    ended: bool = False
    size: int = 0
    task: asyncio.Task[None] | None = None  # writes it, where nobody waits
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def owner(self) -> str:
        """Whose it is."""
        return self.request.owner

    @property
    def answer(self) -> Answer:
        """What there is of it."""
        fold = Fold()
        for event in self.events:
            fold.add(event)
        return fold.answer

    def add(self, event: Event) -> int:
        """Take in the next event, and wake those who follow; the bytes that it takes."""
        self.events.append(event)
        self.ended = self.ended or isinstance(event, Finished | Failed)
        weight = _weight(event)
        self.size += weight
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()
        return weight


class Memory:
    """All kept answers of a server."""

    def __init__(self, lifetime: float = LIFETIME, room: int = ROOM, most: int = MOST) -> None:
        """`lifetime` in seconds, `room` in bytes."""
        self._lifetime, self._room, self._most = lifetime, room, most
        self._records: dict[str, Record] = {}  # the oldest first
        self._held: dict[str, int] = {}  # owner -> bytes
        self._total = 0  # of all owners
        self._tasks: set[asyncio.Task[None]] = set()

    # --- what is there ---

    def find(self, owner: str, identity: str, dialect: str | None = None) -> Record:
        """A kept answer, by the name that its client knows. Raises UnknownItem."""
        self._sweep()
        record = self._records.get(key_of(identity))
        if record is None or record.owner != owner or dialect not in (None, record.dialect):
            raise UnknownItem(f"there is no {identity[:80]!r} here; it may have expired")
        return record

    def extend(self, request: Request) -> Request:
        """The request with the conversation that it goes on from in front. Raises UnknownItem, BadRequest."""
        if request.previous is None:
            return request
        record = self.find(request.owner, request.previous)
        if not record.ended:
            raise BadRequest(f"{request.previous!r} is still being written: wait for it, or cancel it")
        answer = record.answer
        if answer.error is not None:
            raise BadRequest(f"{request.previous!r} has no answer to go on from: {answer.error}")
        before = (*record.messages, *messages_of(answer))
        _check_results(before, request.messages)
        system = [message for message in request.messages if message.role is Role.SYSTEM]
        rest = [message for message in request.messages if message.role is not Role.SYSTEM]
        return msgspec.structs.replace(request, messages=(*system, *before, *rest), previous=None)

    # --- keeping ---

    def open(self, dialect: str, request: Request, whole: Request, start: Start) -> Record:
        """Begin to keep an answer: to `request`, whose conversation is that of `whole`."""
        self._sweep()
        messages = tuple(message for message in whole.messages if message.role is not Role.SYSTEM)
        record = Record(
            id=key_of(start.request_id),
            dialect=dialect,
            request=request,
            messages=messages,
            start=start,
            expires=time.time() + self._lifetime,
            size=sum(_weight(part) for message in messages for part in message.parts),
        )
        self._records[record.id] = record
        self._weigh(record, record.size)
        return record

    async def tape(self, record: Record, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """The events, kept as they pass. What its client does not wait for, and what fails at once, is not kept."""
        try:
            async with aclosing(events):
                async for event in events:
                    self._weigh(record, record.add(event))
                    if isinstance(event, Failed) and len(record.events) == 1:
                        self._drop(record)
                    yield event
        finally:
            if not record.ended:
                self._drop(record)

    def play(self, record: Record, events: AsyncGenerator[Event, None]) -> None:
        """Let an answer be written while nobody waits. Raises AtCapacity."""
        if len(self._tasks) >= MOST_RUNNING:
            self._drop(record)
            raise AtCapacity("at capacity: too many answers are being written in the background")
        record.task = task = asyncio.create_task(self._play(record, events))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _play(self, record: Record, events: AsyncGenerator[Event, None]) -> None:
        async with aclosing(events):
            async for event in events:
                self._weigh(record, record.add(event))
                if record.ended:
                    break

    async def follow(self, record: Record) -> AsyncGenerator[Event, None]:
        """All events of a kept answer from its beginning, as they come. Ends in one Finished or Failed."""
        seen = 0
        while True:
            changed = record.changed
            while seen < len(record.events):
                seen += 1
                yield record.events[seen - 1]
            if record.ended:
                return
            await changed.wait()

    # --- ending ---

    async def cancel(self, record: Record) -> None:
        """End an answer that is being written while nobody waits. Raises BadRequest: it is none, or is over."""
        if not record.request.background:
            raise BadRequest("only what runs in the background can be cancelled", code="failed_precondition")
        if not record.ended:
            await self._end(record, Cancelled("cancelled by the client"))

    async def delete(self, owner: str, identity: str, dialect: str) -> None:
        """Forget an answer; one that is being written ends. Raises UnknownItem."""
        record = self.find(owner, identity, dialect)
        await self._end(record, Cancelled("deleted by the client"))
        self._drop(record)

    async def close(self) -> None:
        """End everything that is being written, and forget all. Never raises."""
        for record in list(self._records.values()):
            await self._end(record, ShuttingDown("the server is stopping"))
        self._records.clear()
        self._held.clear()
        self._total = 0

    async def _end(self, record: Record, error: BelljarError) -> None:
        if record.task is not None and not record.task.done():
            record.task.cancel()
            await asyncio.gather(record.task, return_exceptions=True)
        if not record.ended:
            self._weigh(record, record.add(Failed(error=error)))

    # --- bounds ---

    def _weigh(self, record: Record, more: int) -> None:
        """Count bytes of a record, and make room. What was dropped in the meantime counts no more."""
        if self._records.get(record.id) is not record:
            return
        self._held[record.owner] = self._held.get(record.owner, 0) + more
        self._total += more
        while len(self._records) > self._most or self._total > self._room:
            oldest = self._oldest()
            if oldest is None:
                return
            self._drop(oldest)

    def _oldest(self) -> Record | None:
        """The oldest answer that is over, of the owner who holds most; else of anybody."""
        owner = max(self._held, key=lambda name: self._held[name])
        over = (record for record in self._records.values() if record.ended)
        first = next(over, None)
        if first is None or first.owner == owner:
            return first
        return next((record for record in over if record.owner == owner), first)

    def _drop(self, record: Record) -> None:
        if self._records.get(record.id) is not record:
            return
        del self._records[record.id]
        self._total -= record.size
        left = self._held.get(record.owner, 0) - record.size
        if left > 0:
            self._held[record.owner] = left
        else:
            self._held.pop(record.owner, None)

    def _sweep(self) -> None:
        now = time.time()
        for record in list(self._records.values()):
            if record.expires > now:
                break  # the others are younger
            if record.ended:
                self._drop(record)


def key_of(identity: str) -> str:
    """What tells a kept answer from others in the names that dialects give it: the part after the last "_"."""
    return identity.rpartition("_")[2]


# --- an answer as part of a conversation ------------------------------------------------------------------------------


def messages_of(answer: Answer) -> tuple[Message, ...]:
    """What a model said and was told in an answer; its reasoning is left out."""
    messages: list[Message] = []
    for _, group in groupby(answer.items, key=lambda item: item.turn):
        items = list(group)
        parts = tuple(_said(items))
        if parts:
            messages.append(Message(role=Role.ASSISTANT, parts=parts))
        messages += [Message(role=Role.TOOL, parts=(_result(item),)) for item in items if _was_told(item)]
    return tuple(messages)


def _said(items: Sequence[Item]) -> Iterator[Part]:
    for item in items:
        if isinstance(item, TextItem) and item.text:
            yield Text(text=item.text)
    for item in items:
        if isinstance(item, CallItem) and (not item.builtin or _was_told(item)):
            arguments = write_code(item.arguments) if item.builtin else item.arguments
            yield Call(id=item.call, name=item.name, arguments=arguments, builtin=item.builtin)


def _was_told(item: Item) -> bool:
    return isinstance(item, CallItem) and item.builtin and item.execution is not None


def _result(item: Item) -> CallResult:
    assert isinstance(item, CallItem)
    assert item.execution is not None
    return CallResult(call=item.call, text=item.text, images=_pictures(item.execution), builtin=True)


def _pictures(execution: Execution) -> tuple[Image, ...]:
    pictures = [
        Image(media_type=kind, data=result.data[kind])
        for result in execution.results
        for kind in SEEN_IMAGES
        if isinstance(result.data.get(kind), bytes) and len(result.data[kind]) <= LARGEST_IMAGE
    ]
    return tuple(pictures[-MOST_IMAGES:])


def _check_results(before: Sequence[Message], after: Sequence[Message]) -> None:
    """Raises BadRequest where the client leaves a call of its functions without result, or answers none that is."""
    calls = {part.id for m in before for part in m.parts if isinstance(part, Call) and not part.builtin}
    done = {part.call for m in before for part in m.parts if isinstance(part, CallResult)}
    given = {part.call for m in after for part in m.parts if isinstance(part, CallResult) and not part.builtin}
    own = {part.id for m in after for part in m.parts if isinstance(part, Call)}
    if missing := calls - done - given:
        raise BadRequest(f"the function call {min(missing)!r} has no result: send one", param="input")
    if strange := given - own - (calls - done):
        raise BadRequest(f"there is no function call {min(strange)[:80]!r} that waits for a result", param="input")


def _weight(value: Any) -> int:
    """About as many bytes as an event or a part of a message takes."""
    weight = WEIGHT
    for name in ("text", "arguments", "data"):
        content = getattr(value, name, None)
        weight += len(content) if isinstance(content, str | bytes) else 0
    for image in getattr(value, "images", ()):
        weight += len(image.data or b"")
    if getattr(value, "result", None) is not None:
        weight += _weight_of_data(value.result.data)
    if getattr(value, "output", None) is not None:
        weight += len(value.output.text)
    if getattr(value, "execution", None) is not None:
        execution = value.execution
        weight += len(execution.stdout) + len(execution.stderr)
        weight += sum(_weight_of_data(result.data) for result in execution.results)
    return weight


def _weight_of_data(data: Any) -> int:
    return sum(len(content) if isinstance(content, str | bytes) else WEIGHT for content in data.values())
