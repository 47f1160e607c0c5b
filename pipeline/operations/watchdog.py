"""Ring chains that nobody rings any more (rule 9). Losing every doorbell costs time, never data."""

from __future__ import annotations

import logging
from collections import Counter

from pipeline import telemetry
from pipeline.chains.protocol import MICROS, Watch
from pipeline.miners.plan import Plans
from pipeline.settings import Settings
from pipeline.storage import leases, transitions
from pipeline.storage.database import Database
from pipeline.storage.flush import Flusher
from pipeline.storage.outbox import Held

log = logging.getLogger(__name__)

MAX_PER_RUN = 500
"""Chains looked at in one run, longest silent first: a backlog is not made worse by its watchdog."""


class Watchdog:
    """Looks at silent chains, each in one transaction of its own."""

    def __init__(self, database: Database, flusher: Flusher, plans: Plans, settings: Settings) -> None:
        self._database = database
        self._flusher = flusher
        self._plans = plans
        self._lock = int(settings.lock_seconds * MICROS)

    async def run(self) -> Counter[Watch]:
        """Ring, halt or leave each silent chain; gives how often each."""
        done: Counter[Watch] = Counter()
        queues = await self._database.read(leases.queue_waits)
        waits = {name: queues.get(plan.queue, 0) for name, plan in self._plans.items()}
        keys = await self._database.read(transitions.overdue, waits=waits, lock_micros=self._lock, limit=MAX_PER_RUN)
        held: list[Held] = []
        for key in keys:
            plan = self._plans[key.feed]
            watched = await self._database.write(
                "watch",
                transitions.watch,
                key,
                plan.feed,
                plan.rules,
                plan.route,
                lock_micros=self._lock,
                queue_wait_micros=waits[key.feed],
            )
            done[watched.action] += 1
            held += watched.held
            if watched.action is Watch.RING:
                telemetry.count("pipeline.rerings", feed=key.feed)
            if watched.action is Watch.HALT:
                telemetry.count("pipeline.halted", feed=key.feed, reason="kills its worker")
                log.error("%s halted: three deliveries brought no commit", key)
        await self._flusher.send(held)
        return done
