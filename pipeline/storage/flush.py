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

MAX_SILENT = 3
"""So many queues and topics out of reach mean that the bus is: to try each of the others costs seconds."""


class Flusher:
    """Sends outbox rows. A bus that is out of reach leaves them where they are: the relay comes back for them."""

    def __init__(self, database: Database, bus: Bus, *, keep_sent: bool = False) -> None:
        self._database = database
        self._bus = bus
        self._keep_sent = keep_sent

    async def send(self, held: Sequence[Held], *, by: str = "handler") -> bool:
        """Send rows, data first, then doorbells; False if the bus or the store was out of reach."""
        done: list[int] = []
        try:
            for entity, group in _by_entity(held).items():
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

    async def relay(self, *, age_seconds: int = outbox.RELAY_AGE_SECONDS, rounds: int = RELAY_ROUNDS) -> int:
        """
        Send all rows older than `age_seconds`, claimed so that two relays do not send the same ones; gives how many.

        A queue or topic out of reach keeps its own rows waiting, not those of others.
        """
        total = 0
        silent: list[str] = []
        for _ in range(rounds):
            held = await self._database.write(
                "relay", outbox.claim, limit=RELAY_ROWS, age_seconds=age_seconds, but_not=silent
            )
            if not held:
                break
            for entity, group in _by_entity(held).items():
                if await self.send(group, by="relay"):
                    total += len(group)
                else:
                    silent.append(entity)
                if len(silent) >= MAX_SILENT:
                    return total
        return total


def _by_entity(held: Sequence[Held]) -> dict[str, list[Held]]:
    rows: dict[str, list[Held]] = {}
    for row in held:
        rows.setdefault(row.message.entity, []).append(row)
    return rows
