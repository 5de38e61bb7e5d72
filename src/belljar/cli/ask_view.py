"""What `belljar ask` shows of an answer: neutral events in; lines for people, or one JSON object, out.

Promises: standard output carries the words of the answer only (or the JSON object); reasoning, code, its output and
notes go to standard error; neither the model's words nor the code's output are trusted by a terminal; colours only on a
terminal, and not where NO_COLOR is set. Not covered: where the events come from.
"""

from __future__ import annotations

import enum
import json as json_text
import os
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from msgspec import structs

from belljar.cli.output import STREAMS, Saved, Saver, encode, print_text, printable, write_bytes
from belljar.cli.run import bundle, last_words, text_of
from belljar.events import (
    ArgumentsDelta,
    CallClosed,
    CallItem,
    CallOpened,
    CallOutput,
    CallReady,
    CallShown,
    CallStarted,
    Event,
    Failed,
    Finish,
    Finished,
    Fold,
    ReasoningDelta,
    TextDelta,
    TurnStarted,
    turn_break,
)
from belljar.execution import Execution, FileInfo, Outcome
from belljar.model import Usage
from belljar.sandbox.session import GuestSession

GUTTER = ">>> "
RESET = "\x1b[0m"
HINT = "not kept (--out DIR saves it)"
LISTED_FILES = 5
NOTHING_RUN = Execution(outcome=Outcome.OK)
FINISH_NOTES = {
    Finish.LENGTH: "the answer was cut: it reached the most tokens that it may have",
    Finish.FILTERED: "the answer was cut by the content filter of the model's server",
    Finish.CALLS: "the model called a function that is not there",
}


class Kind(enum.Enum):
    """What a piece of text is. Each kind has a Look."""

    REASONING = enum.auto()
    CODE = enum.auto()
    OUTPUT = enum.auto()
    ERRORS = enum.auto()
    NOTE = enum.auto()
    ANSWER = enum.auto()


@dataclass(frozen=True, kw_only=True)
class Look:
    """Where a kind goes, its colour (parameters of SGR, ECMA-48 8.3.117), and whether an empty line comes before it."""

    descriptor: int = STREAMS["stderr"]
    colour: str = ""
    apart: bool = False


LOOKS = {
    Kind.REASONING: Look(colour="2", apart=True),
    Kind.CODE: Look(colour="36", apart=True),
    Kind.OUTPUT: Look(),
    Kind.ERRORS: Look(colour="31"),
    Kind.NOTE: Look(colour="2"),
    Kind.ANSWER: Look(descriptor=STREAMS["stdout"], apart=True),
}


class Screen:
    """Standard output and standard error, which may be one and the same place: a terminal, as a rule."""

    def __init__(self) -> None:
        self.is_one = os.path.sameopenfile(1, 2)
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        self._coloured = {descriptor: os.isatty(descriptor) and not plain for descriptor in (1, 2)}
        self._last: dict[int, str] = {}  # place -> the last character in it
        self.kind: Kind | None = None  # of the piece that was written last

    async def write(self, kind: Kind, text: str) -> None:
        """Write a piece; one of another kind than the piece before begins on a line of its own.

        Standard output alone is left as it is: line breaks of ours would be none of the answer's.
        """
        look = LOOKS[kind]
        place = self._place(look.descriptor)
        begins = kind is not self.kind and place == STREAMS["stderr"]
        if begins and look.apart:
            text = text.lstrip("\n")
        if not text:
            return
        if begins:
            await self._begin(look)
        self.kind = kind
        self._last[place] = text[-1]
        if look.colour and self._coloured[look.descriptor]:
            text = f"\x1b[{look.colour}m{text}{RESET}"
        await print_text(look.descriptor, text)

    async def close(self) -> None:
        """End the lines that are open."""
        for place, last in list(self._last.items()):
            if last != "\n":
                self._last[place] = "\n"
                await print_text(place, "\n")
        self.kind = None

    def _place(self, descriptor: int) -> int:
        return STREAMS["stderr"] if self.is_one else descriptor

    async def _begin(self, look: Look) -> None:
        """End the line that is open, and what the code's output may have done to colours."""
        last = self._last.get(2, "")
        reset = RESET if self._coloured[2] and self.kind in (Kind.OUTPUT, Kind.ERRORS) else ""
        line = "\n" if last not in ("", "\n") else ""
        gap = "\n" if last and look.apart else ""
        await print_text(2, reset + line + gap)


