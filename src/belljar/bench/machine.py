"""What the kernel says, read from /proc: about this machine, and what processes have used.

Blocking, but for microseconds. A process that has ended, or that we may not look at, counts as nothing or is None.
Sources: proc(5), proc_pid_stat(5), proc_pid_smaps(5).
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from belljar.guest.launch import descendants
from belljar.sandbox.base import MIB, host_cpus
from belljar.sandbox.cgroup import available_memory

TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
BUSY_LOAD = 0.5  # load average a core, from which on figures are not to be trusted
BUSY_SHARE = 0.2  # of all cores' time, right before the run


@dataclass(frozen=True, kw_only=True)
class Ticks:
    """Time of all processors since the start, in milliseconds. `stolen` by other guests of the machine's own host."""

    total: float
    busy: float
    stolen: float


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where it was measured."""

    cpu: str
    cores: int
    memory_mib: int
    kernel: str
    python: str
    architecture: str
    is_root: bool
    load_average: float

    @property
    def line(self) -> str:
        """The same for people, without its load."""
        return f"{self.cpu}, {self.cores} cores, {self.memory_mib} MiB, Linux {self.kernel}, {self.architecture}"


def describe() -> Machine:
    """This machine, and its load now."""
    return Machine(
        cpu=_cpu_model(),
        cores=host_cpus(),
        memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB,
        kernel=platform.release(),
        python=platform.python_version(),
        architecture=platform.machine(),
        is_root=os.geteuid() == 0,
        load_average=os.getloadavg()[0],
    )


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def ticks() -> Ticks:
    """The line `cpu` of /proc/stat: user nice system idle iowait irq softirq steal."""
    line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    numbers = [int(word) * TICK_MS for word in line.split()[1:9]]
    total, idle, stolen = sum(numbers), numbers[3] + numbers[4], numbers[7]
    return Ticks(total=total, busy=total - idle - stolen, stolen=stolen)


def noise(machine: Machine, before: Ticks, after: Ticks) -> list[str]:
    """Warnings about a machine that does something else, from its load and from an interval in which we did nothing."""
    warnings = []
    if machine.load_average > BUSY_LOAD * machine.cores:
        warnings.append(
            f"the machine was busy: load average {machine.load_average:.2f} on {machine.cores} cores at the start"
        )
    share = (after.busy - before.busy) / max(after.total - before.total, 1)
    if share > BUSY_SHARE:
        warnings.append(f"the machine was busy: {share:.0%} of its processors' time in the moment before the run")
    return warnings


def cpu_ms(pid: int) -> tuple[float, float]:
    """CPU time of a process, and that of its children which have ended, in milliseconds."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        user, system, children_user, children_system = (int(word) * TICK_MS for word in fields[11:15])
        return user + system, children_user + children_system
    return 0.0, 0.0


def zygotes_below(launchers: Iterable[int]) -> list[int]:
    """The zygotes themselves, given the launchers: the first below each whose command line ends in "zygote"."""
    found = []
    for launcher in launchers:
        named = {pid for pid in descendants(launcher) if _last_argument(pid) == b"zygote"}
        found += [pid for pid in named if _parent(pid) not in named]  # a guest is a fork, with the same command line
    return sorted(found)


def _last_argument(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").rpartition(b"\0")[2]
    return b""


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    return 0


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory of one process, in MiB: resident, its proportional share, and what is its alone."""

    rss: float
    pss: float
    private: float


def memory(pid: int) -> Memory | None:
    """From /proc/PID/smaps_rollup; None where it has ended or may not be read."""
    table: dict[str, float] = {}
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]:
            name, number = line.split()[:2]
            table[name.rstrip(":")] = int(number) / 1024
        return Memory(rss=table["Rss"], pss=table["Pss"], private=table["Private_Clean"] + table["Private_Dirty"])
    return None


def available_mib() -> float:
    """Memory that could be used now."""
    return available_memory() / MIB
