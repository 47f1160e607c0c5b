"""
Messages in and out of their bytes: the sections of part 3 of the standard.

What a sender says is read to the end once, here: nothing malformed may reach a receiver.
"""

import random
import struct
import uuid
from typing import Any, Final

from infra.local.servicebus.codec import (
    DecodeError,
    Timestamp,
    UByte,
    UInt,
    ULong,
    decode,
    encode,
    encode_list,
    skip,
)
from infra.local.servicebus.message import NULL, Message

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
_PLAIN_HEAD: Final = b"\x40\x40"
#: What a section must hold; the others may hold anything.
_KINDS: Final[dict[int, type]] = {
    HEADER: list,
    DELIVERY_ANNOTATIONS: dict,
    MESSAGE_ANNOTATIONS: dict,
    PROPERTIES: list,
    APPLICATION_PROPERTIES: dict,
    SEQUENCE: list,
    FOOTER: dict,
}


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


def _parse_message(data: bytes) -> Message:
    found: dict[int, Any] = {}
    delivery = b""
    position, last = 0, 0
    bare_start: int | None = None
    in_order = True
    while position < len(data):
        code, start = _section(data, position)
        value, end = _content(code, data, start)
        if code in found and code not in (DATA, SEQUENCE):
            raise DecodeError(f"the section 0x{code:02x} is there twice")
        # Python's client writes delivery annotations behind the body; the standard wants them before.
        in_order = in_order and code >= last
        last = code
        if code >= PROPERTIES and bare_start is None:
            bare_start = position
        if code == DELIVERY_ANNOTATIONS:
            delivery = data[position:end]
        found[code] = value
        position = end
    bare = b"" if bare_start is None else data[bare_start:]
    if not in_order:
        bare = _in_order(data)
    made = _assembled(bare, found)
    made.delivery_annotations = delivery
    return made


def _in_order(data: bytes) -> bytes:
    """Return the bare message with its sections in the standard's order."""
    pieces: list[tuple[int, bytes]] = []
    position = 0
    while position < len(data):
        code, start = _section(data, position)
        end = skip(data, start)
        if code >= PROPERTIES:
            pieces.append((code, data[position:end]))
        position = end
    return b"".join([piece for _, piece in sorted(pieces, key=lambda piece: piece[0])])


def _content(code: int, data: bytes, start: int) -> tuple[Any, int]:
    """Return a section's value and end; data is only measured."""
    if code == DATA:
        end = skip(data, start)
        if data[start] not in (0xA0, 0xB0):
            raise DecodeError("a data section must hold binary")
        return None, end
    value, end = decode(data, start)
    kind = _KINDS.get(code)
    if kind is not None and not isinstance(value, kind):
        raise DecodeError(f"the section 0x{code:02x} must hold a {'list' if kind is list else 'map'}")
    return value, end


def _assembled(bare: bytes, found: dict[int, Any]) -> Message:
    head, ttl, acquirer = _header(found.get(HEADER, []))
    properties = found.get(PROPERTIES, [])
    message_id = _text(properties[0]) if properties else ""
    if not message_id:
        behind = skip(bare, _section(bare, 0)[1]) if PROPERTIES in found else 0
        message_id, bare = _with_new_id(bare[behind:], properties)
    extras, extra_count, due = _sender_annotations(found.get(MESSAGE_ANNOTATIONS, {}))
    made = Message(
        bare=bare, message_id=message_id, head=head, ttl=ttl, extras=extras, extra_count=extra_count, due=due
    )
    made.acquirer = acquirer
    return made


def _header(fields: list[Any]) -> tuple[bytes, int | None, bytes]:
    """Return durable and priority encoded, the time to live, and first-acquirer encoded."""
    if not fields:
        return _PLAIN_HEAD, None, NULL
    durable, priority, time_to_live, acquirer = [*fields, None, None, None, None][:4]
    if not isinstance(durable, bool | None) or not isinstance(priority, UByte | None):
        raise DecodeError("a header with fields of other types")
    ttl = int(time_to_live) if isinstance(time_to_live, UInt) else None
    first = encode(acquirer) if isinstance(acquirer, bool) else NULL
    if durable is None and priority is None:
        return _PLAIN_HEAD, ttl, first
    return encode(durable) + encode(priority), ttl, first


def _text(message_id: Any) -> str:
    """Return a message id as text; it may be a string, a number, a uuid or binary."""
    if message_id is None:
        return ""
    return message_id.hex() if isinstance(message_id, bytes) else str(message_id)


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
