"""
The rows of the protocol's table that are not pages: a tick opens, a doorbell looks, a loser leaves its copy, a chain
is parked, halted or closed, the watchdog rings. Each function is the whole of one transaction.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.bus.messages import doorbell
from pipeline.chains import coverage as intervals
from pipeline.chains import protocol
from pipeline.chains.coverage import Span, Spans
from pipeline.chains.protocol import Chain, Change, Key, Lane, Rules, State, Watch
from pipeline.feeds.base import Feed
from pipeline.storage import chains, latest, outbox
from pipeline.storage.chains import Counters, Covered
from pipeline.storage.database import read_now
from pipeline.storage.dialect import Prepared
from pipeline.storage.tables import brakes
from pipeline.storage.tables import chains as chains_table
from pipeline.storage.tables import tokens as tokens_table
from pipeline.storage.tokens import SealedToken

Route = Callable[[Chain], str]
"""The queue on which a chain is rung: a staged feed reads its reports on a queue of their own."""


class Looked(NamedTuple):
    """What a doorbell's look at its chain found."""

    verdict: protocol.Look
    chain: Chain | None
    now: int
    spans: Spans = ()
    token: SealedToken | None = None
    brake: str = ""
    """The reason of the brake that is on for this feed, else empty."""
    context: Mapping[str, Any] = {}
    """What the feed's enrichment steps may use."""


def look(connection: Connection, key: Key, doorbell_id: str, feed: Feed, *, with_context: bool = True) -> Looked:
    """Read everything a fetch depends on. Its `now` is the page's observation."""
    row = _LOOK(connection, {**chains.key_parameters(key), "source": feed.source}).mappings().first()
    if row is None:
        return Looked(protocol.Look.STALE, None, 0)
    chain, now = chains.from_row(row), int(row["db_now"])
    verdict = protocol.look(chain, doorbell_id, now)
    if verdict is not protocol.Look.FETCH:
        return Looked(verdict, chain, now)
    fresh = chain.cursor is None and chain.position is None and key.lane is Lane.GAP
    spans = chains.read_coverage(connection, key).spans if fresh else ()
    sealed = None
    if row["sealed"] is not None:
        sealed = SealedToken(bytes(row["sealed"]), row["token_row_version"], row["dead_version"])
    context = latest.context(connection, key, feed.enrich_from) if with_context else {}
    return Looked(verdict, chain, now, spans, sealed, row["brake"] or "", context)


def look_again(connection: Connection, key: Key, doorbell_id: str, feed: Feed) -> Looked:
    """Look, and note that a re-ring was delivered (rule 9), in one transaction."""
    chains.note_seen(connection, key, doorbell_id)
    return look(connection, key, doorbell_id, feed)


# One statement, for it is asked before every page: the chain, its user's token, and the brake on its feed.
_LOOK = Prepared(
    chains.SELECT.add_columns(
        tokens_table.c.sealed,
        tokens_table.c.version.label("token_row_version"),
        tokens_table.c.dead_version,
        sa.select(sa.func.max(sa.case((brakes.c.reason == "", "brake"), else_=brakes.c.reason)))
        .where(sa.or_(brakes.c.name == "*", brakes.c.name == sa.bindparam("k_feed")), brakes.c.level == "stop")
        .scalar_subquery()
        .label("brake"),
    )
    .select_from(
        chains_table.outerjoin(
            tokens_table,
            sa.and_(tokens_table.c.user_id == chains_table.c.user_id, tokens_table.c.source == sa.bindparam("source")),
        )
    )
    .where(chains.WHERE_KEY)
)


class Tick(NamedTuple):
    """A tick as the store needs it. `ordered` is a window that a person ordered (lane backfill)."""

    tick_id: str
    occurrence: int
    correlation_id: str
    ordered: Span | None = None


class Opening(NamedTuple):
    """What a tick did to one chain: `mine` tells that this very message may fetch now."""

    chain: Chain | None
    mine: bool
    opened: bool
    held: list[outbox.Held]


