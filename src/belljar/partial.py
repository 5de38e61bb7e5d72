"""Code inside the arguments of a tool call, read whole or while it is still being written.

Models are asked for {"code": "..."} and send that, the same with broken escapes, another key, a JSON string, or bare
code. Promises: what a `CodeReader` gives while the text grows is a prefix of what `read_code` makes of the whole text,
however it was cut; both take time in proportion to the text. Nothing raises.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

KEYS = ("code", "source", "script", "python", "input", "content", "cmd")  # what models call it
_OPENING = re.compile(r'\s*\{\s*"(?:' + "|".join(KEYS) + r')"\s*:\s*"')
_OPENING_PREFIX = re.compile(r'\s*(?:\{\s*(?:"\w*(?:"\s*(?::\s*)?)?)?)?')
_ESCAPE = re.compile(r'\\(?:u[0-9a-fA-F]{4}|["\\/bfnrt])')
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_STRING = re.compile(r'[^"\\]+|\\(?:u[0-9a-fA-F]{4}|[^u]|u(?![0-9a-fA-F]{4}))', re.DOTALL)
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
PATIENCE = 1000  # characters of white space, or of a key, after which a reader waits for the end of the text
_FENCE = re.compile(r"\s*```[\w.+-]*[ \t]*\r?\n")
_decoder = msgspec.json.Decoder()


class CodeReader:
    """The text of a call's arguments in, code out as far as it is certain."""

    def __init__(self) -> None:
        self._raw = ""  # not yet used
        self._inside = False
        self._over = False  # nothing further is certain before the end
        self._first = True
        self._held = ""

    def feed(self, text: str) -> str:
        """The code that this piece adds; "" where it cannot be told yet."""
        if self._over:
            return ""
        self._raw += text
        if not self._inside and not self._open():
            return ""
        code, used, self._over = _decode_some(self._raw)
        self._raw = self._raw[used:]
        return self._begin(code) if self._first else code

    def _begin(self, code: str) -> str:
        """The first code: held back while it is white space, as a fence may follow, which `read_code` takes off."""
        self._held += code
        start = self._held.lstrip()[:1]
        self._first = not start
        self._over = self._over or start == "`" or (not start and len(self._held) > PATIENCE)
        return self._held if start not in ("", "`") else ""

    def _open(self) -> bool:
        match = _OPENING.match(self._raw)
        if match:
            self._inside = True
            self._raw = self._raw[match.end() :]
            return True
        self._over = len(self._raw) > PATIENCE or not _OPENING_PREFIX.fullmatch(self._raw)
        return False


def read_code(arguments: str) -> str:
    """The code in a call's arguments: the string under the first key where that is a name for code, well escaped or
    not; else what the JSON holds; else the text itself. A fence around all of it is taken off.
    """
    return _without_fence(_from_opening(arguments) or _from_json(arguments))


def write_code(code: str) -> str:
    """Code as the arguments of a call."""
    return msgspec.json.encode({"code": code.encode("utf-8", "replace").decode()}).decode()


def _from_opening(arguments: str) -> str | None:
    match = _OPENING.match(arguments)
    if match is None:
        return None
    raw = arguments[match.end() :]
    code, used, closed = _decode_some(raw)
    if closed and raw[used:].lstrip('"').lstrip()[:1] in ("}", ",", "") and _is_json(arguments):
        return code
    return _unescape(_without_closing(raw))  # quotes inside were not escaped, or the end is missing


def _from_json(arguments: str) -> str:
    try:
        value = _decoder.decode(arguments)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return arguments
    code = _code_of(value)
    return arguments if code is None else code


def _code_of(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return None
    if not value:
        return ""
    found = next((value[key] for key in KEYS if key in value), None)
    if found is None and len(value) == 1:
        found = next(iter(value.values()))
    if isinstance(found, list) and all(isinstance(line, str) for line in found):
        return "\n".join(found)
    return found if isinstance(found, str) else None


def _is_json(text: str) -> bool:
    try:
        _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return False
    return True


def _decode_some(raw: str) -> tuple[str, int, bool]:
    """Decoded text of a JSON string's inside, how much of `raw` that used, and whether the closing quote was met.

    An escape that may still grow, and half a surrogate pair, are left for later.
    """
    used = 0
    while True:
        match = _STRING.match(raw, used)
        if match is None or (match[0].startswith("\\u") and len(match[0]) < 6):
            break
        used = match.end()
    closed = raw[used : used + 1] == '"'
    whole = _unescape(raw[:used])
    if not closed and used and "\ud800" <= whole[-1:] <= "\udbff":
        used -= 6 if raw[used - 6 : used - 4] == "\\u" else 1
        whole = whole[:-1]
    return whole, used, closed


def _unescape(raw: str) -> str:
    r"""JSON's escapes resolved; what is none (`\d` of a regular expression) stays as it is."""
    if "\\" not in raw:
        return raw
    text = _ESCAPE.sub(lambda match: _ESCAPES.get(match[0][1]) or chr(int(match[0][2:], 16)), raw)
    return _PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)


def _without_closing(raw: str) -> str:
    """Without the quote and brace at the end. (A pattern would take quadratic time here, and below.)"""
    bare = raw.rstrip().removesuffix("}").rstrip()
    inside = bare.removesuffix('"')
    escaped = (len(inside) - len(inside.rstrip("\\"))) % 2
    return raw if inside == bare or escaped else inside


def _without_fence(code: str) -> str:
    opening = _FENCE.match(code)
    if opening is None:
        return code
    body = code[opening.end() :].rstrip()
    if body.endswith("```"):
        inner = body[:-3].rstrip()
        gap, newline, _ = body[len(inner) : -3].partition("\n")
        if newline:
            return inner + gap.removesuffix("\r")
    return body
