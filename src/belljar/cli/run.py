"""`belljar run`: one piece of code in a fresh sandbox, its output as it comes, its results and files saved.

Promises: standard output carries the code's own output only (or, with --json, one JSON object); everything that Belljar
has to say goes to standard error. Nothing that the code does can write outside --out, nor follow a link in it, nor make
a hidden file; a terminal gets no control sequence of the code's but colours and line editing.
"""

from __future__ import annotations

import asyncio
import base64
import json as json_text
import os
import re
import select
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from belljar.cli.options import (
    OUTCOME_EXITS,
    PROFILE_WARNINGS,
    Exit,
    exit_table,
    sandbox_options,
    take_limits,
)
from belljar.errors import FileError, SandboxFailed, SessionClosed
from belljar.sandbox import files as sandbox_files
from belljar.sandbox.base import Event, Execution, GuestError, Limits, Outcome, Output, Result
from belljar.sandbox.pool import Pool
from belljar.sandbox.session import GuestSession

CODE_LIMIT = 32 << 20  # bytes of code; a guest takes commands of up to 64 MiB
SIGNALS = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: 143, signal.SIGHUP: 129}  # and a shell's codes for them

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
    "audio/wav": ".wav",
    "video/mp4": ".mp4",
}
OTHER_ENDINGS = {bytes: ".bin", str: ".txt"}  # else JSON
# What is said about an outcome that is not the code's own exception.
OUTCOME_WORDS = {
    Outcome.TIMEOUT: "timeout",
    Outcome.OUT_OF_MEMORY: "out of memory",
    Outcome.KILLED: "killed",
    Outcome.EXITED: "exited",
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """What was asked for. `files` are pairs of a name below /mnt/data and a content."""

    code: str
    argv: tuple[str, ...]
    files: tuple[tuple[str, bytes], ...]
    image: str
    profile: str
    limits: Limits

    @property
    def prologue(self) -> str:
        """What runs before the code: an execution of its own, which shifts no line and is taken back from the count."""
        return f"__import__('sys').argv = {list(self.argv)!r}; get_ipython().execution_count -= 1"

    @property
    def warnings(self) -> list[str]:
        """What is weaker than usual."""
        return [PROFILE_WARNINGS[self.profile]] if self.profile in PROFILE_WARNINGS else []


# --- the command ------------------------------------------------------------------------------------------------------


class FileCopy(click.ParamType):
    """PATH or PATH=NAME: a file of the host's, and its name below /mnt/data."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Path]:
        """Name and path; a word that is itself the path of a file has no NAME."""
        if isinstance(value, tuple):
            return value
        path, equals, name = str(value).rpartition("=")
        if not equals or Path(value).exists():
            path, name = str(value), ""
        if not Path(path).exists():
            self.fail(f"{path!r} does not exist", param, ctx)
        if Path(path).is_dir():
            self.fail(f"{path!r} is a folder; give its files one by one", param, ctx)
        try:
            return sandbox_files.relative(name or Path(path).name), Path(path)
        except FileError as error:
            self.fail(str(error), param, ctx)


EPILOG = f"""\b
Examples:
  belljar run -c 'print(6 * 7)'
  belljar run script.py one two               sys.argv is ['script.py', 'one', 'two']
  echo '2 + 2' | belljar run -                the last value is printed, as in a notebook
  belljar run --file data.csv --out results plot.py
  belljar run --json --timeout 5 -c '1/0' | jq .error.name

{exit_table()}
"""


@click.command(
    "run",
    epilog=EPILOG,
    # what stands after FILE is for the script
    context_settings={"allow_interspersed_args": False, "help_option_names": ["-h", "--help"]},
)
@click.argument("words", nargs=-1, metavar="[FILE | -] [ARGS]...", type=click.UNPROCESSED)
@click.option("-c", "--code", metavar="CODE", help="Run this instead of a file; all words are ARGS then.")
@click.option(
    "--file",
    "file",
    type=FileCopy(),
    multiple=True,
    metavar="PATH[=NAME]",
    help="Copy a file into /mnt/data, where the code runs; may be given again.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Save results (result-1.png ...) and new or changed files here. It must be empty, or not exist yet.",
)
@click.option("--overwrite", is_flag=True, help="Let --out be a folder that holds something; replace what has the same name.")
@click.option("--json", "json", is_flag=True, help="Print one JSON object at the end, and nothing else.")
@sandbox_options
def run(
    words: tuple[str, ...],
    code: str | None,
    file: tuple[tuple[str, Path], ...],
    out: Path | None,
    overwrite: bool,
    json: bool,
    profile: str,
    image: str,
    **options: Any,
) -> int:
    """Run Python in a fresh sandbox: FILE, or standard input for `-`, or CODE.

    The code has no network and sees no file but copies in /mnt/data. The value of its last expression is printed.
    """
    limits = take_limits(options)
    source, argv = _read_code(code, words)
    job = Job(code=source, argv=argv, files=_read_files(file, limits), image=image, profile=profile, limits=limits)
    saver = Saver(out, overwrite, limits.files_bytes) if out is not None else None
    view = JsonView(job, saver) if json else LiveView(job, saver)
    return asyncio.run(_Runner(job, view).run())


def _read_code(code: str | None, words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The code and its sys.argv. Raises UsageError."""
    if code is not None:
        return code, ("-c", *words)
    if not words:
        raise click.UsageError("nothing to run: give a FILE, -c CODE, or - for standard input")
    try:
        with open(0 if words[0] == "-" else words[0], "rb", closefd=words[0] != "-") as source:
            data = source.read(CODE_LIMIT + 1)
        if len(data) > CODE_LIMIT:
            raise click.UsageError(f"{words[0]}: over {CODE_LIMIT:,} bytes of code")
        return data.decode("utf-8-sig"), words
    except OSError as error:
        raise click.UsageError(f"{words[0]}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{words[0]}: no UTF-8 text: {error}") from None


def _read_files(pairs: tuple[tuple[str, Path], ...], limits: Limits) -> tuple[tuple[str, bytes], ...]:
    """Contents of the files to copy. Raises UsageError: a name twice, unreadable, or more than the sandbox holds."""
    found: dict[str, bytes] = {}
    room = limits.files_bytes
    for name, path in pairs:
        if name in found:
            raise click.UsageError(f"--file: two files are called {name}; rename one with PATH=NAME")
        try:
            with path.open("rb") as source:
                found[name] = source.read(room + 1)
        except OSError as error:
            raise click.UsageError(f"--file: {path}: {error.strerror}") from None
        room -= len(found[name])
        if room < 0:
            raise click.UsageError(f"--file: {path}: the files are over {limits.files_bytes:,} bytes (--files-bytes)")
    return tuple(found.items())


# --- the run ----------------------------------------------------------------------------------------------------------


class _Runner:
    """One run: the sandbox, the signals, and which exit code comes of it."""

    def __init__(self, job: Job, view: LiveView) -> None:
        self._job = job
        self._view = view
        self._session: GuestSession | None = None
        self._chores: set[asyncio.Task[None]] = set()
        self._signal_exit: int | None = None

    async def run(self) -> int:
        """Run it all. Raises what Pool raises, and BrokenPipeError."""
        task = asyncio.ensure_future(self._execute())
        loop = asyncio.get_running_loop()
        for number, code in SIGNALS.items():
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, and shells for what runs in the background
                loop.add_signal_handler(number, self._on_signal, task, number, code)
        try:
            execution = await task
        except asyncio.CancelledError:
            return self._signal_exit or Exit.INTERRUPTED
        if self._signal_exit is not None and not execution.ok:
            return self._signal_exit
        return exit_code(execution)

    async def _execute(self) -> Execution:
        job, view = self._job, self._view
        pool = Pool(job.image, limits=job.limits, profile=job.profile, ready=0, zygotes=1, preload=())
        await view.start()
        try:
            async with pool, pool.session() as session:
                for name, data in job.files:
                    await session.write_file(name, data)
                prologue = await session.run(job.prologue)
                self._session = session
                execution = await self._stream(session) if prologue.ok else prologue
                await view.end(execution, session)
                return execution
        except SessionClosed as error:
            raise SandboxFailed(f"the sandbox ended before it ran anything: {error}") from error

    async def _stream(self, session: GuestSession) -> Execution:
        async for event in session.stream(self._job.code):
            if isinstance(event, Execution):
                return event
            await self._view.show(event)
        raise SandboxFailed("an execution without an end")

    def _on_signal(self, task: asyncio.Task[Execution], number: int, code: int) -> None:
        """The first Ctrl-C while code runs is KeyboardInterrupt in the code; everything else ends the sandbox and us."""
        first, self._signal_exit = self._signal_exit is None, code
        if number == signal.SIGINT and first and self._session is not None:
            chore = asyncio.ensure_future(self._session.interrupt())
            self._chores.add(chore)
            chore.add_done_callback(self._chores.discard)
        elif not task.cancelling():  # a further one would cut short the cleaning up
            task.cancel()


def exit_code(execution: Execution) -> int:
    """The exit code for how an execution ended; an interpreter that ended itself with 0 has done well."""
    if execution.outcome is Outcome.EXITED and execution.error and execution.error.value.endswith(" with 0"):
        return Exit.OK
    return OUTCOME_EXITS[execution.outcome]


# --- what is shown ----------------------------------------------------------------------------------------------------


class LiveView:
    """Output, results and errors as they come."""

    def __init__(self, job: Job, saver: Saver | None) -> None:
        self._job = job
        self._saver = saver
        self._line_open = False

    async def start(self) -> None:
        """Before anything else: what is weaker than usual."""
        for warning in self._job.warnings:
            await self._say(f"warning: {warning}")

    async def show(self, event: Event) -> None:
        """An output, or a result."""
        if isinstance(event, Output):
            await _print(STREAMS[event.stream], event.text)
            self._line_open = not event.text.endswith("\n") if event.stream == "stdout" else self._line_open
        elif isinstance(event, Result):
            await self._show_result(event)

    async def end(self, execution: Execution, session: GuestSession) -> None:
        """How it ended, what was cut, and the new files."""
        for stream, written in (("stdout", execution.stdout_bytes), ("stderr", execution.stderr_bytes)):
            if (lost := written - self._job.limits.output_bytes) > 0:
                await self._say(f"{stream} cut: {lost:,} more bytes (--output-bytes keeps more)")
        if self._saver is not None:
            saved = await self._saver.save_files(execution, session)
            for item in saved:
                await _print(2, item.line() + "\n")
        elif execution.files:
            names = ", ".join(printable(info.path) for info in execution.files[:5])
            more = f" and {len(execution.files) - 5} more" if len(execution.files) > 5 else ""
            await self._say(f"not kept: {names}{more} (--out DIR saves files)")
        if execution.error is not None:
            await _print(2, last_words(execution.outcome, execution.error))

    async def _show_result(self, result: Result) -> None:
        """Its text; for an image, and for what has no text, a line that says what it is and where it is."""
        pictured = [kind for kind in result.data if kind.startswith("image/")]
        if result.text is not None and not pictured:
            await _print(1, "\n" * self._line_open + result.text + "\n")
            self._line_open = False
        if self._saver is not None:
            lines = [item.line() for item in self._saver.save_result(result)]
        else:
            kinds = pictured or ([] if result.text is not None else list(result.data))
            hint = "not kept (--out DIR saves it)"
            lines = [Saved(kind=kind, size=len(encode(result.data[kind])), reason=hint).line() for kind in kinds]
        for line in lines:
            await _print(2, line + "\n")

    async def _say(self, text: str) -> None:
        await _print(2, f"belljar: {text}\n")


class JsonView(LiveView):
    """One JSON object at the end. Its fields are in docs/cli.md."""

    async def start(self) -> None:
        """Warnings are in the object."""

    async def show(self, event: Event) -> None:
        """Nothing: the Execution has it all."""

    async def end(self, execution: Execution, session: GuestSession) -> None:
        """Print it."""
        saved: list[Saved] = []
        if self._saver is not None:
            saved = [item for result in execution.results for item in self._saver.save_result(result)]
            saved += await self._saver.save_files(execution, session)
        fields = {
            "outcome": execution.outcome.value,
            "exit_code": int(exit_code(execution)),
            "stdout": execution.stdout,
            "stderr": execution.stderr,
            "text": execution.text,
            "results": [{"main": result.is_main, "data": bundle(result.data)} for result in execution.results],
            "error": asdict(execution.error) if execution.error else None,
            "files": [asdict(info) for info in execution.files],
            "saved": [item.fields() for item in saved],
            "duration": round(execution.duration, 6),
            "stdout_bytes": execution.stdout_bytes,
            "stderr_bytes": execution.stderr_bytes,
            "image": self._job.image,
            "profile": self._job.profile,
            "limits": asdict(self._job.limits),
            "warnings": self._job.warnings,
        }
        await _write(1, (json_text.dumps(finite(fields), allow_nan=False) + "\n").encode())


def last_words(outcome: Outcome, error: GuestError) -> str:
    """What is printed about the error that ended the code: a traceback, as Python does it, or one line."""
    if outcome is not Outcome.ERROR:
        return f"belljar: {OUTCOME_WORDS.get(outcome, outcome)}: {error.value or error.name}\n"
    if error.name == "SystemExit":  # sys.exit("text") prints the text; sys.exit(3) nothing
        return "" if error.value.lstrip("-").isdigit() else f"{error.value}\n"
    return f"{error.traceback}\n"


def bundle(data: Mapping[str, Any]) -> dict[str, Any]:
    """A MIME bundle as JSON has it: bytes in base64, as notebooks do it."""
    return {k: base64.b64encode(v).decode() if isinstance(v, bytes) else v for k, v in data.items()}


def finite(value: Any) -> Any:
    """The same value, with null for numbers that JSON does not know: a guest may send NaN."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


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
    """Writes what a guest made into one folder of the host's, beneath it and through no link, within a budget of bytes."""

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
            occupied = bool(os.listdir(self._fd))
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
        """Save the new and changed files; hidden ones are passed over without a word, as a home folder fills with them."""
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
    text = value if isinstance(value, str) else json_text.dumps(value, indent=1)
    return text.encode("utf-8", "backslashreplace")


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
# On a terminal: control characters but for tab, newline, return and backspace; escapes but for colours, erasing and moving.
_CONTROL = re.compile(r"\x1b(?!\[[0-9;]*[mKJABCDGHF])|[\x00-\x07\x0b-\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]")


def tame(text: str) -> str:
    """Text for a terminal, which must not obey code it does not trust: other control characters are made visible."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


async def _print(descriptor: int, text: str) -> None:
    if os.isatty(descriptor):
        text = tame(text)
    await _write(descriptor, text.encode("utf-8", "backslashreplace"))


async def _write(descriptor: int, data: bytes) -> None:
    """Write all of it; waits without blocking the loop where a reader is slow. Raises BrokenPipeError."""
    view = memoryview(data)
    while view:
        await _writable(descriptor)
        view = view[os.write(descriptor, view[: select.PIPE_BUF]) :]  # so much never blocks where poll says writable


async def _writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    try:
        loop.add_writer(descriptor, lambda: ready.done() or ready.set_result(None))
    except PermissionError:  # a regular file: epoll does not take it, and it is always ready
        return
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)
