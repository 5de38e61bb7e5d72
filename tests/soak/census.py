"""What there is of a pool, counted from outside: processes, descriptors, mounts, groups, files, memory.

Everything is read from /proc and the cgroup file systems; the pool itself is asked for the pids of its zygotes only.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from belljar.bench.machine import zygotes_below
from belljar.guest.launch import descendants
from belljar.sandbox import cgroup
from belljar.sandbox.pool import Pool

QUIET_SECONDS = 30.0
GROWTH_MIB = {"host_rss": 8.0, "zygote_rss": 4.0}  # pages come and go; a leak of 1 KiB a sandbox is 9 MiB in 9,000


@dataclass(frozen=True, kw_only=True)
class Census:
    """Counts, and resident anonymous memory in MiB; of several zygotes the sum."""

    processes: int
    host_fds: int
    zygote_fds: int
    zygote_threads: int
    mounts: int
    zygote_mounts: int
    groups: int
    files: int
    host_rss: float
    zygote_rss: float

    def differences(self, later: Census) -> dict[str, float]:
        """What a later census has more of than it may."""
        grown = {name: asdict(later)[name] - value for name, value in asdict(self).items()}
        return {name: by for name, by in grown.items() if by > GROWTH_MIB.get(name, 0)}


def take(pool: Pool | None) -> Census:
    """Count now. Without a pool: what is left of one."""
    gc.collect()
    zygotes = zygotes_below(pool.backend.zygote_pids) if pool is not None else []
    mark = cgroup.process_mark(os.getpid())
    return Census(
        processes=len(descendants(os.getpid())),
        host_fds=_count("/proc/self/fd"),
        zygote_fds=sum(_count(f"/proc/{pid}/fd") for pid in zygotes),
        zygote_threads=sum(_count(f"/proc/{pid}/task") for pid in zygotes),
        mounts=_lines("/proc/self/mountinfo"),
        zygote_mounts=sum(_lines(f"/proc/{pid}/mountinfo") for pid in zygotes),
        groups=sum(len(list(folder.rglob("*/"))) for folder in groups_of(mark)),
        files=sum(len(files) + len(folders) for _, folders, files in os.walk(tempfile.gettempdir())),
        host_rss=_anonymous_mib("self"),
        zygote_rss=sum(_anonymous_mib(str(pid)) for pid in zygotes),
    )


async def when_quiet(pool: Pool, ready: int) -> Census:
    """Count once the stock is full, and what was given back is gone."""
    deadline = time.monotonic() + QUIET_SECONDS
    before = take(pool)
    while time.monotonic() < deadline:
        await asyncio.sleep(0.3)
        now, facts = take(pool), pool.facts
        at_rest = (facts["ready"], facts["starting"], facts["in_use"]) == (ready, 0, 0)
        if at_rest and (now.processes, now.groups, now.host_fds) == (before.processes, before.groups, before.host_fds):
            return now
        before = now
    raise AssertionError(f"the pool did not come to rest: {pool.facts}, {before}")


def groups_of(mark: str) -> list[Path]:
    """The cgroups of a host process, by its mark."""
    place, _ = cgroup.find_place()
    parents = {folder.parent for folder in place.distinct} if place is not None else set()
    return [folder for parent in parents for folder in parent.glob(f"{cgroup.PREFIX}{mark}*")]


def _count(folder: str) -> int:
    with contextlib.suppress(OSError):
        return len(list(Path(folder).iterdir())) - (folder == "/proc/self/fd")
    return 0


def _lines(path: str) -> int:
    with contextlib.suppress(OSError):
        return len(Path(path).read_bytes().splitlines())
    return 0


def _anonymous_mib(pid: str) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
    return 0.0
