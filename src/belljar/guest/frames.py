"""Frames between host and guest: two lengths, one JSON object, raw bytes.

Promises: a reader never holds more than `limit` bytes of one frame, and refuses anything that is not an object.
Wire: big-endian u32 length of the JSON, u32 length of the bytes, then both. Both ends use this module; the host feeds
what it received from an untrusted guest, so nothing here believes a length before it has checked it.
"""

from __future__ import annotations

import json
import struct
from typing import Any

_HEADER = struct.Struct(">II")
HEAD_LIMIT = 1 << 20  # parsing JSON costs 25 times its size for a moment; what is large goes into the bytes

RawFrame = tuple[bytes, bytes]  # JSON text, bytes


class FrameError(ValueError):
    """The peer sent something that is no frame, or too large a one."""


def write_frame(head: dict[str, Any], blob: bytes = b"") -> bytes:
    """One frame as bytes. Raises ValueError where `head` is no JSON."""
    text = json.dumps(head, separators=(",", ":"), allow_nan=False).encode("utf-8", "surrogatepass")
    return _HEADER.pack(len(text), len(blob)) + text + blob


class FrameReader:
    """Incremental reader: feed what came, take the frames that are whole."""

    def __init__(self, limit: int, head_limit: int = HEAD_LIMIT) -> None:
        """`limit`: the largest frame, JSON and bytes together; `head_limit`: the largest JSON. In bytes."""
        self._limit = limit
        self._head_limit = head_limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[dict[str, Any], bytes]]:
        """Add bytes; the frames completed by them. Raises FrameError."""
        return [(read_head(text), blob) for text, blob in self.feed_raw(data)]

    def feed_raw(self, data: bytes) -> list[RawFrame]:
        """The same, the JSON not yet looked at: whether it is worth that, the caller says. Raises FrameError."""
        self._buffer += data
        frames = []
        while (frame := self._maybe_frame()) is not None:
            frames.append(frame)
        return frames

    def _maybe_frame(self) -> RawFrame | None:
        if len(self._buffer) < _HEADER.size:
            return None
        text_size, blob_size = _HEADER.unpack_from(self._buffer)
        if text_size > self._head_limit or text_size + blob_size > self._limit:
            raise FrameError(f"a frame of {text_size + blob_size} bytes, {self._limit} allowed")
        end = _HEADER.size + text_size + blob_size
        if len(self._buffer) < end:
            return None
        text = bytes(self._buffer[_HEADER.size : _HEADER.size + text_size])
        blob = bytes(self._buffer[_HEADER.size + text_size : end])
        del self._buffer[:end]
        return text, blob


def read_head(text: bytes) -> dict[str, Any]:
    """The JSON of a frame. Raises FrameError where it is no object."""
    try:
        head = json.loads(text.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise FrameError(f"a frame that is no JSON: {type(error).__name__}") from None
    if not isinstance(head, dict):
        raise FrameError("a frame that is no object")
    return head
