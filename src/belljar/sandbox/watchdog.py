"""Memory, process and file budgets where the host has no control groups for us: a loop that looks and kills.

Promises: a guest that goes over its memory is killed within a few intervals, together with everything it started. It
can overshoot by what it allocates in one interval; RLIMIT_DATA bounds each single process before that. Looks only
while code runs.
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


FILES_EVERY = 10  # a folder is walked in one look of ten


class Watched(Protocol):
    """What the watchdog needs of a session."""

    @property
    def pid(self) -> int:
        """The first process of the guest, as the host counts."""

    @property
    def busy(self) -> bool:
        """Whether code is running."""

    def kill_for(self, limit: str) -> None:
        """End it: over this limit."""


class Watchdog:
    """Watches the sessions of one fork server for the limits named in `watch`: memory, processes, files."""

    def __init__(self, limits: Limits, watch: frozenset[str]) -> None:
        self._limits = limits
        self._watch = watch
        self._watched: dict[Watched, tuple[int, int]] = {}
        self._task: asyncio.Task[None] | None = None
        self._looks = 0

    def add(self, session: Watched, folder: int) -> None:
        """Watch a session; what it has inherited from the zygote does not count. `folder` is its working folder."""
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
                self._looks += 1
                for session, limit in (await in_thread(self._over_limit, busy)).items():
                    if session in self._watched:
                        session.kill_for(limit)

    def _over_limit(self, busy: dict[Watched, tuple[int, int]]) -> dict[Watched, str]:
        over: dict[Watched, str] = {}
        for session, (folder, inherited) in busy.items():
            for limit in sorted(self._watch):
                if LOOKS[limit](self, session.pid, folder, inherited):
                    over[session] = limit
        return over

    def _too_much_memory(self, pid: int, folder: int, inherited: int) -> bool:
        processes = [pid, *descendants(pid)]
        used = sum(max(0, anonymous_bytes(process) - inherited) for process in processes) + _folder_bytes(folder)
        if used <= self._limits.memory:
            return False
        # Exactly, then: what children share with their parent counts once.
        return sum(map(proportional_bytes, processes)) + _folder_bytes(folder) > self._limits.memory

    def _too_many_processes(self, pid: int, folder: int, inherited: int) -> bool:
        return 1 + len(descendants(pid)) > self._limits.processes

    def _too_many_files(self, pid: int, folder: int, inherited: int) -> bool:
        if self._looks % FILES_EVERY:
            return False
        entries, size = 0, 0
        for _, _, names, at in os.fwalk("..", dir_fd=folder):  # the guest's data and tmp folders
            entries += 1 + len(names)
            for name in names:
                with contextlib.suppress(OSError):
                    size += os.stat(name, dir_fd=at, follow_symlinks=False).st_blocks * 512
            if entries > self._limits.files_count or size > self._limits.files_bytes:
                return True
        return False


LOOKS = {
    "memory": Watchdog._too_much_memory,
    "processes": Watchdog._too_many_processes,
    "files": Watchdog._too_many_files,
}


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
