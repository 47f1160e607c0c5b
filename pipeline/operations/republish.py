"""Republish: send kept outbox rows again, after a bus lost its memory. Same MessageIds, so every inbox counts once."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.storage import outbox
from pipeline.storage.database import Database
from pipeline.storage.flush import Flusher

MAX_ROUNDS = 500
"""At most 100,000 rows in one run; the relay sends the rest."""


class Republished(NamedTuple):
    """How many rows were made unsent again, and how many were sent now; the relay sends the others."""

    unsent: int
    sent: int


async def republish(database: Database, flusher: Flusher, settings: Settings, *, since: int = 0) -> Republished:
    """
    Send again what was frozen at or after `since` (microseconds).

    Raises ConfigurationError if sent rows are not kept.
    """
    if not settings.outbox_retention_seconds:
        raise ConfigurationError(
            "OUTBOX_RETENTION_SECONDS is 0: sent messages are not kept, so none can be sent again; "
            "the watchdog rings lost doorbells by itself"
        )
    unsent = await database.write("republish", outbox.unsend, since=since)
    sent = await flusher.relay(age_seconds=0, rounds=MAX_ROUNDS)
    return Republished(unsent, sent)
