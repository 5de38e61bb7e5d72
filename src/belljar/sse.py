"""Server-sent events, both ways, without I/O (WHATWG HTML, section 9.2.6; what LLM servers use of it).

Promises: a reader gives the same events however the bytes are cut; lines may end in LF, CR LF or CR; comments are
dropped; an event's size is bounded. Not covered: `retry` and reconnection.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MAX_EVENT = 64 << 20  # bytes of one event: a turn with pictures is far below


class SSEError(ValueError):
    """The stream is none of server-sent events, or an event is too large."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event. `name` is "" where the server gave none."""

    data: bytes
    name: str = ""


def write_event(data: bytes, name: str = "") -> bytes:
    """One frame; `data` holds no line break (JSON never does)."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data) if name else b"data: %b\n\n" % data


class SSEReader:
    """Bytes in, events out."""

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        """`max_event` in bytes."""
        self._rest = b""
        self._data: list[bytes] = []
        self._name = ""
        self._size = 0
        self._max = max_event
        self._after_cr = False

    def feed(self, chunk: bytes) -> Iterator[ServerEvent]:
        """The events that these bytes complete. Raises SSEError."""
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r") if chunk else self._after_cr
        lines = (self._rest + chunk if self._rest else chunk).splitlines(keepends=True)
        self._rest = b""
        if lines and not lines[-1].endswith((b"\n", b"\r")):
            self._rest = lines.pop()
        if len(self._rest) + self._size > self._max:
            raise SSEError(f"an event of more than {self._max:,} bytes")
        for line in lines:
            event = self._take(line.rstrip(b"\r\n"))
            if event is not None:
                yield event

    def end(self) -> Iterator[ServerEvent]:
        """The stream has ended: what is still open, as servers forget the last empty line."""
        if self._rest:
            self._take(self._rest)
            self._rest = b""
        event = self._take(b"")
        if event is not None:
            yield event

    def _take(self, line: bytes) -> ServerEvent | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._size += len(value)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        return None

    def _dispatch(self) -> ServerEvent | None:
        data, name = self._data, self._name
        self._data, self._name, self._size = [], "", 0
        return ServerEvent(data=b"\n".join(data), name=name) if data else None
