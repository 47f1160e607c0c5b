"""
The inbox: which messages a subscriber has taken, written in the transaction of what it did with them.

A message is known by the id that its first copy had, so a scheduled copy of it is the same message.
"""

from __future__ import annotations

from functools import cache

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.chains.protocol import MICROS
from pipeline.storage.database import Database
from pipeline.storage.dialect import LOCK_HINT, MSSQL, SQLITE, Prepared, db_now
from pipeline.storage.tables import inbox

PURGE_ROWS = 4000
"""Rows of one delete; SQL Server locks the whole table from about 5000 locks on."""

PURGE_BATCHES = 250
"""At most a million rows in one run; the next run goes on."""


def take(connection: Connection, subscriber: str, original_id: str) -> bool:
    """Note a message as taken; False if it was taken before, and then the caller must change nothing."""
    taking = _take_statement(connection.dialect.name)
    return taking(connection, {"subscriber": subscriber, "message_id": original_id[:128]}).rowcount > 0


def purge(connection: Connection, *, older_than_seconds: int, limit: int = PURGE_ROWS) -> int:
    """Forget up to `limit` messages taken longer ago than any of their copies can still arrive; gives how many."""
    old = (
        sa.select(inbox.c.subscriber, inbox.c.message_id)
        .where(inbox.c.seen_at < db_now() - older_than_seconds * MICROS)
        .order_by(inbox.c.seen_at)
        .limit(limit)
        .subquery()
    )
    chosen = sa.exists().where(old.c.subscriber == inbox.c.subscriber, old.c.message_id == inbox.c.message_id)
    return connection.execute(sa.delete(inbox).where(chosen)).rowcount


async def purge_all(database: Database, *, older_than_seconds: int, limit: int = PURGE_ROWS) -> int:
    """Forget all old messages, one short transaction after the other; gives how many."""
    total = 0
    for _ in range(PURGE_BATCHES):
        gone = await database.write("retention", purge, older_than_seconds=older_than_seconds, limit=limit)
        total += gone
        if gone < limit:
            break
    return total


@cache
def _take_statement(dialect: str) -> Prepared:
    # The clock is part of the statement: one trip instead of two.
    known = {MSSQL: "DATEDIFF_BIG(microsecond, '19700101', SYSUTCDATETIME())", SQLITE: "pipeline_now()"}
    hint = f" {LOCK_HINT}" if dialect == MSSQL else ""
    text = (
        f"INSERT INTO inbox (subscriber, message_id, seen_at) SELECT :subscriber, :message_id, {known[dialect]} "  # noqa: S608 - constants
        f"WHERE NOT EXISTS (SELECT 1 FROM inbox AS d{hint} WHERE d.subscriber = :subscriber "
        "AND d.message_id = :message_id)"
    )
    return Prepared(sa.text(text))
