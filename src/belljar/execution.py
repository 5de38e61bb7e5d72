"""The vocabulary of executions: what code that ran has shown, and how it ended.

Frozen values that owe nothing to a kind of sandbox: tools, the loop and dialects know executions through these alone.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WORK_FOLDER = "/mnt/data"  # where code runs, and finds and leaves files
CHART = "application/vnd.belljar.chart+json"  # in Result.data: the data of a figure, in E2B's chart model


class Outcome(enum.StrEnum):
    """How an execution ended."""

    OK = "ok"
    ERROR = "error"  # the code raised
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    KILLED = "killed"  # by a signal: a crash, or the host ended it
    EXITED = "exited"  # the interpreter ended itself (os._exit)


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

    @property
    def chart(self) -> Any:
        """The data of a figure, as a Python value (docs/charts.md)."""
        return self.data.get(CHART)


@dataclass(frozen=True, kw_only=True)
class GuestError:
    """The exception that ended an execution, or what ended the interpreter."""

    name: str
    value: str
    traceback: str


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    """A file below the working folder. `path` is relative to it; `size` in bytes; `modified` in seconds since 1970.

    `id` is the name under which a container keeps it; None in a sandbox of one request.
    """

    path: str
    size: int
    type: str
    modified: float
    id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What one execution gave.

    `stdout`/`stderr` hold at most `Limits.output_bytes` each, and end in a note where they were cut; `stdout_bytes` and
    `stderr_bytes` say how many bytes were written. `files` are those that are new or changed; `pictures` are those that
    the code displayed, where a container keeps them as files as well. `duration` is in seconds.
    """

    outcome: Outcome
    stdout: str = ""
    stderr: str = ""
    results: tuple[Result, ...] = ()
    error: GuestError | None = None
    files: tuple[FileInfo, ...] = ()
    pictures: tuple[FileInfo, ...] = ()
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
