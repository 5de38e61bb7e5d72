"""Standard output and error of a guest: real descriptors, in an order that a reader of both can trust.

Python's own writes, C code and child processes all end in descriptors 1 and 2, which are pipes that the host reads. Two
pipes have no common order; so before Python writes to one channel it waits, briefly, until the host has read the
others. Children that write to both at once are not put in order; each stream by itself always is.
"""

from __future__ import annotations

import fcntl
import io
import sys
import termios
import time

from . import kernel as k

FIONREAD = termios.FIONREAD
SIOCOUTQ = termios.TIOCOUTQ  # for sockets: bytes sent and not yet read (unix(7))
PATIENCE_SECONDS = 0.02


class Channels:
    """The channels to the host, for waiting until what was sent on the others has been read."""

    def __init__(self, session_fd: int) -> None:
        self._requests = {1: FIONREAD, 2: FIONREAD, session_fd: SIOCOUTQ}

    def settle(self, *but: int) -> None:
        """Return when the host has read every channel except `but`, or after PATIENCE_SECONDS."""
        for fd, request in self._requests.items():
            if fd not in but and _pending(fd, request):
                deadline = time.monotonic() + PATIENCE_SECONDS
                while _pending(fd, request) and time.monotonic() < deadline:
                    time.sleep(0.00002)


def _pending(fd: int, request: int) -> int:
    try:
        return int.from_bytes(fcntl.ioctl(fd, request, b"\0\0\0\0"), sys.byteorder)
    except OSError:
        return 0  # the guest has put something else there


class _Raw(io.FileIO):
    """A descriptor whose writes wait for the other channels first.

    It stands where a BufferedWriter usually does, which keeps what it passed on until the call has returned: an
    interrupt in between would send it twice. So all is written here, also when the wait is interrupted.
    """

    def __init__(self, fd: int, channels: Channels, first: io.TextIOWrapper | None) -> None:
        super().__init__(fd, "wb", closefd=False)
        self._channels = channels
        self._first = first

    def write(self, data: object) -> int:  # type: ignore[override]
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        size = len(view)
        try:
            if self._first is not None:
                self._first.flush()
            self._channels.settle(self.fileno())
        finally:
            while view:
                view = view[super().write(view) :]
        return size


def open_streams(channels: Channels) -> None:
    """Make sys.stdout and sys.stderr anew over descriptors 1 and 2."""
    sys.stdout = sys.__stdout__ = stdout = _open(1, channels, None)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _open(2, channels, stdout)  # type: ignore[misc]


def _open(fd: int, channels: Channels, first: io.TextIOWrapper | None) -> io.TextIOWrapper:
    raw = _Raw(fd, channels, first)
    return io.TextIOWrapper(raw, "utf-8", "backslashreplace", line_buffering=True)


def flush() -> None:
    """Everything that Python and the C library still hold goes out now; broken streams are left alone."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()  # type: ignore[union-attr]
        except Exception:
            continue
    k.flush_c_streams()
