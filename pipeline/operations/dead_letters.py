"""
Dead letters, one function per queue. Nothing in a dead-letter queue is ever destroyed: returning completes the
message, so each one is first a row, in the outbox or in quarantine.

A doorbell or tick is recorded and dropped: the chain's row is the truth, and the watchdog rings. A subscriber's
message is sent round again by schedule, three times at most, then kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from enum import StrEnum

from sqlalchemy.engine import Connection

from pipeline import telemetry
from pipeline.bus.data import read_data
from pipeline.bus.messages import MiningMessage, Outgoing, Received, decode_mining
from pipeline.chains import ids
from pipeline.chains.protocol import MICROS, Key, Lane
from pipeline.errors import BadMessage, NewerMessage, StoreUnavailable
from pipeline.settings import Settings
from pipeline.storage import outbox, quarantine
from pipeline.storage.database import Database, read_now
from pipeline.storage.flush import Flusher
from pipeline.storage.outbox import Held
from pipeline.storage.quarantine import Bad

log = logging.getLogger(__name__)

MAX_CYCLES = 3
CYCLE_FACTOR = 6
CYCLES = "dlqCycles"
PAUSE_SECONDS = 3.0
"""Before giving a dead letter back because the store is away: a dead-letter queue redelivers at once, for ever."""

TOLD = ("DeadLetterReason", "DeadLetterErrorDescription")
MAX_DESCRIPTION = 200


class Reason(StrEnum):
    """Why the broker, or a receiver, gave a message up."""

    DELIVERIES = "max-deliveries"  # ten deliveries failed: a bug, or a worker that dies on it
    EXPIRED = "expired"  # nobody received it in its time to live
    TOO_LARGE = "too-large"  # its headers, or the entity's quota
    FORWARDING = "forwarding"  # its target is missing, disabled or full
    APPLICATION = "application"  # a receiver dead-lettered it by hand
    UNKNOWN = "unknown"


_REASONS = {
    "maxdeliverycountexceeded": Reason.DELIVERIES,
    "ttlexpiredexception": Reason.EXPIRED,
    "headersizeexceeded": Reason.TOO_LARGE,
    "messagesizeexceeded": Reason.TOO_LARGE,
    "maxtransferhopcountexceeded": Reason.FORWARDING,
    "messagingentitynotfoundexception": Reason.FORWARDING,
    "messagingentitydisabledexception": Reason.FORWARDING,
    "quotaexceededexception": Reason.FORWARDING,
}


class Ended(StrEnum):
    """What became of a dead letter."""

    RECORDED = "recorded"
    RETRIED = "retried"
    KEPT = "kept"


def classify(properties: Mapping[str, str | int]) -> Reason:
    """Give the class of a dead letter by what the broker wrote into its properties."""
    told = str(properties.get("DeadLetterReason", ""))
    if not told:
        return Reason.UNKNOWN
    return _REASONS.get(told.lower(), Reason.APPLICATION)


def retry_after(cycle: int, reason: Reason, first_seconds: float) -> float | None:
    """
    Give the seconds until a subscriber's message is tried again, None if it must be kept.

    `cycle` counts the retries so far. What is too large stays so; what expired waited long enough.
    """
    if cycle >= MAX_CYCLES or reason is Reason.TOO_LARGE:
        return None
    return min(first_seconds, 60.0) if reason is Reason.EXPIRED else first_seconds * CYCLE_FACTOR**cycle


class DeadLetters:
    """Handles what stands in the dead-letter queues."""

    def __init__(
        self, database: Database, flusher: Flusher, settings: Settings, *, pause_seconds: float = PAUSE_SECONDS
    ) -> None:
        self._database = database
        self._flusher = flusher
        self._first_seconds = settings.dead_letter_retry_seconds
        self._pause_seconds = pause_seconds

    async def handle_work(self, received: Received) -> Ended:
        """Record a doorbell or tick of a mining queue; returning completes it."""
        reason = classify(received.properties)
        key, detail = _of_work(received)
        await self._keep(received, key, reason, detail)
        return self._ended(received, Ended.RECORDED, reason)

    async def handle_data(self, received: Received) -> Ended:
        """Send a subscriber's message round again, or keep it; returning completes it."""
        reason = classify(received.properties)
        cycle = _cycles(received.properties)
        wait = retry_after(cycle, reason, self._first_seconds)
        if wait is None:
            await self._keep(received, _of_data(received), reason, f"after {cycle} cycles; {_told(received)}")
            return self._ended(received, Ended.KEPT, reason)
        try:
            held = await self._database.write("dead_letter", _send_round, received, cycle + 1, wait)
        except StoreUnavailable:
            await asyncio.sleep(self._pause_seconds)
            raise
        await self._flusher.send(held)
        return self._ended(received, Ended.RETRIED, reason)

    async def _keep(self, received: Received, key: Key, reason: Reason, detail: str) -> None:
        properties = {**received.properties, "originalId": received.original_id, "queue": received.entity}
        bad = Bad("message", "dead-letter", reason.value, detail, received.body, properties=properties)
        try:
            await self._database.write("dead_letter", _quarantine, key, bad)
        except StoreUnavailable:
            await asyncio.sleep(self._pause_seconds)
            raise

    def _ended(self, received: Received, ended: Ended, reason: Reason) -> Ended:
        log.warning("dead letter of %s %s: %s", received.entity, ended.value, reason.value)
        telemetry.count("pipeline.messages", queue=f"{received.entity}/dead-letters", outcome=ended.value)
        return ended


