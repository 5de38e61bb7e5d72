"""Memory, process and file budgets where the host has no control groups for us: a loop that looks and kills.

Promises: a guest that goes over its memory is killed within a few intervals, together with everything it started. It can
overshoot by what it allocates in one interval; RLIMIT_DATA bounds each single process before that. Looks only while code runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Protocol

from belljar.guest.launch import descendants
from belljar.sandbox.base import Limits
from belljar.sandbox.threads import in_thread

INTERVAL_SECONDS = 0.05
PAGE = os.sysconf("SC_PAGE_SIZE")


class Watched(Protocol):
    """What the watchdog needs of a session."""

    @property
    def pid(self) -> int:
        """The first process of the guest, as the host counts."""

    @property
    def busy(self) -> bool:
        """Whether code is running."""

    def kill_for_memory(self) -> None:
        """End it: too much memory."""


class Watchdog:
    """Watches the sessions of one fork server."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._watched: dict[Watched, tuple[int, int]] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, session: Watched, folder: int) -> None:
        """Watch a session; what it has now, inherited from the zygote, does not count. `folder` is its working folder."""
        self._watched[session] = (folder, anonymous_bytes(session.pid))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._loop())

    def discard(self, session: Watched) -> None:
        """Watch it no longer."""
        self._watched.pop(session, None)

    def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()

    async def _loop(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            busy = {session: facts for session, facts in self._watched.items() if session.busy}
            if busy:
                over = await in_thread(self._over_budget, busy)
                for session in over:
                    if session in self._watched:
                        session.kill_for_memory()

    def _over_budget(self, busy: dict[Watched, tuple[int, int]]) -> list[Watched]:
        over = []
        for session, (folder, inherited) in busy.items():
            processes = [session.pid, *descendants(session.pid)]
            used = sum(max(0, anonymous_bytes(pid) - inherited) for pid in processes) + _folder_bytes(folder)
            if used > self._limits.memory and self._exact(processes, inherited, folder) > self._limits.memory:
                over.append(session)
        return over

    def _exact(self, processes: list[int], inherited: int, folder: int) -> int:
        """Shared pages counted once: what children have in common with their parent is not theirs alone."""
        shares = sum(proportional_bytes(pid) for pid in processes)
        return shares + _folder_bytes(folder)


def anonymous_bytes(pid: int) -> int:
    """Resident memory of a process that no file backs, in bytes; 0 where it has ended. See proc_pid_statm(5)."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        words = Path(f"/proc/{pid}/statm").read_text().split()
        return (int(words[1]) - int(words[2])) * PAGE
    return 0


def proportional_bytes(pid: int) -> int:
    """Anonymous memory of a process, each shared page divided by the number of those who share it, in bytes."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss_Anon:"):
                return int(line.split()[1]) * 1024
    return 0


def _folder_bytes(folder: int) -> int:
    with contextlib.suppress(OSError):
        status = os.fstatvfs(folder)
        if status.f_blocks * status.f_frsize < (1 << 40) and os.major(os.fstat(folder).st_dev) == 0:
            return (status.f_blocks - status.f_bfree) * status.f_frsize
    return 0
