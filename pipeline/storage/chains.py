"""Chain and coverage rows: reading, writing, and the compare-and-set that fences every advance."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from pipeline.chains.coverage import Spans, add
from pipeline.chains.protocol import LIVE, Chain, Key, Lane, Position, State
from pipeline.storage.dialect import LOCK_HINT, MSSQL, Prepared, db_now
from pipeline.storage.tables import chains, coverage

_COLUMNS = (
    "epoch seq doorbell_id attempt rung_at state not_before reason opener opened_at committed_at cursor lo hi "
    "position_time position_id ordered wanted rerings seen stalled restarts halts pages token_version correlation_id"
).split()
_KEY = ("user_id", "feed", "scope", "lane")


class Covered(NamedTuple):
    """One coverage row; a scope that was never opened has none, and `first_opened_at` 0."""

    spans: Spans
    history_start: int
    first_opened_at: int
    now: int = 0
    """The database's time of this read; 0 if there is no row."""


class Counters(NamedTuple):
    """What a commit adds to a chain's totals."""

    pages: int = 0
    calls: int = 0
    new: int = 0
    changed: int = 0
    duplicate: int = 0
    quarantined: int = 0


def _where_key() -> sa.ColumnElement[bool]:
    return sa.and_(*(chains.c[name] == sa.bindparam(f"k_{name}") for name in _KEY))


_LIVE = sa.or_(*(chains.c.state == state.value for state in LIVE))
SELECT = sa.select(chains, db_now().label("db_now"))
WHERE_KEY = _where_key()
_BY_KEY = SELECT.where(WHERE_KEY)
_BY_KEY_LOCKED = _BY_KEY.with_hint(chains, LOCK_HINT, MSSQL)
_TOTALS = tuple(f"total_{name}" for name in Counters._fields)
_SET: dict[str, Any] = {name: sa.bindparam(f"v_{name}") for name in _COLUMNS if name != "wanted"}
_ADD: dict[str, Any] = {name: chains.c[name] + sa.bindparam(f"v_{name}") for name in _TOTALS}

# `wanted` is not among what is set: a parent's transaction may have raised it since this chain was read.
_ADVANCE = Prepared(
    sa.update(chains)
    .where(
        _where_key(),
        chains.c.epoch == sa.bindparam("c_epoch"),
        chains.c.seq == sa.bindparam("c_seq"),
        chains.c.doorbell_id == sa.bindparam("c_doorbell_id"),
        _LIVE,
    )
    .values(**_SET, **_ADD, last_error=sa.bindparam("v_last_error"))
    .returning(chains.c.wanted)
)
_STORE = sa.update(chains).where(_where_key()).values(**_SET, wanted=sa.bindparam("v_wanted"))
_INSERT = sa.insert(chains)
_LOSE = (
    sa.update(chains)
    .where(
        _where_key(),
        chains.c.doorbell_id == sa.bindparam("c_doorbell_id"),
        _LIVE,
    )
    .values(attempt=chains.c.attempt + 1)
    .returning(chains.c.attempt, chains.c.state, chains.c.not_before, chains.c.cursor)
)
_SEEN = (
    sa.update(chains)
    .where(_where_key(), chains.c.doorbell_id == sa.bindparam("c_doorbell_id"))
    .values(seen=chains.c.seen + 1)
)

_COVERAGE_KEY = ("user_id", "feed", "scope")
_COVERAGE_WHERE = sa.and_(*(coverage.c[name] == sa.bindparam(f"k_{name}") for name in _COVERAGE_KEY))
_COVERAGE = sa.select(
    coverage.c.spans, coverage.c.history_start, coverage.c.first_opened_at, db_now().label("db_now")
).where(_COVERAGE_WHERE)
_READ_COVERAGE = Prepared(_COVERAGE)
_LOCK_COVERAGE = Prepared(_COVERAGE.with_hint(coverage, LOCK_HINT, MSSQL))
_UPDATE_COVERAGE = Prepared(sa.update(coverage).where(_COVERAGE_WHERE).values(spans=sa.bindparam("v_spans")))


def read(connection: Connection, key: Key, *, lock: bool = False) -> tuple[Chain | None, int]:
    """Read a chain and the database's time (0 if there is no row); `lock` keeps the row until the commit."""
    row = connection.execute(_BY_KEY_LOCKED if lock else _BY_KEY, key_parameters(key)).mappings().first()
    return (from_row(row), int(row["db_now"])) if row else (None, 0)


def store(connection: Connection, chain: Chain, *, exists: bool) -> None:
    """Write a row that this transaction has locked, or insert the first one of its key."""
    if exists:
        connection.execute(_STORE, {**key_parameters(chain.key), **_values(chain), "v_wanted": chain.wanted})
        return
    values = {name[2:]: value for name, value in _values(chain).items()}
    connection.execute(_INSERT, {**chain.key._asdict(), **values, "wanted": chain.wanted})


