"""`belljar run`: one piece of code in a fresh sandbox, its output as it comes, its results and files saved.

Promises: standard output carries the code's own output only (or, with --json, one JSON object); everything that Belljar
has to say goes to standard error. What the code made is shown and kept by `output`, which does not trust it.
"""

from __future__ import annotations

import asyncio
import base64
import json as json_text
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass
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
from belljar.cli.output import STREAMS, Saved, Saver, encode, plain, print_text, printable, write_bytes
from belljar.errors import FileError, SandboxFailed, SessionClosed
from belljar.execution import Event, Execution, GuestError, Outcome, Output, Result
from belljar.sandbox import files as sandbox_files
from belljar.sandbox.base import Limits
from belljar.sandbox.pool import Pool
from belljar.sandbox.session import GuestSession

CODE_LIMIT = 32 << 20  # bytes of code; a guest takes commands of up to 64 MiB
SIGNALS = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: 143, signal.SIGHUP: 129}  # and a shell's codes for them

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


class FileCopy(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.4
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
@click.option(
    "--overwrite", is_flag=True, help="Let --out be a folder that holds something; replace what has the same name."
)
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
    job = Job(code=source, argv=argv, files=read_files(file, limits), image=image, profile=profile, limits=limits)
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


def read_files(pairs: tuple[tuple[str, Path], ...], limits: Limits) -> tuple[tuple[str, bytes], ...]:
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
        """The first Ctrl-C while code runs is KeyboardInterrupt in it; everything else ends the sandbox and us."""
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
            await print_text(STREAMS[event.stream], event.text)
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
                await print_text(2, item.line() + "\n")
        elif execution.files:
            names = ", ".join(printable(info.path) for info in execution.files[:5])
            more = f" and {len(execution.files) - 5} more" if len(execution.files) > 5 else ""
            await self._say(f"not kept: {names}{more} (--out DIR saves files)")
        if execution.error is not None:
            await print_text(2, last_words(execution.outcome, execution.error))

    async def _show_result(self, result: Result) -> None:
        """Its text; for an image, and for what has no text, a line that says what it is and where it is."""
        pictured = [kind for kind in result.data if kind.startswith("image/")]
        text = text_of(result)
        if text is not None and not pictured:
            await print_text(1, "\n" * self._line_open + text + "\n")
            self._line_open = False
        if self._saver is not None:
            lines = [item.line() for item in self._saver.save_result(result)]
        else:
            kinds = pictured or ([] if text is not None else list(result.data))
            hint = "not kept (--out DIR saves it)"
            lines = [Saved(kind=kind, size=len(encode(result.data[kind])), reason=hint).line() for kind in kinds]
        for line in lines:
            await print_text(2, line + "\n")

    async def _say(self, text: str) -> None:
        await print_text(2, f"belljar: {text}\n")


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
            "text": next((text_of(result) for result in reversed(execution.results) if result.is_main), None),
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
        await write_bytes(1, (json_text.dumps(fields, allow_nan=False) + "\n").encode())


def last_words(outcome: Outcome, error: GuestError) -> str:
    """What is printed about the error that ended the code: a traceback, as Python does it, or one line."""
    if outcome is not Outcome.ERROR:
        return f"belljar: {OUTCOME_WORDS.get(outcome, outcome)}: {error.value or error.name}\n"
    if error.name == "SystemExit":  # sys.exit("text") prints the text; sys.exit(3) nothing
        return "" if error.value.lstrip("-").isdigit() else f"{error.value}\n"
    return f"{error.traceback}\n"


def text_of(result: Result) -> str | None:
    """A result's plain text, if it is a text: a guest can send any value under any type."""
    return result.text if isinstance(result.text, str) else None


def bundle(data: Mapping[str, Any]) -> dict[str, Any]:
    """A MIME bundle as JSON has it: bytes in base64, as notebooks do it."""
    return {k: base64.b64encode(v).decode() if isinstance(v, bytes) else plain(v) for k, v in data.items()}
