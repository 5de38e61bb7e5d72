"""Inside a gVisor sandbox: the process that reads and writes guests' files for the host, and measures their memory.

Promises: no path leaves the guest's folder, whatever the guest has put there: each part of a path is opened beneath the
last one without following symbolic links (gVisor has no openat2), what was opened must be on the guest's own tmpfs, and
only regular files are read. A process apart from the zygote, so that no byte of one guest's files is in memory that
another guest is forked from.
Frames from the host: `read` (box, path, limit), `write` (box, path, more; bytes), `list` (box, entries), `usage`
(boxes, uids, entries); each with an `id` that its answers bear: `data`, `entries`, `usage`; `end` or `error`.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import resource
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

from . import kernel as k
from .frames import FrameReader, write_frame

CHUNK = 1 << 20
FRAME_LIMIT = 4 << 20
THREADS = 4
MAX_DEPTH = 32
ENTRIES_A_FRAME = 500
NAMES_BYTES = 8 << 20
# The same for folders: with O_DIRECTORY this release of gVisor follows a link in spite of O_NOFOLLOW.
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
PAGE = resource.getpagesize()


def serve(channel: int, roots: str) -> NoReturn:
    """Answer requests until the host closes the channel, or the zygote ends."""
    try:
        k.prctl(k.PR_SET_PDEATHSIG, 9)
        Server(socket.socket(fileno=channel), roots).serve()
    finally:
        os._exit(0)


class Server:
    """Reads and listings in threads, so that a large one does not hold up others; writes as their frames come."""

    def __init__(self, channel: socket.socket, roots: str) -> None:
        self._channel = channel
        self._roots = roots
        self._lock = threading.Lock()
        self._writes: dict[int, int] = {}  # id -> descriptor; -1 where it has failed
        self._idle = anonymous_bytes()

    def serve(self) -> None:
        """The loop over frames. Raises OSError when the host has gone."""
        reader = FrameReader(FRAME_LIMIT, FRAME_LIMIT)
        with ThreadPoolExecutor(THREADS) as threads:
            while data := self._channel.recv(CHUNK):
                for head, blob in reader.feed(data):
                    if head["op"] == "write":
                        self._answer(self._write, head, blob)
                    else:
                        threads.submit(self._answer, OPERATIONS[head["op"]], self, head)

    def _answer(self, work: Callable[..., None], *arguments: Any) -> None:
        head = next(a for a in arguments if isinstance(a, dict))
        try:
            work(*arguments)
        except OSError as error:
            reason = {errno.ELOOP: "a symbolic link"}.get(error.errno or 0) or error.strerror or str(error)
            self._send({"op": "error", "id": head["id"], "reason": reason})

    def _send(self, head: dict[str, Any], blob: bytes = b"") -> None:
        with self._lock:
            self._channel.sendall(write_frame(head, blob))

    def _folder(self, box: int) -> int:
        return os.open(f"{self._roots}/{int(box)}/mnt/data", READ)  # up to here all is root's

    def _read(self, head: dict[str, Any]) -> None:
        with (
            _closing(self._folder(head["box"])) as folder,
            _parent(folder, head["path"]) as (parent, name),
            _closing(open_beneath(parent, name, READ, stat.S_ISREG, "no regular file")) as fd,
        ):
            left = head["limit"]
            while chunk := os.read(fd, CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise OSError(errno.EFBIG, f"over {head['limit']:,} bytes")
                self._send({"op": "data", "id": head["id"]}, chunk)
        self._send({"op": "end", "id": head["id"]})

    def _write(self, head: dict[str, Any], blob: bytes) -> None:
        number = head["id"]
        if number not in self._writes:
            self._writes[number] = -1
            self._writes[number] = self._create(head)
        fd = self._writes[number]
        try:
            view = memoryview(blob)
            while view and fd >= 0:
                view = view[os.write(fd, view) :]
        except OSError:
            self._writes[number] = -1
            os.close(fd)
            fd = -1
            with contextlib.suppress(OSError):
                self._unlink(head)
            raise
        finally:
            if not head["more"]:
                del self._writes[number]
        if not head["more"] and fd >= 0:
            os.close(fd)
            self._send({"op": "end", "id": number})

    def _create(self, head: dict[str, Any]) -> int:
        with _closing(self._folder(head["box"])) as folder:
            owner = os.fstat(folder).st_uid
            with _parent(folder, head["path"], owner) as (parent, name):
                with contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError):
                    os.unlink(name, dir_fd=parent)  # a link or FIFO of the guest's is not written through
                fd = open_beneath(parent, name, CREATE, stat.S_ISREG, "no regular file")
                os.fchown(fd, owner, owner)
                return fd

    def _remove(self, head: dict[str, Any]) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._unlink(head)
        self._send({"op": "end", "id": head["id"]})

    def _unlink(self, head: dict[str, Any]) -> None:
        with (
            _closing(self._folder(head["box"])) as folder,
            _parent(folder, head["path"]) as (parent, name),
        ):
            os.unlink(name, dir_fd=parent)

    def _list(self, head: dict[str, Any]) -> None:
        batch: list[tuple[str, int, int, int]] = []
        with _closing(self._folder(head["box"])) as folder:
            for entry in walk(folder, head["entries"]):
                batch.append(entry)
                if len(batch) == ENTRIES_A_FRAME:
                    self._send({"op": "entries", "id": head["id"], "entries": batch})
                    batch = []
        self._send({"op": "entries", "id": head["id"], "entries": batch})
        self._send({"op": "end", "id": head["id"]})

    def _usage(self, head: dict[str, Any]) -> None:
        counts = [count_entries(f"{self._roots}/{int(box)}/mnt", head["entries"]) for box in head["boxes"]]
        files = [self._files_bytes(box) for box in head["boxes"]]
        used = resident_bytes(set(head["uids"]))
        most = max(0, anonymous_bytes() - self._idle)
        usage = []
        for uid, stored in zip(head["uids"], files, strict=True):
            sizes = used.get(uid, [0])
            # Forks share pages, and this kernel does not say which: the largest one is sure, the sum an upper bound.
            usage.append(max(min(sum(sizes), most), *sizes) + stored)
        self._send({"op": "usage", "id": head["id"], "usage": list(zip(usage, counts, strict=True))})
        self._send({"op": "end", "id": head["id"]})

    def _files_bytes(self, box: int) -> int:
        with contextlib.suppress(OSError):
            status = os.statvfs(f"{self._roots}/{int(box)}/mnt")
            if status.f_blocks * status.f_frsize < 1 << 40:
                return (status.f_blocks - status.f_bfree) * status.f_frsize
        return 0


OPERATIONS = {"read": Server._read, "remove": Server._remove, "list": Server._list, "usage": Server._usage}


def open_beneath(folder: int, name: str, flags: int, is_kind: Callable[[int], bool], what: str) -> int:
    """Open one name in a folder; it must be of the kind, no link, and on the same file system. Raises OSError."""
    fd = os.open(name, flags, 0o644, dir_fd=folder)
    status = os.fstat(fd)
    if is_kind(status.st_mode) and status.st_dev == os.fstat(folder).st_dev:
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, what)


def descend(folder: int, parts: list[str]) -> int:
    """A descriptor of the folder at `parts` below `folder`. Raises OSError."""
    fd = os.dup(folder)
    for part in parts:
        try:
            inner = open_beneath(fd, part, READ, stat.S_ISDIR, "no folder")
        finally:
            os.close(fd)
        fd = inner
    return fd


@contextlib.contextmanager
def _closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _parent(folder: int, path: str, owner: int | None = None) -> Iterator[tuple[int, str]]:
    """The folder that holds `path`, and the last name; with `owner` missing folders are made. Raises OSError."""
    *parts, name = path.split("/")
    if {"", ".", ".."} & {*parts, name}:
        raise OSError(errno.EINVAL, "no path below the folder")
    for depth in range(1, len(parts) + 1 if owner is not None else 0):
        with _closing(descend(folder, parts[: depth - 1])) as above, contextlib.suppress(FileExistsError):
            os.mkdir(parts[depth - 1], 0o755, dir_fd=above)
            os.chown(parts[depth - 1], owner, owner, dir_fd=above, follow_symlinks=False)  # type: ignore[arg-type]
    with _closing(descend(folder, parts)) as parent:
        yield parent, name


def walk(folder: int, entries: int) -> Iterator[tuple[str, int, int, int]]:
    """Path, inode, size and time in ns of the regular files below a folder; at most `entries` names are looked at."""
    waiting: list[list[str]] = [[]]
    names_left = NAMES_BYTES
    while waiting:
        parts = waiting.pop()
        with contextlib.suppress(OSError), _closing(descend(folder, parts)) as fd, os.scandir(fd) as found:
            for entry in found:
                path = "/".join([*parts, entry.name])
                entries, names_left = entries - 1, names_left - len(path)
                if entries < 0 or names_left < 0:
                    return
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        yield path, status.st_ino, status.st_size, status.st_mtime_ns
                    elif stat.S_ISDIR(status.st_mode) and len(parts) < MAX_DEPTH:
                        waiting.append([*parts, entry.name])


def count_entries(path: str, most: int) -> int:
    """Names below a folder, counted up to `most`; gVisor's tmpfs has no limit of its own on them."""
    found = 0
    waiting: list[list[str]] = [[]] if most else []
    with contextlib.suppress(OSError), _closing(os.open(path, READ)) as top:
        while waiting and found < most:
            parts = waiting.pop()
            with contextlib.suppress(OSError), _closing(descend(top, parts)) as fd, os.scandir(fd) as entries:
                for entry in itertools.islice(entries, most - found):
                    found += 1
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append([*parts, entry.name])
    return found


def resident_bytes(uids: set[int]) -> dict[int, list[int]]:
    """For each uid the resident bytes of its processes, without what they have from the zygote."""
    inherited = _statm_bytes("1")
    found: dict[int, list[int]] = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if (uid := os.stat(f"/proc/{name}").st_uid) in uids:
                found.setdefault(uid, []).append(max(0, _statm_bytes(name) - inherited))
    return found


def _statm_bytes(name: str) -> int:
    with open(f"/proc/{name}/statm", "rb") as file:
        return int(file.read().split()[1]) * PAGE


def anonymous_bytes() -> int:
    """Memory of the whole sandbox that no file of the host's backs."""
    with open("/proc/meminfo") as file:
        lines = dict(line.split(":") for line in file if ":" in line)
    return sum(int(lines[name].split()[0]) * 1024 for name in ("AnonPages",))
