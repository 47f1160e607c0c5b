"""
Units of work: one function, one transaction, one thread of a bounded pool.

SQLite needs no thread while nobody else writes: a unit takes about a millisecond there, and changing threads for it
cost a seventh of a page. It runs in the caller's thread, and goes to the pool only if it would have to wait.

A unit that met a passing fault before its commit is run again from the top. A fault during the commit has an unknown
outcome: it is raised as `StoreUnavailable`, and whoever runs the unit again reads the rows to learn what happened.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url

from pipeline.errors import ConfigurationError, PipelineError, StoreUnavailable
from pipeline.failpoints import failpoint
from pipeline.storage.dialect import MSSQL, SQLITE, db_now
from pipeline.storage.faults import is_transient

P = ParamSpec("P")
R = TypeVar("R")

TRIES = 3
"""Runs of one unit in the pool; the statement time-out bounds each: all of them fit into a page's SQL budget, 10 s."""

STATEMENT_SECONDS = 5
SQLITE_THREADS = 1
"""SQLite has one writer: more threads would only wait for it."""

POOL_WAIT_SECONDS = 10
RECYCLE_SECONDS = 1500  # Azure's gateway drops connections that were idle for 30 minutes

_READ = "pipeline_read"


class Conflict(PipelineError):
    """Run the unit again: another transaction changed what this one had read."""


def system_clock() -> int:
    """Read this machine's clock, whole microseconds since 1970. It is SQLite's clock, which has none of its own."""
    return time.time_ns() // 1000


