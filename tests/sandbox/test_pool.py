"""The pool: bounded, refuses clearly, replaces what dies, leaves nothing behind, however its process ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from belljar import AtCapacity, ImageError, IsolationUnavailable, Limits, Outcome, Pool, SessionClosed
from belljar.guest.launch import descendants
from belljar.sandbox.backends import BACKENDS


@pytest.fixture(params=sorted(BACKENDS))
async def pools(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., object]]:
    opened: list[Pool] = []

    async def make(**options: object) -> Pool:
        pool = Pool(profile=request.param, preload=(), **{"zygotes": 1, **options})  # type: ignore[arg-type]
        try:
            await pool.start()
        except IsolationUnavailable as error:
            pytest.skip(f"PROFILE {request.param} NOT TESTED: {error}")
        opened.append(pool)
        return pool

    yield make
    for pool in opened:
        await pool.close()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.01)


async def test_the_stock_is_filled_and_refilled(pools) -> None:
    pool = await pools(ready=3)
    await until(lambda: pool.facts["ready"] == 3)
    async with pool.session() as session:
        assert (await session.run("1 + 1")).text == "2"
        await until(lambda: (pool.facts["ready"], pool.facts["in_use"]) == (3, 1))
    await until(lambda: pool.facts["in_use"] == 0)


async def test_no_more_than_the_bound_is_alive(pools) -> None:
    pool = await pools(ready=2, max_sandboxes=3, wait=30)
    most = 0

    async def use() -> str | None:
        nonlocal most
        async with pool.session() as session:
            facts = pool.facts
            most = max(most, facts["ready"] + facts["in_use"] + facts["starting"])
            return (await session.run("6 * 7")).text

    assert await asyncio.gather(*(use() for _ in range(12))) == ["42"] * 12
    assert most <= 3


async def test_a_full_queue_refuses_at_once(pools) -> None:
    pool = await pools(ready=0, max_sandboxes=1, queue=1, wait=30)
    first = await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    with pytest.raises(AtCapacity, match="at capacity: 1 sandboxes in use, 1 requests waiting"):
        await pool.acquire()
    await first.close()
    second = await waiting
    assert second is not first
    await second.close()


async def test_a_wait_that_is_over_refuses(pools) -> None:
    pool = await pools(ready=0, max_sandboxes=1, wait=0.1)
    async with pool.session():
        with pytest.raises(AtCapacity, match=r"within 0\.1 s"):
            await pool.acquire()
    async with pool.session() as session:
        assert (await session.run("1")).ok


async def test_a_cancelled_wait_leaves_its_place(pools) -> None:
    pool = await pools(ready=0, max_sandboxes=1, queue=1)
    first = await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert pool.facts["waiting"] == 0
    await first.close()
    async with pool.session() as session:
        assert (await session.run("1")).ok


async def test_what_dies_in_stock_is_not_handed_out(pools) -> None:
    pool = await pools(ready=2)
    await until(lambda: pool.facts["ready"] == 2)
    for session in list(pool._stock):
        os.kill(session.pid, signal.SIGKILL)
    await asyncio.sleep(0.2)
    async with pool.session() as session:
        assert (await session.run("'fresh'")).text == "'fresh'"


async def test_a_killed_zygote_is_replaced(pools) -> None:
    pool = await pools(ready=2)
    async with pool.session() as session:
        running = asyncio.create_task(session.run("import time\nprint('on', flush=True)\ntime.sleep(60)"))
        await asyncio.sleep(0.3)
        for pid in pool.backend.zygote_pids:
            for victim in descendants(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
        assert (await running).outcome is Outcome.KILLED
    started = time.monotonic()
    text = None
    while (
        text != "'after'"
    ):  # one that is handed out in the milliseconds before the kernel has ended it may still be killed
        assert time.monotonic() - started < 5
        async with pool.session() as session:
            text = (await session.run("'after'")).text


async def test_a_caller_who_leaves_frees_the_sandbox(pools) -> None:
    pool = await pools(ready=0, max_sandboxes=1)
    session = await pool.acquire()
    async for _ in session.stream("print('on')\nwhile True: pass"):
        break
    task = asyncio.create_task(session.run("1"))
    with pytest.raises(SessionClosed):
        await task
    async with pool.session() as fresh:
        assert (await fresh.run("1")).ok


async def test_cancelling_a_run_ends_the_session(pools) -> None:
    pool = await pools(ready=0, max_sandboxes=1)
    session = await pool.acquire()
    task = asyncio.create_task(session.run("while True: pass"))
    await asyncio.sleep(0.2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: not session.alive)
    async with pool.session() as fresh:
        assert (await fresh.run("1")).ok


async def test_memory_of_children_counts(pools) -> None:
    pool = await pools(ready=0, limits=Limits(memory=192 << 20, timeout=30))
    code = """
