"""A scripted upstream's server: HTTP/1.1 with keep-alive, written for speed and for bad manners.

Promises: no task and no timer where a turn has no delay; it notes every request, and every turn whose client went away
before it was over. Covered: POST /v1/chat/completions, GET /v1/models. Not covered: TLS, HTTP/2, chunked trailers.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import httptools
import msgspec

from belljar.scripted.scripts import Script
from belljar.scripted.turns import Rendered, Turn, render, whole, write_error

ABSENT = object()
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """One request as it came. Names of headers are lower case; `body` is parsed, None where there was none."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any = None


def unused_url() -> str:
    """A base URL at which connections are refused."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


class ScriptedUpstream:
    """A server on a port of its own, as an asynchronous context manager.

    `requests` and `cancelled` hold what came, and what of it was given up by its client; `keep` False notes nothing.
    `key` refuses requests without it; `listing` replaces the body of /v1/models.
    """

    def __init__(
        self,
        script: Script,
        *,
        models: Sequence[str] = (),
        key: str | None = None,
        listing: Any = ABSENT,
        host: str = "127.0.0.1",
        port: int = 0,
        keep: bool = True,
    ) -> None:
        self.requests: list[Received] = []
        self.cancelled: list[Received] = []
        self.connections = 0  # accepted, ever
        self._script = script
        self._places: dict[int, int] = {}
        self._models = list(models) or (list(script) if isinstance(script, Mapping) else ["scripted-model"])
        self._key = key
        self._listing = listing
        self._address = (host, port)
        self._keep = keep
        self._open: set[_Connection] = set()
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> ScriptedUpstream:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Listen. Raises OSError where the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), *self._address, backlog=1024)
        self._address = self._server.sockets[0].getsockname()[:2]

    async def close(self) -> None:
        """Stop listening, and drop what is open."""
        if self._server is not None:
            self._server.close()
            for connection in list(self._open):
                connection.drop()
            await self._server.wait_closed()
            self._server = None

    @property
    def url(self) -> str:
        """The base URL for clients, with /v1."""
        return f"http://{self._address[0]}:{self._address[1]}/v1"

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        return len(self._open)

    @property
    def playing(self) -> int:
        """Turns that are being answered now."""
        return sum(connection.busy for connection in self._open)

    @property
    def turns(self) -> list[Any]:
        """The bodies of the turns that were asked for."""
        return [received.body for received in self.requests if received.method == "POST"]

    async def until(self, what: Callable[[], bool], seconds: float = 5.0) -> None:
        """Wait until something holds that changes with connections and requests. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not what():
                self._changed.clear()
                await self._changed.wait()

    async def until_cancelled(self, count: int = 1, seconds: float = 5.0) -> None:
        """Wait until so many turns were given up by their clients. Raises TimeoutError."""
        await self.until(lambda: len(self.cancelled) >= count, seconds)

    def answer(self, received: Received) -> Rendered | tuple[Turn, Rendered]:
        """What to send for a request; with its turn, where it is one."""
        if self._keep:
            self.requests.append(received)
            self._changed.set()
        if self._key is not None and received.headers.get("authorization") != f"Bearer {self._key}":
            return _error(401, f"Incorrect API key provided: {received.headers.get('authorization', '')[7:]}")
        if received.method == "GET" and received.path == "/v1/models":
            return Rendered((whole(200, _encode(self._list())),))
        if received.method != "POST" or received.path != "/v1/chat/completions":
            return _error(404, f"Nothing is at {received.method} {received.path}")
        if not isinstance(received.body, dict) or not isinstance(received.body.get("messages"), list):
            return _error(400, "The body is no chat completion request")
        return self._turn(received.body)

    def _turn(self, body: dict[str, Any]) -> Rendered | tuple[Turn, Rendered]:
        step: Any = self._script
        model = str(body.get("model"))
        if isinstance(step, Mapping):
            if model not in step:
                return _error(404, f"The model {model!r} does not exist")
            step = step[model]
        if isinstance(step, Sequence):
            place = self._places.get(id(step), 0)
            if place >= len(step):
                return _error(400, "The script is over")
            self._places[id(step)] = place + 1
            step = step[place]
        turn = step if isinstance(step, Turn) else step(body)
        options = body.get("stream_options") or {}
        stream = bool(body.get("stream"))
        return turn, render(turn, model, stream=stream, usage=bool(options.get("include_usage")))

    def _list(self) -> Any:
        if self._listing is not ABSENT:
            return self._listing
        data = [
            {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "script"} for name in self._models
        ]
        return {"object": "list", "data": data}

    def _opened(self, connection: _Connection) -> None:
        self.connections += 1
        self._open.add(connection)
        self._changed.set()

    def _closed(self, connection: _Connection, given_up: Received | None) -> None:
        self._open.discard(connection)
        if given_up is not None and self._keep:
            self.cancelled.append(given_up)
        self._changed.set()


def _error(status: int, message: str) -> Rendered:
    return Rendered((whole(status, write_error(message, status)),))


class _Connection(asyncio.Protocol):
    """One connection: reads requests, plays one answer after the other."""

    def __init__(self, upstream: ScriptedUpstream) -> None:
        self._upstream = upstream
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._path = ""
        self._waiting: deque[Received] = deque()
        self._now: Received | None = None  # the request that is being answered
        self._left: deque[bytes] = deque()
        self._rendered = Rendered(())
        self._pause = 0.0
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._held = False  # the client reads too slowly

    @property
    def busy(self) -> bool:
        """Whether an answer is on its way."""
        return self._now is not None

    def drop(self) -> None:
        """End it from our side."""
        if self._transport is not None:
            self._now = None
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self._upstream._opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._upstream._closed(self, self._now)
        self._transport = self._now = None

    def pause_writing(self) -> None:
        self._held = True

    def resume_writing(self) -> None:
        self._held = False
        if self._now is not None and self._timer is None:
            self._play()

    # httptools' callbacks

    def on_message_begin(self) -> None:
        self._headers, self._body = {}, []

    def on_url(self, url: bytes) -> None:
        self._path = url.decode("latin-1").partition("?")[0]

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        raw = b"".join(self._body)
        try:
            body = _decode(raw) if raw else None
        except msgspec.DecodeError:
            body = raw
        method = self._parser.get_method().decode()
        self._waiting.append(Received(method=method, path=self._path, headers=self._headers, body=body))
        if self._now is None:
            self._next()

    # playing

    def _next(self) -> None:
        while self._waiting and self._now is None and self._transport is not None:
            self._begin(self._waiting.popleft())

    def _begin(self, received: Received) -> None:
        self._now = received
        answer = self._upstream.answer(received)
        turn, self._rendered = answer if isinstance(answer, tuple) else (None, answer)
        self._left.extend(self._rendered.parts)
        self._pause = turn.pause if turn else 0.0
        if turn and turn.delay:
            self._timer = self._loop.call_later(turn.delay, self._play)
        else:
            self._play()

    def _play(self) -> None:
        self._timer = None
        transport = self._transport
        if transport is None or self._held:
            return
        while self._left:
            transport.write(self._left.popleft())
            if self._pause and self._left:
                self._timer = self._loop.call_later(self._pause, self._play)
                return
        if self._rendered.again:
            transport.write(self._rendered.again)
            self._timer = self._loop.call_later(self._pause, self._play)
        elif not self._rendered.stay:
            self._end(transport)

    def _end(self, transport: asyncio.Transport) -> None:
        self._now = None
        if self._rendered.close:
            transport.close() if self._rendered.parts else transport.abort()
        else:
            self._loop.call_soon(self._next) if self._waiting else None
        self._upstream._changed.set()
