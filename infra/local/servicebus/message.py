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
    DecodeError,
    Described,
    Symbol,
    Timestamp,
    UInt,
    ULong,
    decode,
    encode,
    encode_list,
    encode_pairs,
    skip,
)

ACTIVE: Final = 0
DEFERRED: Final = 1
SCHEDULED: Final = 2

HEADER: Final = 0x70
DELIVERY_ANNOTATIONS: Final = 0x71
MESSAGE_ANNOTATIONS: Final = 0x72
PROPERTIES: Final = 0x73
APPLICATION_PROPERTIES: Final = 0x74
DATA: Final = 0x75
SEQUENCE: Final = 0x76
VALUE: Final = 0x77
FOOTER: Final = 0x78

#: The message format of a transfer whose data sections are messages themselves.
BATCH_FORMAT: Final = 0x80013700

#: Azure bills every started piece of this size as one operation.
BILLING_UNIT_BYTES: Final = 64 * 1024

#: What the broker itself needs to keep a message, counted against the entity's quota.
OVERHEAD_BYTES: Final = 64

_SCHEDULED_ENQUEUE_TIME: Final = "x-opt-scheduled-enqueue-time"
#: Annotations only the broker may set; a sender that copies a received message sends them along.
_OURS: Final = frozenset(
    (
        "x-opt-enqueued-time",
        "x-opt-sequence-number",
        "x-opt-locked-until",
        "x-opt-lock-token",
        "x-opt-message-state",
        "x-opt-enqueue-sequence-number",
        "x-opt-deadletter-source",
    )
)
_KEY_ENQUEUED: Final = encode(Symbol("x-opt-enqueued-time")) + b"\x83"
_KEY_SEQUENCE: Final = encode(Symbol("x-opt-sequence-number")) + b"\x81"
_KEY_STATE: Final = encode(Symbol("x-opt-message-state"))
_KEY_LOCKED: Final = encode(Symbol("x-opt-locked-until")) + b"\x83"
_KEY_ORIGIN_SEQUENCE: Final = encode(Symbol("x-opt-enqueue-sequence-number")) + b"\x81"
_KEY_SOURCE: Final = encode(Symbol("x-opt-deadletter-source"))
_STATES: Final = (b"\x54\x00", b"\x54\x01", b"\x54\x02")
_PLAIN_HEAD: Final = b"\x40\x40"
_MAX_TTL_MS: Final = 0xFFFFFFFF

_long = struct.Struct(">q").pack


