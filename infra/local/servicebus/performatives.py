"""
The frames of AMQP 1.0: connection, session, link and SASL.

Every performative is written with all its fields, trailing nulls too: clients exist that
index a field by its position (azure-servicebus 7.14).
"""

import struct
from typing import Any, Final

from infra.local.servicebus.codec import (
    DecodeError,
    Described,
    Symbol,
    UByte,
    UInt,
    ULong,
    UShort,
    decode,
    encode,
    encode_list,
)

OPEN: Final = 0x10
BEGIN: Final = 0x11
ATTACH: Final = 0x12
FLOW: Final = 0x13
TRANSFER: Final = 0x14
DISPOSITION: Final = 0x15
DETACH: Final = 0x16
END: Final = 0x17
CLOSE: Final = 0x18
ERROR: Final = 0x1D
RECEIVED: Final = 0x23
ACCEPTED: Final = 0x24
REJECTED: Final = 0x25
RELEASED: Final = 0x26
MODIFIED: Final = 0x27
SOURCE: Final = 0x28
TARGET: Final = 0x29
COORDINATOR: Final = 0x30
SASL_MECHANISMS: Final = 0x40
SASL_INIT: Final = 0x41
SASL_OUTCOME: Final = 0x44

#: Fields of each performative, by descriptor.
FIELDS: Final = {
    OPEN: 10,
    BEGIN: 8,
    ATTACH: 14,
    FLOW: 11,
    TRANSFER: 11,
    DISPOSITION: 6,
    DETACH: 3,
    END: 1,
    CLOSE: 1,
    SASL_MECHANISMS: 1,
    SASL_INIT: 3,
    SASL_OUTCOME: 2,
}

#: What a peer's fields must be where they are there at all; fields nobody reads may be anything.
_TYPES: Final[dict[int, tuple[type, ...]]] = {
    OPEN: (str, str, UInt, UShort, UInt),
    BEGIN: (UShort, UInt, UInt, UInt, UInt),
    ATTACH: (str, UInt, bool, UByte, UByte, Described, Described, dict, bool, UInt, ULong),
    FLOW: (UInt, UInt, UInt, UInt, UInt, UInt, UInt, UInt, bool, bool),
    TRANSFER: (UInt, UInt, bytes, UInt, bool, bool, UByte, Described, bool, bool, bool),
    DISPOSITION: (bool, UInt, UInt, bool, Described, bool),
    DETACH: (UInt, bool, Described),
    END: (Described,),
    CLOSE: (Described,),
    SASL_INIT: (Symbol, bytes, str),
}
#: Fields that must be there.
_REQUIRED: Final[dict[int, tuple[int, ...]]] = {
    OPEN: (0,),
    BEGIN: (1, 2, 3),
    ATTACH: (0, 1, 2),
    FLOW: (1, 2, 3),
    TRANSFER: (0,),
    DISPOSITION: (0, 1),
    DETACH: (0,),
    SASL_INIT: (0,),
}

#: Descriptors may also be spelled as symbols; some clients do for outcomes.
_SYMBOLS: Final = {
    "amqp:open:list": OPEN,
    "amqp:begin:list": BEGIN,
    "amqp:attach:list": ATTACH,
    "amqp:flow:list": FLOW,
    "amqp:transfer:list": TRANSFER,
    "amqp:disposition:list": DISPOSITION,
    "amqp:detach:list": DETACH,
    "amqp:end:list": END,
    "amqp:close:list": CLOSE,
    "amqp:error:list": ERROR,
    "amqp:received:list": RECEIVED,
    "amqp:accepted:list": ACCEPTED,
    "amqp:rejected:list": REJECTED,
    "amqp:released:list": RELEASED,
    "amqp:modified:list": MODIFIED,
    "amqp:source:list": SOURCE,
    "amqp:target:list": TARGET,
    "amqp:coordinator:list": COORDINATOR,
    "amqp:sasl-init:list": SASL_INIT,
}

AMQP_HEADER: Final = b"AMQP\x00\x01\x00\x00"
SASL_HEADER: Final = b"AMQP\x03\x01\x00\x00"
HEARTBEAT: Final = b"\x00\x00\x00\x08\x02\x00\x00\x00"

_ACCEPTED_STATE: Final = b"\x00\x53\x24\x45"


def code_of(descriptor: Any) -> int | None:
    """Return the number of a descriptor given as number or as symbol."""
    if isinstance(descriptor, Symbol):
        return _SYMBOLS.get(descriptor)
    return int(descriptor) if isinstance(descriptor, ULong) else None