def _send_round(connection: Connection, received: Received, cycle: int, wait: float) -> list[Held]:
    """Put the message into the outbox. Its id is a function of the cycle: a dead letter met twice goes round once."""
    now = read_now(connection)
    kept = {name: value for name, value in received.properties.items() if name not in (*TOLD, "copies")}
    message = Outgoing(
        received.entity,
        ids.copy_message_id(received.original_id, f"dlq{cycle}"),
        received.body,
        kept | {"originalId": received.original_id, CYCLES: cycle},
        now + int(wait * MICROS),
    )
    return outbox.put(connection, Key("", "", received.entity, Lane.MAIN), [message], now)


def _quarantine(connection: Connection, key: Key, bad: Bad) -> bool:
    now = read_now(connection)
    return quarantine.put(connection, key, bad, observed=now, now=now)


def _of_work(received: Received) -> tuple[Key, str]:
    """Give whose doorbell it was, so that `why` and the filters find it, and what there is to say."""
    try:
        message = decode_mining(received.body)
    except (BadMessage, NewerMessage) as error:
        return Key("", "", received.entity, Lane.MAIN), f"{error}; {_told(received)}"
    scope, lane = (message.scope, Lane(message.lane)) if _is_doorbell(message) else (received.entity, Lane.MAIN)
    what = "tick" if message.is_tick else "doorbell"
    return Key(message.user_id, message.feed, scope, lane), f"{what} {message.doorbell_id[:40]}; {_told(received)}"


def _is_doorbell(message: MiningMessage) -> bool:
    return message.lane in {lane.value for lane in Lane}


def _of_data(received: Received) -> Key:
    try:
        message = read_data(received)
    except (BadMessage, NewerMessage):
        return Key("", "", received.entity, Lane.MAIN)
    return Key(message.user_id, message.feed, message.scope, Lane.MAIN)


def _told(received: Received) -> str:
    told = [str(received.properties.get(name, "")) for name in TOLD]
    return ": ".join(part for part in told if part)[:MAX_DESCRIPTION] or "the broker gave no reason"


def _cycles(properties: Mapping[str, str | int]) -> int:
    """Read the count; what is no number counts as the last, so that nothing goes round for ever."""
    try:
        return max(0, int(properties.get(CYCLES, 0)))
    except ValueError:
        return MAX_CYCLES
