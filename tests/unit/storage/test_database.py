"""Where a unit of work runs: at once if nobody else writes, in the pool if it would have to wait."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.engine import Connection

from pipeline.storage import leases
from pipeline.storage.database import Conflict, Database

Unit = Callable[[Connection], object]


def fence(name: str) -> Unit:
    """Write one row; gives the thread that did."""

    def unit(connection: Connection) -> int:
        leases.acquire(connection, name, "holder", seconds=30)
        return threading.get_ident()

    return unit


def names(connection: Connection) -> list[str]:
    """Read what `fence` wrote, in the order of the writing."""
    return [row[0] for row in connection.exec_driver_sql("SELECT name FROM leases ORDER BY rowid")]


@contextmanager
def another_writer(database: Database) -> Iterator[None]:
    """Hold SQLite's write lock, as a second process would."""
    assert database.engine.url.database
    other = sqlite3.connect(database.engine.url.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("COMMIT")
    other.close()


def test_a_unit_alone_needs_no_thread(database: Database) -> None:
    """Changing threads for a millisecond's work cost a seventh of each page."""

    async def scenario() -> None:
        assert await database.write("fence", fence("one")) == threading.get_ident()
        assert await database.read(lambda connection: threading.get_ident()) == threading.get_ident()

    asyncio.run(scenario())
    assert database.read_here(names) == ["one"]


def test_a_unit_that_must_wait_lets_the_loop_go_on(database: Database) -> None:
    """A loop that waits five seconds for a lock renews no message and answers no probe."""

    async def scenario() -> None:
        with another_writer(database):
            waiting = asyncio.create_task(database.write("fence", fence("one")))
            while not database.queued:
                await asyncio.sleep(0)
            turns = 0
            async with asyncio.timeout(5):
                while turns < 1000:
                    await asyncio.sleep(0)
                    turns += 1
            assert not waiting.done()
            assert await database.read(names) == []  # readers wait for no writer
        assert await waiting != threading.get_ident()

    asyncio.run(scenario())
    assert database.read_here(names) == ["one"]


def test_nobody_overtakes_a_unit_that_waits(database: Database) -> None:
    """One that polls for the lock loses it for ever to those that take it at once."""

    async def scenario() -> None:
        async with asyncio.TaskGroup() as group:
            with another_writer(database):
                group.create_task(database.write("fence", fence("first")))
                while not database.queued:
                    await asyncio.sleep(0)
                group.create_task(database.write("fence", fence("second")))
                while database.queued < 2:
                    await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(scenario(), 10))
    assert database.read_here(names) == ["first", "second"]


def test_many_units_in_a_row_do_not_keep_the_loop(database: Database) -> None:
    """A handler that only writes would otherwise run to its end while locks of others expire."""

    async def scenario() -> int:
        turns = 0

        async def write_all() -> None:
            for number in range(20):
                await database.write("fence", fence(f"name-{number}"))

        writing = asyncio.create_task(write_all())
        while not writing.done():
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert asyncio.run(scenario()) >= 20


def test_a_conflict_runs_the_unit_again_from_the_top(database: Database) -> None:
    """What the first try wrote is gone, and what the second wrote is there once."""
    tries = 0

    def unit(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        fence(f"try-{tries}")(connection)
        if tries == 1:
            raise Conflict("another transaction was faster")

    asyncio.run(database.write("fence", unit))
    assert database.read_here(names) == ["try-2"]


def test_a_unit_that_fails_writes_nothing(database: Database) -> None:
    """It is not run again either: only faults that pass are."""
    tries = 0

    def unit(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        fence("half")(connection)
        raise LookupError("a mistake of ours")

    with pytest.raises(LookupError):
        asyncio.run(database.write("fence", unit))
    assert tries == 1
    assert database.read_here(names) == []


def test_the_first_unit_waits_for_a_file_that_is_being_recovered(tmp_path: Path, migrated: Path) -> None:
    """Whoever opens a database after a crash repairs it alone; the others' first units must not fail meanwhile."""
    path = tmp_path / "crashed.db"
    shutil.copy(migrated, path)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("PRAGMA journal_mode=DELETE")
    other.execute("BEGIN EXCLUSIVE")
    database = Database(f"sqlite:///{path}")
    release = threading.Timer(0.3, other.execute, ["COMMIT"])
    release.start()
    asyncio.run(database.write("fence", fence("one")))
    release.join()
    other.close()
    assert database.read_here(names) == ["one"]
    asyncio.run(database.close())
