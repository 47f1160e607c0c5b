"""Data tests: what must hold for the feeds' tables and the marts over them. Each counts the rows that fail."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.storage.analytics import Analytics, FeedTable
from pipeline.storage.database import Database
from pipeline.storage.marts.base import AcceptedValues, DataTest, NotNull, Relation, Unique


class DataTestResult(NamedTuple):
    """How one test ended."""

    table: str
    test: str
    failed: int
    """Rows (or groups of rows) that fail; 0 is good."""


async def run_data_tests(database: Database, analytics: Analytics) -> list[DataTestResult]:
    """Run all tests of the enabled feeds' tables and marts, which are made first if they are missing."""
    await analytics.prepare()
    demands = [(table.name, test) for table in await analytics.tables() for test in table_tests(table)]
    demands += [(mart.view, test) for mart in analytics.marts for test in mart.tests]
    return await database.read(_run, demands)


def table_tests(table: FeedTable) -> list[DataTest]:
    """
    Give what holds for any feed: one row per item, its own columns filled, what its model requires, and for a child
    feed that its parent item is there (which it is once the queues are empty: the two come by different messages).
    """
    own: list[DataTest] = [
        Unique(("user_id", "scope", "item_id")),
        NotNull("source_time"),
        AcceptedValues("deleted", (0, 1)),
        AcceptedValues("capture", ("batch", "live")),
    ]
    if table.parent is not None:
        own.append(Relation(("user_id", "scope"), table.parent, ("user_id", "item_id")))
    return own + [NotNull(name, where="deleted = 0") for name in table.required]


def _run(connection: Connection, demands: Iterable[tuple[str, DataTest]]) -> list[DataTestResult]:
    return [
        DataTestResult(table, test.name, int(connection.execute(sa.text(test.failures(table))).scalar_one()))
        for table, test in demands
    ]
