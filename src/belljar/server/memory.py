"""Answers that are kept: to be asked for again, to be gone on from, to be written while nobody waits.

Promises: an answer is seen by its owner alone, and through the dialect that it was asked in; it is in the store before
its client is told that it is complete, so that a restart loses none; what is asked for again is written from the same
events as the first time; an answer whose server has ended is told to have failed; closing ends every answer that is
still being written. What is written now is held in memory, everything else is the store's, which bounds it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import msgspec
from msgspec.structs import replace

from belljar.dialects.base import Dialect, Incoming, KeepingDialect, Start, write_json
from belljar.errors import AtCapacity, BadRequest, BelljarError, Cancelled, HostError, ShuttingDown, UnknownItem
from belljar.events import Accepted, Answer, CallClosed, Event, Failed, Finished, Fold, Housed
from belljar.model import Container, ItemRef, Message, Request, Role
from belljar.packing import pack, squeeze, unpack, unsqueeze
from belljar.server.recall import check_results, messages_of, shown_items
from belljar.store.rows import AnswerRow
from belljar.store.store import Store

LIFETIME = 30 * 24 * 3600.0  # seconds
MOST_RUNNING = 256  # answers that are written while nobody waits
LEASE = 30.0  # seconds for which a server says that it lives; it says so three times as often
LOOK_SECONDS = 0.5  # between looks at an answer that another server writes
LARGE = 64 << 10  # bytes that take long enough to be read to keep others waiting
FEW_BYTES = 200  # that an event is reckoned at
KEY_DIGITS = 24  # of an id of an answer; ids of its items go on with their place
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A request as it came: what is kept of it."""

    dialect: str
    incoming: Incoming
    start: Start

    @property
    def key(self) -> str:
        """What tells its answer from others."""
        return key_of(self.start.request_id)


@dataclass(kw_only=True, eq=False, slots=True)
class Record:
    """A kept answer, or one that is being written. `request` is as its dialect read it."""

    asked: Asked
    request: Request
    expires: float
    events: list[Event] = field(default_factory=list)
    ended: bool = False
    task: asyncio.Task[None] | None = None  # writes it, where nobody waits
    ending: asyncio.Task[None] | None = None  # ends it before its time
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def id(self) -> str:
        """What its names in all dialects end in."""
        return self.asked.key

    @property
    def owner(self) -> str:
        """Whose it is."""
        return self.request.owner

    @property
    def start(self) -> Start:
        """What its writers are told."""
        return self.asked.start

    @property
    def answer(self) -> Answer:
        """What there is of it."""
        fold = Fold()
        for event in self.events:
            fold.add(event)
        return fold.answer

    @property
    def container(self) -> str | None:
        """The container that its code ran in."""
        return next((event.container for event in self.events if isinstance(event, Housed)), None)

    def add(self, event: Event) -> None:
        """Take in the next event, and wake those who follow."""
        self.events.append(event)
        self.ended = self.ended or isinstance(event, Finished | Failed)
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def as_row(self, *, is_stored: bool = False) -> AnswerRow:
        """The same for the store; one that is there already (`Answers.save`) needs no body."""
        incoming = self.asked.incoming
        return AnswerRow(
            id=self.id,
            owner=self.owner,
            dialect=self.asked.dialect,
            created=self.start.created,
            expires=self.expires,
            path=incoming.path,
            body=b"" if is_stored else squeeze(incoming.body),
            previous=key_of(self.request.previous) if self.request.previous else None,
            conversation=self.request.conversation,
            container=self.container,
            events=pack(self.events) if self.ended else b"",
            ended=self.ended,
            lease=0.0 if self.ended else time.time() + LEASE,
        )


