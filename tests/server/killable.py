"""Servers to be killed: for each line of standard input (a folder) one is forked, which says its process and its URL.

They have no sandboxes, so nothing but the server itself has to start.
"""

from __future__ import annotations

import asyncio
import os
import sys

import uvloop

from belljar import registry
from belljar.cli.sources import systems
from belljar.sandbox.pool import Pool
from belljar.server.app import create_app
from belljar.server.serve import Server, listen, url_of
from belljar.server.service import Service, open_store
from belljar.server.settings import Keep, Settings
from belljar.upstream.catalog import Catalog

HOST = "127.0.0.1"


async def live(folder: str) -> None:
    """A server that keeps what it keeps in a folder."""
    keep = Keep(data=folder)
    service = Service(Catalog([], [], systems=systems()), Pool(ready=0), keep=keep, store=open_store(keep))
    await service.store.open()
    await service.catalog.start()
    sockets = listen(HOST, 0)
    print(os.getpid(), url_of(sockets[0], HOST), flush=True)
    await Server(create_app(service, Settings(host=HOST, port=0))).serve(sockets=sockets)


def main() -> None:
    """One server after the other, until standard input ends."""
    for package, name in (("dialects", "DIALECT"), ("apis", "API"), ("tools", "TOOL")):
        registry.find(f"belljar.{package}", name)  # imported once, for all of them
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(live(line.strip()))
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
