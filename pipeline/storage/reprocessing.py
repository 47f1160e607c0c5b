"""Revisions made from raw items that the lake kept, without asking the API again."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.bus.messages import Outgoing
from pipeline.chains import ids
from pipeline.chains.protocol import Key
from pipeline.feeds.base import Feed
from pipeline.storage import latest, outbox, quarantine
from pipeline.storage.database import read_now
from pipeline.storage.dialect import LOCK_HINT, MSSQL, json_columns, json_rows
from pipeline.storage.items import Accepted, Candidate
from pipeline.storage.outbox import Held
from pipeline.storage.quarantine import Bad
from pipeline.storage.tables import items


class Current(NamedTuple):
    """What the table holds of an item now."""

    revision: int
    hash: str
    deleted: bool


class Redone(NamedTuple):
    """An item of the lake after the processor, with the revision that its line had."""

    line_revision: int
    item: Candidate
    same_data: bool
    """Whether what is published of it equals what was published."""


class RedoneBad(NamedTuple):
    """The same for an item that the processor refuses now."""

    line_revision: int
    item_id: str
    bad: Bad


class Written(NamedTuple):
    """What one unit did."""

    held: list[Held]
    revised: int
    rehashed: int
    quarantined: int


Encode = Callable[[Sequence[Accepted], str], list[Outgoing]]


def read_current(connection: Connection, key: Key, item_ids: Sequence[str]) -> dict[str, Current]:
    """Read the latest revision of items; in a writing unit, nobody changes them before its end."""
    parameters = {
        "user_id": key.user_id,
        "feed": key.feed,
        "scope": key.scope,
        "rows": orjson.dumps([[item_id] for item_id in item_ids]).decode(),
    }
    rows = connection.execute(_read_statement(connection.dialect.name), parameters)
    return {row[0]: Current(row[1], row[2], bool(row[3])) for row in rows}


def revise(
    connection: Connection,
    key: Key,
    feed: Feed,
    redone: Sequence[Redone],
    bad: Sequence[RedoneBad],
    encode: Encode,
) -> Written:
    """
    Commit what differs as new revisions of the items whose lines are still their latest revision, with their messages.

    `observed` and `updated` stay: the content is as old as it was, and a page that is being mined now must still win.
    An item that publishes the same but hashes differently keeps its revision; only the hash is renewed.
    """
    now, nonce = read_now(connection), secrets.token_hex(12)
    current = read_current(connection, key, [*(one.item.id for one in redone), *(one.item_id for one in bad)])
    valid = [one for one in redone if is_latest(current, one.item.id, one.line_revision)]
    changed = [one for one in valid if not one.same_data]
    rehashed = [one for one in valid if one.same_data and one.item.hash != current[one.item.id].hash]
    owner = {"o_user": key.user_id, "o_feed": key.feed, "o_scope": key.scope}
    if changed:
        message_id = ids.data_message_id(nonce, 0)
        written = {"n_changed_at": now, "n_message_id": message_id}
        connection.execute(_REVISE, [{**owner, **written, **_values(one)} for one in changed])
    if rehashed:
        connection.execute(_REHASH, [{**owner, "o_item": one.item.id, "n_hash": one.item.hash} for one in rehashed])
    refused = [one for one in bad if is_latest(current, one.item_id, one.line_revision)]
    for one in refused:
        quarantine.put(connection, key, one.bad, observed=now, now=now, feed_version=feed.version)
    accepted = [Accepted(one.item, one.line_revision + 1) for one in changed]
    if feed.keep_latest:
        latest.keep(connection, key, accepted)
    held = outbox.put(connection, key, encode(accepted, nonce) if accepted else [], now)
    return Written(held, len(changed), len(rehashed), len(refused))


def is_latest(current: Mapping[str, Current], item_id: str, line_revision: int) -> bool:
    """Tell whether a line of the lake is the item's latest revision, and the item is not deleted."""
    found = current.get(item_id)
    return found is not None and not found.deleted and found.revision == line_revision


def _values(one: Redone) -> dict[str, str | int]:
    return {"o_item": one.item.id, "n_hash": one.item.hash, "n_time": one.item.time}


_MINE = sa.and_(
    items.c.user_id == sa.bindparam("o_user"),
    items.c.feed == sa.bindparam("o_feed"),
    items.c.scope == sa.bindparam("o_scope"),
    items.c.item_id == sa.bindparam("o_item"),
)
_REVISE = (
    sa.update(items)
    .where(_MINE)
    .values(
        revision=items.c.revision + 1,
        hash=sa.bindparam("n_hash"),
        item_time=sa.bindparam("n_time"),
        changed_at=sa.bindparam("n_changed_at"),
        message_id=sa.bindparam("n_message_id"),
    )
)
_REHASH = sa.update(items).where(_MINE).values(hash=sa.bindparam("n_hash"))


@cache
def _read_statement(dialect: str) -> sa.TextClause:
    owned = "d.user_id = :user_id AND d.feed = :feed AND d.scope = :scope"
    rows = json_rows(dialect, json_columns(items, ("item_id",)))
    picked = "SELECT d.item_id, d.revision, d.hash, d.deleted FROM"
    if dialect == MSSQL:
        return sa.text(f"{picked} {rows} JOIN items AS d {LOCK_HINT} ON d.item_id = s.item_id AND {owned}")
    return sa.text(f"{picked} items AS d WHERE {owned} AND d.item_id IN (SELECT s.item_id FROM {rows})")  # noqa: S608 - our own names
