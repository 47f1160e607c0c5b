"""
Item rows: which items of a page are new or changed, decided by SQL inside the page's transaction (rules 11, 12).

What is new is what the insert reports. A hint (Redis) may only spare the insert of rows that are there anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.chains.protocol import Key
from pipeline.feeds.base import Raw
from pipeline.storage.database import Conflict
from pipeline.storage.dialect import LOCK_HINT, MSSQL, SQLITE, Prepared, insert_new, json_columns, json_rows
from pipeline.storage.tables import items

TOMBSTONE = "deleted"
"""The hash of a deleted item: equal to no content's."""


class Candidate(NamedTuple):
    """A good item of a page, before SQL has said whether it is new. `raw` is None for a deletion."""

    id: str
    time: int
    hash: str
    updated: int | None
    raw: Raw | None
    data: bytes
    """The published `data` as JSON."""
    raw_json: bytes = b"null"
    """`raw` as JSON, written where it was read: the page's transaction runs elsewhere and only puts it in its place."""

    @property
    def deleted(self) -> bool:
        return self.hash == TOMBSTONE


def deletion(item_id: str, moment: int) -> Candidate:
    """Give the candidate that marks an item as deleted; `moment` is the item's stored time."""
    return Candidate(item_id, moment, TOMBSTONE, None, None, b"null")


class Accepted(NamedTuple):
    """An item that is new or changed, with the revision that SQL gave it."""

    item: Candidate
    revision: int

    @property
    def is_new(self) -> bool:
        return self.revision == 1


class Writing(NamedTuple):
    """
    What all rows that one transaction writes have in common. `message_id` is of this transaction alone; `mark` names
    the epoch of a sweep or refresh.
    """

    observed: int
    now: int
    message_id: str
    capture: str = "batch"
    mark: int = 0


class Stored(NamedTuple):
    """What the table holds of an item."""

    revision: int
    hash: str
    updated: int | None
    observed: int
    """When the latest look that found this content was taken."""
    deleted: bool
    swept: int


_FIXED = ("user_id", "feed", "scope", "observed", "first_seen_at", "changed_at", "message_id", "capture", "revision")
_PER_ROW = ("item_id", "item_time", "hash", "updated", "deleted", "swept")
_CHANGED = ("item_id", "revision", "hash", "updated", "deleted", "item_time", "swept")
_MET = ("item_id", "observed", "updated", "swept")


def accept(
    connection: Connection,
    key: Key,
    candidates: Sequence[Candidate],
    writing: Writing,
    *,
    known: frozenset[str] = frozenset(),
) -> tuple[list[Accepted], int]:
    """
    Insert what is new, update what changed, and give both in the page's order, with the count of keys that this
    epoch had not seen (sweeps and refreshes), else the count of new items.

    A change is accepted only if the content differs from the latest revision and was observed later: by
    `updated_time` where the API has it, equal ones by `observed`. `known` are ids that a hint says are stored.
    Raises Conflict if another transaction changed a row in between.
    """
    first = {item.id: item for item in reversed(candidates)}  # the first of two items with one id counts
    owner = {"user_id": key.user_id, "feed": key.feed, "scope": key.scope}
    unsure = [item for item in first.values() if item.id not in known and not item.deleted]
    inserted = _insert(connection, owner, unsure, writing)
    rest = [item for item in first.values() if item.id not in inserted]
    stored = _read(connection, owner, [item.id for item in rest]) if rest else {}
    missing = [item for item in rest if item.id not in stored and not item.deleted]
    if missing:  # the hint was wrong: an older database was restored, or the cache belongs to another
        inserted |= _insert(connection, owner, missing, writing)
    again = [(item, stored[item.id]) for item in rest if item.id in stored]
    changed = [(item, old) for item, old in again if is_newer(item, old, writing.observed)]
    revised = _update(connection, owner, changed, writing) if changed else {}
    _meet_again(connection, owner, [pair for pair in again if pair[0].id not in revised], writing)
    fresh = len(inserted) + (sum(old.swept != writing.mark for _, old in again) if writing.mark else 0)
    accepted = [
        Accepted(item, revised.get(item.id, 1)) for item in first.values() if item.id in inserted or item.id in revised
    ]
    accepted.reverse()
    return accepted, fresh


def is_newer(item: Candidate, stored: Stored, observed: int) -> bool:
    """Tell whether an item replaces the stored revision (rule 12). Compared with the latest revision only."""
    if item.hash == stored.hash and item.deleted == stored.deleted:
        return False
    if item.updated is not None and stored.updated is not None and item.updated != stored.updated and not item.deleted:
        return item.updated > stored.updated
    return observed > stored.observed


