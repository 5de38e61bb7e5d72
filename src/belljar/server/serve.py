"""The server's life: a socket, a service, uvicorn, and a stop that is graceful, bounded and complete.

Promises: a port that is taken is told before anything is started; while the service starts, health checks are answered;
on SIGTERM or SIGINT no connection is accepted any more, what runs may end for `grace` seconds and is then ended with an
error in its own form, sandboxes end, and so does the process; a second signal skips the grace. Signals are the exit
code's matter: 0 after the first, 130 after a second SIGINT. Not covered: several processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

import uvicorn
import uvloop

from belljar.errors import HostError, ShuttingDown
from belljar.server import app as application
from belljar.server.app import App
from belljar.server.keys import Keys
from belljar.server.protocol import protocol_class
from belljar.server.settings import Settings

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
INTERRUPTED = 130
BACKLOG = 2048
LAST_WORDS = 2.0  # seconds to write the errors of what was ended, and to take it apart
CLOSING = 1.0  # seconds for what still does not end, after it was cancelled
STEP = 0.02  # seconds between two looks at what still runs


class Startable(application.Service, Protocol):
    """A service with a life of its own."""

    async def start(self) -> None:
        """Make ready. Raises BelljarError."""

    async def close(self) -> None:
        """Give everything back. Never raises."""


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets that accept at an address: one for each that the name has. Raises HostError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise HostError(f"cannot listen at {host}: {error.strerror}") from None
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    for family, kind, protocol, _, address in dict.fromkeys(found):
        actual = sockets[0].getsockname()[1] if sockets else port
        try:
            sockets.append(_bind(family, kind, protocol, (address[0], actual, *address[2:])))
        except OSError as error:
            failure = error  # a name may have an address that this host has not (::1)
    if not sockets:
        reason = failure.strerror if failure is not None else "it has no address"
        raise HostError(f"cannot listen at {_join(host, port)}: {reason}")
    return sockets


def _bind(family: int, kind: int, protocol: int, address: tuple[object, ...]) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)  # now: a port that is taken says so here
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def url_of(listener: socket.socket, host: str) -> str:
    """The base URL of a socket, with the port that it really has."""
    return f"http://{_join(host, listener.getsockname()[1])}"


def _join(host: str, port: int) -> str:
    bare = host.strip("[]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


class Server(uvicorn.Server):
    """uvicorn's, with signals and the way to stop taken over."""

    def __init__(self, app: App) -> None:
        http = app.settings.http
        config = uvicorn.Config(
            app,
            http=protocol_class(http),
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            headers=[("server", "belljar")],
            timeout_keep_alive=http.idle_seconds,
        )
        super().__init__(config)
        self.app = app
        self.interrupts = 0

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `run`, which must stop more than HTTP."""
        yield

    def stop(self, number: int) -> None:
        """Begin to stop; a second time: skip what is left of the grace."""
        self.app.state = application.STOPPING
        if self.should_exit:
            self.force_exit = True
            self.interrupts += number == signal.SIGINT
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing more, let what runs end, then end it."""
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        app = self.app
        if not await self._wait(lambda: not app.running or self.force_exit, app.settings.grace):
            log.warning("%d requests are ended: the time of grace is over", len(app.running))
        for connection in list(self.server_state.connections):
            connection.shutdown()
        app.interrupt_all(ShuttingDown("the server is stopping; send the request again"))
        if not await self._wait(lambda: not self.server_state.tasks, LAST_WORDS):
            for task in list(self.server_state.tasks):
                task.cancel()
            await self._wait(lambda: not self.server_state.tasks, CLOSING)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    @staticmethod
    async def _wait(done: Callable[[], bool], seconds: float) -> bool:
        """Wait for a condition; False where it did not come in time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not done():
            if loop.time() >= end:
                return False
            await asyncio.sleep(STEP)
        return True


def run(
    service: Startable,
    settings: Settings,
    keys: Keys,
    sockets: list[socket.socket],
    on_ready: Callable[[App], Awaitable[None]],
) -> int:
    """Serve until a signal comes; the exit code. `on_ready` is called when requests are answered.

    Raises what the service's start raises.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(service, settings, keys, sockets, on_ready))


async def _run(
    service: Startable,
    settings: Settings,
    keys: Keys,
    sockets: list[socket.socket],
    on_ready: Callable[[App], Awaitable[None]],
) -> int:
    server = Server(App(service, settings, keys))
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, server.stop, number)
    serving = asyncio.create_task(server.serve(sockets=sockets))
    try:
        await _start(service, server, serving, on_ready)
        await serving
    finally:
        server.should_exit = server.force_exit = True
        await asyncio.gather(serving, return_exceptions=True)
        await service.close()
    return INTERRUPTED if server.interrupts else 0


async def _start(
    service: Startable, server: Server, serving: asyncio.Task[None], on_ready: Callable[[App], Awaitable[None]]
) -> None:
    """Start the service, unless a signal comes first, or HTTP ends."""
    starting = asyncio.create_task(service.start())
    while not ((starting.done() and server.started) or server.should_exit or serving.done()):  # noqa: ASYNC110 -- no event
        await asyncio.sleep(STEP)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return
    await starting
    if not server.should_exit:
        gc.collect()
        gc.freeze()  # what is here now stays: the collector need not look at it again
        server.app.state = application.SERVING
        await on_ready(server.app)
