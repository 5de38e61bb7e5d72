"""The application: from a request's path to the dialect or API that answers it, and what every answer has in common.

Promises: whatever goes wrong is answered in the form of the dialect that was asked, never with a traceback; nothing is
read of a body before the caller may ask at all; a client that has gone away costs nothing any more; each request is
counted once and logged in one line. The application is ASGI, without middleware.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, cast

import msgspec
from starlette.types import Receive, Scope, Send

from belljar import registry
from belljar.apis.base import Api, Endpoint
from belljar.dialects.base import Dialect, Incoming, KeepingDialect, Reply, read_bearer
from belljar.errors import (
    AtCapacity,
    BelljarError,
    ClientError,
    ShuttingDown,
    TooSlow,
    UnknownItem,
    UnknownPath,
    WrongMethod,
)
from belljar.events import Event
from belljar.model import ModelInfo, Request
from belljar.server.answering import Work, fail, generate, start_of
from belljar.server.containers import Containers
from belljar.server.exchange import ClientGone, Exchange
from belljar.server.files import FileStore
from belljar.server.guard import Guard
from belljar.server.keys import Keys
from belljar.server.logs import log_request
from belljar.server.memory import Asked, Memory, Record
from belljar.server.metrics import GONE, Metrics, Tally
from belljar.server.paths import Found, Paths
from belljar.server.settings import Settings
from belljar.store.store import Store

log = logging.getLogger(__name__)

STARTING, SERVING, STOPPING = "starting", "serving", "stopping"
PLAIN = "none"  # stands for the dialect in metrics, where no dialect is
STALLED = "client_stalled"
FORM_BYTES = 1 << 20  # around a file that is uploaded


class Service(Protocol):
    """What answers: belljar.server.service.Service, or a stand-in for tests."""

    files: FileStore
    memory: Memory
    containers: Containers
    store: Store

    def answer(self, request: Request, asked: Asked | None = None) -> AsyncGenerator[Event, None]:
        """The answer, as it comes; it raises nothing but cancellation."""

    def keep(self, request: Request, asked: Asked) -> AsyncGenerator[Event, None]:
        """The same, kept meanwhile."""

    async def begin(self, request: Request, asked: Asked) -> Record:
        """The same, written while nobody waits. Raises BelljarError."""

    async def count(self, request: Request, dialect: str) -> int:
        """The tokens of a prompt. Raises BelljarError."""

    async def models(self) -> Sequence[ModelInfo]:
        """Every model."""

    async def model(self, identity: str) -> ModelInfo:
        """One. Raises UnknownModel."""

    def facts(self) -> Mapping[str, Any]:
        """What the sandboxes are doing."""


@dataclass(frozen=True, slots=True)
class Place:
    """What is served at a path: an action of a dialect, or an endpoint of an API."""

    action: str
    dialect: Dialect | None = None
    endpoint: Endpoint | None = None

    def claims(self, incoming: Incoming) -> bool:
        """Whether a request at a path that others serve as well is meant for this one."""
        if self.endpoint is not None and self.endpoint.claims is not None:
            return self.endpoint.claims(incoming)
        return self.dialect is not None and self.dialect.claims(incoming)


class App:
    """The ASGI application of one server. `state` is set by whoever runs it."""

    def __init__(
        self,
        service: Service,
        settings: Settings,
        keys: Keys,
        dialects: Mapping[str, Dialect] | None = None,
        apis: Mapping[str, Api] | None = None,
    ) -> None:
        """`dialects` and `apis` are all that there are, if not given."""
        self.service = service
        self.settings = settings
        self.keys = keys
        self.state = STARTING
        self.running: dict[int, Exchange] = {}
        self.metrics = Metrics(lambda: len(self.running), service.facts)
        found = registry.find("belljar.dialects", "DIALECT") if dialects is None else dialects
        self._dialects = {name: each.lenient() if settings.lenient else each for name, each in found.items()}
        self._apis = registry.find("belljar.apis", "API") if apis is None else dict(apis)
        self._guard = Guard(settings, has_keys=bool(keys))
        self._paths = self._lay_paths()
        self._sweep_handle: asyncio.TimerHandle | None = None
        self._tick = max(0.01, min(1.0, settings.heartbeat / 4, settings.http.send_seconds / 4))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            raise RuntimeError(f"ASGI scope {scope['type']!r} is not served")  # uvicorn is told not to send any
        exchange = Exchange(scope, receive, send, self.settings.heartbeat)
        work = Work(exchange=exchange, tally=Tally(dialect=PLAIN), count=self._account)
        self.running[id(exchange)] = exchange
        if self._sweep_handle is None:
            self._sweep_handle = asyncio.get_running_loop().call_later(self._tick, self._sweep)
        try:
            await self._answer(work)
        finally:
            exchange.close()
            del self.running[id(exchange)]
            work.settle()

    # --- what handlers of APIs see ---

    @property
    def metrics_open(self) -> bool:
        """Whether metrics may be read without a key."""
        return self.settings.metrics_open

    @property
    def files(self) -> FileStore:
        """Files that clients have uploaded."""
        return self.service.files

    @property
    def containers(self) -> Containers:
        """Sessions that live on."""
        return self.service.containers

    @property
    def store(self) -> Store:
        """What is remembered."""
        return self.service.store

    def facts(self) -> Mapping[str, Any]:
        """What the sandboxes are doing now."""
        return self.service.facts()

    def knows(self, incoming: Incoming) -> bool:
        """Whether the caller may know more: it sent a key, or none is needed."""
        try:
            self.keys.check(read_bearer(incoming))
        except ClientError:
            return False
        return True

    # --- ending all of it ---

    def interrupt_all(self, reason: BelljarError) -> None:
        """End every answer that is being written, each in its own form."""
        for exchange in list(self.running.values()):
            exchange.interrupt(reason)

    # --- one request ---

    async def _answer(self, work: Work) -> None:
        """Answer, whatever happens."""
        exchange = work.exchange
        try:
            await self._serve(work)
        except BelljarError as error:
            await self._fail(work, error)
        except ClientGone:
            pass
        except asyncio.CancelledError:
            if not exchange.interrupted or exchange.task is None:
                raise
            if exchange.task.uncancel() > 0:
                raise
            if exchange.reason is not None and not exchange.gone:
                await self._fail(work, exchange.reason)
        except Exception:
            log.exception("request %s failed", exchange.id)
            await self._fail(work, BelljarError(f"an internal error; the server's log has it under {exchange.id}"))

    async def _serve(self, work: Work) -> None:
        exchange = work.exchange
        exchange.extra = self._guard.cors(exchange.headers)
        found = self._paths.find(exchange.method, exchange.path)
        place = self._choose(found, exchange)
        work.dialect = place.dialect if place else self._owner(exchange)
        work.tally.dialect = work.dialect.name if work.dialect else PLAIN
        self._guard.check(exchange.headers)
        if exchange.method == "OPTIONS":
            await self._tell_options(exchange, found)
        elif place is None:
            raise _not_served(exchange, found)
        else:
            work.tally.action = place.action
            await self._enter(work, place, found.params)

    def _choose(self, found: Found[Place], exchange: Exchange) -> Place | None:
        """Who answers, where several serve a path: the one who claims the request, else the first."""
        if len(found.handlers) < 2:
            return found.handlers[0] if found.handlers else None
        incoming = exchange.incoming(found.params)
        return next((place for place in found.handlers if place.claims(incoming)), found.handlers[0])

    async def _enter(self, work: Work, place: Place, params: Mapping[str, str]) -> None:
        if place.endpoint is not None:
            await self._call_endpoint(work, place, place.endpoint, params)
            return
        assert place.dialect is not None
        if self.state != SERVING:
            raise _away(self.state)
        if self.keys:
            work.exchange.owner = self.keys.check(place.dialect.read_key(work.exchange.incoming(params)))
        await _ACTIONS[place.action](self, work, place.dialect, params)

    async def _generate(self, work: Work, dialect: Dialect, params: Mapping[str, str]) -> None:
        body = await work.exchange.read_body(self.settings.max_body, self.settings.http.body_seconds)
        incoming = work.exchange.incoming(params, body)
        work.request = request = self._owned(work, dialect.read_request(incoming))
        work.tally.model, work.tally.stream = request.model, request.stream
        asked = Asked(dialect=dialect.name, incoming=incoming, start=start_of(work.exchange))
        if request.background:
            await self._begin(work, dialect, request, asked)
        elif request.keep or request.conversation is not None:
            await generate(work, dialect, request, self.service.keep(request, asked), asked.start)
        else:
            await generate(work, dialect, request, self.service.answer(request, asked), asked.start)

    async def _begin(self, work: Work, dialect: Dialect, request: Request, asked: Asked) -> None:
        """Have the answer written in the background; who streams looks on. What it costs is counted when it is over."""
        record = await self.service.begin(request, asked)
        assert record.task is not None
        record.task.add_done_callback(lambda _: self._count_answer(record))
        if request.stream:
            await generate(work, dialect, request, self.service.memory.follow(record), record.start, again=True)
        else:
            await _show(work, dialect, request, record)

    async def _show_kept(self, work: Work, dialect: Dialect, params: Mapping[str, str]) -> None:
        exchange = work.exchange
        record = await self.service.memory.find(exchange.owner, params["id"], dialect.name)
        request = cast(KeepingDialect, dialect).read_view(exchange.incoming(params), record.request)
        work.tally.model, work.tally.stream = request.model, request.stream
        if request.stream:
            await generate(work, dialect, request, self.service.memory.follow(record), record.start, again=True)
        else:
            await _show(work, dialect, request, record)

    async def _show_input(self, work: Work, dialect: Dialect, params: Mapping[str, str]) -> None:
        exchange = work.exchange
        record = await self.service.memory.find(exchange.owner, params["id"], dialect.name)
        incoming = exchange.incoming(params)
        body = cast(KeepingDialect, dialect).write_input(incoming, record.asked.incoming, record.start)
        await exchange.reply(Reply(status=200, body=body))

    async def _cancel(self, work: Work, dialect: Dialect, params: Mapping[str, str]) -> None:
        record = await self.service.memory.find(work.exchange.owner, params["id"], dialect.name)
        record = await self.service.memory.cancel(record)
        await _show(work, dialect, record.request, record)

    async def _delete(self, work: Work, dialect: Dialect, params: Mapping[str, str]) -> None:
        await self.service.memory.delete(work.exchange.owner, params["id"], dialect.name)
        body = cast(KeepingDialect, dialect).write_deleted(params["id"])
        await work.exchange.reply(Reply(status=200, body=body))

    async def _count(self, work: Work, dialect: Dialect, params: Mapping[str, str]) -> None:
        body = await work.exchange.read_body(self.settings.max_body, self.settings.http.body_seconds)
        work.request = request = self._owned(work, dialect.read_request(work.exchange.incoming(params, body)))
        work.tally.model = request.model
        tokens = await self.service.count(request, dialect.name)
        await work.exchange.reply(Reply(status=200, body=dialect.write_count(tokens, request)))

    @staticmethod
    def _owned(work: Work, request: Request) -> Request:
        return msgspec.structs.replace(request, owner=work.exchange.owner) if work.exchange.owner else request

    async def _list_models(self, work: Work, dialect: Dialect, params: Mapping[str, str]) -> None:
        models = await self.service.models()
        await work.exchange.reply(Reply(status=200, body=dialect.write_models(models)))

    async def _show_model(self, work: Work, dialect: Dialect, params: Mapping[str, str]) -> None:
        model = await self.service.model(params["id"])
        await work.exchange.reply(Reply(status=200, body=dialect.write_model(model)))

    async def _call_endpoint(self, work: Work, place: Place, endpoint: Endpoint, params: Mapping[str, str]) -> None:
        exchange = work.exchange
        if not endpoint.open:
            read_key = place.dialect.read_key if place.dialect else read_bearer
            exchange.owner = self.keys.check(read_key(exchange.incoming(params)))
        incoming, seconds = exchange.incoming(params), self.settings.http.body_seconds
        if endpoint.take is not None:
            async with aclosing(exchange.read_pieces(self.files.max_file + FORM_BYTES, seconds)) as pieces:
                reply = await endpoint.take(self, incoming, pieces)
        else:
            assert endpoint.handle is not None
            if exchange.method not in ("GET", "HEAD"):
                body = await exchange.read_body(self.settings.max_body, seconds)
                incoming = msgspec.structs.replace(incoming, body=body)
            reply = await endpoint.handle(self, incoming)
        if isinstance(reply, Reply):
            await exchange.reply(reply)
            return
        try:
            await exchange.send_file(reply.path, reply.media_type, reply.headers)
        except FileNotFoundError:
            raise UnknownItem("the file has been deleted") from None

    async def _tell_options(self, exchange: Exchange, found: Found[Place]) -> None:
        """A browser's question whether a page may ask, or what a path takes."""
        headers = {"allow": ", ".join(("OPTIONS", *found.methods))} if found.methods else {}
        if "access-control-request-method" in exchange.headers and exchange.extra:
            exchange.extra += self._guard.preflight(exchange.headers)
        await exchange.reply(Reply(status=204, body=b"", headers=headers))

    async def _fail(self, work: Work, error: BelljarError) -> None:
        work.tally.fail(error)
        if work.exchange.gone:
            return
        try:
            await fail(work, error, closing=self.state == STOPPING or isinstance(error, TooSlow))
        except asyncio.CancelledError:
            if not work.exchange.gone:
                raise
        except Exception:
            log.exception("the error of request %s could not be written", work.exchange.id)
            work.exchange.abort()

    # --- around it ---

    def _account(self, work: Work) -> None:
        exchange, tally = work.exchange, work.tally
        if exchange.stalled:
            tally.outcome = STALLED
        elif exchange.gone:
            tally.outcome = GONE
        seconds = (exchange.ended_at or time.monotonic()) - exchange.started_at
        first = exchange.first_byte_at - exchange.started_at if exchange.first_byte_at is not None else None
        self.metrics.record(tally, exchange.status, seconds, first)
        log_request(exchange, tally, seconds)

    def _count_answer(self, record: Record) -> None:
        tally = Tally(dialect=record.asked.dialect)
        for event in record.events:
            tally.see(event)
        self.metrics.record_answer(tally)

    def _sweep(self) -> None:
        """See to time-outs and heartbeats of all requests; goes on for as long as there are any."""
        now = time.monotonic()
        for exchange in list(self.running.values()):
            exchange.sweep(now, now - self.settings.http.send_seconds)
        loop = asyncio.get_running_loop()
        self._sweep_handle = loop.call_later(self._tick, self._sweep) if self.running else None

    def _owner(self, exchange: Exchange) -> Dialect | None:
        """The dialect that claims a request at an unknown path, or under whose prefix it is."""
        path, incoming = exchange.path, exchange.incoming({})
        for dialect in self._dialects.values():
            if dialect.claims(incoming):
                return dialect
        owners = [
            (len(prefix), dialect)
            for dialect in self._dialects.values()
            for prefix in dialect.prefixes
            if path == prefix or path.startswith(prefix + "/")
        ]
        return max(owners, key=lambda pair: pair[0])[1] if owners else None

    def _lay_paths(self) -> Paths[Place]:
        paths: Paths[Place] = Paths()
        for dialect in self._dialects.values():
            for route in dialect.routes:
                paths.add(route.method, route.path, Place(action=route.action, dialect=dialect))
        for name, api in self._apis.items():
            for endpoint in api.endpoints:
                owner = self._dialects.get(endpoint.dialect) if endpoint.dialect else None
                paths.add(endpoint.method, endpoint.path, Place(action=name, dialect=owner, endpoint=endpoint))
        return paths


