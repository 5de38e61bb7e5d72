"""Control groups, version 2 or 1: memory without swap, processes, processor time, one group for each guest.

Covered: finding a place where groups may be made, making, reading, removing them; what a dead host left is swept away.
Not covered: hosts that give us no such place; there rlimits and the watchdog stand in (`watchdog`).
Everything here is blocking file I/O: moving a process into a group can wait for the kernel's RCU, so call it in a
thread. Sources: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from belljar.sandbox.base import Limits

PREFIX = "belljar-"
HOST_LEAF = "belljar-host"
V1_LIMIT = "memory.limit_in_bytes"
CONTROLLERS = ("memory", "pids", "cpu")
NEEDED = ("memory", "pids")
CPU_PERIOD_US = 100_000
HOST_SHARE = 0.8  # of the memory free at the start, for all sandboxes of this process together


_places = itertools.count(1)  # a process may have several: each fork server its own


def process_mark(pid: int) -> str:
    """A name for a process that is not used again: its pid and its start time in clock ticks. Raises OSError."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return f"{pid}-{int(fields[19])}"


def pid_namespace() -> int:
    """The number of our pid namespace: whether a process lives can only be told of those in it."""
    return os.stat("/proc/self/ns/pid").st_ino


def _v2_settings(limits: Limits) -> dict[str, dict[str, str]]:
    return {
        "memory": {"memory.max": str(limits.memory), "memory.swap.max": "0", "memory.oom.group": "1"},
        "pids": {"pids.max": str(limits.processes)},
        "cpu": {"cpu.max": f"{int(limits.cpus * CPU_PERIOD_US)} {CPU_PERIOD_US}"},
    }


def _v1_settings(limits: Limits) -> dict[str, dict[str, str]]:
    return {
        "memory": {
            "memory.limit_in_bytes": str(limits.memory),
            "memory.memsw.limit_in_bytes": str(limits.memory),
            "memory.swappiness": "0",
        },
        "pids": {"pids.max": str(limits.processes)},
        "cpu": {"cpu.cfs_period_us": str(CPU_PERIOD_US), "cpu.cfs_quota_us": str(int(limits.cpus * CPU_PERIOD_US))},
    }


OPTIONAL = ("memory.swap.max", "memory.memsw.limit_in_bytes", "memory.swappiness", "memory.oom.group")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where groups can be made: for each controller the folder of our own parent group (one folder for all in v2).

    `leaf`: the group into which this process must move before (version 2: no processes in inner groups).
    """

    version: int
    folders: dict[str, Path]
    leaf: Path | None = None

    @property
    def distinct(self) -> tuple[Path, ...]:
        """The folders, each once."""
        return tuple(dict.fromkeys(self.folders.values()))


@dataclass(frozen=True, kw_only=True)
class Group:
    """The group of one guest."""

    place: Place
    name: str

    def oom_kills(self) -> int:
        """How often the kernel has killed in this group for want of memory."""
        path, key = (("memory.events", "oom_kill"), ("memory.oom_control", "oom_kill"))[self.place.version == 1]
        with contextlib.suppress(OSError):
            for line in (self.place.folders["memory"] / self.name / path).read_text().splitlines():
                if line.split()[0] == key:
                    return int(line.split()[1])
        return 0

    def remove(self) -> bool:
        """Remove the group; whether it is gone (a process still in it keeps it)."""
        gone = True
        for folder in self.place.distinct:
            try:
                os.rmdir(folder / self.name)
            except FileNotFoundError:
                continue
            except OSError:
                gone = False
        return gone


def find_place() -> tuple[Place | None, str]:
    """Where this process may make groups, else None; and in words what was found or is missing."""
    mounts = _cgroup_mounts()
    mine = _own_groups()
    mark = f"{PREFIX}{process_mark(os.getpid())}-{pid_namespace()}-{next(_places)}"
    reasons = []
    for finder in (_find_v1, _find_v2):
        place, reason = finder(mounts, mine, mark)
        if place is not None:
            return place, reason
        reasons.append(reason)
    return None, "; ".join(reasons)


def _find_v1(mounts: dict[str, Path], mine: dict[str, str], mark: str) -> tuple[Place | None, str]:
    missing = [name for name in NEEDED if name not in mounts]
    if missing:
        return None, f"no version 1 controller {', '.join(missing)}"
    folders = {}
    for name in CONTROLLERS:
        parent = _below(mounts[name], mine.get(name, "/")) if name in mounts else None
        if parent is not None and os.access(parent, os.W_OK):
            folders[name] = parent / mark
        elif name in NEEDED:
            return None, f"version 1: {name} is not writable"
    return Place(version=1, folders=folders), f"version 1 ({', '.join(folders)})"


def _find_v2(mounts: dict[str, Path], mine: dict[str, str], mark: str) -> tuple[Place | None, str]:
    if "" not in mounts:
        return None, "no version 2 hierarchy"
    top = mounts[""]
    own = _below(top, mine.get("", "/"))
    for parent in _v2_parents(top, own):
        offered = set(_words(parent / "cgroup.controllers"))
        if not (set(NEEDED) <= offered and _is_ours(parent)):
            continue
        handed_on = set(NEEDED) <= set(_words(parent / "cgroup.subtree_control"))
        # A group with processes cannot hand controllers on (but the root): we must go into a leaf below it first.
        is_inner = (parent / "cgroup.type").exists()  # on every group but the real root
        leaf = own / HOST_LEAF if parent == own and is_inner and not handed_on else None
        if leaf is not None and not _is_alone(own):
            continue
        folders = {name: parent / mark for name in CONTROLLERS if name in offered}
        return Place(version=2, folders=folders, leaf=leaf), f"version 2 ({', '.join(folders)})"
    have = _words(own / "cgroup.controllers")
    if not set(NEEDED) <= set(have):
        return None, f"version 2: controllers memory and pids are not available here (only: {' '.join(have) or 'none'})"
    return None, "version 2: no group here is delegated to this user"


def _v2_parents(top: Path, own: Path) -> list[Path]:
    """Where a parent group could be: beside our own group (a scope or service of the user's systemd, or one with
    DelegateSubgroup), in it (Delegate), at the root (only as root).
    """
    beside = [own.parent] if own not in (top, *top.iterdir()) and os.geteuid() != 0 else []
    return [*beside, *([own] if own != top else []), top]


def _is_ours(folder: Path) -> bool:
    return all(os.access(folder / name, os.W_OK) for name in ("", "cgroup.procs", "cgroup.subtree_control"))


def _is_alone(folder: Path) -> bool:
    """Whether no process but this one is in the group: others we would not move."""
    return _words(folder / "cgroup.procs") == [str(os.getpid())]


def create(place: Place) -> None:
    """Make the parent groups, bounded so that all sandboxes together leave the host room. Raises OSError."""
    total = int(available_memory() * HOST_SHARE)
    if place.leaf is not None:
        place.leaf.mkdir(exist_ok=True)
        _write(place.leaf / "cgroup.procs", str(os.getpid()))
    for name, folder in place.folders.items():
        if place.version == 2:
            _hand_on(folder.parent, place)
        folder.mkdir(exist_ok=True)
        if place.version == 2:
            _hand_on(folder, place)
        if name == "memory":
            _write(folder / ("memory.max" if place.version == 2 else "memory.limit_in_bytes"), str(total))


def _hand_on(folder: Path, place: Place) -> None:
    wanted = [name for name in place.folders if name not in _words(folder / "cgroup.subtree_control")]
    if wanted:
        _write(folder / "cgroup.subtree_control", " ".join(f"+{name}" for name in wanted))


def attach(place: Place, name: str, pid: int, limits: Limits) -> Group:
    """Make a guest's group with its limits and move the guest into it. Raises OSError."""
    settings = (_v2_settings if place.version == 2 else _v1_settings)(limits)
    for controller, folder in place.folders.items():
        group = folder / name
        with contextlib.suppress(FileExistsError):
            group.mkdir()
        for file, value in settings[controller].items():
            try:
                _write(group / file, value)
            except OSError:
                if file not in OPTIONAL:
                    raise
    for folder in place.distinct:
        _write(folder / name / "cgroup.procs", str(pid))
    return Group(place=place, name=name)


