"""Scheduled copies of received messages, and messages that go to quarantine: a handler never raises for either."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable

from sqlalchemy.engine import Connection

from pipeline.bus.messages import Outgoing, Received
from pipeline.bus.service_bus import Bus
from pipeline.chains import ids
from pipeline.chains.protocol import MICROS, Key, Lane
from pipeline.errors import BadMessage, RetryLater
from pipeline.failpoints import failpoint
from pipeline.storage import quarantine
from pipeline.storage.database import Database, read_now, system_clock
from pipeline.storage.quarantine import Bad

log = logging.getLogger(__name__)

MAX_COPIES = 30
"""Copies of one message before it is raised and, in the end, dead-lettered, where it waits for a person."""

FIRST_SECONDS, LONGEST_SECONDS = 5, 300


class Copies:
    """Puts a message off by a copy of its untouched body, or keeps one that can never be read."""

    def __init__(self, database: Database, bus: Bus, clock: Callable[[], int] = system_clock) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock  # this machine's: the database may be what is out of reach

    async def put_off(self, received: Received, *, seconds: float, why: str) -> None:
        """
        Send a copy that is due later. Its MessageId differs, or duplicate detection would drop it; the first one
        stands in the property `originalId`. Raises RetryLater after MAX_COPIES, BusUnavailable if it cannot be sent.
        """
        copies = int(received.properties.get("copies", 0)) + 1
        if copies > MAX_COPIES:
            raise RetryLater(f"message put off {MAX_COPIES} times: {why}")
        log.warning("message on %s put off by %.0f s (copy %d): %s", received.entity, seconds, copies, why)
        due = self._clock() + int(seconds * MICROS)  # no chain waits here; the broker's delay is enough
        copy = Outgoing(
            received.entity,
            ids.copy_message_id(received.original_id, secrets.token_hex(6)),
            received.body,
            {**received.properties, "originalId": received.original_id, "copies": copies},
            due,
        )
        failpoint("copies.send.before")
        await self._bus.send(received.entity, [copy])

    async def put_off_growing(self, received: Received, *, why: str) -> None:
        """Put off by 5, 10, 20 … 300 seconds: the store is out of reach."""
        copies = int(received.properties.get("copies", 0))
        await self.put_off(received, seconds=min(FIRST_SECONDS * 2**copies, LONGEST_SECONDS), why=why)

    async def quarantine(self, received: Received, error: BadMessage) -> None:
        """Keep a message that can never be read, with its reason."""
        log.warning("message on %s quarantined: %s", received.entity, error.reason)
        properties = {**received.properties, "originalId": received.original_id}  # a replay keeps its identity
        bad = Bad("message", "decode", error.reason, error.detail, received.body, properties=properties)
        await self._database.write("quarantine", _put, received.entity, bad)


def _put(connection: Connection, entity: str, bad: Bad) -> bool:
    now = read_now(connection)
    return quarantine.put(connection, Key("", "", entity, Lane.MAIN), bad, observed=now, now=now)
