"""What a message says, piece by piece: `content` and `reasoning` out of the turns of an answer.

Streams send the pieces, bodies join them, so that both say the same. Turns are parted by an empty line. Reasoning goes
beside the content ("parsed"), into it between <think> tags ("raw"), or nowhere ("hidden"). A compound system tells in
its reasoning what it ran, as <tool> and <output> blocks; unlike Groq's, no tag opens it, in a stream neither, so that
the deltas, joined, are the message's `reasoning`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from belljar.dialects.chat_settings import Settings
from belljar.dialects.shown import output_of
from belljar.events import Answer, CallItem, ReasoningItem, TextItem, turn_break
from belljar.execution import Execution

THINK, END_THINK = "<think>\n", "\n</think>\n\n"

Piece = tuple[str, str]  # a field of the message, and what is added to it
NO_PIECE: Piece = ("", "")


class _Channel:
    """One field, as far as it is written."""

    def __init__(self) -> None:
        self._last = ""
        self._part_next = False

    def part(self, needed: bool = True) -> None:
        """What comes next is of another turn, or after something else."""
        self._part_next = needed

    def add(self, text: str) -> str:
        """More of it, parted from what came before where need be."""
        if not text:
            return ""
        if self._part_next:
            self._part_next = False
            text = turn_break(self._last, text) + text
        self._last = text[-1]
        return text

    def add_line(self, text: str) -> str:
        """More of it, on a line of its own."""
        self._part_next = False
        return self.add(text if self._last in ("", "\n") else f"\n{text}")


class Words:
    """The state of a message's words. Each method gives the piece that an event adds; "" where it adds none."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._content, self._reasoning = _Channel(), _Channel()
        self._open: _Channel | None = None  # what the turn wrote last
        self._thinking = False  # inside of <think>

    def turn(self) -> None:
        """A turn begins, or a call is written: what comes next is apart from what was."""
        self._open = None

    def text(self, text: str) -> Piece:
        """More of the answer."""
        if self._open is not self._content:
            self._open = self._content
            self._content.part()
        if self._thinking and text:
            self._thinking = False
            return "content", self._content.add(END_THINK) + self._content.add(text)
        return "content", self._content.add(text)

    def reasoning(self, text: str) -> Piece:
        """More of the reasoning."""
        if self._open is not self._reasoning:
            self._open = self._reasoning
            self._reasoning.part(self._thinking or self._settings.reasoning != "raw")  # a tag parts as well
        return self._think(self._reasoning.add(text))

    def started(self, code: str) -> Piece:
        """The code of a call begins to run."""
        if not self._settings.compound:
            return NO_PIECE
        return self._think(self._reasoning.add_line(f"<tool>\npython({code})\n"))

    def closed(self, execution: Execution) -> Piece:
        """It is over."""
        if not self._settings.compound:
            return NO_PIECE
        self._open = None
        return self._think(self._reasoning.add(f"</tool>\n<output>{output_of(execution)}</output>"))

    def end(self) -> Piece:
        """The message ends."""
        if not self._thinking:
            return NO_PIECE
        self._thinking = False
        return "content", END_THINK

    def _think(self, text: str) -> Piece:
        """Reasoning in the format that was asked for."""
        if not text or self._settings.reasoning == "hidden":
            return NO_PIECE
        if self._settings.reasoning == "parsed":
            return "reasoning", text
        if self._thinking:
            return "content", text
        self._thinking = True
        self._content.part()
        return "content", self._content.add(THINK) + text


def words_of_answer(settings: Settings, answer: Answer) -> dict[str, str]:
    """`content` and `reasoning` of a whole answer; a field that says nothing is left out."""
    if len(answer.items) == 1 and isinstance(answer.items[0], TextItem):  # as most are
        return {"content": answer.items[0].text} if answer.items[0].text else {}
    whole: dict[str, list[str]] = {}
    for field, text in _pieces(Words(settings), answer):
        if text:
            whole.setdefault(field, []).append(text)
    return {field: "".join(texts) for field, texts in whole.items()}


def _pieces(words: Words, answer: Answer) -> Iterator[Piece]:
    """The pieces in the order of a stream: what a turn says, then what it runs."""
    for _, group in groupby(answer.items, key=lambda item: item.turn):
        items = list(group)
        words.turn()
        for item in items:
            if isinstance(item, TextItem):
                yield words.text(item.text)
            elif isinstance(item, ReasoningItem):
                yield words.reasoning(item.text)
            else:
                words.turn()
        for item in items:
            if isinstance(item, CallItem) and item.started and item.execution is not None:
                yield words.started(item.arguments)
                yield words.closed(item.execution)
    yield words.end()
