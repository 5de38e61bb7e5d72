"""Killed in the middle of writing, again and again: what was acknowledged is whole, what was not leaves nothing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from belljar.store.store import Store

from .crash import OWNER, digest
from .places import Place, blobs_in

TESTS = Path(__file__).resolve().parent.parent
ROUNDS = {"sqlite": 20, "postgres": 5}


async def held_by(store: Store) -> tuple[dict[str, str], dict[str, dict[str, str]], set[str]]:
    """Digests of all files, of those of containers by container and path, and the blobs of both. All must be whole."""
    rows, more = await store.files.page(OWNER, limit=100_000)
    assert not more
    files, blobs = {}, set()
    for row in rows:
        data = await store.blobs.read(row.blob)
        assert (digest(data), len(data)) == (row.digest.hex(), row.size)
        files[row.id] = digest(data)
        blobs.add(row.blob)
    boxes: dict[str, dict[str, str]] = {}
    for box in (await store.containers.page(OWNER, limit=100_000))[0]:
        inside = await store.containers.files(box.id)
        boxes[box.id] = {row.path: digest(await store.blobs.read(row.blob)) for row in inside}
        blobs |= {row.blob for row in inside}
    return files, boxes, blobs


@pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)
async def test_what_was_acknowledged_survives_sigkill(place: Place, request: pytest.FixtureRequest) -> None:
    rounds = ROUNDS["sqlite" if place.url is None else "postgres"]
    command = [sys.executable, "-m", "store.crash", str(place.folder), str(rounds), *([place.url] if place.url else [])]
    ran = await asyncio.to_thread(subprocess.run, command, cwd=TESTS, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    said: list[list[str]] = json.loads(ran.stdout)
    assert {what for what, *_ in said} >= {"answer", "file", "container"}
    place.clock.now = 0.0  # nothing has expired
    store = await place.open()
    files, boxes, blobs = await held_by(store)
    begun = {digest for what, _, digest in said if what == "trying"}
    unsure = {id for what, id, _ in said if what == "deleting"}
    for what, id, expected in said:
        if what == "answer":
            row = await store.answers.get(OWNER, id)
            assert row is not None
            assert (digest(row.events), row.ended) == (expected, True)
        elif what == "file" and id not in unsure:
            assert files[id] == expected
        elif what == "deleted":
            assert id not in files
        elif what == "container":
            assert id in boxes
        elif "/" in what:  # perhaps replaced by a later one
            box, path = what.split("/")
            assert boxes[box][path] in begun
    await store._delete_orphans(list(blobs_in(store)))
    assert blobs_in(store) == blobs
    rows, _ = await store.files.page(OWNER, limit=100_000)
    assert await store.files.held(OWNER) == (sum(row.size for row in rows), len(rows))
