"""A program whose processes write to a store and are killed in the middle: `crash.py FOLDER ROUNDS [URL]`.

Each round is a process of its own on the same folder. Prints one JSON list of [what, id, digest]: "answer", "file",
"container", a container's id and a path, "deleted" for what was acknowledged; "deleting" and "trying" for what began.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import select
import signal
import sys
import time
import traceback
from pathlib import Path

from msgspec.structs import replace

from belljar.store.store import Store

from .places import Clock, answer, contained, container, file

OWNER = "ann"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def content() -> bytes:
    return os.urandom(random.choice((10, 5_000, 200_000)))


def tell(output: int, what: str, id: str, data: bytes) -> None:
    os.write(output, f"{what} {id} {digest(data)}\n".encode())


async def write_answers(store: Store, clock: Clock, output: int) -> None:
    while True:
        row, data = answer(clock), content()
        await store.answers.add(row)
        await store.answers.save(replace(row, events=data, ended=True))
        tell(output, "answer", row.id, data)


async def write_files(store: Store, clock: Clock, output: int) -> None:
    while True:
        data = content()
        row = await file(store, clock, data=data)
        await store.files.add(row)
        tell(output, "file", row.id, data)
        if random.random() < 0.3:
            tell(output, "deleting", row.id, data)
            await store.files.delete(OWNER, row.id)
            tell(output, "deleted", row.id, data)


async def write_containers(store: Store, clock: Clock, output: int) -> None:
    box = container(clock, idle=1e6)
    await store.containers.add(box)
    tell(output, "container", box.id, b"")
    while True:
        for path in "abc":
            data = content()
            row = await contained(store, clock, box.id, path, data)
            tell(output, "trying", row.id, data)
            await store.containers.put_files(box.id, [row])
            tell(output, f"{box.id}/{path}", row.id, data)


async def write(folder: Path, url: str | None, output: int) -> None:
    store, clock = Store(folder, url), Clock()
    clock.now = time.time()
    writers = (write_answers, write_files, write_containers)
    await asyncio.gather(*(each(store, clock, output) for each in writers for _ in range(2)))


def killed(folder: Path, url: str | None) -> list[list[str]]:
    """What one process has acknowledged until it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            asyncio.run(write(folder, url, writing))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(1)
    os.close(writing)
    end, lines = time.monotonic() + 30, b""
    while time.monotonic() < end and select.select([reading], [], [], 0.01) is not None:
        if select.select([reading], [], [], 0)[0]:
            chunk = os.read(reading, 1 << 16)
            if not lines and chunk:
                end = time.monotonic() + random.uniform(0.005, 0.12)
            lines += chunk
            if not chunk:
                raise SystemExit("a writer ended by itself")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as rest:
        lines += rest.read()
    return [line.split(" ") for line in lines.decode().split("\n") if line]


if __name__ == "__main__":
    place, rounds, address = Path(sys.argv[1]), int(sys.argv[2]), (sys.argv[3:] or [None])[0]
    print(json.dumps([said for _ in range(rounds) for said in killed(place, address)]))
