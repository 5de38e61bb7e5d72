"""JSON as people paste it from shell examples: single quotes, names without quotes, commas at the end, comments.

Promises: what is JSON is read as JSON; of anything else that is read, every text and number says what it seems to say;
reading takes time in proportion to the text, and no more than MOST_TOKENS tokens of what is no JSON are read. Raises
BadRequest and nothing else, with the message about strict JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NoReturn

import msgspec

from belljar.dialects.base import MAX_DEPTH, read_json
from belljar.errors import BadRequest

MOST_TOKENS = 50_000  # which take a tenth of a second

# Possessive quantifiers throughout: a text that does not fit must not be tried in all the ways in which it could.
_SPACE = re.compile(r"(?:[\s\ufeff]++|//[^\n]*+|/\*.*?\*/)*+", re.DOTALL)
_TOKEN = re.compile(
    r"""(?P<sign>[\[\]{},:])"""
    r'''|"(?P<double>(?:[^"\\]++|\\.)*+)"'''
    r"""|'(?P<single>(?:[^'\\]++|\\.)*+)'"""
    r"""|(?P<word>[\w$.+-]++)""",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "\n": ""}
_HALF = re.compile("[\ud800-\udfff]")
_NAME = re.compile(r"[A-Za-z_$][\w$.-]*")
_WORDS = {"true": True, "false": False, "null": None}
_number = msgspec.json.Decoder(int | float).decode

Token = tuple[str, str]  # its kind, a name of _TOKEN's groups, and its text
END: Token = ("end", "")


class _Broken(Exception):
    """This is no JSON of any kind."""


def read_lenient(body: bytes) -> Any:
    """A JSON value, strictly read; where that fails, leniently. Raises BadRequest."""
    try:
        return read_json(body)
    except BadRequest as error:
        strict = error
    try:
        return _Reader(body.decode()).whole()
    except (_Broken, UnicodeDecodeError):
        raise strict from None


class _Reader:
    """One text."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = next(self._tokens)

    def whole(self) -> Any:
        """Its one value."""
        value = self._value(0)
        if self._next != END:
            raise _Broken
        return value

    def _take(self) -> Token:
        token = self._next
        if token != END:
            self._next = next(self._tokens)
        return token

    def _value(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise BadRequest(f"the JSON body is nested deeper than {MAX_DEPTH} levels")
        kind, text = self._take()
        if kind in ("double", "single"):
            return _unescape(text)
        if kind == "word":
            return _read_word(text)
        if (kind, text) == ("sign", "{"):
            return self._object(depth + 1)
        if (kind, text) == ("sign", "["):
            return self._list(depth + 1)
        raise _Broken

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self._next != ("sign", "}"):
            kind, text = self._take()
            if kind not in ("double", "single", "word"):
                raise _Broken
            name = text if kind == "word" else _unescape(text)
            if self._take() != ("sign", ":"):
                raise _Broken
            found[name] = self._value(depth)
            self._separator("}")
        self._take()
        return found

    def _list(self, depth: int) -> list[Any]:
        found = []
        while self._next != ("sign", "]"):
            found.append(self._value(depth))
            self._separator("]")
        self._take()
        return found

    def _separator(self, closing: str) -> None:
        if self._next == ("sign", ","):
            self._take()
        elif self._next != ("sign", closing):
            raise _Broken


def _tokens(text: str) -> Iterator[Token]:
    """The tokens, then END."""
    at = _skip(text, 0)
    for _ in range(MOST_TOKENS):
        if at >= len(text):
            yield END
            return
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise _Broken
        yield match.lastgroup, match[match.lastgroup]
        at = _skip(text, match.end())
    _too_long()


def _too_long() -> NoReturn:
    raise BadRequest(
        f"the body is not valid JSON, and too long to be read as what it may mean ({MOST_TOKENS:,} tokens)"
    )


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _read_word(word: str) -> Any:
    if word in _WORDS:
        return _WORDS[word]
    if _NAME.fullmatch(word):
        return word
    try:
        return _number(word)
    except msgspec.DecodeError:
        raise _Broken from None


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    plain = _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else _ESCAPES.get(found[2], found[2]), text)
    if _HALF.search(plain) is None:
        return plain
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # a half alone says nothing
