"""The vocabulary of sandboxes: limits, executions and their parts, and what a session is.

Everything above this row sees sandboxes through these values alone. They are frozen and owe nothing to a backend.
"""

from __future__ import annotations

import enum
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

MIB = 1 << 20
WORK_FOLDER = "/mnt/data"


class Outcome(enum.StrEnum):
    """How an execution ended."""

    OK = "ok"
    ERROR = "error"  # the code raised
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    KILLED = "killed"  # by a signal: a crash, or the host ended it
    EXITED = "exited"  # the interpreter ended itself (os._exit)


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


@dataclass(frozen=True, kw_only=True)
class Result:
    """Something that the code displayed: one value in one or several MIME types.

    `data` maps a MIME type to str (text types), bytes (images and other binary types) or a JSON value. `is_main` marks
    the value of the last expression.
    """

    data: Mapping[str, Any]
    is_main: bool = False

    @property
    def text(self) -> str | None:
        """`text/plain`."""
        return self.data.get("text/plain")

    @property
    def html(self) -> str | None:
        """`text/html`."""
        return self.data.get("text/html")

    @property
    def markdown(self) -> str | None:
        """`text/markdown`."""
        return self.data.get("text/markdown")

    @property
    def latex(self) -> str | None:
        """`text/latex`."""
        return self.data.get("text/latex")

    @property
    def svg(self) -> str | None:
        """`image/svg+xml`."""
        return self.data.get("image/svg+xml")

    @property
    def png(self) -> bytes | None:
        """`image/png`."""
        return self.data.get("image/png")

    @property
    def jpeg(self) -> bytes | None:
        """`image/jpeg`."""
        return self.data.get("image/jpeg")

    @property
    def json(self) -> Any:
        """`application/json`, as a Python value."""
        return self.data.get("application/json")


@dataclass(frozen=True, kw_only=True)
class GuestError:
    """The exception that ended an execution, or what ended the interpreter."""

    name: str
    value: str
    traceback: str


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    """A file below the working folder. `path` is relative to it; `size` in bytes; `modified` in seconds since 1970."""

    path: str
    size: int
    type: str
    modified: float


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What one execution gave.

    `stdout`/`stderr` hold at most `Limits.output_bytes` each, and end in a note where they were cut; `stdout_bytes` and
    `stderr_bytes` say how many bytes were written. `files` are those that are new or changed. `duration` is in seconds.
    """

    outcome: Outcome
    stdout: str = ""
    stderr: str = ""
    results: tuple[Result, ...] = ()
    error: GuestError | None = None
    files: tuple[FileInfo, ...] = ()
    duration: float = 0.0
    stdout_bytes: int = 0
    stderr_bytes: int = 0

    @property
    def ok(self) -> bool:
        """Whether the code ran to its end without raising."""
        return self.outcome is Outcome.OK

    @property
    def text(self) -> str | None:
        """`text/plain` of the last expression's value."""
        return next((r.text for r in reversed(self.results) if r.is_main), None)


@dataclass(frozen=True, kw_only=True)
class Output:
    """Text that the running code wrote; `stream` is "stdout" or "stderr"."""

    stream: str
    text: str


Event = Output | Result | Execution  # what an execution yields while it runs; the Execution comes last


class Session(Protocol):
    """One living interpreter in one sandbox."""

    @property
    def alive(self) -> bool:
        """Whether it can run another execution."""

    def stream(self, code: str, *, timeout: float | None = None) -> AsyncIterator[Event]:
        """Run code and yield what it shows as it comes, the Execution last. Raises SessionClosed."""

    async def run(self, code: str, *, timeout: float | None = None) -> Execution:
        """Run code to its end. Raises SessionClosed."""

    async def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the code that runs; the session lives on."""

    async def write_file(self, path: str, data: bytes) -> None:
        """Put a file below the working folder. Raises FileError."""

    async def read_file(self, path: str) -> bytes:
        """A file below the working folder. Raises FileError."""

    async def list_files(self) -> tuple[FileInfo, ...]:
        """All regular files below the working folder."""

    async def close(self) -> None:
        """End the session and everything in it. Never raises; may be called again."""


class Backend(Protocol):
    """A kind of sandbox: starts what is needed once, then makes sessions."""

    async def start(self) -> None:
        """Get ready. Raises IsolationUnavailable, ImageError, SandboxFailed."""

    async def session(self) -> Session:
        """A fresh session, ready to run. Raises IsolationUnavailable, SandboxFailed."""

    async def close(self) -> None:
        """End every session and process of this backend. Never raises."""


def host_cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))
