"""Run what no quick test of the storage layer reaches, so that each of its statements is executed once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast
from unittest import mock

import sqlalchemy as sa

from pipeline.bus.data import DataMessage
from pipeline.chains.budget import Load
from pipeline.chains.protocol import Key, Lane
from pipeline.feeds import load_feeds
from pipeline.storage import analytics, budgets, chains, children, directory, items, latest, leases, migrate
from pipeline.storage.analytics import FeedTable
from pipeline.storage.database import Database
from pipeline.storage.items import Accepted, Candidate, Stored, Writing
from pipeline.storage.marts import load_marts
from tests.tsql.recorder import Recorder, ServerConnection

KEY = Key("u1", "posts", "u1", Lane.MAIN)
ITEM = Candidate("i1", 1, "hash", None, {}, b"{}")


def run(folder: Path, recorder: Recorder) -> None:
    """Execute the statements on SQLite, and for SQL Server those that only SQL Server gets."""
    database = Database(f"sqlite:///{folder / 'scenario.db'}", threads=1)
    migrate.upgrade(database)
    for step in (_leases, _budgets, _scopes, _items):
        database.write_here("scenario", step)
    database.engine.dispose()
    _server_only(ServerConnection(recorder))


def _leases(connection: sa.Connection) -> None:
    token = leases.acquire(connection, "l", "me", seconds=60)
    leases.acquire(connection, "l", "me", seconds=60)
    assert token is not None
    leases.holds(connection, "l", "me", token)
    leases.release(connection, "l", "me", token)
    leases.purge_ticks(connection)
    leases.read_incarnation(connection)


def _budgets(connection: sa.Connection) -> None:
    for wait in (0.0, 900.0):
        budgets._note(connection, {"k": Load(100.0, wait)}, minute_seconds=60.0)
    budgets._blocks(connection, ["k", "other"])
    budgets._note(connection, {"guessed": Load(100.0, 0.0)}, minute_seconds=1e-6)
    time.sleep(0.001)
    budgets._probe(connection, ["guessed"], minute_seconds=60.0)
    budgets._passed(connection, ["guessed"])


def _scopes(connection: sa.Connection) -> None:
    for found in ("a", "b"):
        directory.put_scopes(connection, "u1", "page", [directory.ScopeRow(found, "name")])
    directory.close_scope(connection, "u1", "page", "b")
    children.due_for_sweep(connection, "u1", "posts", "comments", opened_before=1, limit=10)
    chains.lose(connection, KEY, "no doorbell")


def _items(connection: sa.Connection) -> None:
    latest.keep(connection, KEY, [Accepted(ITEM, 1)])


def _server_only(connection: Any) -> None:
    items._insert(connection, _owner(), [ITEM], Writing(2, 2, "m"))
    items._revise(connection, _owner(), [("i1", 1, "hash", None, 0, 1, 1)])
    items._meet_again(connection, _owner(), [(ITEM, Stored(1, ITEM.hash, None, 1, False, 0))], Writing(2, 2, "m"))
    feeds, marts = load_feeds(), load_marts()
    tables = [FeedTable(feed) for feed in feeds.values()]
    for table in tables:
        table.upsert(connection, cast(DataMessage, _NoItems()))
    for existing in ([], ["user_id"]):
        with _inspected(existing):
            analytics._prepare(connection, tables, marts)


class _NoItems(NamedTuple):
    """A data message without items: its statements are the same."""

    id: str = "m1"
    user_id: str = "u1"
    scope: str = "u1"
    feed_version: int = 1
    items: tuple[()] = ()


class _Inspector(NamedTuple):
    """Answers what a table has."""

    columns: list[str]

    def has_table(self, name: str) -> bool:
        return bool(self.columns)

    def get_columns(self, name: str) -> list[dict[str, str]]:
        return [{"name": column} for column in self.columns]


@contextmanager
def _inspected(columns: list[str]) -> Iterator[None]:
    answer: Callable[[Any], _Inspector] = lambda connection: _Inspector(columns)  # noqa: E731 - typed, and three words
    with mock.patch.object(sa, "inspect", answer):
        yield


def _owner() -> dict[str, str]:
    return {"user_id": KEY.user_id, "feed": KEY.feed, "scope": KEY.scope}