class Memory:
    """All kept answers of a server. Use it inside one event loop."""

    def __init__(
        self,
        store: Store,
        dialects: Mapping[str, Dialect],
        lifetime: float = LIFETIME,
        *,
        most_running: int = MOST_RUNNING,
    ) -> None:
        """`dialects` read again what was kept; `lifetime` in seconds."""
        self._store, self._dialects, self._lifetime = store, dialects, lifetime
        self._most_running = most_running
        self._live: dict[str, Record] = {}  # those that are written now
        self._tasks: set[asyncio.Task[None]] = set()
        self._renewal: asyncio.Task[None] | None = None

    # --- what is there ---

    async def find(self, owner: str, identity: str, dialect: str | None = None) -> Record:
        """A kept answer, by the name that its client knows. Raises UnknownItem."""
        record = self._live.get(key_of(identity))
        if record is None or record.owner != owner or not record.request.keep:
            row = await self._store.answers.get(owner, key_of(identity))
            (record,) = await self._records([row]) if row is not None else (None,)
        if record is None or dialect not in (None, record.asked.dialect):
            raise UnknownItem(f"there is no {identity[:80]!r} here; it may have expired", item=identity)
        return record

    async def extend(self, request: Request, dialect: str) -> Request:
        """The request with all that it goes on from in front. Raises UnknownItem, BadRequest."""
        messages, seen = await self._with_items(request, dialect)
        before: tuple[Message, ...] = ()
        if request.previous is not None:
            for record in await self._chain(request, dialect):
                asked = replace(record.request, messages=self._keeping(dialect).carry(record.request))
                earlier, others = await self._with_items(asked, dialect)
                before += (*earlier, *messages_of(record.answer))
                seen += [*others, *([record.container] if record.container else [])]
        if request.conversation is not None:
            rows, container = await self._conversation(request)
            before += self._keeping(dialect).read_items(rows)
            seen += [container] if container else []
        if not before and not seen and messages is request.messages:
            return request
        check_results(before, messages)
        system = [message for message in messages if message.role is Role.SYSTEM] if before else []
        rest = [message for message in messages if message.role is not Role.SYSTEM] if before else messages
        return replace(
            request,
            messages=(*system, *before, *rest),
            previous=None,
            conversation=None,
            container=_used(request.container, seen),
        )

    async def _chain(self, request: Request, dialect: str) -> list[Record]:
        """The answers that a request goes on from, the first one first."""
        assert request.previous is not None
        last = await self.find(request.owner, request.previous, dialect)
        if not last.ended:
            raise BadRequest(f"{request.previous!r} is still being written: wait for it, or cancel it")
        if (error := last.answer.error) is not None:
            raise BadRequest(f"{request.previous!r} has no answer to go on from: {error}")
        try:
            rows = await self._store.answers.chain(request.owner, key_of(request.previous))
        except UnknownItem as error:
            raise UnknownItem(str(error), item=request.previous) from None
        await self._store.answers.touch([row.id for row in rows], time.time() + self._lifetime)
        return await self._records(rows)

    async def _conversation(self, request: Request) -> tuple[list[Mapping[str, object]], str | None]:
        """The items of a kept conversation, and the container that it has used last. Raises UnknownItem."""
        assert request.conversation is not None
        identity = request.conversation
        found = await self._store.conversations.get(request.owner, identity)
        if found is None:
            raise UnknownItem(f"there is no conversation {identity[:80]!r} here; it may have expired", item=identity)
        return await read_all(self._store, request.owner, identity), found.container

    async def _with_items(self, request: Request, dialect: str) -> tuple[tuple[Message, ...], list[str]]:
        """The messages with what the model said in the place of references to it, and the containers that the code of
        those answers ran in. Raises UnknownItem.
        """
        if not any(isinstance(part, ItemRef) for message in request.messages for part in message.parts):
            return request.messages, []
        names: dict[str, dict[int, str]] = {}  # of the items of each answer, by their places
        for message in request.messages:
            for part in message.parts:
                if isinstance(part, ItemRef):
                    key, place = _place(part.id)
                    names.setdefault(key, {})[place] = part.id
        said: dict[str, tuple[Message, ...]] = {}
        seen: list[str] = []
        for key, wanted in names.items():
            try:
                record = await self.find(request.owner, f"_{key}", dialect)
            except UnknownItem:
                raise _no_item(next(iter(wanted.values()))) from None
            answer = record.answer
            if beyond := [name for place, name in wanted.items() if not 0 <= place < len(shown_items(answer))]:
                raise _no_item(beyond[0])
            said[key] = messages_of(answer, wanted)
            seen += [record.container] if record.container else []
        messages: list[Message] = []
        for message in request.messages:
            refs = [part for part in message.parts if isinstance(part, ItemRef)]
            for part in refs:  # the first of an answer's items stands for all of them, as they come in their order
                messages += said.pop(_place(part.id)[0], ())
            if rest := tuple(part for part in message.parts if not isinstance(part, ItemRef)):
                messages.append(replace(message, parts=rest) if refs else message)
        return tuple(messages), seen

    async def _records(self, rows: Sequence[AnswerRow]) -> list[Record]:
        """Kept answers from the store. Large ones are read where nobody waits for it."""

        def read() -> list[Record]:
            return [self._record(row) for row in rows]

        return read() if sum(row.size for row in rows) < LARGE else await asyncio.to_thread(read)

    def _record(self, row: AnswerRow) -> Record:
        """A kept answer from the store."""
        start = Start(request_id=f"req_{row.id}", created=int(row.created))
        incoming = Incoming(method="POST", path=row.path, body=unsqueeze(row.body), owner=row.owner)
        asked = Asked(dialect=row.dialect, incoming=incoming, start=start)
        request = replace(self._dialects[row.dialect].read_request(incoming), owner=row.owner)
        record = Record(asked=asked, request=request, expires=row.expires, ended=row.ended)
        if row.ended:
            record.events = unpack(row.events)
        elif row.lease < time.time():
            record.add(Failed(error=HostError("the server was ended while it wrote this answer")))
        return record

    def _keeping(self, dialect: str) -> KeepingDialect:
        return cast(KeepingDialect, self._dialects[dialect])

    # --- keeping ---

    def _is_crowded(self, owner: str) -> bool:
        """Whether nothing more can be written in the background, for this owner: a half is left to the others."""
        if len(self._tasks) >= self._most_running:
            return True
        own = sum(record.owner == owner and record.task is not None for record in self._live.values())
        return bool(owner) and own >= max(1, self._most_running // 2)

    def open(self, asked: Asked, request: Request) -> Record:
        """Begin to keep an answer. It ends in `tape` or `play`."""
        record = Record(asked=asked, request=request, expires=time.time() + self._lifetime)
        self._live[record.id] = record
        return record

    async def tape(self, record: Record, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """The events, kept as they pass, the last when it is stored. What its client does not wait for, what fails at
        once, and what is deleted meanwhile is not kept.
        """
        try:
            async with aclosing(events):
                async for event in events:
                    if self._live.get(record.id) is record:
                        event = await self._take(record, event)
                    yield event
        finally:
            if not record.ended:  # those who look on do not wait for ever
                record.add(Failed(error=Cancelled("its client did not wait for it")))
            self._forget(record)

    async def _take(self, record: Record, event: Event) -> Event:
        """The next event of an answer that its client waits for; what went wrong in the place of the last."""
        if isinstance(event, Finished) or (isinstance(event, Failed) and _says_something(record.events)):
            event = await self._end_with(record, event)
            if self._live.get(record.id) is not record:  # deleted just now
                await self._store.answers.delete(record.owner, record.id)
        else:
            record.add(event)
        return event

    async def play(self, record: Record, events: AsyncGenerator[Event, None]) -> None:
        """Let an answer be written while nobody waits; it is in the store when this returns. Raises AtCapacity."""
        try:
            if self._is_crowded(record.owner):
                raise AtCapacity("at capacity: too many answers are being written in the background")
            record.add(Accepted())
            await self._put(record, is_stored=False)
        except BaseException:
            self._forget(record)
            await events.aclose()
            raise
        record.task = task = asyncio.create_task(self._play(record, events))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._renew())

    async def _play(self, record: Record, events: AsyncGenerator[Event, None]) -> None:
        try:
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, Finished | Failed):
                        await self._end_with(record, event)
                        break
                    record.add(event)
        finally:
            if record.ended:
                self._forget(record)

    async def _end_with(self, record: Record, event: Finished | Failed) -> Event:
        """The last event of an answer, stored before it is shown; or what went wrong in its place."""
        whole = Record(asked=record.asked, request=record.request, expires=record.expires, events=list(record.events))
        whole.add(event)
        failed: Failed | None = None
        if record.request.conversation is not None and isinstance(event, Finished):
            failed = await _try(self._converse(whole))
            whole.events[-1] = failed or event
        if record.request.keep:
            failed = await _try(self._put(whole, is_stored=record.task is not None)) or failed
        record.add(failed or event)
        return failed or event

    async def _put(self, record: Record, *, is_stored: bool) -> None:
        """Store an answer. To pack a large one may take seconds: others are not to wait for that."""
        pack_row = partial(record.as_row, is_stored=is_stored)
        row = await asyncio.to_thread(pack_row) if _may_be_large(record) else pack_row()
        await (self._store.answers.save if is_stored else self._store.answers.add)(row)

    async def _converse(self, record: Record) -> None:
        """Add question and answer to the conversation that they belong to. Raises UnknownItem."""
        assert record.request.conversation is not None
        dialect = self._keeping(record.asked.dialect)

        def write() -> list[tuple[str, bytes]]:
            items = dialect.write_items(record.asked.incoming, record.answer, record.start)
            return [(item.id, write_json(item.body)) for item in items]

        await self._store.conversations.append(
            record.owner,
            record.request.conversation,
            await asyncio.to_thread(write),
            container=record.container,
            expires=record.expires,
        )

    async def follow(self, record: Record) -> AsyncGenerator[Event, None]:
        """All events of a kept answer from its beginning, as they come. Ends in one Finished or Failed."""
        while not record.ended and self._live.get(record.id) is not record:  # another server writes it
            await asyncio.sleep(LOOK_SECONDS)
            record = await self.find(record.owner, f"_{record.id}")
        seen = 0
        while True:
            changed = record.changed
            while seen < len(record.events):
                seen += 1
                yield record.events[seen - 1]
            if record.ended:
                return
            await changed.wait()

    async def _renew(self) -> None:
        """Say that this server lives, for as long as it writes anything that nobody waits for."""
        while self._tasks:
            await asyncio.sleep(LEASE / 3)
            running = [record.id for record in self._live.values() if record.task is not None and not record.ended]
            try:
                await self._store.answers.renew(running, time.time() + LEASE)
            except Exception:
                log.exception("the lease of %d answers could not be renewed", len(running))

    # --- ending ---

    async def cancel(self, record: Record) -> Record:
        """End an answer that is being written while nobody waits; how it stands now. Raises BadRequest: it is none."""
        if not record.request.background:
            raise BadRequest("only what runs in the background can be cancelled", code="failed_precondition")
        if not record.ended and record.task is None:
            raise BadRequest("another server writes this answer: cancel it there", code="failed_precondition")
        await self._end(record, Cancelled("cancelled by the client"))
        return record

    async def delete(self, owner: str, identity: str, dialect: str) -> None:
        """Forget an answer; one that is being written while nobody waits ends. Raises UnknownItem."""
        record = await self.find(owner, identity, dialect)
        await self._store.answers.delete(owner, record.id)
        await self._end(record, Cancelled("deleted by the client"))

    async def close(self) -> None:
        """End everything that is being written. Never raises."""
        for record in list(self._live.values()):
            await self._end(record, ShuttingDown("the server was stopped while it wrote this answer"))
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)
        self._live.clear()

    async def _end(self, record: Record, error: BelljarError) -> None:
        """End an answer before its time: once, and to the end, though who asks for it goes away."""
        if record.task is None:
            if not record.ended:
                record.add(Failed(error=error))
            self._forget(record)
            return
        if record.ending is None:
            record.ending = asyncio.create_task(self._stop(record, record.task, error))
        await asyncio.shield(record.ending)

    async def _stop(self, record: Record, task: asyncio.Task[None], error: BelljarError) -> None:
        task.cancel()
        await asyncio.wait([task])
        if not record.ended:
            await self._end_with(record, Failed(error=error))
        self._forget(record)

    def _forget(self, record: Record) -> None:
        if self._live.get(record.id) is record:
            del self._live[record.id]


