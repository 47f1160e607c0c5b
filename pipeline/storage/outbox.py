"""
The outbox: messages frozen in the transaction that made them true, sent after it, then removed.

A row is sent with the MessageId it was frozen with, so sending it twice is one message to duplicate detection and to
every inbox.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.bus.messages import Outgoing
from pipeline.chains.protocol import MICROS, Key
from pipeline.storage.dialect import Prepared, db_now, json_columns, json_rows
from pipeline.storage.tables import outbox

RELAY_AGE_SECONDS = 30
"""The relay leaves younger rows to the handler that wrote them."""

CLAIM_SECONDS = 30
"""How long a relay keeps rows from other relays."""


class Held(NamedTuple):
    """A row of the outbox."""

    id: int
    message: Outgoing
    created_at: int


class Backlog(NamedTuple):
    """What is unsent."""

    rows: int
    bytes: int
    oldest_at: int
    """0 when nothing is unsent."""


_INSERTED = ("user_id feed scope lane entity message_id body properties due size created_at claimed_until").split()
_INSERT = Prepared(sa.insert(outbox).values({name: sa.bindparam(name) for name in _INSERTED}).returning(outbox.c.id))
_UNSENT = outbox.c.sent_at.is_(None)
_COLUMNS = (
    outbox.c.id,
    outbox.c.entity,
    outbox.c.message_id,
    outbox.c.body,
    outbox.c.properties,
    outbox.c.due,
    outbox.c.created_at,
)
_OF_CHAIN = (
    sa.select(*_COLUMNS)
    .where(
        outbox.c.user_id == sa.bindparam("user_id"),
        outbox.c.feed == sa.bindparam("feed"),
        outbox.c.scope == sa.bindparam("scope"),
        outbox.c.lane == sa.bindparam("lane"),
        _UNSENT,
    )
    .order_by(outbox.c.id)
)
_BACKLOG = sa.select(
    sa.func.count(),
    sa.func.coalesce(sa.func.sum(outbox.c.size), 0),
    sa.func.coalesce(sa.func.min(outbox.c.created_at), 0),
).where(_UNSENT)


def put(connection: Connection, key: Key, messages: Sequence[Outgoing], now: int) -> list[Held]:
    """Freeze messages for a chain; gives them with their row ids, in order."""
    held = []
    for message in messages:
        row = {
            "user_id": key.user_id,
            "feed": key.feed,
            "scope": key.scope,
            "lane": key.lane.value,
            "entity": message.entity,
            "message_id": message.message_id,
            "body": message.body,
            "properties": orjson.dumps(message.properties).decode(),
            "due": message.due,
            "size": len(message.body),
            "created_at": now,
            "claimed_until": 0,
        }
        held.append(Held(_INSERT(connection, row).scalar_one(), message, now))
    return held


def of_chain(connection: Connection, key: Key) -> list[Held]:
    """Read all that is unsent for a chain, oldest first."""
    owner = {"user_id": key.user_id, "feed": key.feed, "scope": key.scope, "lane": key.lane.value}
    return [_held(row) for row in connection.execute(_OF_CHAIN, owner)]


def claim(
    connection: Connection, *, limit: int, age_seconds: int = RELAY_AGE_SECONDS, but_not: Sequence[str] = ()
) -> list[Held]:
    """
    Take up to `limit` unsent rows older than `age_seconds` for one relay; another relay gets others.

    Leaves those for the entities `but_not`.
    """
    free = sa.select(outbox.c.id).where(
        _UNSENT,
        outbox.c.created_at <= db_now() - age_seconds * MICROS,
        outbox.c.claimed_until < db_now(),
        *([outbox.c.entity.not_in(but_not)] if but_not else []),
    )
    chosen = free.order_by(outbox.c.created_at, outbox.c.id).limit(limit).scalar_subquery()
    taken = connection.execute(
        sa.update(outbox)
        .where(outbox.c.id.in_(chosen), _UNSENT)
        .values(claimed_until=db_now() + CLAIM_SECONDS * MICROS)
        .returning(*_COLUMNS)
    )
    return sorted((_held(row) for row in taken), key=lambda held: held.id)


def sent(connection: Connection, ids: Sequence[int], *, keep: bool) -> None:
    """Remove rows that were sent, or keep them marked for `OUTBOX_RETENTION`."""
    statement = _done_statement(connection.dialect.name, keep)
    statement(connection, {"rows": orjson.dumps([[row_id] for row_id in ids]).decode()})


@cache
def _done_statement(dialect: str, keep: bool) -> Prepared:
    rows = json_rows(dialect, json_columns(outbox, ("id",)))
    chosen = outbox.c.id.in_(sa.text(f"SELECT s.id FROM {rows}"))  # noqa: S608 - our own names
    if keep:
        return Prepared(sa.update(outbox).where(chosen).values(sent_at=db_now()))
    return Prepared(sa.delete(outbox).where(chosen))


def purge_sent(connection: Connection, *, older_than_seconds: int, limit: int = 4000) -> int:
    """Remove kept rows beyond the retention, a bounded number at a time; gives how many."""
    old = (
        sa.select(outbox.c.id)
        .where(outbox.c.sent_at < db_now() - older_than_seconds * MICROS)
        .order_by(outbox.c.sent_at)
        .limit(limit)
    )
    return connection.execute(sa.delete(outbox).where(outbox.c.id.in_(old.scalar_subquery()))).rowcount


def unsend(connection: Connection, *, since: int) -> int:
    """Make kept rows unsent again that were frozen at or after `since`: a bus lost its memory. Gives how many."""
    return connection.execute(
        sa.update(outbox).where(outbox.c.sent_at.is_not(None), outbox.c.created_at >= since).values(sent_at=None)
    ).rowcount


def backlog(connection: Connection) -> Backlog:
    """Count what is unsent, for backpressure and health."""
    row = connection.execute(_BACKLOG).one()
    return Backlog(int(row[0]), int(row[1]), int(row[2]))


def _held(row: Any) -> Held:
    message = Outgoing(row.entity, row.message_id, bytes(row.body), orjson.loads(row.properties), row.due)
    return Held(row.id, message, row.created_at)
