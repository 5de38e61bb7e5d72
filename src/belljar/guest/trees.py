"""Trees of files that a guest has made, looked at and removed whatever their depth, names and permissions.

Promises: no symbolic link is followed, nothing outside the tree is touched, no recursion; a folder that its owner has
closed is opened again first (by descriptor, so that no name can be exchanged meanwhile).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
HANDLE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
ROUNDS = 100_000


def open_folder(name: str, parent: int | None = None) -> int:
    """A descriptor of a folder that is no link, made readable if need be. Raises OSError."""
    try:
        return os.open(name, OPEN_FOLDER, dir_fd=parent)
    except PermissionError:
        handle = os.open(name, HANDLE, dir_fd=parent)
        try:
            os.chmod(f"/proc/self/fd/{handle}", 0o700)
            return os.open(f"/proc/self/fd/{handle}", OPEN_FOLDER & ~os.O_NOFOLLOW)
        finally:
            os.close(handle)


def remove_tree(path: str) -> bool:
    """Remove a folder and all below it; whether it is gone. Deep folders are moved up and emptied there, one by one."""
    try:
        top = open_folder(path)
    except OSError:
        return not os.path.lexists(path)
    number = 0
    try:
        for _ in range(ROUNDS):
            names = os.listdir(top)
            if not names:
                break
            for name in names:
                number = _remove_entry(top, name, number)
    except OSError:
        pass
    finally:
        os.close(top)
    with contextlib.suppress(OSError):
        os.rmdir(path)
    return not os.path.lexists(path)


def _remove_entry(top: int, name: str, number: int) -> int:
    if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=top)
        return number
    folder = open_folder(name, top)
    try:
        for child in os.listdir(folder):
            if stat.S_ISDIR(os.stat(child, dir_fd=folder, follow_symlinks=False).st_mode):
                os.close(open_folder(child, folder))  # a folder is moved only by who may write to it
                number += 1
                os.rename(child, f".moved-{os.getpid()}-{number}", src_dir_fd=folder, dst_dir_fd=top)
            else:
                os.unlink(child, dir_fd=folder)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)
    return number


def measure_tree(top: int, most_entries: int, most_depth: int) -> tuple[int, int] | None:
    """Entries and bytes on disk below a folder; None where there are more, or it is deeper, or cannot be read."""
    entries, size = 0, 0
    stack: list[tuple[int, Iterator[str]]] = []  # as many descriptors as the tree is deep, not as it is wide
    try:
        stack.append(_opened_list(os.dup(top)))
        while stack:
            folder, names = stack[-1]
            name = next(names, None)
            if name is None:
                os.close(stack.pop()[0])
                continue
            entries += 1
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                size += status.st_blocks * 512
                if stat.S_ISDIR(status.st_mode):
                    stack.append(_opened_list(open_folder(name, folder)))
            if entries > most_entries or len(stack) > most_depth:
                return None
    except OSError:
        return None
    finally:
        for folder, _ in stack:
            os.close(folder)
    return entries, size


def _opened_list(folder: int) -> tuple[int, Iterator[str]]:
    try:
        return folder, iter(os.listdir(folder))
    except OSError:
        os.close(folder)
        raise
