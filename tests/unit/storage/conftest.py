"""A real SQLite file with the newest schema, and a clock that stands still."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.storage import migrate
from pipeline.storage.database import Database
from tests.fakes import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    """Stands still until a test moves it."""
    return ManualClock()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the newest schema and nothing in it; migrating takes longer than copying."""
    path = tmp_path_factory.mktemp("schema") / "empty.db"
    database = Database(f"sqlite:///{path}", threads=1)
    migrate.upgrade(database)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
    database.engine.dispose()
    return path


@pytest.fixture
def database(tmp_path: Path, migrated: Path, clock: ManualClock) -> Iterator[Database]:
    """An empty database of its own."""
    path = tmp_path / "pipeline.db"
    shutil.copy(migrated, path)
    database = Database(f"sqlite:///{path}", threads=2, clock=clock)
    yield database
    asyncio.run(database.close())
