"""The files of one container: from its sandbox into the store, and back into a fresh sandbox.

Promises: what `keep` names as kept is durable when it returns; a file keeps its id for as long as its path is there;
files that are too many or too large are told of and left out, as are those that the store has no room for, never an
error; what is too much is not written first. All that is kept fits into a sandbox; what cannot be put there again is
told of and stays kept. A sandbox that cannot be read loses nothing of what was kept before. Not covered: folders
without files, links, and modes.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from belljar.errors import BelljarError, FileError, SandboxFailed, SessionClosed
from belljar.execution import Execution, FileInfo
from belljar.model import new_id
from belljar.sandbox.files import guess_type
from belljar.sandbox.session import GuestSession
from belljar.store.rows import ContainerFileRow, ContainerRow
from belljar.store.store import Store

MOST_FILES = 900  # of a container that are kept; with the pictures, what the store takes
MOST_PATH = 1_024  # bytes of a path that is kept: PostgreSQL's indexes take no more than some 2,700
MOST_SHOWN = 100  # pictures that are kept of a container; the oldest make room
DIGITS = 16  # of a digest that are remembered
ENDINGS = {"image/png": "png", "image/jpeg": "jpg"}  # pictures that are kept when they are displayed
log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class Home:
    """What this process knows of a container while somebody uses it, or its interpreter lives.

    `rows` are its files as the store has them, by path; `seen` their size and time as the sandbox tells them; `given`
    are the client's files that lie in the sandbox and are not in the store yet; `left_out` those that were not kept and
    are tried again; `missing` those that are kept and could not be put into this sandbox; `digests` tell what clients
    sent last under which name, as `row.settings` does. `lock` is the lease; `keeping` is held by who changes the files.
    `is_new`: not in the store yet; `changed`: `row` differs from what the store has; `filing` writes what the next
    answer must be able to rely on. `written` is the time of its last use that the store knows. `end` is why it can be
    used no more. `most_bytes` of files are kept; `gate` bounds the files that are in memory at once. `notice` is what
    the next execution has to say of its interpreter; `used` what that had used of processors when it was looked at last
    while it was idle, and when.
    """

    row: ContainerRow
    gate: asyncio.Semaphore
    most_bytes: int
    is_new: bool = False
    loaded: bool = False
    written: float = 0.0
    rows: dict[str, ContainerFileRow] = field(default_factory=dict)
    seen: dict[str, tuple[int, float]] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)
    left_out: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    digests: dict[str, str] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    keeping: asyncio.Lock = field(default_factory=asyncio.Lock)
    session: GuestSession | None = None
    filing: asyncio.Task[Any] | None = None
    changed: bool = False
    notice: str = ""
    users: int = 0
    idle_since: float = 0.0
    used: tuple[float, float] | None = None
    end: BelljarError | None = None


def describe(row: ContainerFileRow) -> FileInfo:
    """A kept file, as executions name it."""
    return FileInfo(path=row.path, size=row.size, type=guess_type(row.path), modified=row.modified, id=row.id)


def read_digests(row: ContainerRow) -> dict[str, str]:
    """What clients sent last, by path."""
    return msgspec.json.decode(row.settings, type=_Settings).given


class _Settings(msgspec.Struct):
    """What `row.settings` holds."""

    given: dict[str, str] = {}


# --- into the sandbox -------------------------------------------------------------------------------------------------


async def restore(home: Home, store: Store) -> None:
    """Put all kept files into a fresh sandbox; what cannot be there is told of. Raises SessionClosed, SandboxFailed."""
    session = home.session
    assert session is not None
    for paths in (home.given, home.left_out, home.missing):
        paths.clear()
    for row in list(home.rows.values()):
        if not row.shown:
            try:
                data = await store.blobs.read(row.blob)
            except FileNotFoundError:  # deleted by another server of this store
                log.warning("the file %r of container %s is gone", row.path, home.row.id)
                continue
            try:
                await session.write_file(row.path, data)
            except FileError as error:  # two of them cannot be there at once, say: a file, and one in a folder so named
                log.warning("a file of container %s could not be restored: %s", home.row.id, error)
                home.missing.add(row.path)
    if home.missing:
        home.notice += f"[{len(home.missing):,} files could not be restored, and are not here]\n"
    home.seen = {} if not home.rows else _marks(await session.list_files())


async def give(home: Home, path: str, data: bytes) -> None:
    """Put a client's file into the sandbox; what it sent before under this name is left as code has made it since.

    Raises FileError, SessionClosed, SandboxFailed.
    """
    digest = (await asyncio.to_thread(_digest, data))[:DIGITS]
    if home.digests.get(path) == digest and (path in home.rows or path in home.given):
        return
    assert home.session is not None
    await home.session.write_file(path, data)
    home.given.add(path)
    home.missing.discard(path)
    home.digests = {name: old for name, old in home.digests.items() if name in home.rows or name in home.given}
    home.digests[path] = digest
    home.row = replace(home.row, settings=msgspec.json.encode(_Settings(given=home.digests)))
    home.changed = True


async def remember(home: Home, store: Store, path: str, data: bytes) -> ContainerFileRow:
    """Keep a client's file, and put it into the sandbox if there is one. Raises FileError, TooLarge."""
    if home.session is not None:
        with contextlib.suppress(SessionClosed, SandboxFailed):
            await home.session.write_file(path, data)
            home.missing.discard(path)
    now = time.time()
    row = _row(home, path, len(data), await store.blobs.write(data), modified=now, source="user")
    await _put(home, store, [row], [])
    if home.session is not None:
        with contextlib.suppress(SessionClosed):
            marks = _marks(await home.session.list_files())
            home.seen |= {name: mark for name, mark in marks.items() if name == path}
    return home.rows[path]


