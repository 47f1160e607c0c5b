"""A tick opens a user's chains, each (scope, lane) in a transaction of its own; a child feed's tick sweeps."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sqlalchemy.engine import Connection

from pipeline.bus.messages import MiningMessage, Received
from pipeline.chains import ids
from pipeline.chains.protocol import MICROS, Key, Lane
from pipeline.feeds.base import ChildOf
from pipeline.miners.doorbells import Doorbells
from pipeline.miners.outcomes import Ended
from pipeline.miners.plan import Plan
from pipeline.miners.scopes import NoScopes
from pipeline.miners.tools import Tools
from pipeline.storage import chains, children, transitions
from pipeline.storage.children import SKEW_SECONDS, Child
from pipeline.storage.outbox import Held
from pipeline.storage.transitions import Tick

log = logging.getLogger(__name__)

SWEPT_PARENTS = 50
"""Child scopes that one tick of a child feed visits for one user."""


class Ticks:
    """Works on ticks; the first chain that one opens is mined under its own message."""

    def __init__(self, tools: Tools, doorbells: Doorbells) -> None:
        self.database = tools.database
        self.flusher = tools.flusher
        self.scopes = tools.scopes
        self.copies = tools.copies
        self.doorbells = doorbells

    async def tick(self, plan: Plan, message: MiningMessage, received: Received) -> Ended:
        """Treat each (scope, lane) of the user by the table; the first chain opened is mined under this message."""
        if isinstance(plan.feed.scope, ChildOf):
            return await self._sweep(plan, message, plan.feed.scope.feed)
        found = await self.scopes.of(plan.feed, message.user_id)
        if isinstance(found, NoScopes):
            if found.retry_seconds:
                await self.copies.put_off(received, seconds=found.retry_seconds, why=found.why)
                return Ended.POSTPONED
            log.warning("no scopes of user %s for %s: %s", message.user_id, plan.feed.name, found.why)
            return Ended.NOTHING
        tick = _tick_of(message)
        lanes = (Lane.BACKFILL,) if tick.ordered else plan.rules.lanes
        keys = [Key(message.user_id, plan.feed.name, scope, lane) for scope in found for lane in lanes]
        mine: list[Key] = []  # two, if an earlier delivery opened one before the other was due
        held: list[Held] = []
        for key in await self._to_open(plan, keys, tick, redelivered=received.seen_before):
            doorbell = ids.lane_doorbell(tick.tick_id, key.scope, key.lane) if mine else None
            opening = await self.database.write(
                "open",
                transitions.open_by_tick,
                key,
                plan.feed,
                plan.rules,
                tick,
                plan.route,
                lane_doorbell=doorbell,
            )
            held += opening.held
            if opening.mine:
                mine.append(key)
        if received.seen_before:
            held = await self.doorbells.left_over(keys)
        ended = Ended.NOTHING
        for key in mine:
            ended = await self.doorbells.ring(plan, key, tick.tick_id, again=False, crashed=received.seen_before)
        # Only now, so that the other lanes begin below what this one has proven.
        await self.flusher.send(held)
        return ended

    async def _sweep(self, plan: Plan, message: MiningMessage, parent_feed: str) -> Ended:
        """Want the child scopes that nobody visited for long; a child feed's tick opens nothing else."""
        before = await self.database.now() - plan.rules.sweep_every * MICROS
        parents = await self.database.read(
            children.due_for_sweep,
            message.user_id,
            parent_feed,
            plan.feed.name,
            opened_before=before,
            limit=SWEPT_PARENTS,
        )
        child = Child(plan.feed, plan.rules, plan.queue)
        for parent in parents:
            held = await self.database.write("sweep", children.sweep, message.user_id, child, parent, SKEW_SECONDS)
            await self.flusher.send(held)
        return Ended.DONE if parents else Ended.NOTHING

    async def _to_open(self, plan: Plan, keys: Sequence[Key], tick: Tick, *, redelivered: bool) -> list[Key]:
        """Give the chains with anything to do, one that this very tick opened before first."""

        def choose(connection: Connection) -> list[Key]:
            return [key for key in keys if transitions.would_open(connection, key, plan.feed, plan.rules, tick)]

        chosen = await self.database.read(choose)
        if not redelivered:
            return chosen

        def opened_by_me(connection: Connection) -> set[Key]:
            rows = {key: chains.read(connection, key)[0] for key in chosen}
            return {key for key, row in rows.items() if row and row.live and row.doorbell_id == tick.tick_id}

        first = await self.database.read(opened_by_me)
        return sorted(chosen, key=lambda key: key not in first)


def _tick_of(message: MiningMessage) -> Tick:
    ordered = None
    if message.start_date is not None and message.end_date is not None:
        ordered = (message.start_date, message.end_date)
    return Tick(message.doorbell_id, message.tick, message.correlation_id, ordered)
