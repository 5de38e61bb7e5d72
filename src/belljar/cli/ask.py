"""`belljar ask`: one question to a model that can run code, here or at a server; what happens is shown as it comes.

Promises: standard output carries the answer only (or, with --json, one object); a signal ends the model's work and the
sandbox; keys are never shown. Here, the sandbox is of this process and ends with it; at a server, it is the server's.
"""

from __future__ import annotations

import asyncio
import logging
import mimetypes
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import click
from click.core import ParameterSource

from belljar.cli.ask_view import JsonView, LiveView
from belljar.cli.options import Exit, Positive, exit_table, sandbox_options, take_limits
from belljar.cli.output import Saver, printable
from belljar.cli.run import SIGNALS, FileCopy, read_files
from belljar.errors import BelljarError, ClientError, FormatFailed, HostError, ToolUseFailed, UpstreamRefused
from belljar.events import CallClosed, Event, Failed, Finished
from belljar.execution import FileInfo
from belljar.model import File, Image, Message, Request, Role, Text
from belljar.sandbox.base import Limits
from belljar.sandbox.session import GuestSession

PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")  # what models take
TOO_MANY = 429  # the one status among refusals that is not the request's fault
QUESTION_LIMIT = 4 << 20  # bytes
SERVERS = ("profile", "image", "max_calls", "upstream", "upstream_key")  # options that make no sense at a server
EXITS = {
    Exit.OK: "answered",
    Exit.RAISED: "the model, or the server that it is at, failed",
    Exit.USAGE: "wrong usage, or the request was refused; with an unknown model, say",
    Exit.HOST: "this host cannot give the sandbox asked for (isolation, image)",
    Exit.INTERRUPTED: "Ctrl-C ended it",
    Exit.BROKEN_PIPE: "the reader of the output went away",
}
# Error -> exit code, the first that fits.
ERROR_EXITS: dict[type[BelljarError], Exit] = {
    ToolUseFailed: Exit.RAISED,
    FormatFailed: Exit.RAISED,
    ClientError: Exit.USAGE,
    HostError: Exit.HOST,
    BelljarError: Exit.RAISED,
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """What was asked for. `files` are pairs of a name below /mnt/data and a content."""

    question: str
    system: str | None
    model: str | None
    files: tuple[tuple[str, bytes], ...]
    code: bool
    stream: bool

    def request(self, model: str) -> Request:
        """The request, to this model."""
        parts = [part for name, data in self.files for part in _parts(name, data, self.code)]
        messages = [Message(role=Role.USER, parts=(Text(text=self.question), *parts))]
        if self.system:
            messages.insert(0, Message(role=Role.SYSTEM, parts=(Text(text=self.system),)))
        builtin = ("python",) if self.code else ()
        return Request(model=model, messages=tuple(messages), builtin=builtin, stream=self.stream)


class Place(Protocol):
    """Where a question is answered."""

    @property
    def session(self) -> GuestSession | None:
        """The sandbox session in which code ran last, where it is ours."""

    async def start(self, model: str | None) -> tuple[str, list[str]]:
        """Make ready; the model that is asked (the given one, or a default), and what there is to say of it all.

        Raises BelljarError.
        """

    def answer(self, request: Request) -> AsyncGenerator[Event, None]:
        """The answer, as it comes."""

    async def close(self) -> None:
        """Give everything back. Never raises."""


# --- the command ------------------------------------------------------------------------------------------------------

EPILOG = f"""\b
Examples:
  belljar ask "What is the 1,000th prime number?"
  belljar ask "Plot revenue by month" --file sales.csv --out plots
  belljar ask --model qwen3:8b --upstream http://127.0.0.1:11434/v1 "Is 2**61 - 1 prime?"
  belljar ask --server http://127.0.0.1:8787 --json "..." | jq .text
  git diff | belljar ask --no-code -
  belljar ask --model belljar/verbatim "print(6 * 7)"       no language model: it runs the code that it is sent

Without --upstream and --server, a model is looked for: local engines first, then keys of providers in the environment.

{exit_table(EXITS)}
"""


@click.command("ask", epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("question")
@click.option("--model", metavar="ID", help="The model to ask.  [default: the first one that there is]")
@click.option("--system", metavar="TEXT", help="A system message: how to answer.")
@click.option(
    "--file",
    "file",
    type=FileCopy(),
    multiple=True,
    metavar="PATH[=NAME]",
    help="Attach a file; code finds it in /mnt/data. May be given again.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Save plots and other results, and files that code makes, here. It must be empty, or not exist yet.",
)
@click.option(
    "--overwrite", is_flag=True, help="Let --out be a folder that holds something; replace what has the same name."
)
@click.option("--stream/--no-stream", default=True, show_default=True, help="Show the model's words as they come.")
@click.option("--json", "json", is_flag=True, help="Print one JSON object at the end, and nothing else.")
@click.option("--no-code", is_flag=True, help="Offer the model no code interpreter.")
@click.option("--max-calls", type=Positive(int), metavar="N", help="Executions for one answer at most.  [default: 16]")
@click.option("--upstream", metavar="URL", help="The OpenAI-compatible server where the model is, as http://HOST/v1.")
@click.option(
    "--upstream-key",
    metavar="KEY",
    help="Its API key. Other users of this host see command lines: better BELLJAR_ASK_UPSTREAM_KEY.",
)
@click.option("--server", metavar="URL", help="Ask a running server (`belljar serve`) instead of answering here.")
@click.option("--api-key", metavar="KEY", help="The server's API key; better in BELLJAR_ASK_API_KEY.")
@sandbox_options
@click.pass_context
def ask(ctx: click.Context, /, **options: Any) -> int:
    """Ask a model QUESTION (- reads it from standard input), with a code interpreter at its hand.

    Code that the model writes runs in a fresh sandbox, without network. Standard output gets the answer, standard error
    the reasoning, the code and what came out of it.
    """
    limits = take_limits(options)
    if os.environ.get("BELLJAR_DEBUG", "0") in ("", "0"):
        logging.getLogger("belljar").setLevel(logging.ERROR)  # a warning would be said again as the error that follows
    if options["server"]:
        _refuse_at_server(ctx, [*SERVERS, *(limit.name for limit in fields(Limits))])
    job = Job(
        question=_read_question(options["question"]),
        system=options["system"],
        model=options["model"],
        files=read_files(options["file"], limits),
        code=not options["no_code"],
        stream=options["stream"],
    )
    saver = Saver(options["out"], options["overwrite"], limits.files_bytes) if options["out"] else None
    place = _there(options) if options["server"] else _here(ctx.obj or {}, options, limits)
    view = JsonView(saver, here=not options["server"]) if options["json"] else LiveView(saver, limits.output_bytes)
    return asyncio.run(_Asker(job, place, view).run())


def _refuse_at_server(ctx: click.Context, names: list[str]) -> None:
    """Raises UsageError for options that would have no effect."""
    for name in names:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} is the server's own matter: leave it out with --server")


def _read_question(word: str) -> str:
    """The question itself, or standard input. Raises UsageError."""
    if word != "-":
        text = word
    else:
        data = sys.stdin.buffer.read(QUESTION_LIMIT + 1)
        if len(data) > QUESTION_LIMIT:
            raise click.UsageError(f"standard input: over {QUESTION_LIMIT:,} bytes; attach it with --file")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise click.UsageError(f"standard input: no UTF-8 text: {error}") from None
    if not text.strip():
        raise click.UsageError("the question is empty")
    return text


def _parts(name: str, data: bytes, code: bool) -> list[Image | File]:
    """A file for the code, or where there is none for its text; pictures also as such, for a model that sees."""
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    file = File(name=name, media_type=kind, data=data)
    if kind not in PICTURES:
        return [file]
    return [Image(media_type=kind, data=data), *([file] if code else [])]


def _there(options: dict[str, Any]) -> Place:
    from belljar.cli.ask_client import Server  # it takes an HTTP client with it

    return Server(options["server"], options["api_key"])


def _here(tables: dict[str, Any], options: dict[str, Any], limits: Limits) -> Place:
    """Raises UsageError: settings of upstreams that cannot be."""
    from belljar.cli.ask_here import Here, Settings
    from belljar.cli.fields import usage_error

    try:
        return Here(Settings.read(tables, limits, options), code=not options["no_code"])
    except ValueError as error:
        raise usage_error(error) from None


# --- asking -----------------------------------------------------------------------------------------------------------


class _Asker:
    """One question on its way: the place, the signals, and which exit code comes of it."""

    def __init__(self, job: Job, place: Place, view: LiveView) -> None:
        self._job = job
        self._place = place
        self._view = view
        self._changed: dict[str, FileInfo] = {}  # files of the session that is open now
        self._failure: BelljarError | None = None
        self._signal_exit: int | None = None

    async def run(self) -> int:
        """Ask, and show the answer. Raises BrokenPipeError."""
        task = asyncio.ensure_future(self._ask())
        loop = asyncio.get_running_loop()
        for number, code in SIGNALS.items():
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._on_signal, task, code)
        try:
            await task
        except asyncio.CancelledError:
            return self._signal_exit or Exit.INTERRUPTED
        except BelljarError as error:
            self._failure = error
        if self._failure is None:
            return Exit.OK
        click.echo(f"belljar: {printable(' '.join(str(self._failure).split()))}", err=True)
        return exit_code(self._failure)

    async def _ask(self) -> None:
        try:
            model, notes = await self._place.start(self._job.model)
            for note in notes:
                await self._view.note(note)
            async with aclosing(self._place.answer(self._job.request(model))) as events:
                async for event in events:
                    await self._take(event)
            await self._view.end()
        finally:
            await self._place.close()

    async def _take(self, event: Event) -> None:
        """Show it. Files are kept when the answer is complete, or when the interpreter that made them has ended."""
        await self._view.show(event)
        session = self._place.session
        if isinstance(event, CallClosed):
            self._changed |= {info.path: info for info in event.execution.files}
        if isinstance(event, Failed):
            self._failure = event.error
        died = isinstance(event, CallClosed) and session is not None and not session.alive
        if self._changed and (died or isinstance(event, Finished | Failed)):
            changed, self._changed = self._changed, {}
            await self._view.files(changed, session)

    def _on_signal(self, task: asyncio.Task[None], code: int) -> None:
        """Any of them ends everything; a further one would cut short the cleaning up."""
        self._signal_exit = code
        if not task.cancelling():
            task.cancel()


def exit_code(error: BelljarError) -> Exit:
    """The exit code for what went wrong."""
    if isinstance(error, UpstreamRefused) and error.status != TOO_MANY:
        return Exit.USAGE
    return next(code for kind, code in ERROR_EXITS.items() if isinstance(error, kind))
