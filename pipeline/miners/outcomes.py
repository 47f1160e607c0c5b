"""How work on a doorbell ends, and the one place where a source's fault becomes an outcome of the chain."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from pipeline.chains.protocol import MICROS
from pipeline.settings import Settings
from pipeline.sources.base import Fault, FaultKind

MAX_WAIT_SECONDS = 24 * 3600
"""No hint of an API parks a chain for longer; the next doorbell asks again."""


class Park(NamedTuple):
    """Wait until an instant, then go on where the chain stands."""

    until: int
    reason: str


class Halt(NamedTuple):
    """Stop; a person, or a tick after a day, tries again."""

    reason: str


class Close(NamedTuple):
    """End without a claim: the scope is gone."""

    reason: str


class Reseek(NamedTuple):
    """Ask again from the position: the cursor is dead."""


Verdict = Park | Halt | Close | Reseek


class Ended(StrEnum):
    """How a handler left its doorbell; every one of these completes the message."""

    DONE = "done"
    YIELDED = "yielded"
    PARKED = "parked"
    HALTED = "halted"
    CLOSED = "closed"
    STALE = "stale"
    LOST = "lost"
    EARLY = "early"
    NOTHING = "nothing"
    POSTPONED = "postponed"
    QUARANTINED = "quarantined"


def judge(fault: Fault, *, now: int, settings: Settings) -> Verdict:
    """Turn a source's fault into what the chain does. Pure."""
    match fault.kind:
        case FaultKind.THROTTLED:
            return Park(_until(now, fault.wait), "throttled")
        case FaultKind.TOKEN_DEAD:
            return Park(_until(now, settings.token_recheck_seconds), "token-dead")
        case FaultKind.TRANSIENT:
            return Park(_until(now, fault.wait or settings.api_down_seconds), "api-down")
        case FaultKind.INVALID_CURSOR:
            return Reseek()
        case FaultKind.GONE:
            return Close("scope gone")
        case FaultKind.TOO_MUCH:
            return Halt("too much data at limit 1")
        case FaultKind.FORBIDDEN:
            return Halt(f"forbidden {fault.code}".strip())
        case FaultKind.REFUSED:
            return Halt(f"refused {fault.code}".strip())


def _until(now: int, seconds: float) -> int:
    return now + int(min(max(seconds, 0.0), MAX_WAIT_SECONDS) * MICROS)
