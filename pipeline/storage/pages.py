"""
The one transaction per page: items, quarantine, outbox rows, child scopes, coverage and the chain's advance.

Either all of it is true or none. No network call happens inside.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from sqlalchemy.engine import Connection

from pipeline.bus.messages import Outgoing, doorbell
from pipeline.chains import coverage as intervals
from pipeline.chains import ids, protocol
from pipeline.chains.protocol import Chain, Change, PageFacts, Rules, State
from pipeline.feeds.base import Feed
from pipeline.storage import chains, children, items, latest, outbox, quarantine, transitions
from pipeline.storage.chains import Counters
from pipeline.storage.children import Child
from pipeline.storage.database import read_now
from pipeline.storage.items import Accepted, Candidate, Writing
from pipeline.storage.quarantine import Bad
from pipeline.storage.transitions import Looked
from pipeline.times import YEAR_10000

Encode = Callable[[Sequence[Accepted], str], list[Outgoing]]
"""(accepted items, nonce) -> data messages. Runs inside the transaction: what cannot be sent is never committed."""


@dataclass(frozen=True, kw_only=True)
class PageWork:
    """All that a page's transaction needs."""

    chain: Chain
    """As the look before the fetch read it."""
    feed: Feed
    rules: Rules
    route: Callable[[Chain], str]
    """The queue on which this chain is rung."""
    candidates: Sequence[Candidate]
    bad: Sequence[Bad]
    facts: PageFacts
    observed: int
    """The database's time of the look before the fetch."""
    yielding: bool
    encode: Encode
    calls: int = 1
    known: frozenset[str] = frozenset()
    children: Sequence[Child] = ()
    wants_children: Callable[[Accepted], bool] = lambda accepted: True
    skew_seconds: int = 1


MAX_TOMBSTONES = 1000
"""Deletions that one sweep publishes in its last transaction."""


class Committed(NamedTuple):
    """What a page's transaction did."""

    chain: Chain
    held: list[outbox.Held]
    new: int
    changed: int
    duplicate: int
    quarantined: int
    looked: Looked | None
    """The look before the next page of the same doorbell, taken in this transaction; None if the doorbell is spent."""


def commit_page(connection: Connection, work: PageWork) -> Committed | None:
    """Commit a page, or None (and nothing is written) if the chain is not what the look had seen."""
    before, key = work.chain, work.chain.key
    covered = chains.read_coverage(connection, key, lock=True)
    now = covered.now or read_now(connection)
    page_nonce = nonce()
    mark = protocol.mark_of(before) if work.rules.marks(key.lane) else 0
    writing = Writing(work.observed, now, ids.data_message_id(page_nonce, 0), "batch", mark)
    accepted, fresh = items.accept(connection, key, work.candidates, writing, known=work.known)
    if work.feed.keep_latest:
        latest.keep(connection, key, accepted)
    quarantined = sum(_quarantine(connection, work, bad, now) for bad in work.bad)
    messages = work.encode(accepted, page_nonce) if accepted else []
    change = protocol.advance(
        before,
        work.facts._replace(new_keys=fresh),
        covered.spans,
        work.rules,
        now=now,
        nonce=nonce(),
        yielding=work.yielding,
    )
    if work.rules.snapshot and change.chain.state is State.DONE:
        messages += _tombstones(connection, work, writing, nonce())
    spans = chains.claim(connection, key, covered.spans, *change.claim) if change.claim else covered.spans
    new = sum(one.is_new for one in accepted)
    counters = Counters(
        pages=1,
        calls=work.calls,
        new=new,
        changed=len(accepted) - new,
        duplicate=len(work.candidates) - len(accepted),
        quarantined=len(work.bad),
    )
    wanted = chains.advance(connection, before, change.chain, counters)
    if wanted is None:
        connection.rollback()
        return None
    change = _reopen_wanted(connection, work, change, wanted, spans, covered.history_start, now)
    messages += rings(change, work)
    held = outbox.put(connection, key, messages, now)
    for child in work.children:
        parents = [one.item.id for one in accepted if not one.item.deleted and work.wants_children(one)]
        held += children.want(connection, key.user_id, child, parents, now, work.skew_seconds)
    looked = None
    if change.chain.doorbell_id == before.doorbell_id:
        looked = transitions.look(connection, key, before.doorbell_id, work.feed, with_context=False)
    return Committed(change.chain, held, new, counters.changed, counters.duplicate, quarantined, looked)


def commit_items(
    connection: Connection,
    chain: Chain,
    feed: Feed,
    candidates: Sequence[Candidate],
    bad: Sequence[Bad],
    observed: int,
    encode: Encode,
) -> list[outbox.Held]:
    """Commit items that were read one by one, outside any page; the chain itself does not move."""
    now, page_nonce = read_now(connection), nonce()
    writing = Writing(observed, now, ids.data_message_id(page_nonce, 0))
    accepted, _ = items.accept(connection, chain.key, candidates, writing)
    if feed.keep_latest:
        latest.keep(connection, chain.key, accepted)
    for one in bad:
        quarantine.put(connection, chain.key, one, observed=observed, now=now, feed_version=feed.version)
    return outbox.put(connection, chain.key, encode(accepted, page_nonce) if accepted else [], now)


def nonce() -> str:
    """Draw what makes an id unlike any other, before and after a restore."""
    return secrets.token_hex(12)


def rings(change: Change, work: PageWork) -> list[Outgoing]:
    """Give the doorbell message of a change, if it rings."""
    return [doorbell(change.chain, change.ring, work.feed, work.route(change.chain))] if change.ring else []


def _reopen_wanted(
    connection: Connection, work: PageWork, change: Change, wanted: int, spans: intervals.Spans, start: int, now: int
) -> Change:
    """Open a child's next chain in the transaction that ends this one, if anything below `wanted` is open (14)."""
    ended = change.chain.state is State.DONE
    if not (work.rules.child and ended and wanted) or intervals.proven(spans, start, wanted):
        return change
    chain = replace(change.chain, wanted=wanted)
    opened = protocol.open_child(chain, now=now, spans=spans, start=start, rules=work.rules, nonce=nonce())
    chains.store(connection, opened.chain, exists=True)
    return opened._replace(claim=change.claim)


def _tombstones(connection: Connection, work: PageWork, writing: Writing, page_nonce: str) -> list[Outgoing]:
    """Mark as deleted what a finished sweep did not meet; what is beyond the bound, the next sweep finds."""
    gone = items.not_returned(connection, work.chain.key, mark=writing.mark, lo=0, hi=YEAR_10000, limit=MAX_TOMBSTONES)
    deleted = [items.deletion(item_id, moment) for item_id, moment in gone]
    stones = writing._replace(message_id=ids.data_message_id(page_nonce, 0))
    accepted, _ = items.accept(connection, work.chain.key, deleted, stones)
    return work.encode(accepted, page_nonce) if accepted else []


def _quarantine(connection: Connection, work: PageWork, bad: Bad, now: int) -> bool:
    return quarantine.put(
        connection,
        work.chain.key,
        bad,
        observed=work.observed,
        now=now,
        feed_version=work.feed.version,
        correlation_id=work.chain.correlation_id,
    )
