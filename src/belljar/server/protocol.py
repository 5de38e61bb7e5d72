"""HTTP/1.1 as uvicorn and httptools read it, with the bounds that they do not have.

Promises: a request's head is complete within a time and a size, or the connection ends with 408 or 431; what still
comes of a body after its response is read and forgotten for a short time only; an answer in progress is not written
into; a request's scope holds its connection, so that the application can end it. Errors here are JSON.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from belljar.server.settings import HttpLimits

MOST_HELD = 64 << 10  # bytes that wait for the end of a step; the transport's own bound is the same
EXTENSION = "belljar.connection"  # in scope["extensions"]: the GuardedProtocol

MESSAGES = {
    400: "this is no HTTP/1.1 request",
    408: "the headers of the request did not come in time",
    431: "the headers of the request are too large",
}


class JoiningTransport:
    """A transport that sends what was written in one step of the event loop at once: each system call costs more than
    all else that is done for a small answer.
    """

    __slots__ = ("_call_soon", "_held", "_size", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._call_soon = loop.call_soon
        self._held: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Send it, at the latest when this step of the event loop is over."""
        if not self._held:
            self._call_soon(self.flush)
        self._held.append(data)
        self._size += len(data)
        if self._size > MOST_HELD:
            self.flush()

    def flush(self) -> None:
        """Send what is held."""
        held, self._held, self._size = self._held, [], 0
        if held and not self._transport.is_closing():
            self._transport.write(held[0] if len(held) == 1 else b"".join(held))

    def close(self) -> None:
        """Send what is held, then close."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close now; what is held is lost."""
        self._held, self._size = [], 0
        self._transport.abort()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    limits: ClassVar[HttpLimits] = HttpLimits()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_open = True  # the next head is awaited, or has begun
        self._head_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._refusal = 400
        self.on_lost: Callable[[], None] | None = None  # called when the client has gone, by whoever answers it now

    def abort(self) -> None:
        """End the connection now; what was not sent yet is lost."""
        self.transport.abort()

    # --- the connection ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Someone connected; the first head is due."""
        super().connection_made(JoiningTransport(transport, self.loop))  # type: ignore[arg-type]
        self._timer = self.loop.call_later(self.limits.head_seconds, self._on_slow_head)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._cancel_timer()
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and see to it that the head ends."""
        if self._head_open:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_open and self._head_bytes and not self.transport.is_closing():
            if self._head_bytes > self.limits.head_bytes:
                self._refuse(431)
            elif self._timer is None:
                self._timer = self.loop.call_later(self.limits.head_seconds, self._on_slow_head)

    # --- what the parser calls ---

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: self}  # type: ignore[dict-item]  # ASGI has dictionaries there

    def on_headers_complete(self) -> None:
        """The head is whole. Raises HttpParserCallbackError, which ends the connection: it is too large."""
        self._cancel_timer()
        self._head_open = False
        self._head_bytes = 0
        size = len(self.url) + sum([len(name) + len(value) + 4 for name, value in self.headers])
        if size > self.limits.head_bytes or len(self.headers) > self.limits.headers:
            self._refusal = 431
            raise httptools.HttpParserCallbackError(MESSAGES[431])
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is whole; the next head may come."""
        self._cancel_timer()
        self._head_open = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is written; what is still to come of the body is awaited for a short time."""
        super().on_response_complete()
        if not self._head_open and not self.transport.is_closing():
            self._cancel_timer()
            self._timer = self.loop.call_later(self.limits.drain_seconds, self.transport.close)

    # --- refusing ---

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls where the parser gave up; `msg` is its own text."""
        self._refuse(self._refusal)

    def _on_slow_head(self) -> None:
        self._timer = None
        if self._head_bytes:
            self._refuse(408)
        else:
            self.transport.close()  # connected, and never said a word

    def _refuse(self, status: int) -> None:
        """Answer and close. In the middle of another answer: close only, its reader must not take this for a part."""
        if self.transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn does not say that it begins as None
        if cycle is None or cycle.response_complete:
            error = {"message": MESSAGES[status], "type": "invalid_request_error"}
            body = json.dumps({"error": error}).encode()
            head = (
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nserver: belljar\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def protocol_class(limits: HttpLimits) -> type[GuardedProtocol]:
    """The protocol with these limits: uvicorn makes it with arguments of its own."""
    return type("GuardedProtocol", (GuardedProtocol,), {"limits": limits})
