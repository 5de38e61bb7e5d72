"""One HTTP request and its response, on top of ASGI: what came, what was sent, and how it is ended from outside.

Promises: a body is read within bounds of size and time; `interrupt` cancels the task that answers and says why;
a client that goes away, or takes nothing for too long, is such an interruption; heartbeats never come between the
parts of one message. Not covered: what is answered.
"""

from __future__ import annotations

import asyncio
import os
import time
import zlib
from collections.abc import AsyncGenerator, Mapping, MutableMapping
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from belljar.dialects.base import Incoming, Reply
from belljar.errors import BadRequest, BelljarError, TooLarge, TooSlow, UnsupportedEncoding
from belljar.model import new_id
from belljar.server.protocol import EXTENSION, GuardedProtocol

Headers = list[tuple[bytes, bytes]]
NEVER = float("inf")
GZIP = ("gzip", "x-gzip")
PIECE = 256 << 10  # bytes of a file that are read, or uncompressed, at once
SLOWEST = 64 << 10  # bytes a second of a body that comes in pieces: who is faster is not too slow
STREAM_HEADERS: Headers = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


class ClientGone(Exception):
    """The client went away before its request was whole: there is nobody to answer."""


class Exchange:
    """A request while it is answered, by the task that made this object."""

    __slots__ = (
        "_beat_bytes",
        "_beat_every",
        "_beat_headers",
        "_connection",
        "_receive",
        "_send",
        "_watcher",
        "beat",
        "beat_at",
        "body_read",
        "ended",
        "ended_at",
        "extra",
        "first_byte_at",
        "gone",
        "headers",
        "id",
        "interrupted",
        "method",
        "overdue_at",
        "owner",
        "path",
        "reason",
        "scope",
        "sending_since",
        "stalled",
        "started",
        "started_at",
        "status",
        "task",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, heartbeat: float = NEVER) -> None:
        """`heartbeat` in seconds."""
        self.scope, self._receive, self._send = scope, receive, send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.id = new_id("req_")
        self._connection: GuardedProtocol | None = scope.get("extensions", {}).get(EXTENSION)
        self._watcher: asyncio.Task[None] | None = None
        self.owner = ""  # whose key it came with
        self.extra: Headers = []  # response headers for any answer
        self.task = asyncio.current_task()
        self.started_at = time.monotonic()
        self.first_byte_at: float | None = None
        self.ended_at: float | None = None
        self.status = 0
        self.started = self.ended = False  # the response
        self.body_read = False
        self.interrupted = self.gone = self.stalled = False
        self.reason: BelljarError | None = None
        self.overdue_at = NEVER  # of the body
        self.sending_since: float | None = None
        self.beat: asyncio.Task[None] | None = None
        self.beat_at = NEVER
        self._beat_every = heartbeat
        self._beat_bytes = b""
        self._beat_headers: Headers = []

    # --- what came ---

    def incoming(self, params: Mapping[str, str], body: bytes = b"") -> Incoming:
        """The request as a dialect sees it."""
        query = self.scope["query_string"]
        return Incoming(
            method=self.method,
            path=self.path,
            params=params,
            query=_read_query(query.decode("latin-1")) if query else {},
            headers=self.headers,
            body=body,
            owner=self.owner,
        )

    async def read_body(self, limit: int, seconds: float) -> bytes:
        """All of the body, uncompressed; `limit` in bytes. Raises TooLarge, TooSlow (by interruption), BadRequest."""
        self._check_announced(limit)
        message = await self._next_part(seconds)
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            body = await self._read_rest(body, limit, seconds)
        if len(body) > limit:
            raise _too_large(limit)
        self.overdue_at = NEVER
        self.body_read = True
        encoding = self.headers.get("content-encoding", "").strip().lower()
        if encoding and encoding != "identity":
            body = await _uncompress(body, encoding, limit)
        return body

    async def read_pieces(self, limit: int, seconds: float) -> AsyncGenerator[bytes, None]:
        """The same, piece by piece as it comes; a body that is large and not too slow gets more `seconds`."""
        self._check_announced(limit)
        encoding = self.headers.get("content-encoding", "").strip().lower()
        pieces = self._raw_pieces(limit, seconds)
        if encoding and encoding != "identity":
            pieces = _unzipped(pieces, encoding, limit)
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece

    async def _raw_pieces(self, limit: int, seconds: float) -> AsyncGenerator[bytes, None]:
        received = 0
        while not self.body_read:
            message = await self._next_part(seconds + received / SLOWEST)
            self.overdue_at = NEVER
            self.body_read = not message.get("more_body", False)
            piece = message.get("body", b"")
            received += len(piece)
            if received > limit:
                raise _too_large(limit)
            if piece:
                yield piece

    async def _read_rest(self, first: bytes, limit: int, seconds: float) -> bytes:
        body = bytearray(first)
        more = True
        while more:
            if len(body) > limit:
                raise _too_large(limit)
            message = await self._next_part(seconds)
            body += message.get("body", b"")
            more = message.get("more_body", False)
        return bytes(body)

    async def _next_part(self, seconds: float) -> MutableMapping[str, Any]:
        self.overdue_at = self.started_at + seconds
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone = True
            raise ClientGone
        return message

    def _check_announced(self, limit: int) -> None:
        try:
            announced = int(self.headers.get("content-length", "0"))
        except ValueError:
            raise BadRequest("the content-length header is no number") from None
        if announced > limit:
            raise _too_large(limit)

    def watch(self) -> None:
        """From now on, interrupt the answer when the client goes away. To be called when the body has been read."""
        if self._connection is not None:
            self._connection.on_lost = self._on_gone
            if self._connection.transport.is_closing():
                self._on_gone()
        else:
            self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """The way that ASGI has for it, under any server: a task for each request."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._on_gone()

    def _on_gone(self) -> None:
        if not self.ended:
            self.gone = True
            self.interrupt(None)

    # --- ending it from outside ---

    def interrupt(self, reason: BelljarError | None) -> None:
        """Cancel the task that answers; `reason` is what the client is told, if it is still there."""
        if self.interrupted or self.ended or self.task is None:
            return
        self.interrupted, self.reason = True, reason
        self.task.cancel()

    def sweep(self, now: float, stalled_before: float) -> None:
        """What time asks for: called now and then by the owner. `now` as time.monotonic has it."""
        if self.sending_since is not None:
            if self.sending_since < stalled_before and not self.stalled:
                self.stalled = True
                self.abort()
        elif now >= self.overdue_at:
            self.overdue_at = NEVER
            self.interrupt(TooSlow("the body of the request did not come in time"))
        elif now >= self.beat_at and self.beat is None and not self.ended:
            self.beat_at = now + self._beat_every
            self.beat = asyncio.create_task(self._beat())

    def abort(self) -> None:
        """End the connection, whatever it still has to send; under another server, the task alone."""
        if self._connection is not None:
            self._connection.abort()
        else:
            self.gone = True
            self.interrupt(None)

    # --- what is sent ---

    def plan_beats(self, patience: int, content: bytes, media_type: str) -> None:
        """Send `content` after `patience` intervals of silence and then after each one, in a response of status 200."""
        self._beat_bytes = content
        self._beat_headers = [(b"content-type", media_type.encode()), *STREAM_HEADERS]
        self.beat_at = time.monotonic() + patience * self._beat_every

    async def rest(self) -> None:
        """No heartbeat any more; one that is being sent ends first."""
        self.beat_at = NEVER
        if self.beat is not None:
            await self.beat

    @property
    def has_begun(self) -> bool:
        """Whether the status is decided."""
        return self.started or self.beat is not None

    async def _beat(self) -> None:
        try:
            if not self.started:
                await self._start(200, self._beat_headers)
            await self._write(self._beat_bytes, True)
        finally:
            self.beat = None

    async def write(self, content: bytes, *, more: bool) -> None:
        """A part of a stream that began with the headers of `plan_beats`."""
        if self.beat is not None:
            await self.beat
        if not self.started:
            await self._start(200, self._beat_headers)
        await self._write(content, more)

    async def reply(self, reply: Reply) -> None:
        """A whole response, or the body alone where heartbeats have begun one."""
        await self.rest()
        if not self.started:
            headers = [(b"content-type", reply.media_type.encode())]
            if reply.status != 204:  # RFC 9110, section 8.6
                headers.append((b"content-length", b"%d" % len(reply.body)))
            if reply.headers:
                headers += [(name.lower().encode(), value.encode("latin-1")) for name, value in reply.headers.items()]
            if not self.body_read and "expect" in self.headers:
                headers.append((b"connection", b"close"))  # whether its body comes now is anybody's guess
            await self._start(reply.status, headers)
        await self._write(reply.body, False)

    async def send_file(self, path: Path, media_type: str, headers: Mapping[str, str]) -> None:
        """A file as the response, as it is read. Raises FileNotFoundError, before anything is sent."""
        with await asyncio.to_thread(path.open, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            more = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
            self.watch()
            await self._start(
                200, [(b"content-type", media_type.encode("latin-1")), (b"content-length", b"%d" % size), *more]
            )
            while self.method != "HEAD" and (piece := await asyncio.to_thread(file.read, PIECE)):
                await self._write(piece, True)
            await self._write(b"", False)

    async def _start(self, status: int, headers: Headers) -> None:
        self.started, self.status = True, status
        self.sending_since = self.first_byte_at = time.monotonic()
        fixed = [(b"x-request-id", self.id.encode())]
        await self._send({"type": "http.response.start", "status": status, "headers": fixed + headers + self.extra})
        self.sending_since = None

    async def _write(self, content: bytes, more: bool) -> None:
        now = self.sending_since = time.monotonic()
        if not more:
            self.ended, self.ended_at = True, now
        await self._send({"type": "http.response.body", "body": content, "more_body": more})
        self.sending_since = None
        if self.beat_at is not NEVER:
            self.beat_at = now + self._beat_every

    def close(self) -> None:
        """The task is done with it."""
        self.ended = True
        if self._connection is not None and self._connection.on_lost == self._on_gone:
            self._connection.on_lost = None  # else the next request of a pipeline has put its own there
        for task in (self.beat, self._watcher):
            if task is not None:
                task.cancel()


def _read_query(query: str) -> dict[str, str]:
    """The parameters; of one that is given several times the last counts, of a list ("include[]") all, with commas."""
    read: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        read[name] = f"{read[name]},{value}" if name in read and name.endswith("[]") else value
    return read


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body of the request is over {limit:,} bytes")


def _unread(encoding: str) -> UnsupportedEncoding:
    return UnsupportedEncoding(f"content-encoding {encoding[:40]!r} is not read here; send the body as it is, or gzip")


def _no_gzip(error: zlib.error) -> BadRequest:
    return BadRequest(f"the body is not gzip, as its content-encoding says: {error}")


async def _uncompress(body: bytes, encoding: str, limit: int) -> bytes:
    if encoding not in GZIP:
        raise _unread(encoding)
    return await asyncio.to_thread(_gunzip, body, limit)


async def _unzipped(pieces: AsyncGenerator[bytes, None], encoding: str, limit: int) -> AsyncGenerator[bytes, None]:
    """Raises TooLarge, BadRequest."""
    if encoding not in GZIP:
        raise _unread(encoding)
    unzip, size = zlib.decompressobj(wbits=31), 0
    async with aclosing(pieces):
        async for packed in pieces:
            left, full = packed, False
            while left or full:
                plain = await asyncio.to_thread(_unzip, unzip, left)
                left, full = unzip.unconsumed_tail, len(plain) == PIECE
                size += len(plain)
                if size > limit:
                    raise _too_large(limit)
                if plain:
                    yield plain
    if not unzip.eof:
        raise BadRequest("the gzip body ends too early")


def _unzip(unzip: zlib._Decompress, data: bytes) -> bytes:
    try:
        return unzip.decompress(data, PIECE)
    except zlib.error as error:
        raise _no_gzip(error) from None


def _gunzip(body: bytes, limit: int) -> bytes:
    """Raises TooLarge, BadRequest."""
    reader = zlib.decompressobj(wbits=31)
    try:
        plain = reader.decompress(body, limit + 1)
    except zlib.error as error:
        raise _no_gzip(error) from None
    if len(plain) > limit:
        raise _too_large(limit)
    if not reader.eof:
        raise BadRequest("the gzip body ends too early")
    return plain
