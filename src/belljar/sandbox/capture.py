"""What a guest sends, as values: bounded text of a stream, results and errors checked against their schema."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from typing import Any

from belljar.execution import GuestError, Output, Result
from belljar.guest.frames import FrameError

MAX_KINDS = 32
MAX_DEPTH = 100
SVG = "image/svg+xml"
JSON_COST = 4  # how much more than others a byte of JSON counts: parsing it takes time and memory
JSON_BUDGET = 20 << 20
RESULT_COST = 256  # what an empty result counts, so that there cannot be any number of them
ERROR_FIELDS = ("name", "value", "traceback")
ERROR_LIMIT = 256 << 10


class Capture:
    """The text of one stream: decoded as it comes, kept to a limit in bytes, counted beyond it."""

    def __init__(self, stream: str, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._parts: list[str] = []
        self.written = 0

    def feed(self, data: bytes) -> Output | None:
        """Add bytes; what of them is to be shown, if anything."""
        room = max(0, self._limit - self.written)
        self.written += len(data)
        text = self._decoder.decode(data[:room])
        if not text:
            return None
        self._parts.append(text)
        return Output(stream=self._stream, text=text)

    def text(self) -> str:
        """All that was kept, with a note at the end where something was cut."""
        lost = self.written - self._limit
        note = f"\n[{self._stream} cut: {lost:,} more bytes]\n" if lost > 0 else ""
        return "".join(self._parts) + self._decoder.decode(b"", final=True) + note


def read_result(head: dict[str, Any], blob: bytes) -> tuple[Result, int]:
    """A `result` frame as a value, and what it counts of the budget for results, in bytes. Raises FrameError."""
    texts, values, parts = head.get("text"), head.get("json"), head.get("blobs")
    if not (isinstance(texts, dict) and isinstance(values, dict) and isinstance(parts, list)):
        raise FrameError("a result without its parts")
    if len(texts) + len(values) + len(parts) > MAX_KINDS or not all(isinstance(v, str) for v in texts.values()):
        raise FrameError("a result of a wrong shape")
    data: dict[str, Any] = {**values, **texts}
    cost = RESULT_COST + len(blob)
    start = 0
    for kind, size, form in map(_read_part, parts):
        piece = blob[start : start + size]
        start += size
        data[kind] = FORMS[form](piece)
        cost += JSON_COST * size if form == "json" else 0
    if start != len(blob):
        raise FrameError("a result whose bytes do not add up")
    if any(_is_of_a_wrong_kind(kind, value) or _is_too_deep(value) for kind, value in data.items()):
        raise FrameError("a result of a wrong shape")
    return Result(data=data, is_main=head.get("main") is True), cost


def _is_of_a_wrong_kind(kind: str, value: Any) -> bool:
    """Whether a text type has no text, or a picture no bytes; other types may have either, or a JSON value."""
    if kind.startswith("text/") or kind == SVG:
        return not isinstance(value, str)
    return kind.startswith("image/") and not isinstance(value, bytes)


def _read_part(part: Any) -> tuple[str, int, str]:
    """Kind, size and form of a part that is among the bytes: `[kind, size]` or `[kind, size, "text" or "json"]`."""
    if not isinstance(part, list) or len(part) not in (2, 3):
        raise FrameError("a result of a wrong shape")
    kind, size, form = part if len(part) == 3 else (*part, "bytes")
    if not isinstance(kind, str) or type(size) is not int or size < 0 or not isinstance(form, str) or form not in FORMS:
        raise FrameError("a result of a wrong shape")
    return kind, size, form


def _read_json(data: bytes) -> Any:
    if JSON_COST * len(data) > JSON_BUDGET:
        raise FrameError("too large a JSON value")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise FrameError("a JSON value that is none") from None


FORMS: dict[str, Callable[[bytes], Any]] = {
    "bytes": bytes,
    "text": lambda data: data.decode("utf-8", "replace"),
    "json": _read_json,
}


def _is_too_deep(value: Any) -> bool:
    """Whether a JSON value is nested deeper than every reader of it can be expected to bear."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for part in level
            if isinstance(part, dict | list)
            for item in (part.values() if isinstance(part, dict) else part)
        ]
        if not level:
            return False
    return True


def read_error(head: dict[str, Any]) -> GuestError | None:
    """The error of a `done` frame. Raises FrameError."""
    error = head.get("error")
    if error is None:
        return None
    if not isinstance(error, dict) or not all(isinstance(error.get(name), str) for name in ERROR_FIELDS):
        raise FrameError("an error of a wrong shape")
    return GuestError(**{name: error[name][:ERROR_LIMIT] for name in ERROR_FIELDS})