def not_returned(connection: Connection, key: Key, *, mark: int, lo: int, hi: int, limit: int) -> list[tuple[str, int]]:
    """Give (id, time) of live items in `[lo, hi)` that an epoch did not return, by id (rule 16)."""
    rows = connection.execute(
        sa.select(items.c.item_id, items.c.item_time)
        .where(
            items.c.user_id == key.user_id,
            items.c.feed == key.feed,
            items.c.scope == key.scope,
            items.c.deleted == 0,
            items.c.swept != mark,
            items.c.item_time >= lo,
            items.c.item_time < hi,
        )
        .order_by(items.c.item_id)
        .limit(limit)
    )
    return [(row.item_id, row.item_time) for row in rows]


def _insert(
    connection: Connection,
    owner: dict[str, str],
    new: Sequence[Candidate],
    writing: Writing,
) -> set[str]:
    if not new:
        return set()
    rows = [(item.id, item.time, item.hash, item.updated, 0, writing.mark) for item in new]
    rows.sort()  # in the key's order pages of the table fill up: newest first would leave them half empty
    common = {**owner, **_common(writing), "first_seen_at": writing.now, "revision": 1}
    dialect = connection.dialect.name
    if dialect == MSSQL:
        result = _insert_statement(dialect)(connection, {**common, "rows": _json(rows)})
        return {row[0] for row in result}
    inserted = _insert_statement(dialect).rows(connection, common, rows).rowcount
    return {item.id for item in new} if inserted == len(rows) else _inserted(connection, owner, new, writing)


def _inserted(connection: Connection, owner: dict[str, str], tried: Sequence[Candidate], writing: Writing) -> set[str]:
    """Tell SQLite's new rows from those that stood: only they carry this transaction's own message id."""
    parameters = {**owner, "message_id": writing.message_id, "rows": _json([[item.id] for item in tried])}
    return {row[0] for row in _inserted_statement()(connection, parameters).fetchall()}


def _read(connection: Connection, owner: dict[str, str], wanted: list[str]) -> dict[str, Stored]:
    parameters = {**owner, "rows": _json([[item_id] for item_id in wanted])}
    result = _read_statement(connection.dialect.name)(connection, parameters)
    return {row[0]: Stored(row[1], row[2], row[3], row[4], bool(row[5]), row[6]) for row in result.fetchall()}


def _update(
    connection: Connection,
    owner: dict[str, str],
    changed: Sequence[tuple[Candidate, Stored]],
    writing: Writing,
) -> dict[str, int]:
    rows = [
        (
            item.id,
            old.revision,
            item.hash,
            old.updated if item.updated is None else item.updated,
            int(item.deleted),
            item.time,
            writing.mark or old.swept,
        )
        for item, old in changed
    ]
    revised = _revise(connection, {**owner, **_common(writing)}, rows)
    if len(revised) != len(changed):
        raise Conflict("another transaction revised an item of this page")
    return revised


def _revise(connection: Connection, parameters: dict[str, Any], rows: list[tuple[Any, ...]]) -> dict[str, int]:
    """Run the compare-and-set on revision for all rows; gives the new revision of those that won."""
    dialect = connection.dialect.name
    if dialect == MSSQL:
        result = _update_statement(dialect)(connection, {**parameters, "rows": _json(rows)})
        return {row[0]: row[1] for row in result}
    # SQLite would scan the whole scope to join it with JSON rows; each row by its key is a search.
    won = _update_statement(dialect).many(connection, _each(parameters, _CHANGED, rows)).rowcount
    return {row[0]: row[1] + 1 for row in rows} if won == len(rows) else {}


def _meet_again(
    connection: Connection, owner: dict[str, str], met: Sequence[tuple[Candidate, Stored]], writing: Writing
) -> None:
    """Note on rows that stand who met them last: the epoch that marks, and the look that found the same content."""
    rows = [
        (item.id, *seen, writing.mark or old.swept)
        for item, old in met
        if (seen := last_seen(item, old, writing.observed)) != (old.observed, old.updated)
        or writing.mark not in (0, old.swept)
    ]
    if not rows:
        return
    dialect = connection.dialect.name
    if dialect == MSSQL:
        _met_statement(dialect)(connection, {**owner, "rows": _json(rows)})
    else:
        _met_statement(dialect).many(connection, _each(owner, _MET, rows))


