"""The database below the store: SQLite in a folder, or PostgreSQL at a URL; asked in threads.

Promises: a write has returned when it is on the disk; writes of SQLite are made by one thread, and those that wait are
committed together; readers do not wait for writers. An opened database has this version's tables: older ones are
migrated, newer ones refused. What cannot be opened, and what fails later, is a HostError without the URL's password.
Not covered: what the tables mean.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, func, inspect, select, table, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError

from belljar.errors import BelljarError, HostError
from belljar.store.schema import REVISION, VERSION_TABLE

T = TypeVar("T")
Work = Callable[[Connection], T]

READERS = 4  # threads that read SQLite
CONNECTIONS = 8  # to PostgreSQL
BATCH = 64  # writes that are committed together
BUSY_MS = 10_000  # somebody else (a backup, a shell) may hold SQLite's lock for so long
PAGES_KIB = 2 << 10  # SQLite's cache, of each connection; the kernel has one as well
RETRIES = 5  # of what PostgreSQL gave up for the sake of another transaction
LOST = ("40001", "40P01")  # serialization failure, deadlock
MIGRATING = 0x62656C6C  # PostgreSQL's advisory lock

log = logging.getLogger(__name__)

PRAGMAS = {
    "journal_mode": "WAL",
    "foreign_keys": "ON",
    "busy_timeout": BUSY_MS,
    "secure_delete": "ON",  # what is deleted is overwritten
    "temp_store": "MEMORY",
    "cache_size": -PAGES_KIB,
}


@dataclass(eq=False, slots=True)
class Job:
    """A write that waits for its turn."""

    work: Work[Any]
    future: Future[Any] = field(default_factory=Future)
    result: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        """Tell who waits."""
        if self.error is not None:
            self.future.set_exception(_translated(self.error))
        else:
            self.future.set_result(self.result)


class Database:
    """One opened database. `read` and `write` run a function in a thread, with a connection in a transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.shared = engine.dialect.name == "postgresql"  # other servers may use it at the same time
        self._readers = ThreadPoolExecutor(CONNECTIONS if self.shared else READERS, "belljar-store")
        self._writer = self._readers if self.shared else ThreadPoolExecutor(1, "belljar-store-writer")
        self._waiting: deque[Job] = deque()
        self._lock = threading.Lock()

    async def read(self, work: Work[T]) -> T:
        """What the function finds. It may run more than once. Raises HostError, and what the function raises."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._run, work, False)

    async def write(self, work: Work[T]) -> T:
        """Commit what the function does; nothing of it where it raises. It may run more than once. Raises as `read`.

        Once begun it is carried through, though the caller be cancelled.
        """
        if self.shared:
            return await asyncio.get_running_loop().run_in_executor(self._writer, self._run, work, True)
        job = Job(work)
        self._waiting.append(job)
        self._writer.submit(self._write_waiting)
        result: T = await asyncio.wrap_future(job.future)
        return result

    async def tidy(self) -> None:
        """Put what was written in its place. In SQLite, what was deleted is overwritten with it."""
        if not self.shared:
            await asyncio.get_running_loop().run_in_executor(self._writer, self._checkpoint)

    def close(self) -> None:
        """Finish what was asked, and close. Blocks; never raises."""
        self._writer.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        self._engine.dispose()

    def run(self, work: Work[T]) -> T:
        """Do a write in this thread. Raises HostError, and what the function raises."""
        return self._run(work, True)

    # --- in threads ---

    def _checkpoint(self) -> None:
        try:
            with self._engine.raw_connection() as connection:
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except (DBAPIError, sqlite3.Error) as error:
            raise HostError(f"the store failed: {error}") from error

    def _run(self, work: Work[T], writing: bool) -> T:
        for again in range(RETRIES, -1, -1):
            try:
                with self._engine.connect() as connection, _begin(connection, writing):
                    return work(connection)
            except DBAPIError as error:
                if not again or not _worth_retrying(error, writing):
                    raise _translated(error) from error
            except SQLAlchemyError as error:
                raise _translated(error) from error
        raise AssertionError("the last try returns or raises")

    def _write_waiting(self) -> None:
        """Take the writes that wait, and commit them together. Those that were cancelled before are left out."""
        with self._lock:
            taken = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        jobs = [job for job in taken if job.future.set_running_or_notify_cancel()]
        if len(jobs) > 1 and self._together(jobs):
            for job in jobs:
                job.settle()
            return
        for job in jobs:
            try:
                job.result, job.error = self._run(job.work, True), None
            except BaseException as error:
                job.error = error
            job.settle()

    def _together(self, jobs: list[Job]) -> bool:
        """False where nothing was committed, because one of them broke the transaction of all."""
        try:
            with self._engine.connect() as connection, _begin(connection, True):
                for job in jobs:
                    try:
                        with connection.begin_nested():
                            job.result = job.work(connection)
                    except (BelljarError, IntegrityError) as error:
                        job.error = error
        except Exception:
            return False
        return True


def _begin(connection: Connection, writing: bool) -> Any:
    connection.info["writing"] = writing
    return connection.begin()


def _worth_retrying(error: DBAPIError, writing: bool) -> bool:
    """Whether nothing was done, and another try may do better."""
    if getattr(error.orig, "sqlstate", None) in LOST:
        return True
    return error.connection_invalidated and not writing


def _translated(error: BaseException) -> BaseException:
    """What went wrong in words, without statements and what was in them."""
    if isinstance(error, DBAPIError):
        return HostError(f"the store failed: {_reason(error)}")
    if isinstance(error, SQLAlchemyError):
        return HostError(f"the store failed: {type(error).__name__}")
    return error


def _reason(error: SQLAlchemyError) -> str:
    cause = getattr(error, "orig", None) or error
    return " ".join(str(cause).split())[:300] or type(cause).__name__


# --- opening ----------------------------------------------------------------------------------------------------------


def open_sqlite(path: Path, *, durable: bool = True) -> Database:
    """The database in a file, made if it is not there. `durable` False: it need not outlive this process. Blocks.

    Raises HostError.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise HostError(f"the store {path} cannot be opened: {error.strerror}") from None
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        pool_size=READERS + 1,
        max_overflow=0,
        connect_args={"check_same_thread": False, "isolation_level": None, "timeout": BUSY_MS / 1000},
    )
    pragmas = PRAGMAS | {"synchronous": "FULL" if durable else "OFF"}

    @event.listens_for(engine, "connect")
    def _set(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for name, value in pragmas.items():
            cursor.execute(f"PRAGMA {name}={value}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _start(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.info.get("writing") else "BEGIN")

    return _opened(Database(engine), str(path))


def open_postgres(url: str) -> Database:
    """The database at a URL. Blocks. Raises HostError."""
    place = _read_url(url)
    try:
        engine = create_engine(
            place,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_pre_ping=True,
            pool_recycle=1800,
            connect_args={"connect_timeout": 10, "application_name": "belljar"},
        )
    except ImportError:
        raise HostError("PostgreSQL needs psycopg: pip install 'belljar[postgres]'") from None
    return _opened(Database(engine), name_of(url))


def name_of(url: str) -> str:
    """A database's URL without its password. Raises HostError: it is none."""
    return _read_url(url).set(drivername="postgresql").render_as_string(hide_password=True)


def _read_url(url: str) -> URL:
    try:
        place = make_url(url)
    except (ArgumentError, ValueError):
        raise HostError(
            "the store's URL cannot be read; write it as postgresql://user:password@host/database"
        ) from None
    if place.drivername not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise HostError(f"the store's URL is of {place.drivername!r}; only postgresql:// is served")
    return place.set(drivername="postgresql+psycopg")


def _opened(database: Database, name: str) -> Database:
    try:
        database.run(_bring_up_to_date)
    except HostError as error:
        database.close()
        raise HostError(f"the store {name} cannot be opened: {error}") from error
    except BaseException:
        database.close()
        raise
    return database


def _bring_up_to_date(connection: Connection) -> None:
    """Make this version's tables from what there is. Raises HostError where that is of a newer version."""
    if _revision(connection) == REVISION:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(MIGRATING)))
    if (found := _revision(connection)) == REVISION:
        return  # another server did it just now
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells a dozen things that nobody asked for
    from alembic.runtime.environment import EnvironmentContext  # half a second, rarely needed
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(__file__).parent / "migrations"))
    known = {script.revision for script in scripts.walk_revisions()}
    if found is not None and found not in known:
        raise HostError(f"its tables are of revision {found!r}, which a newer version of Belljar made; use that one")
    from alembic.config import Config

    def upgrade(revision: Any, _context: Any) -> Any:
        return scripts._upgrade_revs(REVISION, revision)

    config = Config()
    config.attributes["connection"] = connection
    with EnvironmentContext(config, scripts, fn=upgrade, destination_rev=REVISION):
        scripts.run_env()
    if found is not None:
        log.info("the store's tables were of revision %s and are now of %s", found, REVISION)


def _revision(connection: Connection) -> str | None:
    """What the tables are of; None where there are none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(select(text("version_num")).select_from(table(VERSION_TABLE))).scalar()
    return None if found is None else str(found)
