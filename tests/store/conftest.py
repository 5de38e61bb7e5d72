"""Stores over both databases. PostgreSQL is started once for all tests of a process, and emptied for each."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from belljar.store.schema import metadata
from belljar.store.store import DATABASE, Store

from . import postgres
from .places import Place


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """An empty database."""
    programs = postgres.find()
    if programs is None:
        pytest.skip(
            "NOT JUDGED: PostgreSQL's initdb and postgres are not here, so the store was tried with SQLite only"
        )
    with postgres.running(programs) as url:
        yield url


def empty(url: str) -> None:
    """Delete all rows, if there are tables."""
    with psycopg.connect(url) as connection:
        there = {name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
        if tables := there & set(metadata.tables):
            connection.execute(f"TRUNCATE {', '.join(sorted(tables))}")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str | None:
    """Of the database of this test; None is SQLite."""
    if request.param == "sqlite":
        return None
    found: str = request.getfixturevalue("postgres_url")
    empty(found)
    return found


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of SQLite with tables and no rows; copied, as migrating takes its time."""
    folder = tmp_path_factory.mktemp("tables")

    async def make() -> None:
        store = Store(folder)
        await store.open()
        await store.close()

    asyncio.run(make())
    return folder / DATABASE


@pytest.fixture
async def place(tmp_path: Path, tables: Path, url: str | None) -> AsyncIterator[Place]:
    place = Place(tmp_path / "store", url)
    if url is None:
        place.folder.mkdir(mode=0o700)
        shutil.copy(tables, place.folder / DATABASE)
    yield place
    await place.close()


@pytest.fixture
async def store(place: Place) -> Store:
    return await place.open()
