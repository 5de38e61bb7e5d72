"""Contents of files, in a folder: one file each, under a name that says nothing.

Promises: what `write` and `adopt` have returned is on the disk, whole, also after a power cut; what `delete` has
returned is gone. A blob is written before the row that refers to it and deleted after it; what a crash leaves between
has no row and is swept. Not covered: several servers, unless they share the folder.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path

from belljar.errors import HostError

ABANDONED = 24 * 3600.0  # seconds since a part was last written to


class Blobs:
    """The blobs of a store. `parts` is a folder for files that are still being written; it is there once the store is
    open.
    """

    def __init__(self, folder: Path, opened: Callable[[], Awaitable[object]], *, durable: bool = True) -> None:
        """`opened` makes the folders (`prepare`), if need be. `durable` False: nothing need outlive this process."""
        self._opened = opened
        self.folder = folder
        self.parts = folder / "parts"
        self._durable = durable

    def prepare(self) -> None:
        """Make the folders, readable for this user only. Blocks. Raises OSError."""
        make_folder(self.parts)

    def path(self, name: str) -> Path:
        """Where a blob is, whether there is one or not."""
        return self.folder / name

    async def write(self, data: bytes) -> str:
        """Keep bytes; the blob's name. Raises HostError: the disk is full, say."""
        await self._opened()
        try:
            return await asyncio.to_thread(self._write, data)
        except OSError as error:
            raise _failed(error) from error

    async def adopt(self, path: Path) -> str:
        """Make a file that was written in `parts` a blob; its name. Raises FileNotFoundError; HostError, as `write`."""
        await self._opened()
        try:
            return await asyncio.to_thread(self._adopt, path)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _failed(error) from error

    async def read(self, name: str) -> bytes:
        """The content. Raises FileNotFoundError."""
        return await asyncio.to_thread(self.path(name).read_bytes)

    async def delete(self, names: Iterable[str]) -> None:
        """Delete blobs; those that are not there are no error."""
        gone = list(names)
        if gone:
            await asyncio.to_thread(self.unlink, gone)

    def unlink(self, names: Iterable[str]) -> None:
        """Delete blobs. Blocks."""
        for name in names:
            self.path(name).unlink(missing_ok=True)

    # --- sweeping ---

    def names(self, older: float | None = None) -> Iterator[str]:
        """The blobs that there are; those only that were written before a time, if that is given. Blocks."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False) and (older is None or _modified(entry) < older):
                    yield entry.name

    def sweep_parts(self, older: float | None = None) -> None:
        """Delete parts that were last written to before a time, ABANDONED seconds ago if none is given. Blocks."""
        limit = time.time() - ABANDONED if older is None else older
        with os.scandir(self.parts) as entries:
            for entry in entries:
                if _modified(entry) < limit:
                    Path(entry.path).unlink(missing_ok=True)

    # --- in threads ---

    def _write(self, data: bytes) -> str:
        part = self.parts / secrets.token_hex(16)
        try:
            part.write_bytes(data)
            return self._adopt(part)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def _adopt(self, part: Path) -> str:
        name = secrets.token_hex(16)
        path = self.path(name)
        part.chmod(0o600)
        if self._durable:
            sync(part)
        part.rename(path)
        if self._durable:
            sync(self.folder)
        return name


def _modified(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return time.time()


def _failed(error: OSError) -> HostError:
    return HostError(f"the store failed: {error.strerror or error}")


def make_folder(folder: Path) -> None:
    """Make a folder, and those that it is in, so that a power cut does not undo it. Blocks. Raises OSError."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync(folder.parent)


def sync(path: Path) -> None:
    """Have the kernel write a file, or the entries of a folder, to the disk. Blocks. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
