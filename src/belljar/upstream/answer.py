"""One answer of an upstream on its way: bytes of a response, as events.

Promises: one timer a turn watches all waits; while nobody asks for more, no time-out runs but that of the whole turn;
an answer that is over gives its connection back, any other closes it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

import aiohttp
import msgspec

from belljar.dialects.upstream_chat import Blame, StreamReader, read_body
from belljar.errors import UpstreamError, UpstreamTimeout
from belljar.events import TurnEnded, TurnEvent, TurnStarted
from belljar.model import Request
from belljar.sse import SSEError, SSEReader

LINGER_SECONDS = 0.5  # after [DONE], for the end of the response, so that its connection can be kept
HEAD_BYTES = 80
# What a body may call itself; some servers say nothing. Anything else is no answer to our question.
STREAM_TYPES = {"text/event-stream"}
VAGUE_TYPES = {"", "text/plain", "application/octet-stream"}
JSON_TYPE = "application/json"


class Limits(Protocol):
    """Seconds: see client.Timeouts."""

    @property
    def first(self) -> float:
        """To the first byte."""

    @property
    def idle(self) -> float:
        """Between bytes."""

    @property
    def turn(self) -> float:
        """For everything."""


class Trouble(Exception):
    """An error, and whether it may pass when the same is asked again; `stale`: the kept connection was just too old."""

    def __init__(self, error: UpstreamError, *, again: bool = False, stale: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.again = again
        self.stale = stale


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked: `model` is the name in the events, `thinks` says that the answer begins inside `<think>`."""

    request: Request
    model: str
    number: int
    thinks: bool = False


