"""Reasoning that an engine left inside the text, between `<think>` and `</think>`.

Promises: however the text is cut, the joined pieces are the same; only what may be part of a tag, or white space beside
one, is held back. White space around reasoning is dropped. Only at the head of a text: later tags are text.
"""

from __future__ import annotations

import re
from enum import Enum, auto

# As models write them: DeepSeek, Qwen, GLM and most others; Gemma; Magistral; Seed; Kimi.
TAGS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "[THINK]": "[/THINK]",
    "<seed:think>": "</seed:think>",
    "◁think▷": "◁/think▷",
}
CLOSE = TAGS["<think>"]
FIRST = tuple({tag[0] for tag in TAGS})
MAX_SPACE = 1000  # characters of white space that are held back; what is over is text
_LONE_CLOSE = re.compile(r"(?<![`\"'])</think>(?=\s|\Z)")


class _Where(Enum):
    HEAD = auto()  # nothing but white space and perhaps the beginning of a tag
    INSIDE = auto()
    AFTER = auto()  # the white space that follows a closing tag
    TEXT = auto()


class Thoughts:
    """Parts reasoning from text. `opened` says that the engine's template wrote the opening tag already."""

    def __init__(self, *, opened: bool = False) -> None:
        self._opened = opened
        self._where = _Where.HEAD
        self._held = ""
        self._close = CLOSE
        self._began = False

    def feed(self, text: str) -> tuple[str, str]:
        """Reasoning and text that are now certain; the reasoning comes first."""
        if self._where is _Where.TEXT:
            return "", text
        if self._where is _Where.HEAD:
            self._held += text
            return self._head()
        if self._where is _Where.INSIDE:
            self._held += text
            return self._inside()
        return "", self._after(text)

    def end(self) -> tuple[str, str]:
        """The rest, when nothing follows."""
        held, where = self._held, self._where
        self._held, self._where = "", _Where.TEXT
        if where is _Where.INSIDE or (where is _Where.HEAD and self._opened):
            return self._piece(held.rstrip()), ""
        return "", held

    def skip(self) -> str:
        """The engine sends its reasoning apart: no tag is looked for. Gives what was held back, which is text."""
        if self._where is not _Where.HEAD:
            return ""
        held, self._held, self._where = self._held, "", _Where.TEXT
        return held

    def _head(self) -> tuple[str, str]:
        text = self._held.lstrip()
        if len(self._held) - len(text) <= MAX_SPACE and (not text or text.startswith(FIRST)):
            tag = next((tag for tag in TAGS if text.startswith(tag)), None)
            if tag is not None:
                return self._enter(text[len(tag) :], TAGS[tag])
            if any(tag.startswith(text) for tag in TAGS):
                return "", ""
        if self._opened:
            return self._enter(self._held, CLOSE)
        held, self._held, self._where = self._held, "", _Where.TEXT
        return "", held

    def _enter(self, rest: str, close: str) -> tuple[str, str]:
        self._where, self._held, self._close = _Where.INSIDE, rest, close
        return self._inside()

    def _inside(self) -> tuple[str, str]:
        before, tag, after = self._held.partition(self._close)
        if tag:
            self._held, self._where = "", _Where.AFTER
            return self._piece(before[: _certain(before)]), self._after(after)
        open_tag = _overlap(before, self._close)
        certain = _certain(before[: len(before) - open_tag])
        self._held = before[certain:]
        return self._piece(before[:certain]), ""

    def _piece(self, text: str) -> str:
        if not self._began:
            text = text.lstrip()
            self._began = bool(text)
        return text

    def _after(self, text: str) -> str:
        text = text.lstrip()
        if text:
            self._where = _Where.TEXT
        return text


def _certain(text: str) -> int:
    """How much of a text is left without the white space at its end, of which at most MAX_SPACE is dropped."""
    return max(len(text.rstrip()), len(text) - MAX_SPACE)


def _overlap(text: str, tag: str) -> int:
    """The length of the longest beginning of a tag, less than all of it, that ends the text."""
    return next((size for size in range(min(len(tag) - 1, len(text)), 0, -1) if text.endswith(tag[:size])), 0)


def has_lone_close(text: str) -> bool:
    """Whether a whole answer closes reasoning that it never opened: its template did."""
    return CLOSE in text and not text.lstrip().startswith(tuple(TAGS)) and bool(_LONE_CLOSE.search(text))
