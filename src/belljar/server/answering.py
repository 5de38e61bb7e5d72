"""From events to a response: as a stream, frame by frame, or folded into one body.

Promises: nothing is sent before the first event is there, so that an early error has its own status; each event is sent
at once; a client that waits is sent heartbeats; closing the events is never forgotten, and the client does not wait for
it. An error after the first byte is written in the form that the dialect has for it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable

import msgspec

from belljar.dialects.base import Dialect, Reply, Start, Writer, write_json
from belljar.errors import BelljarError, ClientError
from belljar.events import Event, Failed, Finished, Fold
from belljar.model import Request
from belljar.server.exchange import Exchange
from belljar.server.metrics import Tally

ENDS = (Finished, Failed)
JSON = "application/json"
PATIENCE = 2  # heartbeats that a single body waits before it begins: from then on its status is 200


class Work(msgspec.Struct):
    """A request on its way: what has been found out about it."""

    exchange: Exchange
    tally: Tally
    dialect: Dialect | None = None
    request: Request | None = None
    writer: Writer | None = None
    count: Callable[[Work], None] | None = None  # to be called when the response is written, once

    def settle(self) -> None:
        """Count it, if that was not done yet."""
        count, self.count = self.count, None
        if count is not None:
            count(self)


def start_of(exchange: Exchange) -> Start:
    """What the writer of a new answer is told."""
    return Start(request_id=exchange.id, created=int(time.time()))


async def generate(
    work: Work,
    dialect: Dialect,
    request: Request,
    events: AsyncGenerator[Event, None],
    start: Start | None = None,
    *,
    again: bool = False,
) -> None:
    """Answer a request. `start` is that of a kept answer; one that is written `again` is not counted again.

    Raises BelljarError, for `fail` to write.
    """
    exchange = work.exchange
    work.request = request
    writer = work.writer = dialect.writer(request, start or start_of(exchange))
    exchange.watch()
    try:
        if request.stream:
            exchange.plan_beats(1, writer.heartbeat, writer.media_type)
            tally = Tally(dialect=dialect.name) if again else work.tally
            await _stream(exchange, tally, writer, events, known=again or request.background)
        else:
            exchange.plan_beats(PATIENCE, dialect.heartbeat, JSON)
            await _whole(exchange, work.tally, writer, events)
        work.settle()
    finally:
        await events.aclose()


async def fail(work: Work, error: BelljarError, *, closing: bool) -> None:
    """Write an error in the place of an answer, or of the rest of one. `closing`: the connection ends with it."""
    exchange = work.exchange
    await exchange.rest()
    if exchange.ended:
        return
    if exchange.started and work.writer is not None and work.tally.stream:
        await exchange.write(work.writer.write(Failed(error=error)), more=False)
        return
    reply = work.dialect.write_error(error, work.request, exchange.id) if work.dialect else plain_error(error)
    if closing:
        exchange.extra.append((b"connection", b"close"))
    await exchange.reply(reply)


def plain_error(error: BelljarError) -> Reply:
    """An error at a path that is no dialect's."""
    kind = "invalid_request_error" if isinstance(error, ClientError) else "server_error"
    headers = {} if error.retry_after is None else {"retry-after": f"{error.retry_after:.0f}"}
    body = write_json({"error": {"message": str(error), "type": kind}})
    return Reply(status=error.status, body=body, headers=headers)


async def _stream(
    exchange: Exchange, tally: Tally, writer: Writer, events: AsyncGenerator[Event, None], *, known: bool
) -> None:
    """`known`: the answer is kept already, so that its failure is part of it, not one of the request."""
    async for event in events:
        tally.see(event)
        if isinstance(event, Failed) and not exchange.has_begun and not known:
            raise event.error
        frames = writer.write(event)
        if isinstance(event, ENDS):
            await exchange.write(frames, more=False)
            return
        if frames:
            await exchange.write(frames, more=True)
    raise RuntimeError("the events ended without Finished or Failed")


async def _whole(exchange: Exchange, tally: Tally, writer: Writer, events: AsyncGenerator[Event, None]) -> None:
    fold = Fold()
    async for event in events:
        tally.see(event)
        fold.add(event)
        if isinstance(event, ENDS):
            break
    answer = fold.answer
    if answer.error is not None:
        raise answer.error
    if answer.finish is None:
        raise RuntimeError("the events ended without Finished or Failed")
    await exchange.reply(Reply(status=200, body=writer.fold(answer)))
