"""Read a page's items and commit them; afterwards tell the cache and the metrics."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline import telemetry
from pipeline.chains import protocol
from pipeline.chains.protocol import MICROS, Key, Lane, PageFacts
from pipeline.miners.fetching import Fetched
from pipeline.miners.plan import Plan
from pipeline.miners.tools import Tools
from pipeline.processors.data_messages import encode
from pipeline.processors.read_items import ReadPage, read_page
from pipeline.storage import pages
from pipeline.storage.pages import Committed, PageWork
from pipeline.storage.transitions import Looked

log = logging.getLogger(__name__)


@dataclass
class Tally:
    """What the pages of one message brought, for one line of the log."""

    pages: int = 0
    new: int = 0
    changed: int = 0
    duplicate: int = 0
    quarantined: int = 0

    def add(self, committed: Committed) -> None:
        self.pages += 1
        self.new += committed.new
        self.changed += committed.changed
        self.duplicate += committed.duplicate
        self.quarantined += committed.quarantined

    def __str__(self) -> str:
        counts = f"{self.new} new, {self.changed} changed, {self.duplicate} duplicate, {self.quarantined} quarantined"
        return f"{self.pages} pages, {counts}"


class Committing:
    """Hands pages to the store."""

    def __init__(self, tools: Tools) -> None:
        self.database = tools.database
        self.cache = tools.cache
        self.clock = tools.clock

    async def commit(
        self, plan: Plan, looked: Looked, fetched: Fetched, context: Mapping[str, Any], *, yielding: bool
    ) -> Committed | None:
        assert looked.chain
        chain, page, key = looked.chain, fetched.page, looked.chain.key
        read = read_page(plan.feed, page.items, observed=looked.now, context=context)
        known = await self._known(key, read)
        facts = PageFacts(
            protocol.Position(*read.last) if read.last else None, page.cursor, restarted=fetched.restarted
        )
        started = self.clock()
        committed = await self.database.write(
            "page",
            pages.commit_page,
            PageWork(
                chain=chain,
                feed=plan.feed,
                rules=plan.rules,
                route=plan.route,
                candidates=read.candidates,
                bad=read.bad,
                facts=facts,
                observed=looked.now,
                yielding=yielding,
                encode=lambda accepted, nonce: encode(plan.feed, plan.topic, chain, accepted, nonce),
                calls=page.calls,
                known=known,
                children=plan.children,
                wants_children=plan.wants_children,
            ),
        )
        telemetry.record("pipeline.commit.duration", self.clock() - started, feed=key.feed)
        if committed is not None:
            await self._note(plan, key, read, committed, looked.now)
        return committed

    async def _known(self, key: Key, read: ReadPage) -> frozenset[str]:
        """Ask the cache, for lanes that meet items again; history is new anyway."""
        if key.lane is Lane.GAP:
            return frozenset()
        return await self.cache.known(key, [item.id for item in read.candidates])

    async def _note(self, plan: Plan, key: Key, read: ReadPage, committed: Committed, now: int) -> None:
        if key.lane is not Lane.GAP:
            await self.cache.remember(key, [item.id for item in read.candidates])
        telemetry.count("pipeline.pages", feed=key.feed, lane=key.lane.value)
        for outcome, amount in (
            ("new", committed.new),
            ("changed", committed.changed),
            ("duplicate", committed.duplicate),
            ("quarantined", len(read.bad)),
        ):
            telemetry.count("pipeline.items", amount, feed=key.feed, outcome=outcome)
        if committed.new and read.candidates and key.lane is Lane.MAIN:
            newest = max(item.time for item in read.candidates)
            telemetry.record("pipeline.freshness", max(0.0, now / MICROS - newest), feed=key.feed)
        for bad in read.bad:
            telemetry.count("pipeline.quarantined", feed=key.feed, reason=bad.reason)