# --- into the store ---------------------------------------------------------------------------------------------------


async def keep(home: Home, store: Store, session: GuestSession, execution: Execution) -> tuple[Execution, str]:
    """Keep what an execution has left, and name it in the execution; and what to tell of files that were not kept.

    Raises HostError, TooLarge: the container itself could not be kept.
    """
    async with home.keeping:
        left = await _look(home, session, execution)
        if home.filing is not None:  # the container's own row, which was written while the code ran
            await home.filing
            home.filing = None
        taken, told = _choose(home, execution, left)
        try:
            rows = await _write(home, store, session, taken, left)
            if rows or left.gone:
                shown = sum(row.shown for row in rows)
                await _put(home, store, rows, [*left.gone, *_surplus(home, shown)])
        except (BelljarError, OSError) as error:
            log.warning("files of container %s could not be kept: %s", home.row.id, error)
            return execution, f"[Files could not be kept: {error}]\n"
        home.seen = left.seen
        home.given.clear()
        home.missing.difference_update(left.seen)
        home.left_out = {info.path for info in left.changed} - {row.path for row in rows}
        return _named(home, execution, [row for row in rows if row.shown]), told


@dataclass(frozen=True, kw_only=True)
class _Left:
    """What an execution has left: files to be kept, paths that are gone, pictures; and what the sandbox shows now."""

    changed: Sequence[FileInfo] = ()
    gone: Sequence[str] = ()
    pictures: Sequence[tuple[str, bytes]] = ()
    seen: dict[str, tuple[int, float]] = field(default_factory=dict)


async def _look(home: Home, session: GuestSession, execution: Execution) -> _Left:
    try:
        listing = {info.path: info for info in await session.list_files()}
    except SessionClosed:
        return _Left(pictures=_pictures(execution), seen=home.seen)
    announced = {info.path for info in execution.files}
    seen = _marks(listing.values())
    again = announced | home.left_out
    changed = [info for path, info in listing.items() if path in again or home.seen.get(path) != seen[path]]
    gone = await _gone(home, session, listing)
    return _Left(changed=changed, gone=gone, pictures=_pictures(execution), seen=seen)


def _named(home: Home, execution: Execution, shown: Sequence[ContainerFileRow]) -> Execution:
    kept = {path: row.id for path, row in home.rows.items()}
    files = tuple(dataclasses.replace(info, id=kept.get(info.path)) for info in execution.files)
    return dataclasses.replace(execution, files=files, pictures=tuple(map(describe, shown)))


async def _gone(home: Home, session: GuestSession, listing: dict[str, FileInfo]) -> list[str]:
    """Kept files that are no more. A sandbox that has died, or shows nothing at all, is not believed at once."""
    kept = [path for path, row in home.rows.items() if not row.shown and path not in home.missing]
    gone = [path for path in kept if path not in listing]
    if not gone or not session.alive:
        return []
    if not listing:
        try:
            await session.read_file(gone[0])
        except FileError:
            return gone
        except (SessionClosed, SandboxFailed):
            return []
        return []
    return gone


