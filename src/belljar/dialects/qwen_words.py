"""What a Qwen answer says, piece by piece: `content` and `reasoning_content` out of its turns, in both dialects.

Streams send the pieces, bodies join them, so that both say the same. Turns are parted by an empty line, and so is what
a model says after something else. Reasoning is shown in thinking mode, and nowhere otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator

from belljar.events import Answer, ReasoningItem, TextItem, turn_break

CONTENT, REASONING = "content", "reasoning_content"
Piece = tuple[str, str]  # a field of the message, and what is added to it


class Words:
    """The state of a message's words. Each method gives the piece that an event adds; "" where it adds none."""

    def __init__(self, *, thinking: bool) -> None:
        self._thinking = thinking
        self._last = {CONTENT: "", REASONING: ""}  # the last character of each
        self._open = ""  # the field that was written last

    def turn(self) -> None:
        """A turn begins, or a call is written: what comes next is apart from what was."""
        self._open = ""

    def text(self, text: str) -> Piece:
        """More of the answer."""
        return CONTENT, self._add(CONTENT, text)

    def reasoning(self, text: str) -> Piece:
        """More of the reasoning; where it is not shown, it parts the words around it all the same."""
        if self._thinking:
            return REASONING, self._add(REASONING, text)
        if text:
            self._open = REASONING
        return REASONING, ""

    def _add(self, field: str, text: str) -> str:
        if not text:
            return ""
        if self._open != field:
            self._open = field
            text = turn_break(self._last[field], text) + text
        self._last[field] = text[-1]
        return text


def words_of(answer: Answer, *, thinking: bool) -> dict[str, str]:
    """`content` and `reasoning_content` of a whole answer."""
    whole: dict[str, list[str]] = {CONTENT: [], REASONING: []}
    for field, text in _pieces(Words(thinking=thinking), answer):
        whole[field].append(text)
    return {field: "".join(texts) for field, texts in whole.items()}


def _pieces(words: Words, answer: Answer) -> Iterator[Piece]:
    """The pieces in the order of a stream."""
    turn = -1
    for item in answer.items:
        if item.turn != turn:
            turn = item.turn
            words.turn()
        if isinstance(item, TextItem):
            yield words.text(item.text)
        elif isinstance(item, ReasoningItem):
            yield words.reasoning(item.text)
        else:
            words.turn()
