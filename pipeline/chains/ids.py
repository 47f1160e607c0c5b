"""
Ids of doorbells and messages (protocol, rules 7, 8 and 10).

MessageIds feed the broker's duplicate detection, so two messages that must both arrive never share one, and two
copies of one message always do. Service Bus allows 128 characters.
"""

from __future__ import annotations

import hashlib

MAX_MESSAGE_ID = 128


def tick_id(feed: str, user_id: str, occurrence: int) -> str:
    """Name a scheduler's message: a function of feed, user and occurrence, so a tick that runs twice sends one."""
    return "t" + _digest(feed, user_id, str(occurrence))


def lane_doorbell(tick: str, scope: str, lane: str) -> str:
    """Name the doorbell of a further chain that one tick opens; unlike for other scopes and lanes of the tick."""
    return f"{tick}.{_digest(scope, lane)[:16]}"


def new_doorbell(nonce: str) -> str:
    """Name a doorbell that is opened by a commit, a park or a parent: only its nonce, never epoch and seq."""
    return f"b{nonce}"


def ring_message_id(doorbell_id: str, attempt: int) -> str:
    """Name one ring of a doorbell; each attempt is given out once, in the transaction that writes its row."""
    return f"{doorbell_id}/{attempt}"


def data_message_id(nonce: str, part: int) -> str:
    """Name a data message; the nonce is drawn in the page's transaction and frozen in the outbox."""
    return f"d{nonce}/{part}"


def copy_message_id(original: str, nonce: str) -> str:
    """Name a scheduled copy of a received message; cut so that it fits, the original stands in a property."""
    return f"{original[: MAX_MESSAGE_ID - len(nonce) - 2]}/c{nonce}"


def _digest(*parts: str) -> str:
    # Length-prefixed, so that no two lists of parts give one text.
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
