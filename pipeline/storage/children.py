"""Child scopes, wanted anew in the transaction that accepts their parent items (protocol, rule 14)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.bus.messages import Outgoing, doorbell
from pipeline.chains import protocol
from pipeline.chains.protocol import Key, Lane, Rules, State
from pipeline.feeds.base import Feed
from pipeline.storage import chains, outbox
from pipeline.storage.database import read_now
from pipeline.storage.tables import chains as chains_table
from pipeline.storage.tables import items

SKEW_SECONDS = 1
"""How far the API's clock may be ahead of the database's when a parent counts a child (rule 14)."""


class Child(NamedTuple):
    """A feed whose scopes are the items of another, and the queue on which its chains are rung."""

    feed: Feed
    rules: Rules
    entity: str


def want(
    connection: Connection,
    user_id: str,
    child: Child,
    parents: Sequence[str],
    now: int,
    skew_seconds: int,
) -> list[outbox.Held]:
    """Raise `wanted` of each parent item's child scope and open those not running; gives their doorbells."""
    feed = child.feed
    held: list[outbox.Held] = []
    for parent in parents:
        key = Key(user_id, feed.name, parent, Lane.MAIN)
        row, _ = chains.read(connection, key, lock=True)
        covered = chains.read_coverage(connection, key, lock=True)
        if not covered.first_opened_at:
            covered = chains.open_coverage(connection, key, history_start=feed.first_history(now), now=now)
        change = protocol.want_child(
            row,
            key,
            now=now,
            skew_seconds=skew_seconds,
            spans=covered.spans,
            start=covered.history_start,
            rules=child.rules,
            nonce=secrets.token_hex(12),
        )
        chains.store(connection, change.chain, exists=row is not None)
        messages: list[Outgoing] = [doorbell(change.chain, change.ring, feed, child.entity)] if change.ring else []
        held += outbox.put(connection, key, messages, now)
    return held


def due_for_sweep(
    connection: Connection, user_id: str, parent_feed: str, child_feed: str, *, opened_before: int, limit: int
) -> list[str]:
    """
    Give parent items whose child scope was never visited, or last opened before an instant, longest ago first.

    A sweep visits them though nothing said that they changed.
    """
    joined = items.outerjoin(
        chains_table,
        sa.and_(
            chains_table.c.user_id == items.c.user_id,
            chains_table.c.feed == child_feed,
            chains_table.c.scope == items.c.item_id,
            chains_table.c.lane == Lane.MAIN.value,
        ),
    )
    opened_at = sa.func.coalesce(chains_table.c.opened_at, 0)
    idle = sa.or_(chains_table.c.state.is_(None), chains_table.c.state == State.DONE.value)
    rows = connection.execute(
        sa.select(items.c.item_id)
        .select_from(joined)
        .where(
            items.c.user_id == user_id,
            items.c.feed == parent_feed,
            items.c.deleted == 0,
            idle,
            opened_at < opened_before,
        )
        .order_by(opened_at, items.c.item_id)
        .limit(limit)
    )
    return [row.item_id for row in rows]


def sweep(connection: Connection, user_id: str, child: Child, parent: str, skew_seconds: int) -> list[outbox.Held]:
    """Want one child scope anew, as if its parent had changed."""
    return want(connection, user_id, child, [parent], read_now(connection), skew_seconds)
