"""Quarantine rows: items and messages that cannot be used, kept with reason and body until a person acts."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.chains.protocol import Key, Lane
from pipeline.compression import inflate
from pipeline.storage.dialect import LOCK_HINT, MSSQL
from pipeline.storage.tables import quarantine

WAITING, REPLAYED, DISCARDED = "waiting", "replayed", "discarded"


class Bad(NamedTuple):
    """Something that cannot be used. `detail` names fields and error types, never values."""

    kind: str
    """`item` or `message`."""
    stage: str
    reason: str
    detail: str
    body: bytes
    item_id: str | None = None
    item_time: int | None = None
    properties: Mapping[str, str | int] = {}

    @property
    def fingerprint(self) -> str:
        """Equal for the same bytes and reason, so that a bad item met again makes no second row."""
        return hashlib.blake2b(self.reason.encode() + b"\0" + self.body, digest_size=16).hexdigest()


_COLUMNS = (
    "user_id feed scope lane kind fingerprint item_id item_time stage reason detail body properties feed_version "
    "observed correlation_id state attempts created_at"
).split()


def put(
    connection: Connection,
    key: Key,
    bad: Bad,
    *,
    observed: int,
    now: int,
    feed_version: int = 1,
    correlation_id: str = "",
) -> bool:
    """
    Keep something bad; False if the same thing already waits, or was discarded, for this scope.

    One that was replayed and is bad again waits again: else it would be lost on its way round.
    """
    values: dict[str, Any] = {
        "user_id": key.user_id[:64],
        "feed": key.feed[:41],
        "scope": key.scope[:128],
        "lane": str(key.lane)[:12],
        "kind": bad.kind,
        "fingerprint": bad.fingerprint,
        "item_id": bad.item_id[:128] if bad.item_id else None,
        "item_time": bad.item_time,
        "stage": bad.stage[:32],
        "reason": bad.reason[:64],
        "detail": bad.detail[:400],
        "body": zlib.compress(bad.body, 1),
        "properties": orjson.dumps(dict(bad.properties)).decode(),
        "feed_version": feed_version,
        "observed": observed,
        "correlation_id": correlation_id[:64],
        "state": "waiting",
        "attempts": 0,
        "created_at": now,
    }
    if connection.execute(_insert(connection.dialect.name), values).rowcount > 0:
        return True
    owner = (quarantine.c[name] == values[name] for name in ("user_id", "feed", "scope", "fingerprint"))
    again = sa.update(quarantine).where(*owner, quarantine.c.state == REPLAYED)
    return connection.execute(again.values(state=WAITING, closed_at=None)).rowcount > 0


@cache
def _insert(dialect: str) -> sa.TextClause:
    hint = f" {LOCK_HINT}" if dialect == MSSQL else ""
    match = " AND ".join(f"q.{name} = :{name}" for name in ("user_id", "feed", "scope", "fingerprint"))
    columns = ", ".join(_COLUMNS)
    return sa.text(
        f"INSERT INTO {quarantine.name} ({columns}) "  # noqa: S608 - names of our own table and columns
        f"SELECT {', '.join(':' + name for name in _COLUMNS)} WHERE NOT EXISTS "
        f"(SELECT 1 FROM {quarantine.name} AS q{hint} WHERE {match})"
    ).bindparams(sa.bindparam("body", type_=sa.LargeBinary))


# ------------------------------------------------------------------------------------------------- for people


class Count(NamedTuple):
    """What waits, by feed and reason. `feed` is empty for messages that could not be read."""

    feed: str
    reason: str
    kind: str
    size: int
    oldest_at: int


def counts(connection: Connection, *, limit: int = 200) -> list[Count]:
    """Count what waits, the most frequent first."""
    columns, size = quarantine.c, sa.func.count()
    rows = connection.execute(
        sa.select(columns.feed, columns.reason, columns.kind, size, sa.func.min(columns.created_at))
        .where(columns.state == WAITING)
        .group_by(columns.feed, columns.reason, columns.kind)
        .order_by(size.desc(), columns.feed, columns.reason)
        .limit(limit)
    )
    return [Count(*row) for row in rows]


class Choice(NamedTuple):
    """Which rows are meant; None leaves a field open. Times are microseconds, `until` exclusive."""

    feed: str | None = None
    user: str | None = None
    reason: str | None = None
    kind: str | None = None
    since: int | None = None
    until: int | None = None
    version: int | None = None
    """The feed's version that refused it."""
    state: str | None = WAITING
    ids: tuple[int, ...] = ()


class Kept(NamedTuple):
    """A row, its body as it came."""

    id: int
    key: Key
    kind: str
    fingerprint: str
    item_id: str | None
    item_time: int | None
    stage: str
    reason: str
    detail: str
    body: bytes
    properties: dict[str, str | int]
    feed_version: int
    observed: int
    correlation_id: str
    state: str
    attempts: int
    created_at: int
    closed_at: int


def find(connection: Connection, choice: Choice, *, limit: int, after: int = 0) -> list[Kept]:
    """Give the chosen rows with an id above `after`, by id."""
    columns = quarantine.c
    query = sa.select(quarantine).where(columns.id > after)
    wanted: dict[str, str | int | None] = {
        "feed": choice.feed,
        "user_id": choice.user,
        "reason": choice.reason,
        "kind": choice.kind,
        "state": choice.state,
        "feed_version": choice.version,
    }
    for name, value in wanted.items():
        if value is not None:
            query = query.where(columns[name] == value)
    if choice.since is not None:
        query = query.where(columns.created_at >= choice.since)
    if choice.until is not None:
        query = query.where(columns.created_at < choice.until)
    if choice.ids:
        query = query.where(columns.id.in_(choice.ids))
    return [_kept(row) for row in connection.execute(query.order_by(columns.id).limit(limit))]


def close(connection: Connection, row_id: int, state: str, now: int) -> bool:
    """Close a waiting row, counting the attempt; False if it does not wait any more: somebody else was first."""
    done = connection.execute(
        sa.update(quarantine)
        .where(quarantine.c.id == row_id, quarantine.c.state == WAITING)
        .values(state=state, attempts=quarantine.c.attempts + 1, closed_at=now)
    )
    return done.rowcount > 0


def note_attempt(connection: Connection, row_id: int, reason: str, detail: str) -> None:
    """Count a replay that failed, with why it failed now."""
    connection.execute(
        sa.update(quarantine)
        .where(quarantine.c.id == row_id, quarantine.c.state == WAITING)
        .values(attempts=quarantine.c.attempts + 1, reason=reason[:64], detail=detail[:400])
    )


def _kept(row: Any) -> Kept:
    return Kept(
        id=row.id,
        key=Key(row.user_id, row.feed, row.scope, Lane(row.lane)),
        kind=row.kind,
        fingerprint=row.fingerprint,
        item_id=row.item_id,
        item_time=row.item_time,
        stage=row.stage,
        reason=row.reason,
        detail=row.detail,
        body=inflate(bytes(row.body)),
        properties=orjson.loads(row.properties),
        feed_version=row.feed_version,
        observed=row.observed,
        correlation_id=row.correlation_id,
        state=row.state,
        attempts=row.attempts,
        created_at=row.created_at,
        closed_at=row.closed_at or 0,
    )
