"""Backpressure: before a page, is the store too far behind to take it? And how long messages wait on a queue."""

from __future__ import annotations

import time
from collections.abc import Callable

from pipeline.bus.messages import Received
from pipeline.settings import Settings
from pipeline.storage import leases, outbox
from pipeline.storage.database import Database

LOOK_EVERY_SECONDS = 2.0
NOTE_EVERY_SECONDS = 60.0
QUEUED_PER_THREAD = 16


class Pressure:
    """One per process; what it reads is kept for two seconds."""

    def __init__(self, database: Database, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._looked_at = float("-inf")
        self._reason = ""
        self._noted: dict[str, float] = {}

    async def reason(self) -> str:
        """Say which limit is passed, or give an empty text."""
        if self._clock() - self._looked_at >= LOOK_EVERY_SECONDS:
            self._looked_at = self._clock()
            self._reason = _passed(await self._database.read(outbox.backlog), self._database, self._settings)
        return self._reason

    async def note_wait(self, received: Received) -> None:
        """
        Note how long the message waited, at most once a minute and queue (rule 9 asks for it).

        One that is delivered again waited for a lock, too: its age says nothing about the queue.
        """
        now = self._clock()
        if not received.enqueued_at or received.delivery_count > 1:
            return
        if now - self._noted.get(received.entity, float("-inf")) < NOTE_EVERY_SECONDS:
            return
        self._noted[received.entity] = now
        await self._database.write("queues", leases.note_wait, received.entity, received.enqueued_at)


def _passed(backlog: outbox.Backlog, database: Database, settings: Settings) -> str:
    if backlog.rows > settings.outbox_max_rows:
        return f"{backlog.rows} unsent outbox rows"
    if backlog.bytes > settings.outbox_max_bytes:
        return f"{backlog.bytes} unsent outbox bytes"
    if database.commit_seconds > settings.commit_max_seconds:
        return f"commits take {database.commit_seconds:.1f} s"
    if database.queued > settings.sql_threads * QUEUED_PER_THREAD:
        return f"{database.queued} units wait for a thread"
    return ""
