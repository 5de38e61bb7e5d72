"""The code in a text: fenced blocks and inline code, as CommonMark 0.31 has them (sections 4.5 and 6.1), read as models
and people write them.

Promises: what a `FenceReader` makes of a text is the same however the text is cut, and the `raw` of its pieces, joined,
is the text; it holds back only what may be part of a fence. Wider than CommonMark: a fence may be indented by any
number of blanks, may follow words on its line ("Run this: ```python"), and one at the very end of the text closes its
block from within a line. Not covered: blocks that are code by their indentation alone, and quotes ("> ```").
"""

from __future__ import annotations

import enum
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# What people and models write behind a fence for Python; "tool_code" is Gemma's.
PYTHON = frozenset({"python", "py", "python3", "py3", "ipython", "ipython3", "python-repl", "tool_code"})

LEAST_RUN = 3  # marks in a row that can be a fence; and at most so many, as all that is held back has a bound
MOST_RUN = 100
MOST_INFO = 200  # characters of what stands behind an opening fence
MOST_BLANKS = 200  # characters of white space behind a closing one
CHUNK = 4096  # characters that are looked at together: a piece taken from them costs a copy of the rest

_MARK = re.compile(r"`{3,}|~{3,}|(?:`{1,2}|~{1,2})\Z")  # a run that may be a fence, or may become one
_LANGUAGE = re.compile(r"[ \t]*\{?\.?([\w+#.-]*)")
_ONE_WORD = re.compile(r"[ \t]*[\w+#.-]*[ \t\r]*")
_INFO_END = {"`": re.compile("[`\n]"), "~": re.compile("\n")}
_BACKTICKS = re.compile("`+")
_LINE_BREAK = re.compile("\r?\n")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPiece:
    """Words outside any block."""

    raw: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeOpened:
    """A block begins; `language` is in lower case, "" where none was given."""

    raw: str
    language: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeDelta:
    """More of its code: `text` is `raw` without the indentation that its fence has. A block's last line has no end."""

    raw: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeClosed:
    """The block is over; `complete` is False where the text ended before a closing fence."""

    raw: str
    complete: bool


