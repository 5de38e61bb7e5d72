"""Opening: what is there again, what is migrated, what is refused; what is on the disk when; what a crash leaves."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from belljar.errors import HostError
from belljar.store import database as database_module
from belljar.store import schema
from belljar.store.rows import AnswerRow, ContainerFileRow, ContainerRow, ConversationRow, FileRow, ItemRow
from belljar.store.store import DATABASE, Store

from .conftest import empty
from .places import Place, answer, blobs_in, contained, container, conversation, file

MIGRATIONS = Path(database_module.__file__).parent / "migrations"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Place]:
    """A place with SQLite, where there is nothing yet."""
    place = Place(tmp_path / "deep" / "store")
    yield place
    await place.close()


# --- again ------------------------------------------------------------------------------------------------------------


async def test_after_a_restart_everything_is_there(place: Place) -> None:
    store = await place.open()
    kept, talk, box = answer(place.clock, ended=True), conversation(place.clock), container(place.clock)
    upload, made = await file(store, place.clock), await contained(store, place.clock, box.id, "a.txt", b"made")
    await store.answers.add(kept)
    await store.conversations.add(talk)
    await store.conversations.append("ann", talk.id, [("msg_1", b"{}")])
    await store.files.add(upload)
    await store.containers.add(box)
    await store.containers.put_files(box.id, [made])
    await store.close()
    again = await place.open()
    assert await again.answers.get("ann", kept.id) == kept
    assert await again.conversations.get("ann", talk.id) == talk
    assert len((await again.conversations.page("ann", talk.id))[0]) == 1
    assert await again.files.get("ann", upload.id) == upload
    assert await again.containers.get("ann", box.id) == box
    assert await again.containers.files(box.id) == [made]
    assert await again.blobs.read(made.blob) == b"made"


async def test_who_wrote_an_answer_is_gone_after_a_restart_with_sqlite(here: Place) -> None:
    store = await here.open()
    row = answer(here.clock, lease=here.clock.now + 60)
    await store.answers.add(row)
    await store.close()
    found = await (await here.open()).answers.get("ann", row.id)
    assert found is not None
    assert (found.ended, found.lease) == (False, 0.0)


async def test_two_servers_share_a_database_in_postgresql(tmp_path: Path, postgres_url: str) -> None:
    place = Place(tmp_path, postgres_url)
    one, two = await place.open(), await place.open()
    row = answer(place.clock, lease=place.clock.now + 60)
    await one.answers.add(row)
    assert await two.answers.get("ann", row.id) == row  # its lease too: it is being written elsewhere
    rows = [answer(place.clock) for _ in range(40)]
    await asyncio.gather(*((one if number % 2 else two).answers.add(each) for number, each in enumerate(rows)))
    await asyncio.gather(one.sweep(), two.sweep(), *(two.answers.delete("ann", each.id) for each in rows))
    await place.close()


async def test_at_the_bound_servers_do_not_block_each_other(tmp_path: Path, postgres_url: str) -> None:
    empty(postgres_url)
    place = Place(tmp_path, postgres_url)
    stores = [await place.open(answers=10), await place.open(answers=10)]
    rows = [answer(place.clock, f"owner {number % 3}", ended=True) for number in range(60)]
    await asyncio.gather(*(stores[number % 2].answers.add(row) for number, row in enumerate(rows)))
    assert await stores[0].answers.count() == 10
    found = await asyncio.gather(*(stores[1].answers.get(row.owner, row.id) for row in rows))
    assert sum(each is not None for each in found) == 10
    await place.close()


async def test_connections_that_postgresql_has_closed_are_replaced(tmp_path: Path, postgres_url: str) -> None:
    place = Place(tmp_path, postgres_url)
    store = await place.open()
    rows = [answer(place.clock) for _ in range(16)]
    await asyncio.gather(*(store.answers.add(row) for row in rows[:8]))
    with psycopg.connect(postgres_url) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'belljar'")
    await asyncio.gather(*(store.answers.add(row) for row in rows[8:]))
    assert None not in await asyncio.gather(*(store.answers.get("ann", row.id) for row in rows))
    await place.close()


async def test_a_temporary_store_is_gone_when_closed() -> None:
    store = Store(None)
    await store.open()
    folder = store.blobs.folder.parent
    await store.answers.add(answer(Place(folder).clock))
    assert folder.is_dir()
    await store.close()
    assert not folder.exists()
    with pytest.raises(HostError, match="closed"):
        await store.answers.count()


async def test_the_first_call_opens(here: Place) -> None:
    store = Store(here.folder)
    assert await asyncio.gather(*(store.answers.count() for _ in range(5))) == [0] * 5
    await store.close()
    await store.close()


# --- tables -----------------------------------------------------------------------------------------------------------


async def test_migrations_make_the_tables_that_the_code_knows(place: Place) -> None:
    store = await place.open()

    def differences(connection: Connection) -> list[Any]:
        options = {"version_table": schema.VERSION_TABLE, "compare_type": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), schema.metadata))

    assert await store._access.read(differences) == []


def test_the_newest_migration_is_the_one_that_the_code_asks_for() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == schema.REVISION


@pytest.mark.parametrize(
    ("table", "row"),
    [
        (schema.answers, AnswerRow),
        (schema.conversations, ConversationRow),
        (schema.items, ItemRow),
        (schema.files, FileRow),
        (schema.containers, ContainerRow),
        (schema.container_files, ContainerFileRow),
    ],
)
def test_tables_have_a_column_for_every_field(table: Any, row: Any) -> None:
    assert set(row.__struct_fields__) <= set(table.c.keys())
    assert set(table.c.keys()) - set(row.__struct_fields__) <= {"size", "ends"}


def test_a_current_database_needs_no_alembic(tables: Path) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path; from belljar.store.store import Store\n"
        "async def main():\n"
        "    store = Store(Path(sys.argv[1])); await store.open(); await store.close()\n"
        "asyncio.run(main()); assert 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, tables.parent], check=True, timeout=30)


async def test_servers_that_start_together_migrate_once(tmp_path: Path, postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE together")
    url = postgres_url.replace("/postgres?", "/together?")
    stores = [Store(tmp_path, url) for _ in range(3)]
    assert await asyncio.gather(*(store.answers.count() for store in stores)) == [0, 0, 0]
    for store in stores:
        await store.close()


async def test_tables_of_a_newer_version_are_refused(place: Place) -> None:
    store = await place.open()
    statement = "UPDATE belljar_version SET version_num = '{}'"
    await store._access.write(lambda connection: connection.exec_driver_sql(statement.format("999")).rowcount)
    try:
        await store.close()
        with pytest.raises(HostError, match=r"revision '999'.* newer version of Belljar"):
            await place.open()
    finally:
        if place.url is not None:
            with psycopg.connect(place.url) as connection:
                connection.execute(statement.format(schema.REVISION))  # type: ignore[arg-type]


# --- what cannot be opened --------------------------------------------------------------------------------------------


async def test_a_folder_has_one_server(here: Place) -> None:
    first = await here.open()
    with pytest.raises(HostError, match=rf"used by another server \(process {os.getpid()}\)"):
        await here.open()
    await first.close()
    await here.open()


async def test_what_is_no_database_is_refused_and_left_alone(here: Place) -> None:
    here.folder.mkdir(parents=True)
    (here.folder / DATABASE).write_bytes(b"this is no database" * 500)
    with pytest.raises(HostError, match="not a database"):
        await here.open()
    assert (here.folder / DATABASE).read_bytes() == b"this is no database" * 500
    (here.folder / DATABASE).unlink()
    await here.open()


async def test_a_file_in_the_place_of_the_folder_is_refused(here: Place) -> None:
    here.folder.parent.mkdir()
    here.folder.touch()
    with pytest.raises(HostError, match=r"cannot be opened: (File exists|Not a directory)"):
        await here.open()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://me:secret@127.0.0.1:1/there", "refused"),
        ("postgresql://me:secret@/there?host=/nowhere", "No such file"),
        ("mysql://me:secret@host/there", "only postgresql://"),
        ("sqlite:///there", "only postgresql://"),
        ("secret", "cannot be read"),
    ],
)
async def test_a_url_that_leads_nowhere_is_refused_without_its_password(tmp_path: Path, url: str, reason: str) -> None:
    store = Store(tmp_path, url)
    with pytest.raises(HostError, match=reason) as caught:
        await store.open()
    assert "secret" not in str(caught.value)
    await store.close()


async def test_postgresql_without_a_folder_is_refused() -> None:
    store = Store(None, "postgresql://me@127.0.0.1:1/there")
    with pytest.raises(HostError, match="needs a folder"):
        await store.open()
    await store.close()


async def test_what_fails_later_is_a_host_error(store: Store, place: Place) -> None:
    with pytest.raises(HostError, match="the store failed") as caught:
        await store._access.write(lambda connection: connection.exec_driver_sql("SELECT * FROM nowhere").all())
    assert "SELECT" not in str(caught.value).partition("LINE 1")[0]
    assert await store.answers.count() == 0


async def test_writes_that_wait_together_fail_apart(here: Place) -> None:
    store = await here.open()
    database = await store._opened()
    running, hold = threading.Event(), threading.Event()

    def slow(_connection: Connection) -> None:
        running.set()
        assert hold.wait(10)

    def wrong(connection: Connection) -> None:
        connection.exec_driver_sql("SELECT * FROM nowhere")

    rows = [answer(here.clock) for _ in range(3)]
    waiting = [asyncio.ensure_future(database.write(slow))]
    await asyncio.to_thread(running.wait, 10)
    waiting += [asyncio.ensure_future(store.answers.add(row)) for row in rows]
    waiting += [asyncio.ensure_future(database.write(wrong))]
    cancelled = asyncio.ensure_future(store.answers.add(answer(here.clock)))
    await asyncio.sleep(0.01)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    hold.set()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert [isinstance(each, HostError) for each in done] == [False] * 4 + [True]
    assert await store.answers.count() == 3


# --- on the disk ------------------------------------------------------------------------------------------------------


async def test_every_connection_waits_for_the_disk(here: Place) -> None:
    store = await here.open()
    names = ("journal_mode", "synchronous", "foreign_keys", "secure_delete")

    def pragmas(connection: Connection) -> list[Any]:
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    for asked in (store._access.read, store._access.write):
        assert await asked(pragmas) == ["wal", 2, 1, 1]  # 2 is FULL


async def test_a_blob_is_on_the_disk_before_it_has_its_name(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await here.open()
    done: list[str] = []
    sync, rename = os.fsync, Path.rename

    def record_sync(descriptor: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def record_rename(path: Path, target: Path) -> Path:
        done.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(Path, "rename", record_rename)
    part = store.blobs.parts / "upload"
    part.write_bytes(b"in pieces")
    adopted, written = await store.blobs.adopt(part), await store.blobs.write(b"whole")
    assert done == ["file", "rename", "folder"] * 2
    assert (await store.blobs.read(adopted), await store.blobs.read(written)) == (b"in pieces", b"whole")
    assert list(store.blobs.parts.iterdir()) == []


async def test_a_full_disk_is_told_and_leaves_nothing(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await here.open()
    part = store.blobs.parts / "upload"

    def refuse(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(HostError, match="No space left"):
        await store.blobs.write(b"x")
    assert list(store.blobs.parts.iterdir()) == []
    part.touch()
    with pytest.raises(HostError, match="No space left"):
        await store.blobs.adopt(part)
    part.unlink()
    with pytest.raises(FileNotFoundError):
        await store.blobs.adopt(part)
    assert blobs_in(store) == set()


async def test_only_this_user_can_read_what_is_kept(here: Place) -> None:
    store = await here.open()
    await store.files.add(await file(store, here.clock))
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in (here.folder, *here.folder.rglob("*"))}
    assert len(found) >= 7
    assert [path for path, mode in found.items() if mode & 0o077] == []


async def test_what_is_deleted_is_overwritten(here: Place) -> None:
    store = await here.open()
    secret = b"a secret of which nothing is to stay" * 300
    row = answer(here.clock, events=secret)
    await store.answers.add(row)
    await store.sweep()
    content = (here.folder / DATABASE).read_bytes()
    assert secret[:30] in content
    await store.answers.delete("ann", row.id)
    await store.sweep()
    for path in here.folder.glob(f"{DATABASE}*"):
        assert secret[:30] not in path.read_bytes()


async def test_blobs_that_a_crash_left_are_swept(place: Place) -> None:
    store = await place.open()
    row, lost = await file(store, place.clock), await file(store, place.clock)
    await store.files.add(row)
    (store.blobs.parts / "upload").touch()
    await store.sweep()
    assert blobs_in(store) == {row.blob, lost.blob}  # its row may still come
    if place.url is None:
        await store.close()
        store = await place.open()
        async with asyncio.timeout(30):
            while lost.blob in blobs_in(store):
                await asyncio.sleep(0.01)
    else:
        for path in (store.blobs.path(lost.blob), store.blobs.path(row.blob), store.blobs.parts / "upload"):
            os.utime(path, (0, 0))
        await store.sweep()
    assert blobs_in(store) == {row.blob}
    assert list(store.blobs.parts.iterdir()) == []


async def test_a_copy_by_others_holds_nobody_up(here: Place) -> None:
    store = await here.open()
    await store.answers.add(answer(here.clock))
    with closing(sqlite3.connect(here.folder / DATABASE)) as other, closing(sqlite3.connect(":memory:")) as copy:
        other.backup(copy)
        other.execute("BEGIN")
        assert other.execute("SELECT count(*) FROM answers").fetchone() == (1,)
        await store.answers.add(answer(here.clock))
    assert await store.answers.count() == 2
