"""
A person's way to set chains going again, each in one transaction. A restart is a new epoch over what coverage leaves
open: what was proven stays proven, so no position is ever lost.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.bus.messages import doorbell
from pipeline.chains import ids, protocol
from pipeline.chains.coverage import Span
from pipeline.chains.protocol import UNIT, Chain, Change, Key, Lane, Ring, Rules, State
from pipeline.feeds.base import Feed
from pipeline.storage import chains, outbox
from pipeline.storage.database import read_now
from pipeline.storage.tables import brakes, tokens, users
from pipeline.storage.tables import chains as chains_table
from pipeline.storage.transitions import Route


class Stuck(NamedTuple):
    """An unfinished chain, with what decides whether it can go on."""

    chain: Chain
    last_error: str
    priority: int
    """Its user's."""


class Situation(NamedTuple):
    """What the plan of a recovery is made from."""

    now: int
    stuck: list[Stuck]
    brakes: frozenset[str]
    live_tokens: dict[tuple[str, str], int]
    """The newest version of each token that the API has not refused, by user and source."""
    backlog: outbox.Backlog


def read(connection: Connection, *, silent_micros: int, limit: int, user: str | None, feed: str | None) -> Situation:
    """Read halted chains, then silent ones, then parked ones, by the user's priority; at most `limit`."""
    now = read_now(connection)
    columns = chains_table.c
    silent = sa.and_(columns.state == State.OPEN.value, columns.rung_at < now - silent_micros)
    rank = sa.case((columns.state == State.HALTED.value, 0), (columns.state == State.OPEN.value, 1), else_=2)
    priority = sa.func.coalesce(users.c.priority, 0)
    query = (
        sa.select(chains_table, priority.label("priority"))
        .select_from(chains_table.outerjoin(users, users.c.user_id == columns.user_id))
        .where(sa.or_(columns.state.in_((State.HALTED.value, State.PARKED.value)), silent))
    )
    if user is not None:
        query = query.where(columns.user_id == user)
    if feed is not None:
        query = query.where(columns.feed == feed)
    order = (rank, priority.desc(), columns.user_id, columns.feed, columns.scope, columns.lane)
    rows = connection.execute(query.order_by(*order).limit(limit)).mappings().all()
    stuck = [Stuck(chains.from_row(row), row["last_error"], int(row["priority"])) for row in rows]
    return Situation(
        now=now,
        stuck=stuck,
        brakes=frozenset(connection.execute(sa.select(brakes.c.name).where(brakes.c.level == "stop")).scalars()),
        live_tokens=_live_tokens(connection, sorted({one.chain.key.user_id for one in stuck})),
        backlog=outbox.backlog(connection),
    )


def _live_tokens(connection: Connection, user_ids: list[str]) -> dict[tuple[str, str], int]:
    found = {}
    for start in range(0, len(user_ids), 500):  # SQL Server takes 2,100 parameters
        rows = connection.execute(
            sa.select(tokens.c.user_id, tokens.c.source, tokens.c.version).where(
                tokens.c.user_id.in_(user_ids[start : start + 500]), tokens.c.dead_version < tokens.c.version
            )
        )
        found.update({(row.user_id, row.source): row.version for row in rows})
    return found


def reopen(connection: Connection, key: Key, feed: Feed, rules: Rules, route: Route) -> list[outbox.Held] | None:
    """Open a halted chain now, whatever its `not_before`; None if it is not halted any more."""
    row, now = chains.read(connection, key, lock=True)
    if row is None or row.state is not State.HALTED:
        return None
    covered = chains.read_coverage(connection, key, lock=True)
    nonce = secrets.token_hex(12)
    if rules.child:
        change: Change | None = protocol.open_child(
            row, now=now, spans=covered.spans, start=covered.history_start, rules=rules, nonce=nonce
        )
    else:
        doorbell_id = ids.new_doorbell(nonce)
        # A person does not wait: neither for `not_before` nor for the period of a refresh or sweep.
        change = protocol.open_by_tick(
            replace(row, not_before=0, opened_at=0),
            key,
            occurrence=max(now, row.opener + 1),
            now=now,
            spans=covered.spans,
            start=covered.history_start,
            first_opened_at=covered.first_opened_at,
            rules=rules,
            doorbell_id=doorbell_id,
            correlation_id=row.correlation_id,
            ordered_window=_what_is_left(row) if key.lane is Lane.BACKFILL else None,
        )
        if change is not None and change.chain.live:
            change = change._replace(ring=Ring(doorbell_id, 0, 0))
    return [] if change is None else _write(connection, change, feed, route, now)


def _what_is_left(row: Chain) -> Span:
    """Give the rest of an ordered window; `backfill` ignores coverage, so its position is where it begins again."""
    top = row.hi if row.position is None else min(row.hi, row.position.time + UNIT)
    return row.lo, max(top, row.lo + UNIT)


def ring(connection: Connection, key: Key, feed: Feed, route: Route) -> list[outbox.Held] | None:
    """Ring a live chain as the watchdog would; None if it is not live or waits for its time."""
    row, now = chains.read(connection, key, lock=True)
    if row is None or not row.live or (row.state is State.PARKED and now < row.not_before):
        return None
    return _write(connection, protocol.ring_by_watchdog(row, now=now), feed, route, now)


def wake(connection: Connection, key: Key, reason: str, feed: Feed, route: Route) -> list[outbox.Held] | None:
    """Let a parked chain go on now, with a new doorbell; None if it is not parked for this reason any more."""
    row, now = chains.read(connection, key, lock=True)
    if row is None or row.state is not State.PARKED or row.reason != reason:
        return None
    change = protocol.park(row, until=now, reason=reason, now=now, nonce=secrets.token_hex(12))
    assert change.ring
    return _write(connection, change._replace(ring=change.ring._replace(due=0)), feed, route, now)


def _write(connection: Connection, change: Change, feed: Feed, route: Route, now: int) -> list[outbox.Held]:
    chains.store(connection, change.chain, exists=True)
    if not change.ring:
        return []
    return outbox.put(
        connection, change.chain.key, [doorbell(change.chain, change.ring, feed, route(change.chain))], now
    )