import os, time
for _ in range(4):
    if os.fork() == 0:
        hog = bytearray(os.urandom(1 << 20) * 80)
        time.sleep(20)
        os._exit(0)
time.sleep(20)
"""
    async with pool.session() as session:
        assert (await session.run(code)).outcome is Outcome.OUT_OF_MEMORY


async def test_closing_leaves_no_process(pools) -> None:
    before = descendants(os.getpid())
    pool = await pools(ready=3)
    await until(lambda: pool.facts["ready"] == 3)
    session = await pool.acquire()
    await session.run("import subprocess\nsubprocess.Popen(['sleep', '60'], start_new_session=True)")
    assert descendants(os.getpid()) - before
    await pool.close()
    await until(lambda: not descendants(os.getpid()) - before)


ORPHANS = """
import os, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
"""


@pytest.mark.parametrize("end", ["", "os._exit(1)", "os.kill(os.getpid(), 9)"])
async def test_daemons_die_with_their_session(pools, end: str) -> None:
    pool = await pools(ready=0)
    if pool.facts["profile"] == "gvisor":
        pytest.skip("the host sees no process of a guest there, only gVisor's own: test_gvisor looks inside")
    async with pool.session():
        before = descendants(os.getpid())
        session = await pool.acquire()
        await session.run(ORPHANS + end)
        await session.close()
        await until(lambda: not descendants(os.getpid()) - before)


async def test_an_image_that_is_not_there_is_named() -> None:
    with pytest.raises(ImageError, match="no-such-image"):
        await Pool("no-such-image").start()


async def test_an_import_that_fails_names_the_image() -> None:
    with pytest.raises(ImageError, match=r"default.*no_such_module"):
        await Pool(preload=("no_such_module",)).start()


async def test_no_such_profile() -> None:
    with pytest.raises(ValueError, match="full"):
        Pool(profile="none")


SERVER = """
import asyncio, sys
from belljar import Pool
async def main():
    async with Pool(profile=sys.argv[1], preload=(), ready=3, zygotes=1) as pool:
        sessions = [await pool.acquire() for _ in range(3)]
        for session in sessions:
            await session.run("import subprocess; subprocess.Popen(['sleep', '60'], start_new_session=True)")
        print(*pool.backend.zygote_pids, flush=True)
        await asyncio.gather(*(session.run("while True: pass", timeout=60) for session in sessions))
asyncio.run(main())
"""


@pytest.mark.parametrize("profile", sorted(BACKENDS))
def test_a_host_killed_with_sigkill_leaves_nothing(profile: str) -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVER), profile],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert server.stdout is not None
    assert server.stderr is not None
    line = server.stdout.readline()
    if not line:
        error = server.stderr.read().decode()
        server.communicate()
        pytest.skip(f"PROFILE {profile} NOT TESTED: {error[-300:]}")
    keepers = [int(word) for word in line.split()]
    processes = set(keepers) | {pid for keeper in keepers for pid in descendants(keeper)}
    assert len(processes) >= 8
    mark = f"belljar-{server.pid}-"
    server.kill()
    server.communicate()
    deadline = time.monotonic() + 30
    while left := [pid for pid in processes if _is_running(pid)] + _remains(mark):
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.05)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _remains(mark: str) -> list[object]:
    """Control groups and work folders of a host. os.walk, as folders of others vanish while we look."""
    groups = [f"{at}/{name}" for at, names, _ in os.walk("/sys/fs/cgroup") for name in names if name.startswith(mark)]
    return [*groups, *Path(tempfile.gettempdir()).glob(f"{mark}*")]
