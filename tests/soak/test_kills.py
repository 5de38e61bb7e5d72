"""What belongs to Belljar is killed under load: the service goes on, or all of it is gone; nothing in between.

Covered: zygotes and their keepers, the host process, host and keepers together. Not covered: the machine going down.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from belljar.bench.machine import zygotes_below
from belljar.errors import AtCapacity, SandboxFailed, SessionClosed
from belljar.guest import kernel
from belljar.guest.launch import descendants
from belljar.sandbox import cgroup
from belljar.sandbox.pool import Pool
from soak import census
from soak.load import one, under_load

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]

KILLS = 20
RECOVERY_SECONDS = 5.0
GONE_SECONDS = 5.0
READY = 8

VICTIMS: dict[str, Callable[[Pool], list[int]]] = {
    "zygotes": lambda pool: zygotes_below(pool.backend.zygote_pids),
    "keepers": lambda pool: pool.backend.zygote_pids,
}


@pytest.mark.parametrize("victims", VICTIMS)
async def test_the_next_execution_works(victims: str, folder: Path, say: Callable[[str], None]) -> None:
    took = []
    killed = 0
    async with Pool(preload=(), ready=READY) as pool:
        await census.when_quiet(pool, READY)
        before = census.take(pool)
        async with under_load(pool) as tally:
            for _ in range(KILLS):
                await asyncio.sleep(1)
                killed += _kill(VICTIMS[victims](pool))
                took.append(await _until_one_works(pool))
        after = await census.when_quiet(pool, READY)
    left = census.take(None)
    say(f"{killed} {victims} killed; next execution after {sorted(took)[KILLS // 2]:.2f} s (max {max(took):.2f} s)")
    say(f"what their users saw: {dict(tally)}; afterwards more of {before.differences(after)}")
    assert killed >= KILLS
    assert max(took) < RECOVERY_SECONDS
    assert before.differences(after) == {}
    assert (left.processes, left.groups, left.files) == (0, 0, 0)


async def _until_one_works(pool: Pool) -> float:
    start = time.monotonic()
    async with asyncio.timeout(4 * RECOVERY_SECONDS):
        while True:
            with contextlib.suppress(AtCapacity, SandboxFailed, SessionClosed, AssertionError):
                await one(pool)
                return time.monotonic() - start


# --- the host process -------------------------------------------------------------------------------------------------


@pytest.fixture
def adopts() -> Iterator[None]:
    """Orphans of our children become our own children, so that none can hide."""
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    yield
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 0)


@pytest.fixture
def server(adopts: None, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process with a pool under load."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    script = Path(__file__).parent / "server.py"
    with subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "loaded\n"
            yield process
        finally:
            process.kill()
    assert _wait_until(lambda: not _living())


KILLED = {
    "host": lambda host: [host],
    "host and keepers": lambda host: [host, *_children(host)],
}


@pytest.mark.parametrize("killed", KILLED)
async def test_a_killed_host_leaves_nothing(
    killed: str, server: subprocess.Popen[str], folder: Path, say: Callable[[str], None]
) -> None:
    mark = cgroup.process_mark(server.pid)
    had = len(_living()), len(census.groups_of(mark))
    await asyncio.sleep(1)
    start = time.monotonic()
    _kill(KILLED[killed](server.pid))
    server.wait()
    gone = _wait_until(lambda: not _living())
    groups_gone = _wait_until(lambda: not census.groups_of(mark), GONE_SECONDS - (time.monotonic() - start))
    say(
        f"{killed} killed with {had[0]} processes and {had[1]} groups: processes gone after {_seconds(gone, start)}, "
        f"groups {_seconds(groups_gone, start)}"
    )
    assert gone
    assert gone - start < GONE_SECONDS
    async with Pool(preload=(), ready=1) as pool:  # where nobody was left to do it, the next start does
        assert not census.groups_of(mark)
        await one(pool)
    if killed == "host":
        assert groups_gone


def _seconds(moment: float, start: float) -> str:
    return f"{moment - start:.2f} s" if moment else "not until the next start"


def _living() -> set[int]:
    """Our descendants but for those that have ended and are only waited for; which this does."""
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            os.waitpid(found.si_pid, 0)
    return descendants(os.getpid())


def _children(parent: int) -> list[int]:
    text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(word) for word in text.split()]


def _wait_until(condition: Callable[[], bool], seconds: float = GONE_SECONDS) -> float:
    """The moment in which it held; 0 where it did not in time."""
    deadline = time.monotonic() + max(seconds, 0.1)
    while not condition():
        if time.monotonic() > deadline:
            return 0.0
        time.sleep(0.02)
    return time.monotonic()


def _kill(pids: Iterable[int]) -> int:
    count = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            count += 1
    return count