def key_of(identity: str) -> str:
    """What tells a kept answer from others in the names that dialects give it: the part after the last "_"."""
    return identity.rpartition("_")[2]


def _says_something(events: Iterable[Event]) -> bool:
    """Whether a client has been shown anything of an answer that has failed."""
    return any(not isinstance(event, Housed | Failed) for event in events)


def _may_be_large(record: Record) -> bool:
    """Whether packing it is worth a thread: a large body, many events, or what code has shown."""
    if any(isinstance(event, CallClosed) for event in record.events):
        return True
    text = sum(FEW_BYTES + len(getattr(event, "text", "")) for event in record.events)
    return len(record.asked.incoming.body) + text > LARGE


async def _try(work: Awaitable[object]) -> Failed | None:
    """What went wrong in the store, if anything did."""
    try:
        await work
    except BelljarError as error:
        return Failed(error=error)
    except Exception:
        log.exception("an answer could not be kept")
        return Failed(error=HostError("the answer could not be kept; the server's log has why"))
    return None


def _place(identity: str) -> tuple[str, int]:
    """The answer that an item belongs to, and its place there. Raises UnknownItem."""
    key, place = key_of(identity)[:KEY_DIGITS], key_of(identity)[KEY_DIGITS:]
    try:
        return key, int(place, 16)
    except ValueError:
        raise _no_item(identity) from None


def _no_item(identity: str) -> UnknownItem:
    return UnknownItem(f"there is no item {identity[:80]!r} here; it may have expired", item=identity)


def _used(container: Container | None, seen: Iterable[str]) -> Container | None:
    """The container that is asked for, with those that the conversation has used before."""
    return None if container is None else replace(container, seen=(*seen, *container.seen))


async def read_all(store: Store, owner: str, conversation: str) -> list[Mapping[str, object]]:
    """All items of a conversation, the oldest first, as their dialect wrote them."""
    items: list[Mapping[str, object]] = []
    after, more = None, True
    while more:
        rows, more = await store.conversations.page(owner, conversation, after, 1000, True)
        items += [msgspec.json.decode(row.body) for row in rows]
        after = rows[-1].id if rows else None
        more = more and bool(rows)
    return items
