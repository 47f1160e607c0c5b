"""
Replays out of quarantine: closing the row and what follows from it are one transaction, so a replay counts once.

An item becomes a revision with the observation it had, and wants its children as a page's items do (rule 14); a
message goes back to its queue through the outbox.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy.engine import Connection

from pipeline.bus.messages import Outgoing
from pipeline.chains import ids
from pipeline.chains.protocol import Key
from pipeline.feeds.base import Feed
from pipeline.storage import children, items, latest, outbox, quarantine
from pipeline.storage.children import Child
from pipeline.storage.database import read_now
from pipeline.storage.items import Accepted, Candidate, Writing
from pipeline.storage.quarantine import REPLAYED, Kept

OURS = frozenset({"DeadLetterReason", "DeadLetterErrorDescription", "queue", "copies", "dlqCycles"})
"""Properties that tell of a message's past; a replayed one begins anew."""


class Replayed(NamedTuple):
    """What a replay did: messages to send, and whether anything was new (a later revision may have come first)."""

    held: list[outbox.Held]
    new: bool


@dataclass(frozen=True, kw_only=True)
class ItemReplay:
    """An item that the processor accepts now."""

    row: Kept
    feed: Feed
    candidate: Candidate
    encode: Callable[[Sequence[Accepted], str], list[Outgoing]]
    children: Sequence[Child]
    wants_children: Callable[[Accepted], bool]
    skew_seconds: int


def replay_item(connection: Connection, replay: ItemReplay) -> Replayed | None:
    """Close the row and commit the item; None (and nothing is written) if the row does not wait any more."""
    row, now, nonce = replay.row, read_now(connection), secrets.token_hex(12)
    if not quarantine.close(connection, row.id, REPLAYED, now):
        return None
    writing = Writing(row.observed, now, ids.data_message_id(nonce, 0))
    accepted, _ = items.accept(connection, row.key, [replay.candidate], writing)
    if replay.feed.keep_latest:
        latest.keep(connection, row.key, accepted)
    held = outbox.put(connection, row.key, replay.encode(accepted, nonce) if accepted else [], now)
    parents = [one.item.id for one in accepted if replay.wants_children(one)]
    for child in replay.children:
        held += children.want(connection, row.key.user_id, child, parents, now, replay.skew_seconds)
    return Replayed(held, bool(accepted))


def replay_message(connection: Connection, row: Kept) -> Replayed | None:
    """Close the row and put the message into the outbox for the queue it came from; None if it does not wait."""
    now = read_now(connection)
    if not quarantine.close(connection, row.id, REPLAYED, now):
        return None
    original = str(row.properties.get("originalId") or f"q{row.fingerprint}")
    message = Outgoing(
        queue_of(row),
        ids.copy_message_id(original, secrets.token_hex(6)),
        row.body,
        {name: value for name, value in row.properties.items() if name not in OURS} | {"originalId": original},
    )
    return Replayed(outbox.put(connection, _owner(row.key), [message], now), new=True)


def queue_of(row: Kept) -> str:
    """Give the queue that a message came from."""
    return str(row.properties.get("queue") or row.key.scope)


def _owner(key: Key) -> Key:
    """The outbox row belongs to no chain: a chain's own flush must not wait for it, nor send it."""
    return Key("", "", key.scope, key.lane)
