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

from pipeline.chains.protocol import Key
from pipeline.storage.dialect import LOCK_HINT, MSSQL
from pipeline.storage.tables import quarantine


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
    """Keep something bad; False if the same thing already waits (or was dealt with) for this scope."""
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
    return connection.execute(_insert(connection.dialect.name), values).rowcount > 0


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