def advance(
    connection: Connection, before: Chain, after: Chain, counters: Counters, *, last_error: str = ""
) -> int | None:
    """
    Write `after` if the row still is what `before` says (epoch, seq, doorbell); None if it lost.

    Returns `wanted` as this UPDATE sees it, which decides whether a child's next chain opens (rule 14).
    """
    parameters = {
        **key_parameters(before.key),
        **_values(after),
        "c_epoch": before.epoch,
        "c_seq": before.seq,
        "c_doorbell_id": before.doorbell_id,
        "v_last_error": last_error[:200],
        **{f"v_total_{name}": value for name, value in counters._asdict().items()},
    }
    wanted = _ADVANCE(connection, parameters).scalar_one_or_none()
    return None if wanted is None else int(wanted)


def lose(connection: Connection, key: Key, doorbell_id: str) -> Chain | None:
    """
    Count the attempt up for a loser's copy (rule 7): ONE statement; None if its doorbell is not live any more.

    Gives the row's doorbell, attempt, state, not_before and cursor; the other fields are not read.
    """
    row = connection.execute(_LOSE, {**key_parameters(key), "c_doorbell_id": doorbell_id}).first()
    if row is None:
        return None
    return Chain(
        key=key,
        doorbell_id=doorbell_id,
        attempt=row.attempt,
        state=State(row.state),
        not_before=row.not_before,
        cursor=row.cursor,
    )


def note_seen(connection: Connection, key: Key, doorbell_id: str) -> None:
    """Note that a re-ring was delivered; without it the watchdog would halt chains that only wait in a backlog."""
    connection.execute(_SEEN, {**key_parameters(key), "c_doorbell_id": doorbell_id})


def read_coverage(connection: Connection, key: Key, *, lock: bool = False) -> Covered:
    """Read the coverage of a chain's scope; `lock` keeps it until the commit."""
    row = (_LOCK_COVERAGE if lock else _READ_COVERAGE)(connection, _coverage_key(key)).first()
    if row is None:
        return Covered((), 0, 0)
    return Covered(spans_of(row.spans), row.history_start, row.first_opened_at, row.db_now)


def open_coverage(connection: Connection, key: Key, *, history_start: int, now: int) -> Covered:
    """Insert the coverage row of a scope that is opened for the first time; its `history_start` never moves."""
    connection.execute(
        sa.insert(coverage),
        {
            "user_id": key.user_id,
            "feed": key.feed,
            "scope": key.scope,
            "history_start": history_start,
            "first_opened_at": now,
            "spans": "[]",
        },
    )
    return Covered((), history_start, now)


def claim(connection: Connection, key: Key, spans: Spans, lo: int, hi: int) -> Spans:
    """Prove `[lo, hi)`; `spans` were read locked in this transaction. Writes only if it adds something."""
    proven = add(spans, lo, hi)
    if proven != spans:
        _UPDATE_COVERAGE(connection, {**_coverage_key(key), "v_spans": orjson.dumps(proven).decode()})
    return proven


def spans_of(text: str) -> Spans:
    """Read spans as the table holds them."""
    return tuple((lo, hi) for lo, hi in orjson.loads(text))


def from_row(row: RowMapping) -> Chain:
    """Make a chain of a row of the table."""
    position = None if row["position_time"] is None else Position(row["position_time"], row["position_id"] or "")
    plain = {name: row[name] for name in _COLUMNS if name not in ("state", "ordered", "position_time", "position_id")}
    return Chain(
        key=Key(row["user_id"], row["feed"], row["scope"], Lane(row["lane"])),
        state=State(row["state"]),
        ordered=bool(row["ordered"]),
        position=position,
        **plain,
    )


def key_parameters(key: Key) -> dict[str, Any]:
    """Give the parameters of `WHERE_KEY`."""
    return {"k_user_id": key.user_id, "k_feed": key.feed, "k_scope": key.scope, "k_lane": key.lane.value}


def _coverage_key(key: Key) -> dict[str, Any]:
    return {"k_user_id": key.user_id, "k_feed": key.feed, "k_scope": key.scope}


def _values(chain: Chain) -> dict[str, Any]:
    position = chain.position
    return {
        "v_epoch": chain.epoch,
        "v_seq": chain.seq,
        "v_doorbell_id": chain.doorbell_id,
        "v_attempt": chain.attempt,
        "v_rung_at": chain.rung_at,
        "v_state": chain.state.value,
        "v_not_before": chain.not_before,
        "v_reason": chain.reason[:64],
        "v_opener": chain.opener,
        "v_opened_at": chain.opened_at,
        "v_committed_at": chain.committed_at,
        "v_cursor": chain.cursor,
        "v_lo": chain.lo,
        "v_hi": chain.hi,
        "v_position_time": position.time if position else None,
        "v_position_id": position.id if position else None,
        "v_ordered": int(chain.ordered),
        "v_rerings": chain.rerings,
        "v_seen": chain.seen,
        "v_stalled": chain.stalled,
        "v_restarts": chain.restarts,
        "v_halts": chain.halts,
        "v_pages": chain.pages,
        "v_token_version": chain.token_version,
        "v_correlation_id": chain.correlation_id,
    }
