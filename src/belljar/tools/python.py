"""The tool `python`: a model's code in a session of its own, for the length of one request, or of a container.

Promises: the first call takes a fresh sandbox, later calls of the request share its interpreter; where an interpreter
has ended (memory, exit), the next call gets a fresh one and the model is told. Where sessions live on, the first call
takes the one that the source has, which tells of fresh interpreters itself. What the model reads of an execution is
what a person would see, cut in the middle where it is long. Not covered: what the client is shown; that is a dialect's.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from belljar.errors import BelljarError
from belljar.execution import CHART, WORK_FOLDER, Event, Execution, Outcome
from belljar.model import File, Function
from belljar.partial import read_code
from belljar.sandbox.base import Session, Source

FUNCTION = Function(
    name="python",
    description=(
        "Run Python code in a sandbox, as a notebook cell: what it prints, the value of its last expression, plots and "
        "tracebacks come back. Variables stay for further calls."
    ),
    parameters={
        "type": "object",
        "properties": {"code": {"type": "string", "description": "The Python code to run."}},
        "required": ["code"],
        "additionalProperties": False,
    },
)

LINKS = f"Name a file that the user is to have as a Markdown link, [name](sandbox:{WORK_FOLDER}/name)."
# Part of a model's name -> what its system message says. GPT-OSS was trained with this very tool and needs less.
INSTRUCTIONS = {
    "gpt-oss": (
        "You can call the function `python` to run code in a stateful Jupyter environment. It has no internet access. "
        f"Files are in {WORK_FOLDER}. {{gpt_oss}}"
    ),
    "": (
        "You can run Python with the tool `python`. Use it for calculation, data analysis, plots and for checking what "
        "code really does, instead of guessing. The code runs as in a notebook: print what you need to see, or end "
        "with an expression. {other} NumPy, pandas, "
        "SciPy, SymPy, Matplotlib, scikit-learn and many other libraries are installed; there is no internet access. "
        f"Files are in {WORK_FOLDER}, the working folder. Call matplotlib's show() to display a plot: the user sees "
        "it. When you have what you need, answer."
    ),
}
# Whether sessions live on after the answer -> what of the above depends on it.
STAYS = {
    False: {
        "gpt_oss": "Each answer begins with a fresh one.",
        "other": "Variables stay between the calls of one answer; each answer begins afresh.",
    },
    True: {
        "gpt_oss": "It stays for later answers. " + LINKS,
        "other": "Variables and files stay between calls, also for later answers, unless you are told otherwise. "
        + LINKS,
    },
}

RESTARTED = "[The interpreter had ended: this ran in a fresh one, without earlier variables and files.]"
NO_OUTPUT = "[The code ran and printed nothing.]"
HEAD_SHARE = 0.6  # of a text that must be cut, what is kept of its beginning
LISTED_FILES = 20
LISTED_CHARACTERS = 1000  # of the names of files
IMAGE_KINDS = ("image/png", "image/jpeg", "image/svg+xml")


class PythonTool:
    """One request's Python."""

    name = FUNCTION.name
    aliases = ("code_interpreter", "python_interpreter", "ipython", "execute_python", "run_python", "execute_code")
    function = FUNCTION

    def __init__(self, source: Source, files: Sequence[File] = ()) -> None:
        self._source = source
        self._files = files
        self._session: Session | None = None
        self._used = False  # an interpreter has run code
        self._restarted = False
        self._waited = 0.0

    @property
    def queue_seconds(self) -> float:
        """Seconds spent waiting for a sandbox so far."""
        return self._waited

    def instructions(self, model: str) -> str:
        """What the system message says, by the model's name, and which files there are."""
        told = next(text for part, text in INSTRUCTIONS.items() if part in model.lower())
        text = told.format_map(STAYS[self._source.lasting])
        given = [_listed(file.name, file.media_type, len(file.data)) for file in self._files]
        if given:
            text += "\n\nThe user's files:\n" + "\n".join(given)
        there = self._source.files
        if there:
            shown = [_listed(info.path, info.type, info.size) for info in there[-LISTED_FILES:]]
            more = len(there) - len(shown)
            rest = f"\n... and {more:,} more" if more else ""
            text += "\n\nFiles that are there already:\n" + cut("\n".join(shown), LISTED_CHARACTERS) + rest
        return text

    def read(self, arguments: str) -> str:
        """The code in what the model wrote."""
        return read_code(arguments)

    async def run(self, code: str, seconds: float) -> AsyncGenerator[Event, None]:
        """Run it. Raises AtCapacity, SandboxFailed, FileError, SessionClosed."""
        session = await self._ready()
        timeout = min(seconds, self._source.limits.timeout)
        async with aclosing(session.stream(code, timeout=timeout)) as events:
            async for event in events:
                yield event

    def describe(self, execution: Execution, limit: int) -> str:
        """What the model is told: output, value, traceback, and notes in brackets."""
        shown = [result for result in execution.results if not any(kind in result.data for kind in IMAGE_KINDS)]
        values = "\n".join(result.text for result in shown if result.text)
        texts = [execution.stdout, execution.stderr, values, execution.error.traceback if execution.error else ""]
        texts = [cut(text.rstrip("\n"), max(limit // 4, limit - _length(texts) + len(text))) for text in texts if text]
        return "\n".join([*([RESTARTED] if self._restarted else []), *texts, *_notes(execution)]) or NO_OUTPUT

    async def close(self) -> None:
        """Give the sandbox back."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ready(self) -> Session:
        """The session; a fresh one, with the client's files, at first and where the last one has ended."""
        if self._session is not None and self._session.alive:
            self._restarted = False
            return self._session
        self._restarted = self._used and not self._source.lasting
        await self.close()
        began = time.monotonic()
        self._session = session = await self._source.acquire()
        self._waited += time.monotonic() - began
        try:
            for file in self._files:
                await session.write_file(file.name, file.data)
        except BelljarError:
            await self.close()  # the next call tries again, rather than run without the client's files
            raise
        self._used = True
        return session


TOOL = PythonTool


def cut(text: str, limit: int) -> str:
    """The text, or its beginning and end with a note of how much went, in about `limit` characters."""
    if len(text) <= limit:
        return text
    head = int(limit * HEAD_SHARE)
    tail = limit - head
    return f"{text[:head]}\n[... {len(text) - limit:,} characters left out ...]\n{text[len(text) - tail :]}"


def _listed(path: str, kind: str, size: int) -> str:
    return f"- {WORK_FOLDER}/{path} ({kind}, {size:,} bytes)"


def _length(texts: Sequence[str]) -> int:
    return sum(map(len, texts))


def _notes(execution: Execution) -> list[str]:
    """What a person would see beside the text."""
    images = sum(any(kind in result.data for kind in IMAGE_KINDS) for result in execution.results)
    notes = [f"[{images} image{'s' * (images != 1)} shown to the user]"] if images else []
    seen = (*IMAGE_KINDS, "text/plain")
    drawn = sum(CHART in result.data and not any(kind in result.data for kind in seen) for result in execution.results)
    if drawn:
        notes.append(f"[{drawn} interactive figure{'s' * (drawn != 1)} shown as data; for a picture use matplotlib]")
    if execution.files:
        named = [f"{WORK_FOLDER}/{info.path} ({info.size:,} bytes)" for info in execution.files[:LISTED_FILES]]
        names, more = cut(", ".join(named), LISTED_CHARACTERS), len(execution.files) - LISTED_FILES
        notes.append(f"[New or changed files: {names}{f' and {more} more' if more > 0 else ''}]")
    if execution.outcome in (Outcome.OUT_OF_MEMORY, Outcome.KILLED, Outcome.EXITED):
        notes.append("[The interpreter may have ended; variables may be lost.]")
    return notes
