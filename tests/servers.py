"""A real Belljar for tests: sandboxes, service, HTTP on a port of its own, over a scripted upstream, in one thread.

    with start_belljar({"some-model": plain("Hello")}) as belljar:
        ...  # belljar.url, belljar.upstream, belljar.in_use

Promises: everything that a user's server is made of, but for the process and its command line; it can be asked from any
thread or loop; leaving the block ends every sandbox, connection and thread. Not covered: signals.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import uvloop

from belljar.cli.sources import systems
from belljar.sandbox.pool import Pool
from belljar.scripted import ScriptedUpstream
from belljar.scripted.scripts import Script
from belljar.server.app import create_app
from belljar.server.serve import Server, listen, url_of
from belljar.server.service import Service, open_store
from belljar.server.settings import Keep, Settings
from belljar.upstream.catalog import Catalog
from belljar.upstream.settings import ModelSettings, UpstreamSettings

T = TypeVar("T")
HOST = "127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 20.0
KEPT_SANDBOXES = 8  # idle interpreters of containers: a server of many tests would gather a crowd of them


class Belljar:
    """A running server. Methods may be called from any thread but its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, service: Service, upstream: ScriptedUpstream) -> None:
        self.service = service
        self.upstream = upstream
        self.url = ""
        self._loop = loop
        self._servers: list[tuple[Server, asyncio.Task[None]]] = []

    def call(self, work: Coroutine[Any, Any, T], seconds: float = 30.0) -> T:
        """Run a coroutine in the server's loop, and wait for it. Raises what it raises, and TimeoutError."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def listen(self, **settings: Any) -> str:
        """The URL of one more listener for the same service, with settings of its own."""
        return self.call(self._listen(settings))

    @property
    def in_use(self) -> int:
        """Sandboxes that somebody has; those of containers that wait for their next request are not counted."""
        return int(self.service.facts()["in_use"])

    def until(self, what: Callable[[], bool], seconds: float = 5.0) -> float:
        """Wait for something; how many seconds it took. Raises TimeoutError."""
        began = time.monotonic()
        while not what():
            if time.monotonic() - began > seconds:
                raise TimeoutError(f"still not so after {seconds} s; facts: {self.service.facts()}")
            time.sleep(0.005)
        return time.monotonic() - began

    async def _listen(self, settings: Mapping[str, Any]) -> str:
        sockets = listen(HOST, 0)
        server = Server(create_app(self.service, Settings(**{"host": HOST, "port": 0, "grace": 0.0} | dict(settings))))
        self._servers.append((server, asyncio.create_task(server.serve(sockets=sockets))))
        return url_of(sockets[0], HOST)

    async def _close(self) -> None:
        for server, _ in self._servers:
            server.should_exit = server.force_exit = True
        await asyncio.gather(*(task for _, task in self._servers))


@contextmanager
def start_belljar(
    script: Script,
    *,
    models: Sequence[ModelSettings] = (),
    settings: Mapping[str, Any] | None = None,
    upstream: Mapping[str, Any] | None = None,
    keep: Mapping[str, Any] | None = None,
    **pool: Any,
) -> Iterator[Belljar]:
    """A server over a scripted upstream. `models` as a configuration would map them; `settings` are the server's,
    `upstream` more of UpstreamSettings, `keep` of Keep (what is kept lies in `keep["data"]`, else in a temporary
    folder), `pool` more of Pool.
    """
    stock = {"preload": (), "zygotes": 1, "ready": 2} | pool
    started: list[Belljar] = []
    failures: list[BaseException] = []
    ready, stop = threading.Event(), threading.Event()

    async def live() -> None:
        async with ScriptedUpstream(script) as played:
            catalog = Catalog(
                [UpstreamSettings(name="script", url=played.url, **upstream or {})], models, systems=systems()
            )
            kept = Keep(**{"kept_sandboxes": KEPT_SANDBOXES} | dict(keep or {}))
            store = open_store(kept) if kept.data or kept.store else None
            service = Service(catalog, Pool(**stock), keep=kept, store=store)
            await service.start()
            belljar = Belljar(asyncio.get_running_loop(), service, played)
            try:
                belljar.url = await belljar._listen(settings or {})
                started.append(belljar)
                ready.set()
                await asyncio.to_thread(stop.wait)
            finally:
                await belljar._close()
                await service.close()

    def work() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(live())
        except BaseException as error:
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=work, name="belljar-under-test")
    thread.start()
    try:
        assert ready.wait(START_SECONDS), "the server did not start in time"
        if failures:
            raise failures[0]
        yield started[0]
    finally:
        stop.set()
        thread.join(STOP_SECONDS)
    assert not thread.is_alive(), "the server did not stop in time"
    if failures:
        raise failures[0]