def remove_place(place: Place, patience: float = 2.0) -> bool:
    """Remove the parent groups and what is left below them; whether all are gone. `patience` in seconds."""
    deadline = time.monotonic() + patience
    while not all(_remove_tree(folder) for folder in place.distinct):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def sweep(place: Place) -> list[str]:
    """Remove groups that hosts which no longer live have left beside ours; their names."""
    swept = []
    for parent in {folder.parent for folder in place.distinct}:
        for folder in parent.glob(PREFIX + "*-*"):
            if not is_alive(folder.name.removeprefix(PREFIX)) and _remove_tree(folder):
                swept.append(folder.name)
    return sorted(set(swept))


def available_memory() -> int:
    """Bytes of memory that could be used now without swapping: MemAvailable, or less where our group is bounded."""
    free = 1 << 30
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    return min([free, *_room_in_groups()])


def _room_in_groups() -> Iterator[int]:
    """Limit less usage of our own memory group and those above it, where they have a limit."""
    mounts, mine = _cgroup_mounts(), _own_groups()
    for name, limit, usage in (("", "memory.max", "memory.current"), ("memory", V1_LIMIT, "memory.usage_in_bytes")):
        if name not in mounts:
            continue
        folder = _below(mounts[name], mine.get(name, "/"))
        for group in (folder, *folder.parents):
            with contextlib.suppress(OSError, ValueError):  # "max", or a group without the file
                yield max(0, int((group / limit).read_text()) - int((group / usage).read_text()))
            if group == mounts[name]:
                break


def is_alive(mark: str) -> bool:
    """Whether the process that made something with this mark may still live; what was made elsewhere is not ours."""
    try:
        pid, started, namespace = mark.split("-")[:3]
        if int(namespace) != pid_namespace():
            return True
        return process_mark(int(pid)) == f"{pid}-{started}"
    except ValueError:
        return True
    except OSError:
        return False


def _remove_tree(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        for child in folder.iterdir():
            if child.is_dir():
                with contextlib.suppress(OSError):
                    child.rmdir()
        folder.rmdir()
    return not folder.exists()


def _cgroup_mounts() -> dict[str, Path]:
    """Controller -> mount point, for version 1; "" -> mount point of version 2. See proc_pid_mountinfo(5)."""
    mounts = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ")[:3]
        if kind == "cgroup2":
            mounts[""] = Path(left.split()[4])
        elif kind == "cgroup":
            mounts |= {name: Path(left.split()[4]) for name in options.split(",") if name in CONTROLLERS}
    return mounts


def _own_groups() -> dict[str, str]:
    groups: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        groups |= dict.fromkeys(names.split(","), path)
    return groups


def _below(mount: Path, path: str) -> Path:
    """The group's folder; where the mount shows a part of the hierarchy only (a container), the mount itself."""
    folder = mount / path.lstrip("/")
    return folder if folder.is_dir() else mount


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _write(path: Path, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
