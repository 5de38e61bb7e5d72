"""The store of a server: everything that it remembers, behind one door.

Promises: what a method has acknowledged is on the disk; a row is seen by its owner alone; what has expired is not
found, and is deleted within about a minute; there are bounds (`Room`). A folder with SQLite belongs to one server at a
time; a database in PostgreSQL may have many, if they share the folder with the files' contents. The folder's files
can be read by this user only. Not covered: encryption; backups (copy the folder while no server runs).
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, select, union_all

from belljar.errors import HostError
from belljar.store.access import Access
from belljar.store.answers import Answers, orphan
from belljar.store.blobs import Blobs
from belljar.store.bounds import Room
from belljar.store.containers import Containers
from belljar.store.conversations import Conversations
from belljar.store.database import Database, name_of, open_postgres, open_sqlite
from belljar.store.files import Files
from belljar.store.schema import container_files, files

DATABASE = "belljar.sqlite"
LOCK = "lock"
BLOBS = "blobs"
PERIOD = 60.0  # seconds between sweeps
BLOBS_PERIOD = 3600.0  # between looks for blobs without row, which must be as old as that
ASKED_AT_ONCE = 500  # blobs

__all__ = ["Room", "Store"]

log = logging.getLogger(__name__)


class Store:
    """Answers, conversations, files and containers of a server. For one event loop."""

    def __init__(
        self,
        folder: Path | None,
        url: str | None = None,
        room: Room | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`folder` None: a temporary one, deleted at `close`. `url` None: SQLite in the folder."""
        self._url = url
        self._lasting = folder is not None
        self._folder = Path(tempfile.mkdtemp(prefix="belljar-store-")) if folder is None else folder
        self._forget = weakref.finalize(self, _remove, None if self._lasting else self._folder)
        self._lock: int | None = None
        self._database: Database | None = None
        self._opening = asyncio.Lock()
        self._closed = False
        self._made = time.time()
        self._sweeper: asyncio.Task[None] | None = None
        self.blobs = Blobs(self._folder / BLOBS, self._opened, durable=self._lasting)
        access = Access(opened=self._opened, blobs=self.blobs, room=room or Room(), clock=clock)
        self._access = access
        self.room = access.room
        self.answers = Answers(access)
        self.conversations = Conversations(access)
        self.files = Files(access)
        self.containers = Containers(access)

    @property
    def place(self) -> str:
        """Where everything lies, for people; without a password."""
        if self._url is None:
            return str(self._folder)
        return f"{name_of(self._url)}, contents in {self._folder}"

    async def open(self) -> None:
        """Open it, if it is not open. The first call of anything else does so, too.

        Raises HostError: no permission, another server has the folder, the database cannot be reached or is of a newer
        version, the store was closed.
        """
        await self._opened()

    async def close(self) -> None:
        """Finish what is being written, and close for good. Never raises."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
            self._sweeper = None
        async with self._opening:
            database, self._database = self._database, None
            if database is not None:
                await asyncio.to_thread(database.close)
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None
        if not self._lasting:
            await asyncio.to_thread(self._forget)

    async def sweep(self) -> None:
        """Delete what has expired, and blobs without row. Done every minute, and every hour for blobs."""
        await self._sweep_rows()
        await self._sweep_blobs(time.time() - BLOBS_PERIOD)

    # --- opening ---

    async def _opened(self) -> Database:
        if self._database is None:
            async with self._opening:
                if self._closed:
                    raise HostError("the store is closed")
                if self._database is None:
                    database, leftovers = await asyncio.to_thread(self._open)
                    if not database.shared:
                        await database.write(orphan)
                    self._database = database
                    self._sweeper = asyncio.create_task(self._keep_sweeping(leftovers))
        return self._database

    def _open(self) -> tuple[Database, Sequence[str]]:
        """The database, and those blobs that a crash may have left."""
        if self._url is not None and not self._lasting:
            raise HostError("a store in PostgreSQL needs a folder, for the contents of files")
        try:
            self.blobs.prepare()
            if self._url is not None:
                return open_postgres(self._url), ()
            self._lock = _lock_folder(self._folder)
            self.blobs.sweep_parts(self._made)
            leftovers = list(self.blobs.names())
            return open_sqlite(self._folder / DATABASE, durable=self._lasting), leftovers
        except OSError as error:
            self._unlock()
            raise HostError(f"the store {self._folder} cannot be opened: {error.strerror or error}") from None
        except BaseException:
            self._unlock()
            raise

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # --- sweeping ---

    async def _keep_sweeping(self, leftovers: Sequence[str]) -> None:
        looked = time.monotonic()
        while True:
            try:
                await self._delete_orphans(leftovers)
                leftovers = ()
                await self._sweep_rows()
                if time.monotonic() - looked > BLOBS_PERIOD:
                    looked = time.monotonic()
                    await self._sweep_blobs(time.time() - BLOBS_PERIOD)
            except (HostError, OSError) as error:
                log.warning("the store could not be swept: %s", error)
            except Exception:
                log.exception("the store could not be swept")
            await asyncio.sleep(PERIOD)

    async def _sweep_rows(self) -> None:
        for part in (self.answers, self.conversations, self.files, self.containers):
            await part.sweep()
        await (await self._opened()).tidy()

    async def _sweep_blobs(self, older: float) -> None:
        await self._opened()
        await asyncio.to_thread(self.blobs.sweep_parts)
        await self._delete_orphans(await asyncio.to_thread(lambda: list(self.blobs.names(older))))

    async def _delete_orphans(self, names: Sequence[str]) -> None:
        """Delete those of the blobs that no row refers to. None of them may belong to a row that is still to come."""
        for start in range(0, len(names), ASKED_AT_ONCE):
            some = names[start : start + ASKED_AT_ONCE]
            used = await self._access.read(partial(_used, blobs=some))
            await self.blobs.delete(name for name in some if name not in used)


def _used(connection: Connection, blobs: Sequence[str]) -> set[str]:
    """Those blobs that a row refers to."""
    tables = (files, container_files)
    query = union_all(*(select(table.c.blob).where(table.c.blob.in_(blobs)) for table in tables))
    return set(connection.execute(query).scalars())


def _lock_folder(folder: Path) -> int:
    """Have the folder for this process alone, as long as the descriptor is open. Raises HostError, OSError."""
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(lock, 20).decode(errors="replace").strip()
        os.close(lock)
        who = f"process {holder}" if holder else "of unknown process id"
        raise HostError(f"the store {folder} is used by another server ({who}); give this one another") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