def last_seen(item: Candidate, stored: Stored, observed: int) -> tuple[int, int | None]:
    """Give `observed` and `updated` of a row after it was met again: they rise if the content is the same."""
    if item.hash != stored.hash or item.deleted != stored.deleted:
        return stored.observed, stored.updated
    if item.updated is None or (stored.updated is not None and item.updated <= stored.updated):
        return max(observed, stored.observed), stored.updated
    return max(observed, stored.observed), item.updated


def _each(parameters: dict[str, Any], names: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
    prefixed = [f"r_{name}" for name in names]
    return [{**parameters, **dict(zip(prefixed, row, strict=True))} for row in rows]


def _common(writing: Writing) -> dict[str, Any]:
    return {
        "observed": writing.observed,
        "changed_at": writing.now,
        "message_id": writing.message_id,
        "capture": writing.capture,
    }


def _json(rows: list[Any]) -> str:
    return orjson.dumps(rows).decode()


@cache
def _insert_statement(dialect: str) -> Prepared:
    key = ("user_id", "feed", "scope", "item_id")
    return Prepared(insert_new(dialect, items, _FIXED, _PER_ROW, key, ("item_id",)))


_OWNED = "d.user_id = :user_id AND d.feed = :feed AND d.scope = :scope"


@cache
def _read_statement(dialect: str) -> Prepared:
    columns = "d.item_id, d.revision, d.hash, d.updated, d.observed, d.deleted, d.swept"
    rows = json_rows(dialect, json_columns(items, ("item_id",)))
    if dialect == MSSQL:
        join = f"{rows} JOIN items AS d {LOCK_HINT} ON d.item_id = s.item_id AND {_OWNED}"
        return Prepared(sa.text(f"SELECT {columns} FROM {join}"))  # noqa: S608 - our own names
    text = f"SELECT {columns} FROM items AS d WHERE {_OWNED} AND {_among(rows)}"  # noqa: S608 - our own names
    return Prepared(sa.text(text))


@cache
def _inserted_statement() -> Prepared:
    among = _among(json_rows(SQLITE, json_columns(items, ("item_id",))))
    text = f"SELECT d.item_id FROM items AS d WHERE {_OWNED} AND d.message_id = :message_id AND {among}"  # noqa: S608 - ours
    return Prepared(sa.text(text))


@cache
def _update_statement(dialect: str) -> Prepared:
    copied = ("hash", "updated", "deleted", "item_time", "swept")
    common = ", ".join(f"{name} = :{name}" for name in ("observed", "changed_at", "message_id", "capture"))
    if dialect == MSSQL:
        rows = json_rows(dialect, json_columns(items, _CHANGED))
        sets = ", ".join(f"{name} = s.{name}" for name in copied)
        text = (
            f"UPDATE d SET revision = d.revision + 1, {sets}, {common} "  # noqa: S608 - our own names
            f"OUTPUT inserted.item_id, inserted.revision FROM items AS d JOIN {rows} "
            f"ON {_OWNED} AND d.item_id = s.item_id AND d.revision = s.revision"
        )
        return Prepared(sa.text(text))
    sets = ", ".join(f"{name} = :r_{name}" for name in copied)
    text = (
        f"UPDATE items AS d SET revision = d.revision + 1, {sets}, {common} "  # noqa: S608 - our own names
        f"WHERE {_OWNED} AND d.item_id = :r_item_id AND d.revision = :r_revision"
    )
    return Prepared(sa.text(text))


@cache
def _met_statement(dialect: str) -> Prepared:
    noted = ("observed", "updated", "swept")
    if dialect == MSSQL:
        rows = json_rows(dialect, json_columns(items, _MET))
        sets = ", ".join(f"{name} = s.{name}" for name in noted)
        text = f"UPDATE d SET {sets} FROM items AS d JOIN {rows} ON {_OWNED} AND d.item_id = s.item_id"  # noqa: S608 - ours
        return Prepared(sa.text(text))
    sets = ", ".join(f"{name} = :r_{name}" for name in noted)
    return Prepared(sa.text(f"UPDATE items AS d SET {sets} WHERE {_OWNED} AND d.item_id = :r_item_id"))  # noqa: S608 - ours


def _among(rows: str) -> str:
    # A subquery makes SQLite search the key for each id; a join would scan all items of the scope.
    return f"d.item_id IN (SELECT s.item_id FROM {rows})"  # noqa: S608 - our own names
