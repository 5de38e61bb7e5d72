"""Server-sent events, both ways, without I/O (WHATWG HTML, section 9.2.6; what LLM servers use of it).

Promises: a reader gives the same events however the bytes are cut; lines may end in LF, CR LF or CR; comments and a
byte order mark are dropped; an event's size is bounded, and reading takes time in proportion to its bytes.
Not covered: `id`, `retry` and reconnection.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_EVENT = 64 << 20  # bytes of one event: a turn with pictures is far below
BOM = b"\xef\xbb\xbf"


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
        self._rest: list[bytes] = []  # of a line that has not ended
        self._rest_size = 0
        self._data: list[bytes] = []
        self._name = ""
        self._size = 0
        self._max = max_event
        self._after_cr = False  # the next byte may be the LF of a CR LF
        self._at_start = True

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that these bytes complete. Raises SSEError."""
        if not chunk:
            return []
        inside = self._rest or self._data or self._name or self._at_start
        if not inside and chunk.endswith(b"\n\n") and b"\r" not in chunk:
            return self._whole_frames(chunk)
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        lines = chunk.splitlines(keepends=True)
        if not lines:
            return []
        self._after_cr = chunk.endswith(b"\r")
        last = b"" if lines[-1].endswith((b"\n", b"\r")) else lines.pop()
        events = []
        for line in lines:
            if self._rest:
                line = b"".join([*self._rest, line])
                self._rest, self._rest_size = [], 0
            event = self._take(line.rstrip(b"\r\n"))
            if event is not None:
                events.append(event)
        if last:
            self._rest.append(last)
            self._rest_size += len(last)
            self._check(self._rest_size)
        return events

    def _whole_frames(self, chunk: bytes) -> list[ServerEvent]:
        """The same, quicker, for what nearly all chunks are: whole frames, of one line each."""
        events = []
        for frame in chunk.split(b"\n\n"):
            if frame.startswith(b"data: ") and b"\n" not in frame:
                self._check(len(frame) - len(b"data: "))
                events.append(ServerEvent(frame[6:]))
                continue
            for line in filter(None, frame.split(b"\n")):
                self._take(line)
            event = self._dispatch()
            if event is not None:
                events.append(event)
        return events

    def end(self) -> list[ServerEvent]:
        """The stream has ended: what is still open, as servers forget the last empty line. Raises SSEError."""
        if self._rest:
            rest, self._rest, self._rest_size = b"".join(self._rest), [], 0
            self._take(rest)
        event = self._take(b"")
        return [] if event is None else [event]

    def _take(self, line: bytes) -> ServerEvent | None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(BOM)
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._size += len(value) + 1
            self._check(0)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        return None

    def _check(self, more: int) -> None:
        if self._size + more > self._max:
            raise SSEError(f"an event of more than {self._max:,} bytes")

    def _dispatch(self) -> ServerEvent | None:
        data, name = self._data, self._name
        self._data, self._name, self._size = [], "", 0
        return ServerEvent(data=b"\n".join(data), name=name) if data else None
