"""What a guest sends, as values: bounded text of a stream, results and errors checked against their schema."""

from __future__ import annotations

import codecs
import json
from typing import Any

from belljar.guest.frames import FrameError
from belljar.sandbox.base import GuestError, Output, Result

MAX_KINDS = 32
MAX_DEPTH = 100
SVG = "image/svg+xml"
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
    """A `result` frame as a value, and its size in bytes. Raises FrameError."""
    texts, values, blobs = head.get("text"), head.get("json"), head.get("blobs")
    if not (isinstance(texts, dict) and isinstance(values, dict) and isinstance(blobs, list)):
        raise FrameError("a result without its parts")
    if len(texts) + len(values) + len(blobs) > MAX_KINDS or not all(isinstance(v, str) for v in texts.values()):
        raise FrameError("a result of a wrong shape")
    if any(kind.startswith("text/") or kind == SVG for kind in values) or any(map(_is_too_deep, values.values())):
        raise FrameError("a result of a wrong shape")
    data: dict[str, Any] = {**values, **texts}
    size = RESULT_COST + sum(map(len, texts.values())) + len(blob) + (len(json.dumps(values)) if values else 0)
    start = 0
    for item in blobs:
        if not (isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) and type(item[1]) is int):
            raise FrameError("a result of a wrong shape")
        if item[0].startswith("text/") or item[0] == SVG:
            raise FrameError("a text that is bytes")
        data[item[0]] = blob[start : start + max(0, item[1])]
        start += max(0, item[1])
    if start != len(blob):
        raise FrameError("a result whose bytes do not add up")
    return Result(data=data, is_main=head.get("main") is True), size


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