def would_open(connection: Connection, key: Key, feed: Feed, rules: Rules, tick: Tick) -> bool:
    """Tell, reading only, whether a tick has anything to do with a chain; spares most ticks their transaction."""
    row, now = chains.read(connection, key)
    if row is not None and row.live:
        return row.doorbell_id == tick.tick_id
    covered = chains.read_coverage(connection, key)
    return _open(row, key, feed, rules, tick, covered, now or read_now(connection), tick.tick_id) is not None


def open_by_tick(
    connection: Connection, key: Key, feed: Feed, rules: Rules, tick: Tick, route: Route, *, lane_doorbell: str | None
) -> Opening:
    """
    Open a chain for a tick. Without `lane_doorbell` the tick's own message is its doorbell and mines it now; with it
    the chain gets that doorbell, and a message that rings it, in the same transaction.
    """
    row, now = chains.read(connection, key, lock=True)
    if row is not None and row.live:
        return Opening(row, row.doorbell_id == tick.tick_id, opened=False, held=[])
    now = now or read_now(connection)
    covered = chains.read_coverage(connection, key, lock=True)
    if not covered.first_opened_at:
        covered = chains.open_coverage(connection, key, history_start=feed.first_history(now), now=now)
    change = _open(row, key, feed, rules, tick, covered, now, lane_doorbell or tick.tick_id)
    if change is None:
        return Opening(row, mine=False, opened=False, held=[])
    chains.store(connection, change.chain, exists=row is not None)
    if not change.chain.live:
        return Opening(change.chain, mine=False, opened=False, held=[])
    if lane_doorbell is None:
        return Opening(change.chain, mine=True, opened=True, held=[])
    ring = protocol.Ring(lane_doorbell, 0, 0)
    held = outbox.put(connection, key, [doorbell(change.chain, ring, feed, route(change.chain))], now)
    return Opening(change.chain, mine=False, opened=True, held=held)


def _open(
    row: Chain | None, key: Key, feed: Feed, rules: Rules, tick: Tick, covered: Covered, now: int, doorbell_id: str
) -> Change | None:
    start = covered.history_start if covered.first_opened_at else feed.first_history(now)
    return protocol.open_by_tick(
        row,
        key,
        occurrence=tick.occurrence,
        now=now,
        spans=covered.spans,
        start=start,
        first_opened_at=covered.first_opened_at,
        rules=rules,
        doorbell_id=doorbell_id,
        correlation_id=tick.correlation_id,
        ordered_window=tick.ordered,
    )


def lose(
    connection: Connection, key: Key, doorbell_id: str, feed: Feed, route: Route, lock_micros: int
) -> list[outbox.Held]:
    """Leave a copy of a doorbell that lost its compare-and-set or came early (rules 7 and 15); empty if it is stale."""
    row = chains.lose(connection, key, doorbell_id)
    if row is None:
        return []
    now = read_now(connection)
    ring = protocol.ring_again(row, now=now, lock_micros=lock_micros)
    return outbox.put(connection, key, [doorbell(row, ring, feed, route(row))], now)


def ring_when_due(connection: Connection, key: Key, doorbell_id: str, feed: Feed, route: Route) -> list[outbox.Held]:
    """Leave a copy due at `not_before` for a doorbell that came early (rule 15); empty if it is stale."""
    return lose(connection, key, doorbell_id, feed, route, lock_micros=0)


def apply(
    connection: Connection, before: Chain, change: Change, feed: Feed, route: Route, *, calls: int = 0, error: str = ""
) -> list[outbox.Held] | None:
    """Park, halt or close a chain by compare-and-set; None (and nothing is written) if it lost."""
    if chains.advance(connection, before, change.chain, Counters(calls=calls), last_error=error) is None:
        connection.rollback()
        return None
    if not change.ring:
        return []
    message = doorbell(change.chain, change.ring, feed, route(change.chain))
    return outbox.put(connection, before.key, [message], change.chain.rung_at)


# ------------------------------------------------------------------------------------------------------- watchdog


