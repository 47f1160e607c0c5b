"""Send what the outbox holds, then remove it. A handler flushes its own rows; the relay those a crash left."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pipeline import telemetry
from pipeline.bus.service_bus import Bus
from pipeline.errors import BusUnavailable, StoreUnavailable
from pipeline.storage import outbox
from pipeline.storage.database import Database
from pipeline.storage.outbox import Held

log = logging.getLogger(__name__)

RELAY_ROWS = 200
RELAY_ROUNDS = 100
"""At most 20,000 rows in one run of the relay; the next run goes on."""


class Flusher:
    """Sends outbox rows. A bus that is out of reach leaves them where they are: the relay comes back for them."""

    def __init__(self, database: Database, bus: Bus, *, keep_sent: bool = False) -> None:
        self._database = database
        self._bus = bus
        self._keep_sent = keep_sent

    async def send(self, held: Sequence[Held], *, by: str = "handler") -> bool:
        """Send rows, data first, then doorbells; False if the bus or the store was out of reach."""
        rows: dict[str, list[Held]] = {}
        for row in held:
            rows.setdefault(row.message.entity, []).append(row)
        done: list[int] = []
        try:
            for entity, group in rows.items():
                await self._bus.send(entity, [row.message for row in group])
                done += [row.id for row in group]
        except BusUnavailable as error:
            log.warning("%d outbox rows wait for the relay: %s", len(held) - len(done), error)
        try:
            if done:
                await self._database.write("outbox", outbox.sent, done, keep=self._keep_sent)
        except StoreUnavailable as error:
            log.warning("%d outbox rows were sent but not removed: %s", len(done), error)
            return False
        telemetry.count("pipeline.outbox.sent", len(done), by=by)
        return len(done) == len(held)

    async def relay(self) -> int:
        """Send all rows older than 30 s, claimed so that two relays do not send the same ones; gives how many."""
        total = 0
        for _ in range(RELAY_ROUNDS):
            held = await self._database.write("relay", outbox.claim, limit=RELAY_ROWS)
            if not held:
                break
            if not await self.send(held, by="relay"):
                break
            total += len(held)
        return total