class Database:
    """One engine and its threads. `clock` replaces SQLite's clock in tests; SQL Server always uses its own."""

    def __init__(self, url: str, *, threads: int = 8, clock: Callable[[], int] = system_clock) -> None:
        self.engine = _engine(url, threads, clock)
        self.dialect = self.engine.dialect.name
        self._prompt: Engine | None = None
        """For units that run at once, in the caller's thread, or not at all; only SQLite has it."""
        if self.dialect == SQLITE:
            threads = min(threads, SQLITE_THREADS)
            self._prompt = _sqlite(self.engine.url, clock, wait=0)
        self.commit_seconds = 0.0
        """A moving average of what a writing unit takes, for backpressure."""
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="sql")
        self._queued = 0

    @property
    def queued(self) -> int:
        """Units that wait for a thread or run now."""
        return self._queued

    async def write(
        self, unit: str, work: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run `work` in one writing transaction. `unit` names the failpoints `store.{unit}.before` and `.after`."""
        return await self._run(
            lambda prompt: self._write_once(prompt, unit, lambda connection: work(connection, *args, **kwargs)),
            lambda: self.write_here(unit, work, *args, **kwargs),
            now=not self._queued,  # units that wait for the lock must not be overtaken for ever
        )

    async def read(self, work: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `work` in one reading transaction."""
        return await self._run(
            lambda prompt: _read_once(prompt, lambda connection: work(connection, *args, **kwargs)),
            lambda: self.read_here(work, *args, **kwargs),
            now=True,
        )

    def write_here(
        self, unit: str, work: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Do what `write` does, in this thread."""
        for left in reversed(range(TRIES)):
            try:
                return self._write_once(self.engine, unit, lambda connection: work(connection, *args, **kwargs))
            except Conflict as error:
                if not left:
                    raise StoreUnavailable(f"unit {unit}: {TRIES} conflicts in a row") from error
            except sa.exc.SQLAlchemyError as error:
                if not is_transient(error):
                    raise
                if not left:
                    raise StoreUnavailable(f"unit {unit}: {type(error).__name__}") from error
            time.sleep(random.uniform(0.01, 0.1) * (TRIES - left))
        raise AssertionError("unreachable")

    def read_here(self, work: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do what `read` does, in this thread."""
        try:
            return _read_once(self.engine, lambda connection: work(connection, *args, **kwargs))
        except sa.exc.SQLAlchemyError as error:
            if is_transient(error):
                raise StoreUnavailable(f"read: {type(error).__name__}") from error
            raise

    async def now(self) -> int:
        """Read the database's clock, whole microseconds since 1970."""
        return await self.read(read_now)

    async def close(self) -> None:
        """Let running units end, then close the connections."""
        await asyncio.to_thread(self._threads.shutdown)
        self.engine.dispose()
        if self._prompt is not None:
            self._prompt.dispose()

    def _write_once(self, engine: Engine, unit: str, work: Callable[[Connection], R]) -> R:
        started = time.monotonic()
        with engine.connect() as connection:
            result = work(connection)
            failpoint(f"store.{unit}.before")
            self._commit(connection)
            failpoint(f"store.{unit}.after")
        self.commit_seconds += 0.1 * (time.monotonic() - started - self.commit_seconds)
        return result

    async def _run(self, at_once: Callable[[Engine], R], patiently: Callable[[], R], *, now: bool) -> R:
        if self._prompt is not None and now:
            await asyncio.sleep(0)  # a handler with many units must not keep the others from the loop
            try:
                return at_once(self._prompt)
            except Conflict:
                pass
            except sa.exc.SQLAlchemyError as error:
                if not is_transient(error):
                    raise
        return await self._in_thread(patiently)

    async def _in_thread(self, work: Callable[[], R]) -> R:
        self._queued += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._queued -= 1

    def _commit(self, connection: Connection) -> None:
        try:
            connection.commit()
        except sa.exc.SQLAlchemyError as error:
            if is_transient(error) or self.dialect == MSSQL:
                raise StoreUnavailable("the outcome of a commit is unknown") from error
            raise


def _read_once(engine: Engine, work: Callable[[Connection], R]) -> R:
    with engine.connect().execution_options(**{_READ: True}) as connection:
        return work(connection)


def read_now(connection: Connection) -> int:
    """Read the database's clock inside a unit."""
    return int(connection.execute(_SELECT_NOW).scalar_one())


_SELECT_NOW = sa.select(db_now())


def _engine(url: str, threads: int, clock: Callable[[], int]) -> Engine:
    try:
        parsed = make_url(url)
    except sa.exc.ArgumentError as error:
        raise ConfigurationError("DATABASE_URL is not a database URL such as sqlite:///file.db") from error
    if parsed.get_backend_name() == SQLITE:
        return _sqlite(parsed, clock, wait=STATEMENT_SECONDS, connections=threads)
    if parsed.get_backend_name() == MSSQL:
        return _mssql(parsed, threads)
    raise ConfigurationError(f"DATABASE_URL names {parsed.get_backend_name()!r}; known are sqlite and mssql+pyodbc")


def _bounds(connections: int) -> dict[str, Any]:
    return {
        "hide_parameters": True,  # a failing statement would print a page of users' data into the log
        "pool_size": connections,
        "max_overflow": 0,
        "pool_timeout": POOL_WAIT_SECONDS,
    }


def _sqlite(url: URL, clock: Callable[[], int], *, wait: float, connections: int = 1) -> Engine:
    """Make an engine whose units wait so many seconds at most for another writer."""
    if not url.database or url.database == ":memory:":
        raise ConfigurationError("DATABASE_URL must name a file: a database in memory is not shared by its connections")
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        url,
        connect_args={"timeout": wait, "check_same_thread": False, "isolation_level": None},
        **_bounds(connections),
    )

    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, record: object) -> None:
        connection.create_function("pipeline_now", 0, clock)
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "cache_size=-16000", "wal_autocheckpoint=4000"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # IMMEDIATE takes the one write lock at once: what a unit reads stays true until its commit.
        reading = connection.get_execution_options().get(_READ)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _mssql(url: URL, connections: int) -> Engine:
    try:
        import pyodbc  # fails without the ODBC library, which a desk with SQLite need not have
    except ImportError as error:
        raise ConfigurationError(
            "DATABASE_URL names SQL Server, but the ODBC library is missing: install libodbc2 and msodbcsql18"
        ) from error
    pyodbc.pooling = False  # SQLAlchemy pools; two pools would hide dropped connections from each other
    engine = sa.create_engine(
        url,
        pool_pre_ping=True,
        pool_recycle=RECYCLE_SECONDS,
        connect_args={"timeout": STATEMENT_SECONDS},
        **_bounds(connections),
    )

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, record: object) -> None:
        connection.timeout = STATEMENT_SECONDS

    return engine