_ACTIONS: dict[str, Callable[[App, Work, Dialect, Mapping[str, str]], Awaitable[None]]] = {
    "generate": App._generate,
    "count": App._count,
    "models": App._list_models,
    "model": App._show_model,
    "kept": App._show_kept,
    "input": App._show_input,
    "cancel": App._cancel,
    "delete": App._delete,
}


async def _show(work: Work, dialect: Dialect, request: Request, record: Record) -> None:
    """A kept answer as it is now."""
    work.request = request
    body = dialect.writer(request, record.start).fold(record.answer)
    await work.exchange.reply(Reply(status=200, body=body))


def create_app(service: Service, settings: Settings, keys: Keys | None = None, **parts: Any) -> App:
    """An application that serves at once; `parts` are App's."""
    app = App(service, settings, keys or Keys(settings.api_key), **parts)
    app.state = SERVING
    return app


def _away(state: str) -> BelljarError:
    """Why nothing is answered now."""
    if state == STOPPING:
        return ShuttingDown("the server is stopping")
    return AtCapacity("the server is starting; try again in a moment")


def _not_served(exchange: Exchange, found: Found[Place]) -> BelljarError:
    path = exchange.path[:200]
    if not found.methods:
        return UnknownPath(f"nothing is served at {exchange.method} {path}")
    exchange.extra.append((b"allow", ", ".join(found.methods).encode()))
    return WrongMethod(f"{exchange.method} is not served at {path}; use {' or '.join(found.methods)}")
