"""The vocabulary of sandboxes: limits, and what a session is.

Everything above this row sees sandboxes through these and the values of `execution` alone; they know no backend.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from belljar.execution import Event, Execution, FileInfo

MIB = 1 << 20


# Limit -> least value: what an idle interpreter needs, or what the kernel takes (cpu.cfs_quota_us is 1000 at least).
LEAST: dict[str, float] = {
    "timeout": 0.001,
    "memory": 32 * MIB,
    "processes": 1,
    "cpus": 0.01,
    "files_bytes": 64 << 10,
    "files_count": 16,
    "output_bytes": 0,
    "results_bytes": 0,
    "descriptors": 24,
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one sandbox may use. Each field is an option of the command line, the environment and the library."""

    timeout: float = field(default=30.0, metadata={"help": "Seconds of wall time for one execution."})
    memory: int = field(default=1024 * MIB, metadata={"help": "Memory of a sandbox, in bytes."})
    processes: int = field(default=64, metadata={"help": "Processes and threads alive at once."})
    cpus: float = field(
        default=1.0, metadata={"help": "Processors' worth of time that a sandbox may use (with cgroups)."}
    )
    files_bytes: int = field(default=256 * MIB, metadata={"help": "Size of all files of a sandbox, in bytes."})
    files_count: int = field(default=10_000, metadata={"help": "Number of files and folders of a sandbox."})
    output_bytes: int = field(
        default=MIB, metadata={"help": "Kept of stdout, and of stderr, for one execution, in bytes."}
    )
    results_bytes: int = field(
        default=20 * MIB, metadata={"help": "Results (images, tables) of one execution, in bytes."}
    )
    descriptors: int = field(default=256, metadata={"help": "Open files of one process."})

    def __post_init__(self) -> None:
        """Raises ValueError for a limit under which not even an empty sandbox could live."""
        for name, least in LEAST.items():
            if not getattr(self, name) >= least:
                raise ValueError(f"{name}={getattr(self, name)}: it must be at least {least}")


class Session(Protocol):
    """One living interpreter in one sandbox."""

    @property
    def alive(self) -> bool:
        """Whether it can run another execution."""

    def stream(self, code: str, *, timeout: float | None = None) -> AsyncGenerator[Event, None]:
        """Run code and yield what it shows as it comes, the Execution last. Raises SessionClosed."""

    async def run(self, code: str, *, timeout: float | None = None) -> Execution:
        """Run code to its end. Raises SessionClosed."""

    async def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the code that runs; the session lives on."""

    async def write_file(self, path: str, data: bytes) -> None:
        """Put a file below the working folder. Raises FileError."""

    async def read_file(self, path: str) -> bytes:
        """A file below the working folder. Raises FileError."""

    async def remove_file(self, path: str) -> None:
        """Remove a file below the working folder; one that is not there is no error. Raises FileError."""

    async def list_files(self) -> tuple[FileInfo, ...]:
        """All regular files below the working folder."""

    async def close(self) -> None:
        """End the session and everything in it. Never raises; may be called again."""


class Source(Protocol):
    """Where sessions come from: a pool, on this machine or elsewhere; or a container, whose session lives on.

    `lasting` tells the latter: variables and files are there again in the next request, and `files` are those that are
    there now.
    """

    @property
    def limits(self) -> Limits:
        """What each session may use."""

    @property
    def lasting(self) -> bool:
        """Whether sessions live on after they are closed."""

    @property
    def files(self) -> Sequence[FileInfo]:
        """Files that are in the session before anybody puts some there."""

    async def acquire(self, memory: int | None = None) -> Session:
        """A session of your own, a fresh one where it is not lasting; close it when done. `memory` in bytes, None for
        that of `limits`. Raises AtCapacity, SandboxFailed; BadRequest: more memory than anybody may have.
        """


class Backend(Protocol):
    """A kind of sandbox: starts what is needed once, then makes sessions."""

    async def start(self) -> None:
        """Get ready. Raises IsolationUnavailable, ImageError, SandboxFailed."""

    async def session(self, memory: int | None = None) -> Session:
        """A fresh session, ready to run; `memory` in bytes, None for that of all. Raises IsolationUnavailable,
        SandboxFailed.
        """

    async def close(self) -> None:
        """End every session and process of this backend. Never raises."""


def host_cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))
