"""Child scopes, wanted anew in the transaction that accepts their parent items (protocol, rule 14)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.engine import Connection

from pipeline.bus.messages import Outgoing, doorbell
from pipeline.chains import protocol
from pipeline.chains.protocol import Key, Lane, Rules
from pipeline.feeds.base import Feed
from pipeline.storage import chains, outbox
from pipeline.storage.items import Accepted


class Child(NamedTuple):
    """A feed whose scopes are the items of another, and the queue on which its chains are rung."""

    feed: Feed
    rules: Rules
    entity: str


def want(
    connection: Connection,
    user_id: str,
    child: Child,
    parents: Sequence[Accepted],
    now: int,
    skew_seconds: int,
) -> list[outbox.Held]:
    """Raise `wanted` of each parent's child scope and open those that are not running; gives their doorbells."""
    feed = child.feed
    held: list[outbox.Held] = []
    for parent in parents:
        key = Key(user_id, feed.name, parent.item.id, Lane.MAIN)
        row, _ = chains.read(connection, key, lock=True)
        covered = chains.read_coverage(connection, key, lock=True)
        if not covered.first_opened_at:
            covered = chains.open_coverage(connection, key, history_start=feed.history_start_seconds, now=now)
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
