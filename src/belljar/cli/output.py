"""How commands show and keep what untrusted code made: lines for people, files in one folder, bytes to a descriptor.

Promises: nothing is written outside the folder given, through a link in it, or to a hidden file; a terminal gets no
control sequence of the code's but colours and line editing; a slow reader does not block the event loop.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import select
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from belljar.errors import FileError
from belljar.execution import CHART, Execution, Result
from belljar.sandbox import files as sandbox_files
from belljar.sandbox.session import GuestSession

# MIME type -> ending of the file that a result is saved to. Others get the one for their kind of value.
ENDINGS = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "image/svg+xml": ".svg",
    "application/pdf": ".pdf",
    "text/html": ".html",
    "text/markdown": ".md",
    "text/latex": ".tex",
    "application/json": ".json",
    "application/vnd.plotly.v1+json": ".plotly.json",
    CHART: ".chart.json",
    "audio/wav": ".wav",
    "video/mp4": ".mp4",
}
MAX_DEPTH = 200  # of JSON values: a guest may send what takes the encoder to the end of its stack
OTHER_ENDINGS: dict[type, str] = {bytes: ".bin", str: ".txt"}  # else JSON


# --- saving -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Saved:
    """Something that was saved to `path`; where that is None, `reason` says why not."""

    kind: str
    size: int
    path: Path | None = None
    reason: str = ""

    def line(self) -> str:
        """For people."""
        where = f"→ {self.path}" if self.path is not None else self.reason
        return printable(f"{self.kind} {_human(self.size)} {where}")

    def fields(self) -> dict[str, Any]:
        """For programs."""
        path = str(self.path) if self.path is not None else None
        return {"kind": self.kind, "size": self.size, "path": path, "reason": self.reason}


@dataclass
class Saver:
    """Writes what a guest made into one folder of the host's, within a budget of bytes."""

    folder: Path
    overwrite: bool
    budget: int  # bytes of files: sparse ones could come to far more than the sandbox holds
    _taken: set[str] = field(default_factory=set)
    _results: int = 0

    def __post_init__(self) -> None:
        """Make the folder. Raises UsageError: it cannot be made, or holds something."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            occupied = any(self.folder.iterdir())
        except OSError as error:
            raise click.UsageError(f"--out: {self.folder}: {error.strerror}") from None
        if occupied and not self.overwrite:
            raise click.UsageError(f"--out: {self.folder} is not empty; name another folder, or add --overwrite")

    def save_result(self, result: Result) -> list[Saved]:
        """Save every MIME type of a result but its plain text."""
        kinds = {kind: value for kind, value in result.data.items() if kind != "text/plain"}
        self._results += bool(kinds)
        saved = []
        for kind, value in kinds.items():
            ending = ENDINGS.get(kind) or OTHER_ENDINGS.get(type(value), ".json")
            saved.append(self._save(kind, f"result-{self._results}{ending}", encode(value)))
        return saved

    async def save_files(self, execution: Execution, session: GuestSession) -> list[Saved]:
        """Save the new and changed files; hidden ones are passed over without a word: a home folder fills with them."""
        saved = []
        for info in execution.files:
            if any(part.startswith(".") for part in info.path.split("/")):
                continue
            name = "/".join(map(printable, info.path.split("/")))
            if info.size > self.budget:
                reason = f"{name} not saved: the files are over --files-bytes"
                saved.append(Saved(kind="file", size=info.size, reason=reason))
                continue
            try:
                data = await session.read_file(info.path)
            except FileError as error:
                saved.append(Saved(kind="file", size=info.size, reason=f"not saved: {error}"))
                continue
            self.budget -= len(data)
            saved.append(self._save("file", name, data))
        return saved

    def _save(self, kind: str, name: str, data: bytes) -> Saved:
        name = self._free_name(name)
        try:
            sandbox_files.write(self._fd, sandbox_files.relative(name), data)
        except (FileError, OSError) as error:
            return Saved(kind=kind, size=len(data), reason=f"not saved: {error}")
        return Saved(kind=kind, size=len(data), path=self.folder / name)

    def _free_name(self, name: str) -> str:
        """The name, or with a number where this run has saved one of that name already."""
        stem, dot, ending = name.rpartition(".") if "." in name.rpartition("/")[2] else (name, "", "")
        number = 1
        while name in self._taken:
            number += 1
            name = f"{stem}-{number}{dot}{ending}"
        self._taken.add(name)
        return name


def encode(value: Any) -> bytes:
    """A result's value as the bytes of a file."""
    if isinstance(value, bytes):
        return value
    text = value if isinstance(value, str) else json.dumps(plain(value))  # no indentation: deep values grow without end
    return text.encode("utf-8", "backslashreplace")


def plain(value: Any, depth: int = 0) -> Any:
    """A JSON value as every reader takes it: null for what is no number in JSON, and below MAX_DEPTH levels."""
    if depth > MAX_DEPTH:
        return None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: plain(item, depth + 1) for key, item in value.items()}
    return [plain(item, depth + 1) for item in value] if isinstance(value, list) else value


def printable(text: str) -> str:
    """The text with an underscore for what cannot be printed: control characters, bytes that are no UTF-8."""
    return "".join(character if character.isprintable() else "_" for character in text)


def _human(size: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}" if size < 1000 * factor else f"{size // factor} {unit}"
    return f"{size} B"


# --- writing ----------------------------------------------------------------------------------------------------------

STREAMS = {"stdout": 1, "stderr": 2}
# Control characters but for tab, newline, return and backspace; escapes but for colours, erasing and moving.
_CONTROL = re.compile(r"\x1b(?!\[[0-9;]*[mKJABCDGHF])|[\x00-\x07\x0b-\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]")


def tame(text: str) -> str:
    """Text for a terminal, which must not obey code it does not trust: other control characters are made visible."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


async def print_text(descriptor: int, text: str) -> None:
    """Write text as UTF-8, tamed for a terminal. Raises BrokenPipeError."""
    if os.isatty(descriptor):
        text = tame(text)
    await write_bytes(descriptor, text.encode("utf-8", "backslashreplace"))


async def write_bytes(descriptor: int, data: bytes) -> None:
    """Write all of it; waits without blocking the loop where a reader is slow. Raises BrokenPipeError."""
    view = memoryview(data)
    while view:
        await _writable(descriptor)
        view = view[os.write(descriptor, view[: select.PIPE_BUF]) :]  # so much never blocks where poll says writable


async def _writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def on_room() -> None:
        if not ready.done():
            ready.set_result(None)

    try:
        loop.add_writer(descriptor, on_room)
    except PermissionError:  # a regular file: epoll does not take it, and it is always ready
        return
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)