class Message:
    """One copy of a message in one entity."""

    __slots__ = (
        "bare",
        "dead_letter_source",
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
        self.head = head
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
        return (len(self.bare) + len(self.extras)) // BILLING_UNIT_BYTES + 1

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
        header = self.head + ttl + b"\x40" + encode(UInt(self.delivery_count))
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
        token = b""
        if tell_lock and self.lock is not None:
            token = b"\x00\x53\x71" + encode({Symbol("x-opt-lock-token"): token_of(self.lock)})
        return b"".join(
            (b"\x00\x53\x70\xc0", bytes((len(header) + 1, 5)), header, token, b"\x00\x53\x72", annotations, self.bare)
        )


def parse_message(data: bytes) -> Message:
    """
    Take a message apart as far as the broker needs it.

    A message without an id gets one: the JavaScript client cannot hold the lock of one that has none.

    Raises:
        DecodeError: the sections are not those of a message.
    """
    try:
        return _parse_message(data)
    except (IndexError, struct.error, ValueError, TypeError, OverflowError) as error:
        raise DecodeError(f"malformed message: {error}") from error


def split_batch(data: bytes) -> list[bytes]:
    """Return the messages inside a batch, each encoded."""
    pieces = []
    position = 0
    try:
        while position < len(data):
            code, start = _section(data, position)
            end = skip(data, start)
            if code == DATA:
                pieces.append(_binary(data, start, end))
            position = end
    except (IndexError, struct.error, ValueError) as error:
        raise DecodeError(f"malformed batch: {error}") from error
    if not pieces:
        raise DecodeError("a batch without a message")
    return pieces


def read_request(data: bytes) -> tuple[list[Any], dict[str, Any], Any]:
    """
    Read a request to `$cbs` or `$management`: properties, application properties and body value.

    The properties come with all thirteen fields.
    """
    properties: list[Any] = []
    application: dict[str, Any] = {}
    body: Any = None
    position = 0
    while position < len(data):
        section, position = decode(data, position)
        code = section.descriptor if isinstance(section, Described) else None
        if code == PROPERTIES and isinstance(section.value, list):
            properties = section.value
        elif code == APPLICATION_PROPERTIES and isinstance(section.value, dict):
            application = {str(key): value for key, value in section.value.items()}
        elif code in (VALUE, DATA):
            body = section.value
    return properties + [None] * (13 - len(properties)), application, body


def write_reply(correlation_id: Any, to: Any, application: dict[str, Any], body: Any) -> bytes:
    """Write the answer to a request."""
    properties = [None, None, to, None, None, correlation_id]
    return b"".join(
        (
            b"\x00\x53\x73",
            encode_list(properties),
            b"\x00\x53\x74",
            encode(application),
            b"\x00\x53\x77",
            encode(body),
        )
    )


def with_application_properties(bare: bytes, updates: dict[str, Any]) -> bytes:
    """Return the bare message with application properties added or replaced."""
    position = 0
    before, current, after = b"", {}, bare
    while position < len(bare):
        code, start = _section(bare, position)
        end = skip(bare, start)
        if code == APPLICATION_PROPERTIES:
            value, _ = decode(bare, start)
            before, current, after = bare[:position], dict(value or {}), bare[end:]
            break
        if code > APPLICATION_PROPERTIES:
            before, after = bare[:position], bare[position:]
            break
        position = end
    else:
        before, after = bare, b""
    return b"".join((before, b"\x00\x53\x74", encode(current | updates), after))


def new_lock() -> bytes:
    """Make a lock token, as the 16 bytes that travel as delivery tag."""
    return random.randbytes(16)


def token_of(lock: bytes) -> uuid.UUID:
    """Return the lock token as `$management` spells it: the tag is in .NET's byte order."""
    return uuid.UUID(bytes_le=lock)


def lock_of(token: Any) -> bytes:
    """Return the delivery tag of a lock token."""
    return token.bytes_le if isinstance(token, uuid.UUID) else b""


def _section(data: bytes, position: int) -> tuple[int, int]:
    """Return a section's code and where its value begins."""
    if data[position] != 0:
        raise DecodeError("a message section must begin with a descriptor")
    if data[position + 1] == 0x53:
        code, start = data[position + 2], position + 3
    else:
        descriptor, start = decode(data, position + 1)
        if not isinstance(descriptor, ULong):
            raise DecodeError("a message section with an unknown descriptor")
        code = int(descriptor)
    if not HEADER <= code <= FOOTER:
        raise DecodeError(f"no message section has the descriptor 0x{code:02x}")
    return code, start


def _binary(data: bytes, start: int, end: int) -> bytes:
    code = data[start]
    if code == 0xA0:
        return data[start + 2 : end]
    if code == 0xB0:
        return data[start + 5 : end]
    raise DecodeError("a data section must hold binary")


def _parse_message(data: bytes) -> Message:
    head, ttl, annotations = _PLAIN_HEAD, None, None
    bare_start: int | None = None
    properties: tuple[int, int] | None = None
    position, last = 0, 0
    while position < len(data):
        code, start = _section(data, position)
        if code < last:
            raise DecodeError("message sections out of order")
        last = code
        end = skip(data, start)
        if code == HEADER:
            head, ttl = _read_header(data, start)
        elif code == MESSAGE_ANNOTATIONS:
            annotations, _ = decode(data, start)
        elif code >= PROPERTIES:
            if bare_start is None:
                bare_start = position
            if code == PROPERTIES:
                properties = (start, end)
        position = end
    bare = b"" if bare_start is None else data[bare_start:]
    if properties is None:
        message_id, bare = _with_new_id(bare, None)
    else:
        message_id = _message_id(data, properties[0])
        if not message_id:
            rest = data[properties[1] :]
            message_id, bare = _with_new_id(rest, decode(data, properties[0])[0])
    extras, extra_count, due = _sender_annotations(annotations)
    return Message(
        bare=bare, message_id=message_id, head=head, ttl=ttl, extras=extras, extra_count=extra_count, due=due
    )


def _read_header(data: bytes, start: int) -> tuple[bytes, int | None]:
    fields, _ = decode(data, start)
    fields = [*fields, None, None, None]
    ttl = int(fields[2]) if isinstance(fields[2], UInt) else None
    if fields[0] is None and fields[1] is None:
        return _PLAIN_HEAD, ttl
    return encode(fields[0]) + encode(fields[1]), ttl


def _message_id(data: bytes, start: int) -> str:
    """Read only the first field of the properties: the rest is none of the broker's business."""
    code = data[start]
    if code == 0x45:
        return ""
    first = start + (3 if code == 0xC0 else 9)
    count = data[start + 2] if code == 0xC0 else int.from_bytes(data[start + 5 : start + 9], "big")
    if code not in (0xC0, 0xD0):
        raise DecodeError("properties must be a list")
    if not count:
        return ""
    value, _ = decode(data, first)
    if value is None:
        return ""
    return value.hex() if isinstance(value, bytes) else str(value)


def _with_new_id(rest: bytes, properties: list[Any] | None) -> tuple[str, bytes]:
    message_id = uuid.UUID(bytes=random.randbytes(16), version=4).hex
    fields = [message_id, *(properties or [])[1:]]
    return message_id, b"\x00\x53\x73" + encode_list(fields) + rest


def _sender_annotations(annotations: Any) -> tuple[bytes, int, int]:
    """Return the sender's own annotations encoded, their number doubled, and the due time of a scheduled one."""
    if not annotations:
        return b"", 0, 0
    if not isinstance(annotations, dict):
        raise DecodeError("message annotations must be a map")
    due = 0
    parts: list[bytes] = []
    for key, value in annotations.items():
        if key in _OURS:
            continue
        if key == _SCHEDULED_ENQUEUE_TIME and isinstance(value, Timestamp):
            due = int(value)
        parts += (encode(key), encode(value))
    return b"".join(parts), len(parts), due