def overdue(connection: Connection, *, waits: Mapping[str, int], lock_micros: int, limit: int) -> list[Key]:
    """
    Give keys of chains that need the watchdog, longest silent first; `waits` gives the queue's wait of each feed.

    The bounds of rule 9 stand in the statement: were chains picked that may only be left, hundreds of them (in a
    backlog, or of a feed that is switched off) would keep all others from being rung.
    """
    if not waits:
        return []
    now = read_now(connection)
    # Multiplied here: SQL Server would multiply as INT, which overflows.
    bounds = [lock_micros * 2 ** (number + 1) for number in range(7)]
    idle = sa.case(*((chains_table.c.rerings == number, bounds[number]) for number in range(6)), else_=bounds[6])
    waited = sa.case(*((chains_table.c.feed == feed, 2 * wait) for feed, wait in waits.items()), else_=0)
    silent_since = now - idle - waited
    live = sa.and_(
        chains_table.c.state.in_([State.OPEN.value, State.PARKED.value]),
        chains_table.c.rung_at < silent_since,
        chains_table.c.not_before < silent_since,
    )
    halted_child = sa.and_(
        chains_table.c.state == State.HALTED.value, chains_table.c.wanted > 0, chains_table.c.not_before <= now
    )
    rows = connection.execute(
        sa.select(chains_table.c.user_id, chains_table.c.feed, chains_table.c.scope, chains_table.c.lane)
        .where(chains_table.c.feed.in_(list(waits)), sa.or_(live, halted_child))
        .order_by(chains_table.c.rung_at)
        .limit(limit)
    )
    return [Key(row.user_id, row.feed, row.scope, Lane(row.lane)) for row in rows]


class Watched(NamedTuple):
    """What the watchdog did with a chain."""

    action: Watch
    chain: Chain | None
    held: list[outbox.Held]


def watch(
    connection: Connection,
    key: Key,
    feed: Feed,
    rules: Rules,
    route: Route,
    *,
    lock_micros: int,
    queue_wait_micros: int,
) -> Watched:
    """Ring, halt or open one chain, reading and writing in this one transaction."""
    row, now = chains.read(connection, key, lock=True)
    if row is None:
        return Watched(Watch.LEAVE, None, [])
    action = protocol.watch(row, now=now, lock_micros=lock_micros, queue_wait_micros=queue_wait_micros)
    if action is Watch.LEAVE:
        return Watched(action, row, [])
    if action is Watch.RING:
        change = protocol.ring_by_watchdog(row, now=now)
    elif action is Watch.HALT:
        change = protocol.halt(row, "page kills its worker", now=now)
    else:
        covered = chains.read_coverage(connection, key, lock=True)
        if intervals.proven(covered.spans, covered.history_start, row.wanted):
            return Watched(Watch.LEAVE, row, [])
        change = protocol.open_child(
            row, now=now, spans=covered.spans, start=covered.history_start, rules=rules, nonce=secrets.token_hex(12)
        )
    chains.store(connection, change.chain, exists=True)
    messages = [doorbell(change.chain, change.ring, feed, route(change.chain))] if change.ring else []
    return Watched(action, change.chain, outbox.put(connection, key, messages, now))


def wake(
    connection: Connection, user_id: str, reason: str, feeds: Mapping[str, tuple[Feed, Route]]
) -> list[outbox.Held]:
    """
    Ring all chains of a user that are parked for `reason`, now, with new doorbells: what they waited for has come.

    `feeds` gives each feed with the route of its doorbells; chains of feeds that are switched off stay parked.
    """
    now = read_now(connection)
    rows = connection.execute(
        sa.select(chains_table.c.feed, chains_table.c.scope, chains_table.c.lane).where(
            chains_table.c.user_id == user_id,
            chains_table.c.state == State.PARKED.value,
            chains_table.c.reason == reason,
        )
    ).all()
    held: list[outbox.Held] = []
    for feed_name, scope, lane in rows:
        if feed_name not in feeds:
            continue
        key = Key(user_id, feed_name, scope, Lane(lane))
        row, _ = chains.read(connection, key, lock=True)
        if row is None or row.state is not State.PARKED or row.reason != reason:
            continue
        change = protocol.park(row, until=now, reason=reason, now=now, nonce=secrets.token_hex(12))
        chains.store(connection, change.chain, exists=True)
        feed, route = feeds[feed_name]
        assert change.ring
        held += outbox.put(
            connection, key, [doorbell(change.chain, change.ring._replace(due=0), feed, route(change.chain))], now
        )
    return held
