"""Users of a pool: each takes a sandbox, runs print(1), gives it back, and again."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator

from belljar.errors import AtCapacity, SandboxFailed, SessionClosed
from belljar.execution import Outcome
from belljar.sandbox.pool import Pool

USERS = 4


async def one(pool: Pool) -> None:
    """One sandbox; the assertion is the promise."""
    async with pool.session() as session:
        execution = await session.run("print(1)")
    assert (execution.outcome, execution.stdout) == (Outcome.OK, "1\n"), execution


async def many(pool: Pool, count: int, users: int = USERS) -> None:
    """So many sandboxes, every one of which must do its work."""
    left = iter(range(count))

    async def user() -> None:
        for _ in left:
            await one(pool)

    async with asyncio.TaskGroup() as group:
        for _ in range(users):
            group.create_task(user())


async def use_for_ever(pool: Pool, tally: collections.Counter[str]) -> None:
    """Go on through failures of the kinds that the pool documents; any other ends the test. Counts outcomes."""
    while True:
        try:
            async with pool.session() as session:
                tally[str((await session.run("print(1)")).outcome)] += 1
        except (AtCapacity, SandboxFailed, SessionClosed) as error:
            tally[type(error).__name__] += 1
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def under_load(pool: Pool, users: int = USERS) -> AsyncIterator[collections.Counter[str]]:
    """Users all through the block. Raises what one of them ran into."""
    tally: collections.Counter[str] = collections.Counter()
    tasks = [asyncio.create_task(use_for_ever(pool, tally)) for _ in range(users)]
    try:
        yield tally
        ended = [task for task in tasks if task.done()]
        for task in ended:
            task.result()
        assert not ended
    finally:
        for task in tasks:
            task.cancel()
        _, going_on = await asyncio.wait(tasks, timeout=10)
        assert not going_on, "a cancelled user goes on: something has swallowed the cancellation"
