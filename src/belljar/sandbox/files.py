"""Files below a sandbox's working folder, read and written by the host.

Promises: no path leaves the folder, whatever the guest has put there: every lookup is openat2 with RESOLVE_BENEATH and
without symbolic links, mounts or magic links; only regular files are read; what is written is bounded by the caller.
The guest may change everything while we look: each function works on descriptors that it has checked, never on names
twice.
"""

from __future__ import annotations

import contextlib
import errno
import mimetypes
import os
import stat
from collections.abc import Iterator

from belljar.errors import FileError
from belljar.execution import FileInfo
from belljar.guest import kernel
from belljar.sandbox.threads import in_thread

RESOLVE = kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_SYMLINKS | kernel.RESOLVE_NO_MAGICLINKS | kernel.RESOLVE_NO_XDEV
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
MAX_DEPTH = 32
MAX_ENTRIES = 20_000
MANY = 200
CHUNK = 1 << 20

Snapshot = dict[str, tuple[int, int, int]]  # path -> inode, size in bytes, mtime in ns


def relative(path: str, folder: str = "/mnt/data") -> str:
    """The path below the working folder that a caller means, given as relative or absolute. Raises FileError."""
    given = path
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise FileError(f"{given!r} is no path") from None
    if path.startswith(folder + "/"):
        path = path[len(folder) + 1 :]
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or not parts or "\0" in path:
        raise FileError(f"{given!r} is no path below {folder}")
    if len(parts) > MAX_DEPTH or any(len(os.fsencode(part)) > 255 for part in parts):
        raise FileError(f"{given[:80]!r}... is too deep or too long a path")
    return "/".join(parts)


def read(folder: int, path: str, limit: int) -> bytes:
    """The content of a regular file. Raises FileError: none there, no regular file, or over `limit` bytes."""
    with _opened(folder, path, READ) as fd:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise FileError(f"{path}: no regular file")
        pieces, size = [], 0  # most often one: copies of a large file would hold Python's lock for long
        while piece := os.read(fd, min(max(status.st_size - size, CHUNK), limit) + 1):
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise FileError(f"{path}: over {limit:,} bytes")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def write(folder: int, path: str, data: bytes, owner: int | None = None) -> None:
    """Create or replace a file, and folders on the way; `owner` is a uid where the host is root. Raises FileError.

    It acts as that user: what the guest could not do itself cannot be done here, and everything belongs to the guest.
    """
    with acting_as(owner):
        parts = path.split("/")
        for depth in range(1, len(parts)):
            _make_folder(folder, parts[:depth])
        with _opened(folder, "/".join(parts[:-1]) or ".", FOLDER) as parent:
            with contextlib.suppress(OSError):  # of what stays, the next step says what it is
                os.unlink(parts[-1], dir_fd=parent)  # what the guest has put there, a link say, is not written through
            with _opened(parent, parts[-1], NEW, 0o644) as fd:
                _write_all(fd, data, path, parent)


def remove(folder: int, path: str, owner: int | None = None) -> None:
    """Remove a file, or whatever bears its name and is no folder; one that is not there is no error. It acts as the
    user `owner`, as `write` does. Raises FileError.
    """
    *folders, name = path.split("/")
    with acting_as(owner), _opened(folder, "/".join(folders) or ".", FOLDER) as parent:
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except OSError as error:
            raise FileError(f"{path}: {error.strerror}") from None


def _write_all(fd: int, data: bytes, path: str, parent: int) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(path.rsplit("/", 1)[-1], dir_fd=parent)
        raise FileError(f"{path}: {error.strerror}") from None


@contextlib.contextmanager
def acting_as(owner: int | None) -> Iterator[None]:
    """Act on files as this user for a while, in this thread; only root can. Raises OSError."""
    if owner is None:
        yield
        return
    try:
        kernel.set_file_ids(owner, owner)
        yield
    finally:
        kernel.set_file_ids(os.geteuid(), os.getegid())


def snapshot(folder: int) -> Snapshot:
    """All regular files below the folder, at most MAX_ENTRIES of them; names that are no UTF-8 keep surrogates."""
    found: Snapshot = {}
    for path, status in _walk(folder, ".", 0, [MAX_ENTRIES]):
        found[path] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def describe(files: Snapshot, since: Snapshot | None = None) -> tuple[FileInfo, ...]:
    """A snapshot as a listing, sorted by path; with `since` only what is new or changed."""
    return tuple(
        FileInfo(path=path, size=size, type=guess_type(path), modified=modified / 1e9)
        for path, (inode, size, modified) in sorted(files.items())
        if since is None or since.get(path) != (inode, size, modified)
    )


async def describe_many(files: Snapshot, since: Snapshot | None = None) -> tuple[FileInfo, ...]:
    """The same, of which many are described in a thread."""
    return describe(files, since) if len(files) < MANY else await in_thread(describe, files, since)


def guess_type(path: str) -> str:
    """The MIME type that the name suggests."""
    return mimetypes.guess_type(path)[0] or "application/octet-stream"


def _walk(folder: int, path: str, depth: int, budget: list[int]) -> Iterator[tuple[str, os.stat_result]]:
    try:
        fd = kernel.openat2(folder, path, FOLDER, 0, RESOLVE)
    except OSError:
        return
    try:
        folders = []
        with os.scandir(fd) as entries:
            for entry in entries:
                budget[0] -= 1
                if budget[0] < 0:
                    return
                name = entry.name if path == "." else f"{path}/{entry.name}"
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        yield name, status
                    elif stat.S_ISDIR(status.st_mode) and depth < MAX_DEPTH:
                        folders.append(name)
    finally:
        os.close(fd)
    for name in folders:
        yield from _walk(folder, name, depth + 1, budget)


def _make_folder(folder: int, parts: list[str]) -> None:
    with _opened(folder, "/".join(parts[:-1]) or ".", FOLDER) as parent:
        try:
            os.mkdir(parts[-1], 0o755, dir_fd=parent)
        except FileExistsError:
            return
        except OSError as error:
            raise FileError(f"{'/'.join(parts)}: {error.strerror}") from None


@contextlib.contextmanager
def _opened(folder: int, path: str, flags: int, mode: int = 0) -> Iterator[int]:
    try:
        fd = kernel.openat2(folder, path, flags, mode, RESOLVE)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            raise
        reason = {errno.ELOOP: "a symbolic link", errno.EXDEV: "it leads outside"}.get(error.errno or 0)
        raise FileError(f"{path}: {reason or os.strerror(error.errno or 0)}") from None
    try:
        yield fd
    finally:
        os.close(fd)