def read_performative(body: bytes) -> tuple[int, list[Any], bytes]:
    """
    Split a frame's body into performative, its fields (padded to their full number) and payload.

    Raises:
        DecodeError: it is not a performative.
    """
    value, end = decode(body)
    if not isinstance(value, Described):
        raise DecodeError("a frame must begin with a performative")
    code = code_of(value.descriptor)
    if code not in FIELDS or not isinstance(value.value, list):
        raise DecodeError(f"unknown performative {value.descriptor!r}")
    fields = value.value
    missing = FIELDS[code] - len(fields)
    if missing < 0:
        raise DecodeError("a performative with too many fields")
    if missing:
        fields.extend([None] * missing)
    _check_types(code, fields)
    return code, fields, body[end:]


def _check_types(code: int, fields: list[Any]) -> None:
    for field, kind in zip(fields, _TYPES.get(code, ()), strict=False):
        if field is not None and not isinstance(field, kind):
            raise DecodeError(f"performative 0x{code:02x}: a {type(field).__name__} in place of a {kind.__name__}")
    for index in _REQUIRED.get(code, ()):
        if fields[index] is None:
            raise DecodeError(f"performative 0x{code:02x}: field {index} is missing")


def frame(channel: int, code: int, fields: list[Any], *, kind: int = 0) -> bytes:
    """Write a whole frame; `fields` are padded to their full number."""
    fields = fields + [None] * (FIELDS[code] - len(fields))
    body = b"\x00\x53" + bytes((code,)) + encode_list(fields)
    return struct.pack(">IBBH", len(body) + 8, 2, kind, channel) + body


def transfer_frames(
    channel: int, handle: int, delivery_id: int, tag: bytes, payload: bytes, *, settled: bool, max_frame: int
) -> list[bytes]:
    """Write one delivery, cut to the peer's frame size."""
    frames = []
    overhead = 8 + 3 + 3 + 5 + 5 + 2 + len(tag) + 9
    room = max_frame - overhead
    start, total = 0, len(payload)
    while True:
        piece = payload if total <= room else payload[start : start + room]
        start += room
        more = start < total
        settled_byte = b"\x41" if settled else b"\x42"
        body = b"".join(
            (
                b"\x70",
                handle.to_bytes(4, "big"),
                b"\x70",
                delivery_id.to_bytes(4, "big"),
                bytes((0xA0, len(tag))),
                tag,
                b"\x43",
                settled_byte,
                b"\x41" if more else b"\x42",
                b"\x40\x40\x42\x42\x42",
            )
        )
        head = struct.pack(">IBBH", 14 + len(body) + len(piece), 2, 0, channel)
        frames.append(b"".join((head, b"\x00\x53\x14\xc0", bytes((len(body) + 1, 11)), body, piece)))
        if not more:
            return frames


def disposition(channel: int, *, role_receiver: bool, first: int, last: int, state: bytes) -> bytes:
    """Write a settled disposition whose state is already encoded."""
    body = b"".join(
        (
            b"\x41" if role_receiver else b"\x42",
            b"\x70",
            first.to_bytes(4, "big"),
            b"\x70",
            last.to_bytes(4, "big"),
            b"\x41",
            state,
            b"\x42",
        )
    )
    if len(body) < 255:
        listed = bytes((0xC0, len(body) + 1, 6)) + body
    else:
        listed = struct.pack(">BII", 0xD0, len(body) + 4, 6) + body
    return struct.pack(">IBBH", 11 + len(listed), 2, 0, channel) + b"\x00\x53\x15" + listed


def error_value(condition: str, description: str) -> Described:
    """Make an AMQP error."""
    return Described(ULong(ERROR), [Symbol(condition), description, None])


def accepted() -> bytes:
    """Encode the outcome `accepted`."""
    return _ACCEPTED_STATE


def rejected(condition: str, description: str) -> bytes:
    """Encode the outcome `rejected` with its reason."""
    return encode(Described(ULong(REJECTED), [error_value(condition, description)]))


def outcome(code: int) -> bytes:
    """
    Encode an outcome as the service confirms it.

    `rejected` and `modified` come back without their details: a reason inside `rejected`
    would tell the client that its settlement failed.
    """
    if code == REJECTED:
        return encode(Described(ULong(REJECTED), [None]))
    if code == MODIFIED:
        return encode(Described(ULong(MODIFIED), [None, None, None]))
    return encode(Described(ULong(code), []))


def uints(*values: int | None) -> list[UInt | None]:
    """Make AMQP uints."""
    return [None if value is None else UInt(value) for value in values]


def role_and_modes(fields: list[Any]) -> tuple[bool, int, int]:
    """Return role (true: the peer receives), sender's and receiver's settle mode of an Attach."""
    sender = fields[3] if isinstance(fields[3], UByte) else 2
    receiver = fields[4] if isinstance(fields[4], UByte) else 0
    return bool(fields[2]), int(sender), int(receiver)
