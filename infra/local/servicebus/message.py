"""
A message as the broker keeps it.

Properties, application properties and body stay the bytes they came in; only header and
annotations are taken apart, because only those belong to the broker.
"""

import random
import struct
import uuid
from typing import Any, Final

from infra.local.servicebus.codec import (
    Symbol,
    UInt,
    encode,
    encode_pairs,
)

ACTIVE: Final = 0
DEFERRED: Final = 1
SCHEDULED: Final = 2

#: Azure bills every started piece of this size as one operation.
BILLING_UNIT_BYTES: Final = 64 * 1024

#: What the broker itself needs to keep a message, counted against the entity's quota.
OVERHEAD_BYTES: Final = 64

_KEY_ENQUEUED: Final = encode(Symbol("x-opt-enqueued-time")) + b"\x83"
_KEY_SEQUENCE: Final = encode(Symbol("x-opt-sequence-number")) + b"\x81"
_KEY_STATE: Final = encode(Symbol("x-opt-message-state"))
_KEY_LOCKED: Final = encode(Symbol("x-opt-locked-until")) + b"\x83"
_KEY_ORIGIN_SEQUENCE: Final = encode(Symbol("x-opt-enqueue-sequence-number")) + b"\x81"
_KEY_SOURCE: Final = encode(Symbol("x-opt-deadletter-source"))
_STATES: Final = (b"\x54\x00", b"\x54\x01", b"\x54\x02")
NULL: Final = b"\x40"
_LOCK_TOKEN: Final = Symbol("x-opt-lock-token")
_MAX_TTL_MS: Final = 0xFFFFFFFF

_long = struct.Struct(">q").pack


class Message:
    """One copy of a message in one entity."""

    __slots__ = (
        "acquirer",
        "bare",
        "dead_letter_source",
        "delivery_annotations",
        "delivery_count",
        "due",
        "enqueued",
        "expires",
        "extra_count",
        "extras",
        "head",
        "hops",
        "id",
        "lock",
        "locked_until",
        "origin_sequence",
        "sequence",
        "state",
        "ttl",
    )

    def __init__(
        self, *, bare: bytes, message_id: str, head: bytes, ttl: int | None, extras: bytes, extra_count: int, due: int
    ) -> None:
        self.bare = bare
        self.id = message_id
        #: The sender's durable and priority, and further down its first-acquirer and annotations, all encoded.
        self.head = head
        self.acquirer = NULL
        self.delivery_annotations = b""
        self.ttl = ttl
        self.extras = extras
        self.extra_count = extra_count
        #: When a scheduled message becomes active; 0 when it is not scheduled.
        self.due = due
        self.sequence = 0
        self.enqueued = 0
        self.expires: int | None = None
        self.delivery_count = 0
        self.state = ACTIVE
        #: The delivery tag while somebody holds the lock.
        self.lock: bytes | None = None
        self.locked_until = 0
        self.hops = 0
        self.origin_sequence = 0
        self.dead_letter_source: str | None = None

    @property
    def size(self) -> int:
        """What it counts against the entity's quota, in bytes."""
        return len(self.bare) + len(self.extras) + OVERHEAD_BYTES

    @property
    def units(self) -> int:
        """How many operations Azure bills for moving it once."""
        return max(1, -(-(len(self.bare) + len(self.extras)) // BILLING_UNIT_BYTES))

    def copy(self) -> "Message":
        """Return another copy for another entity; the bytes are shared."""
        twin = Message(
            bare=self.bare,
            message_id=self.id,
            head=self.head,
            ttl=self.ttl,
            extras=self.extras,
            extra_count=self.extra_count,
            due=0,
        )
        twin.acquirer = self.acquirer
        twin.delivery_annotations = self.delivery_annotations
        twin.hops = self.hops
        twin.origin_sequence = self.origin_sequence or self.sequence
        return twin

    def render(self, *, locked: bool, tell_lock: bool = False) -> bytes:
        """
        Write the message as a receiver gets it.

        `tell_lock` repeats the lock token in the delivery annotations: inside a reply there is no
        delivery tag to read it from.
        """
        ttl = b"\x40" if self.ttl is None else encode(UInt(min(self.ttl, _MAX_TTL_MS)))
        header = self.head + ttl + self.acquirer + encode(UInt(self.delivery_count))
        parts = [
            _KEY_ENQUEUED,
            _long(self.enqueued),
            _KEY_SEQUENCE,
            _long(self.sequence),
            _KEY_STATE,
            _STATES[self.state],
            self.extras,
        ]
        count = 6 + self.extra_count
        if locked:
            parts += (_KEY_LOCKED, _long(self.locked_until))
            count += 2
        if self.origin_sequence:
            parts += (_KEY_ORIGIN_SEQUENCE, _long(self.origin_sequence))
            count += 2
        if self.dead_letter_source is not None:
            parts += (_KEY_SOURCE, encode(self.dead_letter_source))
            count += 2
        annotations = encode_pairs(count, b"".join(parts))
        delivery = self.delivery_annotations
        if tell_lock and self.lock is not None:
            delivery = b"\x00\x53\x71" + encode({_LOCK_TOKEN: token_of(self.lock)})
        return b"".join(
            (
                b"\x00\x53\x70\xc0",
                bytes((len(header) + 1, 5)),
                header,
                delivery,
                b"\x00\x53\x72",
                annotations,
                self.bare,
            )
        )


def new_lock() -> bytes:
    """Make a lock token, as the 16 bytes that travel as delivery tag."""
    return random.randbytes(16)


def token_of(lock: bytes) -> uuid.UUID:
    """Return the lock token as `$management` spells it: the tag is in .NET's byte order."""
    return uuid.UUID(bytes_le=lock)


def lock_of(token: Any) -> bytes:
    """Return the delivery tag of a lock token."""
    return token.bytes_le if isinstance(token, uuid.UUID) else b""