class Answer:
    """The answer to one try. `begin` takes the response, `more` gives events until it gives none, `close` ends it."""

    def __init__(self, asked: Asked, blame: Blame, limits: Limits, max_bytes: int, among: set[Answer]) -> None:
        """`among` are those that have not ended, with this one until it has."""
        among.add(self)
        self._among = among
        self._asked = asked
        self._blame = blame
        self._limits = limits
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()
        self._began = time.perf_counter()
        self._prompt_seconds: float | None = None
        self._response: aiohttp.ClientResponse | None = None
        self._reader: StreamReader | None = None
        self._sse = SSEReader()
        self._bytes = 0
        self._head = b""  # its first bytes, to quote where it is no answer
        self._over = False
        self._failed: Trouble | None = None
        self._deadline: float | None = None  # of the read that is waited for
        self._ends = self._loop.time() + limits.turn
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, response: aiohttp.ClientResponse) -> None:
        """The head has come, with status 200. Raises Trouble for a body that can be no answer."""
        self._response = response
        asked = self._asked
        if self._streams(response.headers.get("content-type", "")):
            self._reader = StreamReader(
                asked.request, asked.model, asked.number, thinks=asked.thinks, blame=self._blame
            )
        if self._reader is not None or not response.content.is_eof():  # else there is nothing to wait for
            self._deadline = self._loop.time() + self._limits.first
            self._watch()

    def close(self) -> None:
        """End it. An answer that is over gives its connection back as soon as the response has ended."""
        content = self._response.content if self._response is not None else None
        if content is None or content.is_eof() or content.exception() or not self._over:
            self.drop()
            return
        self._stop()
        self._timer = self._loop.call_later(LINGER_SECONDS, self.drop)  # if it ends before, it is released by then

    def drop(self) -> None:
        """End it at once."""
        self._stop()
        self._among.discard(self)
        response, self._response = self._response, None
        if response is not None:
            response.close()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def more(self) -> list[TurnEvent]:
        """The next events; none when the answer is over. What came before an error is given first. Raises Trouble."""
        if self._failed is not None:
            raise self._failed
        if self._over:
            return []
        try:
            return await (self._whole() if self._reader is None else self._batch(self._reader))
        except UpstreamError as error:
            raise Trouble(error) from None

    # reading

    def _streams(self, content_type: str) -> bool:
        """Whether the body is a stream of events. What it says of itself counts more than what was asked for."""
        media_type = content_type.partition(";")[0].strip().lower()
        if media_type in STREAM_TYPES:
            return True
        if media_type in VAGUE_TYPES:
            return self._asked.request.stream
        if media_type == JSON_TYPE or media_type.endswith("+json"):
            return False
        raise Trouble(self._blame.broken(f"answered with {media_type}, which is no chat completion: is its URL right?"))

    async def _whole(self) -> list[TurnEvent]:
        pieces = []
        while chunk := await self._read():
            pieces.append(chunk)
            if self._response is not None and self._response.content.at_eof():
                break
        self._over = True
        asked, seconds = self._asked, time.perf_counter() - self._began
        return read_body(
            b"".join(pieces),
            asked.request,
            asked.model,
            asked.number,
            thinks=asked.thinks,
            blame=self._blame,
            seconds=seconds,
        )

    async def _batch(self, reader: StreamReader) -> list[TurnEvent]:
        events: list[TurnEvent] = []
        while not events and not self._over:
            try:
                await self._step(reader, events)
            except (Trouble, UpstreamError) as error:
                trouble = error if isinstance(error, Trouble) else Trouble(error)
                if not events:
                    raise trouble from None
                self._failed = trouble
        if self._prompt_seconds is None and not all(isinstance(event, TurnStarted | TurnEnded) for event in events):
            self._prompt_seconds = time.perf_counter() - self._began
        return events

    async def _step(self, reader: StreamReader, events: list[TurnEvent]) -> None:
        """Take in the next bytes."""
        try:
            chunk = await self._read()
        except Trouble:
            if reader.finish is None:
                raise
            self._end(reader, events)  # all was said, and only the end of the stream is missing
            return
        try:
            for event in self._sse.feed(chunk) if chunk else self._sse.end():
                events += reader.feed(event.data)
                if reader.done:
                    break
        except SSEError as error:
            raise Trouble(self._blame.broken(f"sent {error}")) from None
        if reader.done or not chunk:
            self._end(reader, events)

    def _end(self, reader: StreamReader, events: list[TurnEvent]) -> None:
        if not reader.done and reader.finish is None:
            raise Trouble(self._cut() if reader.started else self._nothing(), again=True)
        self._over = True
        now = time.perf_counter()
        if self._prompt_seconds is None:
            self._prompt_seconds = now - self._began
        events += reader.end(prompt_seconds=self._prompt_seconds, seconds=now - self._began)

    def _nothing(self) -> UpstreamError:
        return self._blame.broken(f"ended its stream without an answer: {self._head.decode('utf-8', 'replace')!r}")

    def _cut(self) -> UpstreamError:
        return self._blame.broken("broke off in the middle of its answer")

    async def _read(self) -> bytes:
        """The next bytes, empty at the end. Raises Trouble."""
        response = self._response
        if response is None:
            raise Trouble(self._blame.broken("was closed in the middle of its answer"))
        if self._deadline is None:
            self._deadline = self._loop.time() + self._limits.idle
        try:
            chunk = await response.content.readany()
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            raise self._read_trouble(error) from None
        finally:
            self._deadline = None
        if not self._bytes:
            self._head = chunk[:HEAD_BYTES]
        self._bytes += len(chunk)
        if self._bytes > self._max_bytes:
            raise Trouble(self._blame.broken(f"sent an answer of more than {self._max_bytes:,} bytes"))
        return chunk

    def _read_trouble(self, error: Exception) -> Trouble:
        if isinstance(error, TimeoutError):
            return Trouble(UpstreamTimeout(f"{self._blame.who} {error}"))
        return Trouble(self._cut(), again=True)

    # the one timer

    def _watch(self) -> None:
        now = self._loop.time()
        late = self._deadline is not None and now >= self._deadline
        if late or now >= self._ends:
            self._expire(late)
            return
        soon = now + min(self._limits.idle, self._limits.first)
        self._timer = self._loop.call_at(min(soon, self._deadline or soon, self._ends), self._watch)

    def _expire(self, idle: bool) -> None:
        """Fails the read that waits now, or the next one."""
        self._timer = None
        limit = self._limits.first if not self._bytes else self._limits.idle
        silent = f"sent nothing for {limit:g} seconds"
        endless = f"did not finish its answer within {self._limits.turn:g} seconds"
        if self._response is not None:
            self._response.content.set_exception(TimeoutError(silent if idle else endless))


async def read_all(response: aiohttp.ClientResponse, blame: Blame, most: int, *, cut: bool = False) -> bytes:
    """A whole body of at most so many bytes; `cut` leaves the rest unread, else it is an error. Raises Trouble."""
    pieces, size = [], 0
    try:
        while chunk := await response.content.readany():
            pieces.append(chunk)
            size += len(chunk)
            if size > most and cut:
                break
            if size > most:
                raise Trouble(blame.broken(f"sent more than {most:,} bytes"))
    except (aiohttp.ClientError, ConnectionError):
        raise Trouble(blame.broken("broke off in the middle of its answer"), again=True) from None
    return b"".join(pieces)[:most]
