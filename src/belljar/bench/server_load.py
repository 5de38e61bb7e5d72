"""The load of `belljar bench server`, as a process of its own: clients that ask again as soon as they have an answer.

Started as `python -m belljar.bench.server_load`; a line of JSON on standard input is a Work, one on standard output its
Result. It ends with its standard input.

Promises: every request that was begun is counted once, as answered or as failed with its reason; an answer counts only
when it is right (server_answer). Connections are kept alive, and opened before the clock starts. Times are taken when
bytes arrive, before they are looked at.
Not covered: TLS, HTTP/2, answers that end with the connection.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from typing import cast

import httptools
import msgspec
import uvloop

from belljar.bench.server_answer import SHOWN, Answer, Step
from belljar.bench.server_wires import WIRES

PATIENCE = 10.0  # seconds after which an answer is given up
AFTER_FAULT = 0.01  # seconds until a client whose request failed asks again
MOST_REASONS = 20
OTHER = "other reasons"

clock = time.perf_counter


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """A load. Each client goes through `steps`, one after the other on one connection, pauses, and does it again, until
    `seconds` are over; it asks once at least. Times in seconds.
    """

    host: str
    port: int
    steps: list[Step]
    stream: bool
    clients: int
    seconds: float
    pause: float = 0.0
    patience: float = PATIENCE


class Result(msgspec.Struct, kw_only=True):
    """What came of it. `total`, and `first` until the first text of a streamed answer, are of right answers only, in
    seconds; `seconds` from the first request to the last answer; `failures` counts the others by reason.
    """

    total: list[float] = []
    first: list[float] = []
    failures: dict[str, int] = {}
    seconds: float = 0.0
    cpu_ms: float = 0.0

    def fail(self, reason: str, count: int = 1) -> None:
        """Count failed requests; of very many reasons, the later ones as one."""
        if reason not in self.failures and len(self.failures) >= MOST_REASONS:
            reason = OTHER
        self.failures[reason] = self.failures.get(reason, 0) + count


class Wrong(Exception):
    """A request has failed; the message says how."""


class _Connection(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self) -> None:
        self.open = False
        self.ended = 0.0
        self._spoiled = ""  # bytes came that nobody asked for: the next request fails for it
        self._now = 0.0
        self._answer: Answer | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None

    async def ask(self, request: bytes, answer: Answer) -> None:
        """Returns when the answer is complete and right. Raises Wrong."""
        if self._transport is None or self._spoiled or not self.open:
            raise Wrong(self._spoiled or "the connection was closed")
        self._answer = answer
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._waiter

    @property
    def usable(self) -> bool:
        """Whether the next request may go here: it is open, or the request must fail for what came."""
        return self.open or bool(self._spoiled)

    def close(self) -> None:
        """Drop it, whatever it does."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.open = cast(asyncio.Transport, transport), True  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._now = clock()
        if self._waiter is None:
            self._spoiled = f"bytes after the end of an answer: {data[:SHOWN]!r}"
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"not HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self._end("the connection was cut before the answer was complete")

    def on_body(self, body: bytes) -> None:
        if self._answer is not None:
            self._answer.feed(body, self._now)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or self._answer is None:
            return
        self.ended = self._now
        self.open = self.open and bool(self._parser.should_keep_alive())
        self._end(self._answer.fault(status))

    def _end(self, fault: str) -> None:
        waiter, self._waiter, self._answer = self._waiter, None, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(Wrong(fault)) if fault else waiter.set_result(None)


class _Load:
    """One Work at work."""

    def __init__(self, work: Work) -> None:
        self.result = Result()
        self._work = work
        self._requests = [(_request(work, step), step) for step in work.steps]
        self._last = 0.0
        self._until = 0.0

    async def run(self) -> Result:
        work, before = self._work, time.process_time()
        connections = await asyncio.gather(*(self._maybe_connect() for _ in range(work.clients)))
        start = self._last = clock()
        self._until = start + work.seconds
        tasks = [asyncio.create_task(self._client(connection)) for connection in connections]
        _, late = await asyncio.wait(tasks, timeout=work.seconds + work.patience)
        if late:
            self._last = clock()
            self.result.fail(f"no answer within {work.patience:g} s", len(late))
            for task in late:
                task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
        self.result.seconds = self._last - start
        self.result.cpu_ms = (time.process_time() - before) * 1000
        return self.result

    async def _maybe_connect(self) -> _Connection | None:
        """None where the server cannot be reached: the client's first request will tell."""
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                _Connection, self._work.host, self._work.port
            )
        except OSError:
            return None
        return connection

    async def _client(self, connection: _Connection | None) -> None:
        try:
            while True:
                try:
                    if connection is None or not connection.usable:
                        connection = await self._maybe_connect()
                    await self._converse(connection)
                except Wrong as fault:
                    self.result.fail(str(fault))
                    if connection is not None:
                        connection.close()
                        connection = None
                    await asyncio.sleep(AFTER_FAULT)
                if clock() >= self._until:
                    return
                if self._work.pause:
                    await asyncio.sleep(self._work.pause)
        finally:
            if connection is not None:
                connection.close()

    async def _converse(self, connection: _Connection | None) -> None:
        """The steps, once. Raises Wrong."""
        if connection is None:
            raise Wrong("the server could not be reached")
        start, first = clock(), None
        try:
            for request, step in self._requests:
                answer = Answer(step, stream=self._work.stream)
                await connection.ask(request, answer)
                first = first or answer.first
        finally:
            self._last = max(self._last, clock())
        self.result.total.append(connection.ended - start)
        if first is not None:
            self.result.first.append(first - start)


def _request(work: Work, step: Step) -> bytes:
    way = WIRES[step.wire].way(stream=work.stream)
    body = msgspec.json.encode({**step.body, **way.fields})
    more = "".join(f"{name}: {value}\r\n" for name, value in way.headers.items())
    head = (
        f"POST {way.path} HTTP/1.1\r\nhost: {work.host}:{work.port}\r\ncontent-type: application/json\r\n"
        f"accept: */*\r\nuser-agent: belljar-bench\r\n{more}content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def run(work: Work) -> Result:
    """Do it, and say what came of it. It takes at most `seconds` and `patience` of the work. Raises nothing."""
    return await _Load(work).run()


def main() -> None:
    """Work by lines, one after the other."""
    gc.disable()  # between two works, not while one is timed
    decode = msgspec.json.Decoder(Work).decode
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin.buffer:
            result = runner.run(run(decode(line)))
            sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
            sys.stdout.buffer.flush()
            gc.collect()


if __name__ == "__main__":
    main()