class LiveView:
    """Everything as it comes."""

    def __init__(self, saver: Saver | None, output_bytes: int | None = None) -> None:
        """`output_bytes` is what a sandbox keeps of an output, None where that is not known."""
        self._saver = saver
        self._output_bytes = output_bytes
        self._screen = Screen()
        self._answer_end = ""
        self._turn_is_new = False
        self._writing: str | None = None  # the call whose code is shown while the model writes it
        self._line = ""  # the beginning of a line of it
        self._taken = 0  # characters of it that were taken
        self._codes: dict[str, str] = {}  # of calls whose code has not been shown yet

    async def note(self, text: str) -> None:
        """Something that Belljar has to say."""
        await self._screen.write(Kind.NOTE, f"belljar: {printable(text)}\n")

    async def show(self, event: Event) -> None:
        """The next event."""
        handler = _SHOWS.get(type(event))
        if handler is not None:
            await handler(self, event)

    async def files(self, changed: dict[str, FileInfo], session: GuestSession | None) -> None:
        """New and changed files; with a folder to save to, they are read from the session, which must be open."""
        if self._saver is not None and session is not None:
            for item in await save_files(self._saver, changed, session):
                await self._screen.write(Kind.NOTE, item.line() + "\n")
        elif self._saver is None and changed:
            names = ", ".join(printable(path) for path in list(changed)[:LISTED_FILES])
            more = f" and {len(changed) - LISTED_FILES} more" if len(changed) > LISTED_FILES else ""
            await self.note(f"not kept: {names}{more} (--out DIR saves files)")

    async def end(self) -> None:
        """Nothing more comes."""
        await self._screen.close()

    # --- what the model says ------------------------------------------------------------------------------------------

    async def _on_turn(self, _event: TurnStarted) -> None:
        self._turn_is_new = True
        self._writing = None

    async def _on_reasoning(self, event: ReasoningDelta) -> None:
        await self._screen.write(Kind.REASONING, event.text)

    async def _on_text(self, event: TextDelta) -> None:
        """Words of different turns are kept apart by an empty line, unless something else stands between them."""
        joined = not self._screen.is_one or self._screen.kind is Kind.ANSWER
        gap = turn_break(self._answer_end, event.text) if self._turn_is_new and joined else ""
        self._turn_is_new = False
        self._answer_end = event.text[-1:] or self._answer_end
        await self._screen.write(Kind.ANSWER, gap + event.text)

    # --- code ---------------------------------------------------------------------------------------------------------

    async def _on_call(self, event: CallOpened) -> None:
        """The first call of a turn is shown while it is written; others wait, so that each stands above its output."""
        self._codes[event.call] = ""
        if self._writing is None and event.builtin:
            self._writing, self._line, self._taken = event.call, "", 0

    async def _on_arguments(self, event: ArgumentsDelta) -> None:
        if event.call == self._writing:
            await self._write_code(event.text)

    async def _on_ready(self, event: CallReady) -> None:
        self._codes[event.call] = event.arguments
        if event.call == self._writing:
            await self._write_code(event.arguments[self._taken :])
            await self._screen.write(Kind.CODE, _gutter(self._line) if self._line.strip() else "")
            del self._codes[event.call]

    async def _write_code(self, text: str) -> None:
        self._taken += len(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            await self._screen.write(Kind.CODE, _gutter(line))

    async def _show_code(self, call: str) -> None:
        """The code of a call that has not been shown yet."""
        code = self._codes.pop(call, "")
        if self._screen.kind is Kind.CODE:
            self._screen.kind = None  # that of another call, which gave no output: begin anew
        await self._screen.write(Kind.CODE, "".join(map(_gutter, code.rstrip().split("\n"))) if code else "")

    # --- what it does -------------------------------------------------------------------------------------------------

    async def _on_start(self, event: CallStarted) -> None:
        await self._show_code(event.call)

    async def _on_output(self, event: CallOutput) -> None:
        kind = Kind.ERRORS if event.output.stream == "stderr" else Kind.OUTPUT
        await self._screen.write(kind, event.output.text)

    async def _on_shown(self, event: CallShown) -> None:
        """Its text; for an image, and for what has no text, a line that says what it is and where it is."""
        data, text = event.result.data, text_of(event.result)
        pictured = [kind for kind in data if kind.startswith("image/")]
        if text is not None and not pictured:
            await self._screen.write(Kind.OUTPUT, text + "\n")
        if self._saver is not None:
            saved = self._saver.save_result(event.result)
        else:
            kinds = pictured or ([] if text is not None else list(data))
            saved = [Saved(kind=kind, size=len(encode(data[kind])), reason=HINT) for kind in kinds]
        for item in saved:
            await self._screen.write(Kind.NOTE, item.line() + "\n")

    async def _on_closed(self, event: CallClosed) -> None:
        await self._show_code(event.call)  # one that was not run
        execution = event.execution
        if execution.error is not None:
            await self._screen.write(Kind.ERRORS, last_words(execution.outcome, execution.error))
        for line in _cuts(execution, self._output_bytes):
            await self.note(line)

    # --- how it ends --------------------------------------------------------------------------------------------------

    async def _on_finish(self, event: Finished) -> None:
        if event.finish in FINISH_NOTES:
            await self.note(FINISH_NOTES[event.finish])

    async def _on_failure(self, _event: Failed) -> None:
        await self._screen.close()  # what failed is said where every command says it


_SHOWS: dict[type, Callable[[LiveView, Any], Awaitable[None]]] = {
    TurnStarted: LiveView._on_turn,
    ReasoningDelta: LiveView._on_reasoning,
    TextDelta: LiveView._on_text,
    CallOpened: LiveView._on_call,
    ArgumentsDelta: LiveView._on_arguments,
    CallReady: LiveView._on_ready,
    CallStarted: LiveView._on_start,
    CallOutput: LiveView._on_output,
    CallShown: LiveView._on_shown,
    CallClosed: LiveView._on_closed,
    Finished: LiveView._on_finish,
    Failed: LiveView._on_failure,
}


class JsonView(LiveView):
    """One JSON object at the end. Its fields are in docs/cli.md."""

    def __init__(self, saver: Saver | None, *, here: bool) -> None:
        """`here` is False where calls run at a server, which does not say how they ended."""
        super().__init__(saver)
        self._here = here
        self._model: str | None = None
        self._fold = Fold()
        self._notes: list[str] = []
        self._saved: list[Saved] = []

    async def note(self, text: str) -> None:
        """Notes are in the object."""
        self._notes.append(text)

    async def show(self, event: Event) -> None:
        """Take it in; results are saved at once, as people see them saved."""
        self._fold.add(event)
        if isinstance(event, TurnStarted):
            self._model = event.model
        if isinstance(event, Finished) and event.finish in FINISH_NOTES:
            await self.note(FINISH_NOTES[event.finish])
        if isinstance(event, CallShown) and self._saver is not None:
            self._saved += self._saver.save_result(event.result)

    async def files(self, changed: dict[str, FileInfo], session: GuestSession | None) -> None:
        """Save them."""
        if self._saver is not None and session is not None:
            self._saved += await save_files(self._saver, changed, session)

    async def end(self) -> None:
        """Print it."""
        answer = self._fold.answer
        counted = [turn.usage for turn in answer.turns if turn.usage is not None]
        fields = {
            "model": self._model,
            "text": answer.text,
            "reasoning": answer.reasoning,
            "calls": [self._call(call) for call in answer.calls],
            "usage": _usage(sum(counted, Usage())) if counted else None,
            "finish": answer.finish.value if answer.finish else None,
            "error": str(answer.error) if answer.error is not None else None,
            "notes": self._notes,
            "saved": [item.fields() for item in self._saved],
        }
        await write_bytes(1, (json_text.dumps(fields, allow_nan=False) + "\n").encode())

    def _call(self, call: CallItem) -> dict[str, Any]:
        execution = call.execution or NOTHING_RUN
        return {
            "code": call.arguments,
            "outcome": execution.outcome.value if self._here and call.execution else None,
            "stdout": execution.stdout,
            "stderr": execution.stderr,
            "results": [{"main": result.is_main, "data": bundle(result.data)} for result in execution.results],
            "error": asdict(execution.error) if execution.error else None,
            "files": [asdict(info) for info in execution.files],
        }


async def save_files(saver: Saver, changed: dict[str, FileInfo], session: GuestSession) -> list[Saved]:
    """Save those of the changed files that are still there, each as it is now."""
    now = {info.path: info for info in await session.list_files()}
    files = tuple(now[path] for path in changed if path in now)
    return await saver.save_files(replace(NOTHING_RUN, files=files), session)


def _gutter(line: str) -> str:
    return f"{GUTTER}{line}".rstrip() + "\n"


def _cuts(execution: Execution, kept: int | None) -> list[str]:
    """What was cut of the output."""
    written = {"stdout": execution.stdout_bytes, "stderr": execution.stderr_bytes}
    return [
        f"{stream} cut: {count - kept:,} more bytes (--output-bytes keeps more)"
        for stream, count in written.items()
        if kept is not None and count > kept
    ]


def _usage(usage: Usage) -> dict[str, Any]:
    return structs.asdict(usage) | {"total_tokens": usage.total_tokens}
