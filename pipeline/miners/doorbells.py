"""A doorbell fetches its chain's pages while it is live and the budget lasts, then sends what the commits froze."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.engine import Connection

from pipeline import telemetry
from pipeline.chains import protocol
from pipeline.chains.protocol import MICROS, Chain, Change, Key, Look
from pipeline.miners.committing import Committing, Tally
from pipeline.miners.fetching import Fetched, Fetching
from pipeline.miners.outcomes import Ended
from pipeline.miners.plan import Plan
from pipeline.miners.tools import Tools
from pipeline.miners.verifying import Verifying
from pipeline.sources.base import Token
from pipeline.storage import outbox, pages, transitions
from pipeline.storage.outbox import Held
from pipeline.storage.tokens import SealedToken
from pipeline.storage.transitions import Looked

log = logging.getLogger(__name__)


class Opened(NamedTuple):
    """A token and the row that it was opened from: while the row is the same, so is the token."""

    row: SealedToken | None
    token: Token


class Doorbells:
    """Works on doorbells."""

    def __init__(self, tools: Tools) -> None:
        self.database = tools.database
        self.flusher = tools.flusher
        self.secret = tools.secret
        self.pressure = tools.pressure
        self.settings = tools.settings
        self.clock = tools.clock
        self.fetching = Fetching(tools)
        self.committing = Committing(tools)
        self.verifying = Verifying(tools)

    async def ring(self, plan: Plan, key: Key, doorbell_id: str, *, again: bool, crashed: bool) -> Ended:
        """Fetch pages while the doorbell is live and the budget lasts, then send what the commits froze."""
        held: list[Held] = []
        if again or crashed:
            held += await self.left_over([key])
        tally = Tally()
        ended = await self._pages(plan, key, doorbell_id, held, tally, again=again)
        if ended is Ended.STALE and not held:
            held += await self.left_over([key])
        await self.flusher.send(held)
        log.info("%s %s: %s", key, ended.value, tally)
        return ended

    async def left_over(self, keys: Sequence[Key]) -> list[Held]:
        """Give all that the outbox still holds for these chains: an earlier delivery may have died before sending."""

        def read(connection: Connection) -> list[Held]:
            return [held for key in keys for held in outbox.of_chain(connection, key)]

        return await self.database.read(read)

    async def _pages(
        self, plan: Plan, key: Key, doorbell_id: str, held: list[Held], tally: Tally, *, again: bool
    ) -> Ended:
        started = self.clock()
        looked = await self._look(plan, key, doorbell_id, again=again)
        if looked.verdict is Look.STALE:
            telemetry.count("pipeline.stale", feed=key.feed)
            return Ended.STALE
        if looked.verdict is Look.EARLY:
            unit = transitions.ring_when_due
            held += await self.database.write("lose", unit, key, doorbell_id, plan.feed, plan.route)
            return Ended.EARLY
        context = looked.context
        opened: Opened | None = None
        for page_number in range(1, self.settings.pages_per_message + 1):
            assert looked.chain  # every look but a stale one found it
            ready = await self._ready(plan, looked, looked.chain, opened)
            if isinstance(ready, Change):
                return await self._apply(plan, looked.chain, ready, held)
            opened = ready
            page = await self.fetching.fetch(plan, looked, looked.chain, ready.token)
            if not isinstance(page, Fetched):
                return await self._apply(plan, looked.chain, page.change, held, calls=page.calls, error=page.error)
            spent = self.clock() - started
            last = page_number == self.settings.pages_per_message
            yielding = last or spent > self.settings.message_time_budget_seconds
            committed = await self.committing.commit(plan, looked, page, context, yielding=yielding)
            if committed is None:
                return await self._lost(plan, key, doorbell_id, held)
            held += committed.held
            tally.add(committed)
            if committed.looked is None:
                return await self._left(plan, looked.chain, committed.chain, held)
            looked = committed.looked
        raise AssertionError("the last page always yields")

    async def _look(self, plan: Plan, key: Key, doorbell_id: str, *, again: bool) -> Looked:
        if again:
            return await self.database.write("look", transitions.look_again, key, doorbell_id, plan.feed)
        return await self.database.read(transitions.look, key, doorbell_id, plan.feed)

    async def _ready(self, plan: Plan, looked: Looked, chain: Chain, opened: Opened | None) -> Opened | Change:
        """Give the token to fetch with, or the change that parks the chain before any call is made."""
        settings, now = self.settings, looked.now
        if looked.brake:
            return _park(chain, now, settings.brake_recheck_seconds, "brake")
        if reason := await self.pressure.reason():
            log.info("%s waits: %s", chain.key, reason)
            return _park(chain, now, settings.backpressure_seconds, "backpressure")
        if opened and opened.row == looked.token:
            return opened
        token = self.secret(chain.key.user_id, plan.feed.source, looked.token)
        if token is None:
            version = looked.token.version if looked.token else 0
            return _park(chain, now, settings.token_recheck_seconds, "token-dead", token_version=version)
        return Opened(looked.token, token)

    async def _lost(self, plan: Plan, key: Key, doorbell_id: str, held: list[Held]) -> Ended:
        """Leave a copy of the doorbell if it is still live: this delivery lost to its twin (rule 7)."""
        telemetry.count("pipeline.lost", feed=key.feed)
        lock = int(self.settings.lock_seconds * MICROS)
        held += await self.database.write("lose", transitions.lose, key, doorbell_id, plan.feed, plan.route, lock)
        return Ended.LOST

    async def _apply(
        self, plan: Plan, chain: Chain, change: Change, held: list[Held], *, calls: int = 0, error: str = ""
    ) -> Ended:
        rows = await self.database.write(
            "apply", transitions.apply, chain, change, plan.feed, plan.route, calls=calls, error=error
        )
        if rows is None:
            return await self._lost(plan, chain.key, chain.doorbell_id, held)
        held += rows
        if change.chain.state is protocol.State.PARKED:
            telemetry.count("pipeline.parked", feed=chain.key.feed, reason=change.chain.reason)
            return Ended.PARKED
        if change.chain.state is protocol.State.HALTED:
            telemetry.count("pipeline.halted", feed=chain.key.feed, reason=change.chain.reason)
            return Ended.HALTED
        return Ended.YIELDED if change.chain.live else Ended.CLOSED

    async def _left(self, plan: Plan, before: Chain, after: Chain, held: list[Held]) -> Ended:
        """Say how a commit that took the doorbell away ended; a finished refresh looks for deletions."""
        if after.state is protocol.State.HALTED:
            telemetry.count("pipeline.halted", feed=after.key.feed, reason=after.reason)
            return Ended.HALTED
        if after.live and after.epoch == before.epoch:
            return Ended.YIELDED
        if plan.rules.ordered and plan.rules.marks(after.key.lane):
            held += await self.verifying.verify(plan, before)
        return Ended.DONE


def _park(chain: Chain, now: int, seconds: float, reason: str, *, token_version: int = 0) -> Change:
    until = now + int(seconds * MICROS)
    return protocol.park(chain, until=until, reason=reason, now=now, nonce=pages.nonce(), token_version=token_version)
