"""The host's end of a gVisor sandbox's file server: guests' files and their use of memory, asked for over one socket.

Promises: nothing that comes back is believed before it is checked: frames have a size limit and a schema, answers a
budget; a breach or a silence ends the whole sandbox. What is wrong with one file is a FileError and ends nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from belljar.errors import FileError, SandboxFailed
from belljar.guest.frames import FrameError, FrameReader, write_frame
from belljar.sandbox.files import MAX_ENTRIES, Snapshot

CHUNK = 1 << 20
FRAME_LIMIT = 4 << 20
ANSWER_SECONDS = 60.0
REASON_LIMIT = 500
GONE = "the sandbox has ended"


@dataclass(kw_only=True)
class _Answer:
    """What has come of one request."""

    done: asyncio.Future[None]
    room: int = 0  # bytes that may come yet
    data: bytearray = field(default_factory=bytearray)
    entries: list[Any] = field(default_factory=list)


class RemoteFiles:
    """One file server. Use it from the event loop that made it."""

    def __init__(self, sock: socket.socket, on_breach: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._on_breach = on_breach
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(FRAME_LIMIT, FRAME_LIMIT)
        self._answers: dict[int, _Answer] = {}
        self._ids = itertools.count(1)
        self._sending = asyncio.Lock()
        self._closed = False
        self._loop.add_reader(sock, self._on_readable)

    async def read(self, box: int, path: str, limit: int) -> bytes:
        """The content of a regular file of guest `box`. Raises FileError, SandboxFailed."""
        answer = await self._ask({"op": "read", "box": box, "path": path, "limit": limit}, room=limit, subject=path)
        return bytes(answer.data)

    async def write(self, box: int, path: str, data: bytes) -> None:
        """Create or replace a file, and folders on the way. Raises FileError, SandboxFailed."""
        await self._ask({"op": "write", "box": box, "path": path}, blob=data, subject=path)

    async def remove(self, box: int, path: str) -> None:
        """Remove a file; one that is not there is no error. Raises FileError, SandboxFailed."""
        await self._ask({"op": "remove", "box": box, "path": path}, subject=path)

    async def snapshot(self, box: int) -> Snapshot:
        """All regular files of a guest, at most MAX_ENTRIES of them. Raises SandboxFailed."""
        answer = await self._ask({"op": "list", "box": box, "entries": MAX_ENTRIES}, room=MAX_ENTRIES)
        found: Snapshot = {}
        for entry in answer.entries:
            if not _has_types(entry, [str, int, int, int]):
                self._break()
                raise SandboxFailed("a listing of a wrong shape")
            found[entry[0]] = (entry[1], entry[2], entry[3])
        return found

    async def usage(self, boxes: Sequence[int], uids: Sequence[int], entries: int) -> list[tuple[int, int]]:
        """Bytes and files that each of these guests holds, files counted up to `entries`. Raises SandboxFailed."""
        request = {"op": "usage", "boxes": boxes, "uids": uids, "entries": entries}
        answer = await self._ask(request, room=len(boxes))
        if len(answer.entries) != len(boxes) or not all(_has_types(pair, [int, int]) for pair in answer.entries):
            self._break()
            raise SandboxFailed("a measurement of a wrong shape")
        return [(pair[0], pair[1]) for pair in answer.entries]

    def close(self) -> None:
        """Fail what waits for an answer. May be called again."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._sock)
            self._sock.close()
        for answer in self._answers.values():
            if not answer.done.done():
                answer.done.set_exception(SandboxFailed(GONE))

    async def _ask(self, head: dict[str, Any], blob: bytes = b"", room: int = 0, subject: str = "") -> _Answer:
        if self._closed:
            raise SandboxFailed(GONE)
        number = next(self._ids)
        answer = self._answers[number] = _Answer(done=self._loop.create_future(), room=room)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._send(number, head, blob, answer)
                await answer.done
        except TimeoutError:
            self._break()
            raise SandboxFailed("the sandbox's file server does not answer") from None
        except OSError:
            raise SandboxFailed(GONE) from None
        except FileError as error:
            raise FileError(f"{subject}: {error}") from None
        finally:
            answer.done.cancel()
            del self._answers[number]
        return answer

    async def _send(self, number: int, head: dict[str, Any], blob: bytes, answer: _Answer) -> None:
        """One frame, or for `write` as many as the bytes need; a first answer (an error) ends it early."""
        if head["op"] != "write":
            async with self._sending:
                await self._loop.sock_sendall(self._sock, write_frame({**head, "id": number}))
            return
        for start in range(0, max(1, len(blob)), CHUNK):
            more = start + CHUNK < len(blob) and not answer.done.done()
            frame = write_frame({**head, "id": number, "more": more}, blob[start : start + CHUNK])
            async with self._sending:
                await self._loop.sock_sendall(self._sock, frame)
            if not more:
                return

    def _on_readable(self) -> None:
        try:
            data = self._sock.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        try:
            for head, blob in self._reader.feed(data):
                self._on_frame(head, blob)
        except FrameError:
            self._break()

    def _on_frame(self, head: dict[str, Any], blob: bytes) -> None:
        number = head.get("id")
        answer = self._answers.get(number) if type(number) is int else None
        if answer is None or answer.done.done():
            return  # of a request that was given up
        op, entries = head.get("op"), head.get("entries", head.get("usage"))
        answer.room -= len(blob) + (len(entries) if isinstance(entries, list) else 0)
        if answer.room < 0:
            raise FrameError("more than was asked for")
        if op == "end":
            answer.done.set_result(None)
        elif op == "error":
            answer.done.set_exception(FileError(str(head.get("reason"))[:REASON_LIMIT]))
        elif op == "data":
            answer.data += blob
        elif op in ("entries", "usage") and isinstance(entries, list):
            answer.entries += entries
        else:
            raise FrameError("a frame of no known kind")

    def _break(self) -> None:
        self.close()
        self._on_breach()


def _has_types(entry: Any, types: list[type]) -> bool:
    return isinstance(entry, list) and [type(part) for part in entry] == types
