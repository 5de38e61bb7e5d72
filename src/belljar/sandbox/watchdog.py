"""Memory, process and file budgets where the host has no control groups for us: a loop that looks and kills.

Promises: a guest that goes over a limit is killed within a few looks, together with everything it started. It can
overshoot by what it allocates between two looks; RLIMIT_DATA bounds each single process before that. Guests that have
never run anything are not looked at. What goes wrong with one guest stops no look at others.
Sources: proc_pid_status(5), proc_pid_smaps(5), proc_pid_maps(5).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from belljar.guest.launch import descendants, parents
from belljar.guest.trees import measure_tree
from belljar.sandbox.base import Limits
from belljar.sandbox.files import acting_as
from belljar.sandbox.threads import in_thread

INTERVAL_SECONDS = 0.05
SELDOM = 10  # files and shared memory that is not resident: one look of ten
MAX_DEPTH = 200
ALLOWANCE = 32  # folders and links that are not the guest's doing
log = logging.getLogger(__name__)


class Watched(Protocol):
    """What the watchdog needs of a session."""

    @property
    def pid(self) -> int:
        """The first process of the guest, as the host counts."""

    @property
    def owner(self) -> int | None:
        """Its user where that is another than the host's."""

    @property
    def used(self) -> bool:
        """Whether code has ever run."""

    @property
    def limits(self) -> Limits:
        """What it may use."""

    def copy_folder(self) -> int:
        """A new descriptor of its working folder. Raises OSError when it is closed."""

    def kill_for(self, limit: str) -> None:
        """End it: over this limit."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look at one guest. `inherited`: the memory that it has from its zygote, in bytes."""

    limits: Limits
    processes: tuple[int, ...]
    folder: int
    inherited: int
    thorough: bool


class Watchdog:
    """Watches the sessions of one fork server for the limits named in `watch`: memory, processes, files."""

    def __init__(self, watch: frozenset[str]) -> None:
        self._watch = watch
        self._watched: dict[Watched, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._looks = 0

    def add(self, session: Watched) -> None:
        """Watch a session; what it has inherited from the zygote does not count."""
        with acting_as(session.owner):
            self._watched[session] = resident_bytes(session.pid)
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
            self._looks += 1
            watched = {session: inherited for session, inherited in self._watched.items() if session.used}
            if watched:
                for session, limit in (await in_thread(self._look_at_all, watched)).items():
                    if session in self._watched:
                        session.kill_for(limit)

    def _look_at_all(self, watched: dict[Watched, int]) -> dict[Watched, str]:
        over: dict[Watched, str] = {}
        table = parents()
        for session, inherited in watched.items():
            try:
                limit = self._maybe_over(session, inherited, table)
            except Exception as error:  # it has been closed, or hides: no reason to stop looking at others
                log.debug("a guest could not be looked at: %s", error)
                continue
            if limit is not None:
                over[session] = limit
        return over

    def _maybe_over(self, session: Watched, inherited: int, table: dict[int, int]) -> str | None:
        folder = session.copy_folder()
        try:
            look = Look(
                limits=session.limits,
                processes=(session.pid, *descendants(session.pid, table)),
                folder=folder,
                inherited=inherited,
                thorough=self._looks % SELDOM == 0,
            )
            with acting_as(session.owner):  # root without CAP_SYS_PTRACE may not look into another user's process
                return next((name for name in sorted(self._watch) if LOOKS[name](self, look)), None)
        finally:
            os.close(folder)

    def _too_much_memory(self, look: Look) -> bool:
        files = 0 if "files" in self._watch else _folder_bytes(look.folder)  # in memory where it is a tmpfs of its own
        used = sum(max(0, resident_bytes(pid) - look.inherited) for pid in look.processes) + files
        if look.thorough:
            used = max(used, files + sum(deleted_mappings(look.processes).values()))
        if used <= look.limits.memory:
            return False
        # Exactly, then: what children share counts once; shared memory counts also where it is not resident.
        shared = sum(deleted_mappings(look.processes).values())
        return files + shared + sum(map(proportional_bytes, look.processes)) > look.limits.memory

    def _too_many_processes(self, look: Look) -> bool:
        return len(look.processes) > look.limits.processes

    def _too_many_files(self, look: Look) -> bool:
        if not look.thorough:
            return False
        base = os.open("..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=look.folder)  # the guest's data and tmp folders
        try:
            found = measure_tree(base, look.limits.files_count + ALLOWANCE, MAX_DEPTH)
        finally:
            os.close(base)
        return found is None or found[1] + unlinked_bytes(look.processes, look.folder) > look.limits.files_bytes


LOOKS: dict[str, Callable[[Watchdog, Look], bool]] = {
    "memory": Watchdog._too_much_memory,
    "processes": Watchdog._too_many_processes,
    "files": Watchdog._too_many_files,
}


def resident_bytes(pid: int) -> int:
    """Resident memory of a process that no file backs, private and shared, in bytes; 0 where it has ended."""
    total = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                total += int(line.split()[1]) * 1024
    return total


def processor_seconds(pids: Sequence[int]) -> list[float]:
    """What each of these processes has used of processors, with all that are below it now or were waited for, in
    seconds. Not seen are those that ended without being waited for. It blocks.
    """
    table = parents()
    return [sum(map(_ticks, (pid, *descendants(pid, table)))) / os.sysconf("SC_CLK_TCK") for pid in pids]


def _ticks(pid: int) -> int:
    """User and system time of all its threads and of children it has waited for, in clock ticks; 0 if it has ended."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return sum(map(int, fields[11:15]))
    return 0


def proportional_bytes(pid: int) -> int:
    """Anonymous memory of a process, each shared page divided by the number of those who share it, in bytes."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss_Anon:"):
                return int(line.split()[1]) * 1024
    return 0


def deleted_mappings(processes: tuple[int, ...]) -> dict[str, int]:
    """Sizes of the mappings of what has no name: shared anonymous memory and unlinked files. Each inode once."""
    sizes: dict[str, int] = {}
    for pid in processes:
        with contextlib.suppress(OSError, ValueError):
            for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
                if line.endswith(" (deleted)"):
                    span, _, offset, device, inode = line.split(None, 5)[:5]
                    start, end = (int(word, 16) for word in span.split("-"))
                    key = f"{device} {inode}"
                    sizes[key] = max(sizes.get(key, 0), int(offset, 16) + end - start)
    return sizes


def unlinked_bytes(processes: tuple[int, ...], folder: int) -> int:
    """What unlinked files on the folder's file system hold that these processes have open or mapped, in bytes."""
    device = os.fstat(folder).st_dev
    found: dict[int, int] = {}
    for pid in processes:
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    status = os.stat(f"/proc/{pid}/fd/{name}")
                    if stat.S_ISREG(status.st_mode) and status.st_nlink == 0 and status.st_dev == device:
                        found[status.st_ino] = status.st_blocks * 512
    mark = f"{os.major(device):02x}:{os.minor(device):02x} "
    for key, size in deleted_mappings(processes).items():
        if key.startswith(mark):
            found.setdefault(int(key.split()[1]), size)
    return sum(found.values())


def _folder_bytes(folder: int) -> int:
    with contextlib.suppress(OSError):
        status = os.fstatvfs(folder)
        return (status.f_blocks - status.f_bfree) * status.f_frsize
    return 0