def _choose(home: Home, execution: Execution, left: _Left) -> tuple[list[FileInfo], str]:
    """Those changed files that there is room for, and what to tell of the others: once, if they do not change."""
    gone = set(left.gone)
    sizes = {path: row.size for path, row in home.rows.items() if not row.shown and path not in gone}
    total = sum(sizes.values())
    taken, refused = [], dict.fromkeys(("number", "bytes", "path"), 0)
    known = home.left_out - {info.path for info in execution.files}
    for info in left.changed:
        size = total - sizes.get(info.path, 0) + info.size
        reason = _reason(home, info.path, size, len(sizes) + (info.path not in sizes))
        if not reason:
            total, sizes[info.path] = size, info.size
            taken.append(info)
        elif info.path not in known:
            refused[reason] += 1
    bounds = {"number": f"{MOST_FILES:,}", "bytes": f"{home.most_bytes:,} bytes of them"}
    bounds["path"] = f"none of paths over {MOST_PATH:,} bytes"
    notes = [f"[{n:,} files were not kept: a container keeps {bounds[what]}]\n" for what, n in refused.items() if n]
    return taken, "".join(notes)


def _reason(home: Home, path: str, size: int, number: int) -> str:
    """Why a file cannot be kept with which they would be so many bytes and so many; "" where it can."""
    if len(os.fsencode(path)) > MOST_PATH:
        return "path"
    if number > MOST_FILES and path not in home.rows:
        return "number"
    return "bytes" if size > home.most_bytes else ""


async def _write(
    home: Home, store: Store, session: GuestSession, taken: Sequence[FileInfo], left: _Left
) -> list[ContainerFileRow]:
    """Rows for files and pictures, whose content is written. Raises BelljarError, OSError: none of it is."""
    rows: list[ContainerFileRow] = []
    spare = home.most_bytes - sum(info.size for info in taken)

    async def write(info: FileInfo) -> None:
        nonlocal spare
        async with home.gate:
            try:
                data = await session.read_file(info.path)
            except FileError:  # a child process has removed it, or has made it something else
                return
            if (growth := max(0, len(data) - info.size)) > spare:  # what grows while it is read is not kept without end
                return
            spare -= growth
            source = "user" if info.path in home.given else "assistant"
            blob = await store.blobs.write(data)
            rows.append(_row(home, info.path, len(data), blob, modified=info.modified, source=source))

    ends = await asyncio.gather(*map(write, taken), return_exceptions=True)
    try:
        for end in ends:
            if end is not None:
                raise end
        await _write_pictures(home, store, left.pictures, rows)
    except BaseException:
        await store.blobs.delete([row.blob for row in rows])
        raise
    return rows


async def _write_pictures(
    home: Home, store: Store, pictures: Sequence[tuple[str, bytes]], rows: list[ContainerFileRow]
) -> None:
    for ending, data in pictures[-MOST_SHOWN:]:
        identity = new_id("")
        rows.append(
            ContainerFileRow(
                id=identity,
                container=home.row.id,
                path=f"cfile_{identity}.{ending}",
                size=len(data),
                created=time.time(),
                modified=time.time(),
                blob=await store.blobs.write(data),
                shown=True,
            )
        )


def _surplus(home: Home, more: int) -> list[str]:
    """The oldest pictures, as many as are too many with so many more."""
    shown = sorted((row for row in home.rows.values() if row.shown), key=lambda row: row.created)
    return [row.path for row in shown[: max(0, len(shown) + more - MOST_SHOWN)]]


def _pictures(execution: Execution) -> list[tuple[str, bytes]]:
    """Endings and bytes of what was displayed: of each result one."""
    found = []
    for result in execution.results:
        for kind, ending in ENDINGS.items():
            data = result.data.get(kind)
            if isinstance(data, bytes):
                found.append((ending, data))
                break
    return found


def _row(home: Home, path: str, size: int, blob: str, *, modified: float, source: str) -> ContainerFileRow:
    """A row for a path; a file that was there keeps its id, its source and the time of its making."""
    old = home.rows.get(path)
    return ContainerFileRow(
        id=old.id if old else new_id(""),
        container=home.row.id,
        path=path,
        size=size,
        created=old.created if old else time.time(),
        modified=modified,
        blob=blob,
        source=old.source if old else source,
    )


async def _put(home: Home, store: Store, rows: Sequence[ContainerFileRow], gone: Sequence[str]) -> None:
    try:
        await store.containers.put_files(home.row.id, rows, gone)
    except BelljarError:
        await store.blobs.delete([row.blob for row in rows])
        raise
    for path in gone:
        home.rows.pop(path, None)
    home.rows |= {row.path: row for row in rows}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _marks(listing: Any) -> dict[str, tuple[int, float]]:
    return {info.path: (info.size, info.modified) for info in listing}