Piece = TextPiece | CodeOpened | CodeDelta | CodeClosed


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A fenced block, whole."""

    language: str
    code: str
    complete: bool

    @property
    def is_python(self) -> bool:
        """Whether its fence says that it is Python."""
        return self.language in PYTHON


class FenceReader:
    """Text in, pieces out."""

    def __init__(self) -> None:
        self._rest = ""  # held back
        self._before = "\n"  # the character before `_rest`
        self._indent: int | None = 0  # blanks that this line begins with, as long as there is nothing else in it
        self._block: _OpenBlock | None = None

    def feed(self, text: str) -> list[Piece]:
        """The pieces that this text makes certain."""
        return _join(itertools.chain.from_iterable(self._pieces(chunk) for chunk in _chunks(text)))

    def end(self) -> list[Piece]:
        """The text is over: what was held back, and the end of an open block."""
        pieces = _join(self._pieces("", final=True))
        if self._block is not None:
            pieces.append(CodeClosed(raw=self._block.line_break, complete=False))
            self._block = None
        return pieces

    def _pieces(self, text: str, *, final: bool = False) -> Iterator[Piece]:
        self._rest += text
        while self._rest:
            piece = self._in_block(self._block, final) if self._block else self._outside(final)
            if piece is None:
                return
            yield piece

    def _take(self, size: int) -> str:
        taken, self._rest = self._rest[:size], self._rest[size:]
        self._before = taken[-1:] or self._before
        return taken

    def _outside(self, final: bool) -> Piece | None:
        """The next piece outside of blocks; None while it cannot be told."""
        mark = _MARK.search(self._rest)
        if mark is None or mark.start():
            return self._words(mark.start() if mark else len(self._rest))
        if self._before == self._rest[0]:  # more of a run that was no fence
            return self._words(_run(self._rest))
        line = _fence_line(self._rest, final)
        if line is None:
            return None
        run, size, info = line
        if info is None or not self._may_open(info):
            return self._words(size if info is None else run)
        self._block = _OpenBlock(self._rest[0], run, self._indent or 0)
        language = _LANGUAGE.match(info)
        return CodeOpened(raw=self._take(size), language=language[1].lower() if language else "")

    def _may_open(self, info: str) -> bool:
        """A fence opens a block where its line begins, or after a blank if at most one word stands behind it."""
        if self._indent is not None:
            return True
        return self._rest[0] == "`" and self._before in " \t:" and _ONE_WORD.fullmatch(info) is not None

    def _words(self, size: int) -> TextPiece:
        raw = self._take(size)
        line = raw.rpartition("\n")[2]
        before = 0 if len(line) < len(raw) else self._indent
        self._indent = None if before is None or line.strip(" \t") else before + len(line)
        return TextPiece(raw=raw)

    def _in_block(self, block: _OpenBlock, final: bool) -> Piece | None:
        """The next piece of a block; None while it cannot be told."""
        if block.at_line_start:
            return self._line_start(block, final)
        size, kind = block.look_in_line(self._rest, self._before, final)
        if kind is _Look.WAIT:
            return None
        if kind is _Look.CLOSING:
            return self._close(block, size)
        raw = self._take(size)
        if kind is _Look.LINE_BREAK:
            block.line_break, block.at_line_start = raw, True
            return CodeDelta(raw="", text="")
        return CodeDelta(raw=raw, text=block.text(raw))

    def _line_start(self, block: _OpenBlock, final: bool) -> Piece | None:
        size, kind = block.look_at_start(self._rest, final)
        if kind is _Look.WAIT:
            return None
        if kind is _Look.CLOSING:
            return self._close(block, size)
        line_break, block.line_break, block.at_line_start = block.line_break, "", False
        return CodeDelta(raw=line_break + self._take(size), text=line_break)

    def _close(self, block: _OpenBlock, size: int) -> CodeClosed:
        self._block, self._indent = None, None
        return CodeClosed(raw=block.line_break + self._take(size), complete=True)


class _Look(enum.Enum):
    """What stands next in a block."""

    WAIT = "cannot be told yet"
    CODE = "code"
    LINE_BREAK = "the end of a line"
    CLOSING = "its closing fence"


class _OpenBlock:
    """A block while it is read: what closes it, and what may yet do so."""

    def __init__(self, mark: str, run: int, indent: int) -> None:
        fence = f"{mark}{{{run},{MOST_RUN}}}"
        margin = rf"[ \t]{{0,{indent + 3}}}"
        blanks = rf"[ \t\r]{{0,{MOST_BLANKS}}}"
        self.at_line_start = True
        self.line_break = ""  # before this line; not given yet, as a block's last one is no part of the code
        self._mark = mark
        self._fence = mark * run
        self._margins = re.compile(rf"\n[ \t]{{1,{indent}}}") if indent else None
        self._margin = re.compile(rf"[ \t]{{0,{indent}}}")
        self._closing = re.compile(rf"{margin}{fence}{blanks}")
        self._maybe = re.compile(rf"{margin}(?:{mark}{{0,{MOST_RUN}}}|{fence}{blanks})")
        self._last = re.compile(rf"({fence})\s{{0,{MOST_BLANKS}}}")
        self._tail = re.compile(rf"(?<!{mark})(?:{mark}{{1,{MOST_RUN}}}|{fence}\s{{1,{MOST_BLANKS}}})\Z|\r\Z")

    def look_at_start(self, rest: str, final: bool) -> tuple[int, _Look]:
        """At the beginning of a line: a closing fence, or the margin that is no part of the code."""
        line, line_break, _ = rest.partition("\n")
        if (line_break or final) and self._closing.fullmatch(line):
            return len(line), _Look.CLOSING
        if not line_break and not final and self._maybe.fullmatch(line):
            return 0, _Look.WAIT
        margin = self._margin.match(line)
        return margin.end() if margin else 0, _Look.CODE

    def look_in_line(self, rest: str, before: str, final: bool) -> tuple[int, _Look]:
        """Within a line: code, its end, or a fence that may turn out to be the last thing of the text."""
        if rest[0] == self._mark == before:
            return _run(rest), _Look.CODE
        tail = self._tail.search(rest, max(0, len(rest) - MOST_RUN - MOST_BLANKS))
        if tail and not tail.start():
            last = self._last.fullmatch(rest) if final else None
            return (last.end(1), _Look.CLOSING) if last else (len(rest), _Look.CODE if final else _Look.WAIT)
        end = tail.start() if tail else len(rest)
        line_break = _LINE_BREAK.search(rest, 0, end)
        if line_break is None:
            return end, _Look.CODE
        lines = self._plain_lines(rest, end)
        if not (lines or line_break.start()):
            return line_break.end(), _Look.LINE_BREAK
        return max(lines, line_break.start()), _Look.CODE

    def _plain_lines(self, rest: str, end: int) -> int:
        """Where the last line break is before which no fence can be: so many lines are code at once."""
        fence = rest.find(self._fence, 0, end)
        last = rest.rfind("\n", 0, end if fence < 0 else fence)
        return max(0, last - 1 if rest[last - 1] == "\r" else last)

    def text(self, raw: str) -> str:
        """Code without its margin; `raw` does not end within one."""
        return self._margins.sub("\n", raw) if self._margins else raw


def _chunks(text: str) -> Iterator[str]:
    return (text[at : at + CHUNK] for at in range(0, len(text), CHUNK))


def _run(text: str) -> int:
    """How often the first character stands at the beginning."""
    return len(text) - len(text.lstrip(text[0]))


def _fence_line(rest: str, final: bool) -> tuple[int, int, str | None] | None:
    """Of a text that begins with a mark: its run, the size of what is decided, and what stands behind the run on its
    line; None instead of that where it is no fence. None for all while it cannot be told.
    """
    run = _run(rest)
    if run == len(rest) and run <= MOST_RUN and not final:
        return None
    if not LEAST_RUN <= run <= MOST_RUN:
        return run, run, None
    window = rest[run : run + MOST_INFO + 1]
    end = _INFO_END[rest[0]].search(window)
    if end is None:
        return (run, run, None) if final or len(window) > MOST_INFO else None
    size = run + end.end()
    return run, size, None if end[0] == "`" else window[: end.start()]


def _join(pieces: Iterable[Piece]) -> list[Piece]:
    """The pieces, those of a kind that follow each other as one, without empty ones."""
    joined: list[Piece] = []
    for kind, group in itertools.groupby(pieces, type):
        if kind in (CodeOpened, CodeClosed):
            joined += group
            continue
        alike = list(group)
        raw = "".join(piece.raw for piece in alike)
        if raw:
            text = "".join(piece.text for piece in alike if isinstance(piece, CodeDelta))
            joined.append(TextPiece(raw=raw) if kind is TextPiece else CodeDelta(raw=raw, text=text))
    return joined


# --- whole texts ------------------------------------------------------------------------------------------------------


def split(text: str) -> list[Piece]:
    """The pieces of a whole text."""
    reader = FenceReader()
    return _join([*reader.feed(text), *reader.end()])


def blocks(text: str) -> list[Block]:
    """Its fenced blocks, in their order."""
    found: list[Block] = []
    language = code = ""
    for piece in split(text):
        if isinstance(piece, CodeOpened):
            language, code = piece.language, ""
        elif isinstance(piece, CodeDelta):
            code = piece.text
        elif isinstance(piece, CodeClosed):
            found.append(Block(language=language, code=code, complete=piece.complete))
    return found


def inline_code(text: str) -> list[str]:
    """What stands between backticks in its words, outside of blocks."""
    return [span for piece in split(text) if isinstance(piece, TextPiece) for span in _spans(piece.raw)]


def fence(code: str, language: str = "") -> str:
    """The code in a block, with a fence that nothing in it closes."""
    longest = max((len(run) for run in _BACKTICKS.findall(code)), default=0)
    marks = "`" * max(LEAST_RUN, longest + 1)
    return f"{marks}{language}\n{code}\n{marks}"


def _spans(text: str) -> Iterator[str]:
    """CommonMark's code spans: from a run of backticks to the next one of the same length."""
    runs = list(_BACKTICKS.finditer(text))
    partner: dict[int, int] = {}
    latest: dict[int, int] = {}
    for place in reversed(range(len(runs))):
        size = len(runs[place][0])
        if size in latest:
            partner[place] = latest[size]
        latest[size] = place
    place = 0
    while place < len(runs):
        if place in partner:
            span = text[runs[place].end() : runs[partner[place]].start()]
            padded = span[:1] == span[-1:] == " " and span.strip(" ")
            yield span[1:-1] if padded else span
            place = partner[place]
        place += 1
