"""Thousands of sandboxes in a row leave nothing: no process, descriptor, mount, group, file, and no memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from belljar.errors import IsolationUnavailable
from belljar.sandbox.pool import Pool
from soak import census
from soak.load import many

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3000)]

READY = 8
# name -> profile, imports (None: the image's list), sandboxes before the first count, sandboxes until the last
RUNS = {
    "light": ("full", (), 1000, 10_000),
    "all libraries": ("full", None, 100, 1_000),
    "container": ("container", (), 100, 1_000),
}


@pytest.mark.parametrize("name", RUNS)
async def test_nothing_is_left(name: str, folder: Path, say: Callable[[str], None]) -> None:
    profile, preload, first, last = RUNS[name]
    start = time.monotonic()
    pool = Pool(profile=profile, preload=preload, ready=READY)
    try:
        await pool.start()
    except IsolationUnavailable as error:
        pytest.skip(f"PROFILE {profile} NOT TESTED: {error}")
    try:
        await many(pool, first)
        early = await census.when_quiet(pool, READY)
        await many(pool, last - first)
        late = await census.when_quiet(pool, READY)
    finally:
        await pool.close()
    say(f"{name}, {pool.facts['limiter']}: {last:,} sandboxes in {time.monotonic() - start:.0f} s")
    say(f"after {first:,}: {_shown(early)}")
    say(f"after {last:,}: {_shown(late)}")
    assert early.differences(late) == {}


async def test_a_closed_pool_leaves_nothing(folder: Path) -> None:
    async with Pool(preload=(), ready=READY) as pool:  # what the process itself needs once: threads, caches, pipes
        await many(pool, 20)
    before = census.take(None)
    for _ in range(10):
        async with Pool(preload=(), ready=READY) as pool:
            await many(pool, 20)
    after = census.take(None)
    assert (before.processes, before.groups, before.files) == (0, 0, 0)
    assert before.differences(after) == {}


def _shown(counted: census.Census) -> str:
    return ", ".join(
        f"{name} {value:.1f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in asdict(counted).items()
    )
