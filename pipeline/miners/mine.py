"""
Work on one mining message: a tick opens chains, a doorbell fetches pages. See `docs/protocol.md` for the table.

Raising is for bugs and lost infrastructure only; everything foreseeable ends in a completed message plus a row.
"""

from __future__ import annotations

from pipeline import telemetry
from pipeline.bus.messages import MiningMessage, Received, decode_mining
from pipeline.chains.protocol import Key, Lane
from pipeline.errors import BadMessage, NewerMessage, StoreUnavailable
from pipeline.miners.doorbells import Doorbells
from pipeline.miners.outcomes import Ended
from pipeline.miners.plan import Plan
from pipeline.miners.ticks import Ticks
from pipeline.miners.tools import Tools


class Miner:
    """Handles the messages of all mining queues."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self.plans = tools.plans
        self.copies = tools.copies
        self.pressure = tools.pressure
        self.doorbells = Doorbells(tools)
        self.ticks = Ticks(tools, self.doorbells)

    async def handle(self, received: Received) -> Ended:
        """Work on one message of a mining queue; returning completes it."""
        try:
            message = decode_mining(received.body)
            plan = self._plan(message)
        except NewerMessage as error:
            await self.copies.put_off(received, seconds=60, why=str(error))
            return Ended.POSTPONED
        except BadMessage as error:
            await self.copies.quarantine(received, error)
            return Ended.QUARANTINED
        attributes = {"feed": message.feed, "user": message.user_id, "correlation_id": message.correlation_id}
        with telemetry.span("mine", attributes):
            try:
                ended = await self._work(plan, message, received)
            except StoreUnavailable as error:
                await self.copies.put_off_growing(received, why=str(error))
                ended = Ended.POSTPONED
        telemetry.count("pipeline.outcomes", feed=message.feed, outcome=ended.value)
        return ended

    def _plan(self, message: MiningMessage) -> Plan:
        plan = self.plans.get(message.feed)
        if plan is None:
            raise BadMessage("unknown-feed", message.feed)
        return plan

    async def _work(self, plan: Plan, message: MiningMessage, received: Received) -> Ended:
        await self.pressure.note_wait(received)
        if message.is_tick:
            return await self.ticks.tick(plan, message, received)
        key = Key(message.user_id, message.feed, message.scope, Lane(message.lane))
        again = message.attempt > 0
        return await self.doorbells.ring(plan, key, message.doorbell_id, again=again, crashed=received.seen_before)
