"""A service that does as it is told, and a dialect of a few lines: no model and no sandbox is needed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from belljar.dialects.base import Incoming, Reply, Route, Start, read_json, write_json
from belljar.errors import BadRequest, BelljarError, UnknownModel
from belljar.events import Answer, Event, Failed, Finish, Finished, TextDelta, TurnEnded, TurnStarted
from belljar.model import ModelInfo, Request, Usage
from belljar.server.app import App, create_app
from belljar.server.keys import Keys
from belljar.server.serve import Server
from belljar.server.settings import Settings

Step = Event | float | Exception | asyncio.Event
MODELS = [ModelInfo(id="m", owner="test"), ModelInfo(id="a/b/c", owner="test")]


def turn(text: str = "hello", model: str = "m") -> list[Step]:
    """A plain answer."""
    return [
        TurnStarted(turn=0, model=model),
        *(TextDelta(text=word) for word in text.split(" ")),
        TurnEnded(turn=0, model=model, finish=Finish.STOP, usage=Usage(prompt_tokens=3, completion_tokens=2)),
        Finished(finish=Finish.STOP),
    ]


@dataclass
class FakeService:
    """Answers with `steps`: events, pauses in seconds, exceptions to raise, gates to wait for."""

    steps: Sequence[Step] = field(default_factory=turn)
    pool: dict[str, Any] = field(default_factory=lambda: {"profile": "full", "ready": 2, "in_use": 0, "max": 4})
    open: int = 0  # answers that were begun and are not closed
    asked: list[Request] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    cleanup: float = 0.0
    life: list[str] = field(default_factory=list)
    start_seconds: float = 0.0
    start_error: BelljarError | None = None

    async def start(self) -> None:
        await asyncio.sleep(self.start_seconds)
        if self.start_error is not None:
            raise self.start_error
        self.life.append("started")

    async def close(self) -> None:
        self.life.append("closed")

    async def answer(self, request: Request, asked: Any = None) -> AsyncGenerator[Event, None]:
        self.asked.append(request)
        self.open += 1
        self.closed.clear()
        try:
            for step in self.steps:
                if isinstance(step, float):
                    await asyncio.sleep(step)
                elif isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, Exception):
                    raise step
                else:
                    yield step
        finally:
            if self.cleanup:
                await asyncio.sleep(self.cleanup)
            self.open -= 1
            self.closed.set()

    async def models(self) -> Sequence[ModelInfo]:
        return MODELS

    async def model(self, identity: str) -> ModelInfo:
        for info in MODELS:
            if info.id == identity:
                return info
        raise UnknownModel(f"no model {identity}", model=identity)

    async def count(self, request: Request, dialect: str) -> int:
        return 3

    def facts(self) -> Mapping[str, Any]:
        return self.pool


class ToyWriter:
    """Text lines: one an event."""

    media_type = "text/event-stream"
    heartbeat = b": beat\n\n"

    def __init__(self, start: Start) -> None:
        self._id = start.request_id

    def write(self, event: Event) -> bytes:
        if isinstance(event, TextDelta):
            return b"data: %b\n\n" % event.text.encode()
        if isinstance(event, Failed):
            return b"event: error\ndata: %b\n\n" % str(event.error).encode()
        return b"data: [DONE]\n\n" if isinstance(event, Finished) else b""

    def fold(self, answer: Answer) -> bytes:
        return write_json({"id": self._id, "text": answer.text})


class ToyDialect:
    """POST /toy/ask {"stream": bool}; errors are {"toy": message}."""

    name = "toy"
    prefixes = ("/toy",)
    routes = (
        Route(method="POST", path="/toy/ask", action="generate"),
        Route(method="GET", path="/toy/models", action="models"),
        Route(method="GET", path="/toy/models/{id:path}", action="model"),
    )
    systems = ("toy/system",)
    heartbeat = b" "

    def claims(self, incoming: Incoming) -> bool:
        return "x-toy" in incoming.headers

    def write_count(self, tokens: int, request: Request) -> bytes:
        return write_json({"tokens": tokens})

    def lenient(self) -> ToyDialect:
        return self

    def read_key(self, incoming: Incoming) -> str | None:
        return incoming.headers.get("authorization", "").removeprefix("Bearer ") or None

    def read_request(self, incoming: Incoming) -> Request:
        body = read_json(incoming.body)
        if not isinstance(body, dict):
            raise BadRequest("the body must be an object", param="body")
        if body.get("bug"):
            raise ZeroDivisionError("a bug of the dialect")
        return Request(model=str(body.get("model", "m")), messages=(), stream=bool(body.get("stream")), extra=body)

    def writer(self, request: Request, start: Start) -> ToyWriter:
        return ToyWriter(start)

    def write_models(self, models: Sequence[ModelInfo]) -> bytes:
        return write_json([model.id for model in models])

    def write_model(self, model: ModelInfo) -> bytes:
        return write_json({"id": model.id})

    def write_error(self, error: BelljarError, request: Request | None, request_id: str = "") -> Reply:
        headers = {} if error.retry_after is None else {"retry-after": f"{error.retry_after:g}"}
        return Reply(status=error.status, body=write_json({"toy": str(error)}), headers=headers)


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection to a server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]), **options)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def serving(
    service: Any = None, settings: Settings | None = None, **parts: Any
) -> AsyncIterator[tuple[str, App]]:
    """A server on a free port of this loop: its URL and its application."""
    settings = settings or Settings()
    parts = {"dialects": {"toy": ToyDialect()}} | parts
    app = create_app(service or FakeService(), settings, Keys(settings.api_key), **parts)
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(app)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.001)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", app
    finally:
        server.should_exit = server.force_exit = True
        await task
