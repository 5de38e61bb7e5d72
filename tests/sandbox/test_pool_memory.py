"""Sessions that are asked for with more memory, or less, than others: they get it, and no more; the bounds hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from belljar import IsolationUnavailable, Limits, Outcome, Pool
from belljar.errors import BadRequest, FileError
from belljar.sandbox import cgroup
from belljar.sandbox.backends import BACKENDS
from belljar.sandbox.pool import default_max_memory
from belljar.sandbox.session import GuestSession

MIB = 1 << 20
LIMITS = Limits(memory=128 * MIB, timeout=30.0)
HOLD = "held = bytearray({} << 20)\nfor at in range(0, len(held), 4096): held[at] = 1\nlen(held) >> 20"


@pytest.fixture(params=[*sorted(BACKENDS), "full without groups", "container without groups"])
async def pools(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., object]]:
    profile, _, rest = str(request.param).partition(" ")
    if rest:
        monkeypatch.setattr(cgroup, "find_place", lambda: (None, "a test wants none"))
    opened: list[Pool] = []

    async def make(**options: object) -> Pool:
        pool = Pool(profile=profile, preload=(), **{"zygotes": 1, "ready": 1, "limits": LIMITS, **options})  # type: ignore[arg-type]
        try:
            await pool.start()
        except IsolationUnavailable as error:
            pytest.skip(f"PROFILE {profile} NOT TESTED: {error}")
        opened.append(pool)
        return pool

    yield make
    for pool in opened:
        await pool.close()


async def test_a_session_has_the_memory_that_it_was_asked_for_with(pools) -> None:
    pool = await pools(max_memory=256 * MIB)
    session = await pool.acquire(256 * MIB)
    assert (await session.run(HOLD.format(180))).text == "180"  # more than others may
    execution = await session.run(HOLD.format(400))
    assert execution.outcome is Outcome.OUT_OF_MEMORY
    if "256" in (execution.error.value if execution.error else ""):  # where the host ended it, it says why
        assert f"{256 * MIB:,} bytes" in execution.error.value
    await session.close()
    async with pool.session() as other:
        await check_removal(other)
        assert (await other.run(HOLD.format(180))).outcome is Outcome.OUT_OF_MEMORY


async def check_removal(session: GuestSession) -> None:
    """The host removes what it is told to, and nothing through a link."""
    await session.write_file("a/kept.txt", b"1")
    await session.write_file("a/gone.txt", b"2")
    await session.run("import os; os.symlink('a/kept.txt', 'link'); os.symlink('a', 'folder')")
    for path in ("a/gone.txt", "/mnt/data/a/gone.txt", "link", "nothing"):
        await session.remove_file(path)
    for path in ("folder/kept.txt", "../x", "a"):
        with pytest.raises(FileError):
            await session.remove_file(path)
    assert [info.path for info in await session.list_files()] == ["a/kept.txt"]
    assert (await session.run("sorted(os.listdir())")).text == "['a', 'folder']"


async def test_too_much_or_too_little_is_refused() -> None:
    pool = Pool(limits=LIMITS, max_memory=256 * MIB)
    for memory in (256 * MIB + 1, 1 * MIB):
        with pytest.raises(BadRequest, match="max_memory"):
            await pool.acquire(memory)
    pool.check_memory(256 * MIB)
    pool.check_memory(None)


def test_the_default_bound_is_what_the_host_has(monkeypatch: pytest.MonkeyPatch) -> None:
    for free, least, most in ((64 << 30, MIB, 4 << 30), (2 << 30, MIB, 1 << 30), (2 << 30, 8 << 30, 8 << 30)):
        monkeypatch.setattr("belljar.sandbox.pool.available_memory", lambda free=free: free)
        assert default_max_memory(least) == most


async def test_the_bound_on_sandboxes_holds_for_them_too_and_who_can_make_room_is_told() -> None:
    try:
        pool = Pool(preload=(), zygotes=1, ready=0, max_sandboxes=2, max_memory=256 * MIB, wait=20.0, limits=LIMITS)
        await pool.start()
    except IsolationUnavailable as error:
        pytest.skip(f"NOT TESTED: {error}")
    chores: list[asyncio.Future[None]] = []
    try:
        held = [await pool.acquire(), await pool.acquire(64 * MIB)]
        assert [session.limits.memory for session in held] == [128 * MIB, 64 * MIB]
        assert (pool.facts["in_use"], pool.facts["ready"], pool.facts["starting"]) == (2, 0, 0)
        pressed: list[bool] = []

        def make_room() -> None:
            pressed.append(pool.is_short)
            chores.append(asyncio.ensure_future(held.pop().close()))

        pool.on_pressure = make_room
        session = await pool.acquire()
        assert session.limits.memory == 128 * MIB
        assert (await session.run("1 + 1")).text == "2"
        assert (pressed, len(held), pool.is_short) == ([True], 1, False)
    finally:
        await asyncio.gather(*chores)
        await pool.close()
