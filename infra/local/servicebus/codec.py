"""AMQP 1.0 types to bytes and back (part 1 of the OASIS standard)."""

import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: Compound values deeper than this are refused; nothing honest comes near.
MAX_DEPTH = 32
#: An array of a zero-width type could claim any number of elements in no bytes at all.
MAX_ZERO_WIDTH_ITEMS = 4096


class DecodeError(Exception):
    """These bytes are not AMQP; answer with amqp:decode-error."""


class UByte(int):
    """An unsigned 8 bit number."""


class UShort(int):
    """An unsigned 16 bit number."""


class UInt(int):
    """An unsigned 32 bit number."""


class ULong(int):
    """An unsigned 64 bit number."""


class Byte(int):
    """A signed 8 bit number."""


class Short(int):
    """A signed 16 bit number."""


class Int(int):
    """A signed 32 bit number; a plain `int` is an AMQP long."""


class Timestamp(int):
    """Milliseconds since 1970."""


class Float(float):
    """A 32 bit number; a plain `float` is an AMQP double."""


class Char(str):
    """One character."""

    __slots__ = ()


class Symbol(str):
    """A name out of a fixed set; travels as ASCII."""

    __slots__ = ()


class Decimal32(bytes):
    """Four bytes, kept as they came."""


class Decimal64(bytes):
    """Eight bytes, kept as they came."""


class Decimal128(bytes):
    """Sixteen bytes, kept as they came."""


@dataclass(frozen=True, slots=True)
class Described:
    """A value with a descriptor in front."""

    descriptor: Any
    value: Any


@dataclass(frozen=True, slots=True)
class Array:
    """Values that share one constructor: the format code, after a descriptor if there is one."""

    code: int
    items: tuple[Any, ...]
    descriptor: Any = None


# ---- reading

_Reader = Callable[[bytes, int, int], tuple[Any, int]]
_READERS: list[_Reader | None] = [None] * 256


def decode(data: bytes, position: int = 0) -> tuple[Any, int]:
    """
    Read one value; return it and the position behind it.

    Raises:
        DecodeError: whatever is wrong with the bytes.
    """
    try:
        return read(data, position, 0)
    except (IndexError, struct.error, ValueError, TypeError, OverflowError) as error:
        raise DecodeError(f"malformed AMQP value at byte {position}: {error}") from error


def read(data: bytes, position: int, depth: int) -> tuple[Any, int]:
    """Read one value without translating what struct and the like raise; `decode` does that."""
    code = data[position]
    if code == 0:
        return _read_described(data, position + 1, depth + 1)
    reader = _READERS[code]
    if reader is None:
        raise DecodeError(f"unknown AMQP format code 0x{code:02x}")
    return reader(data, position + 1, depth)


def skip(data: bytes, position: int) -> int:
    """Return the position behind the value at `position` without building the value."""
    while (code := data[position]) == 0:
        position = _behind_descriptor(data, position + 1)
    position += 1
    width = _WIDTHS[code >> 4]
    if width >= 0:
        end = position + width
    elif width == -1:
        end = position + 1 + data[position]
    elif width == -4:
        end = position + 4 + int.from_bytes(data[position : position + 4], "big")
    else:
        raise DecodeError(f"unknown AMQP format code 0x{code:02x}")
    if end > len(data):
        raise DecodeError("a value is longer than its frame")
    return end


#: By the high half of the format code: bytes that follow; -1 and -4: a size of that many bytes follows.
_WIDTHS = (-9, -9, -9, -9, 0, 1, 2, 4, 8, 16, -1, -4, -1, -4, -1, -4)


def _behind_descriptor(data: bytes, position: int) -> int:
    if data[position] == 0:
        raise DecodeError("a descriptor may not be described itself")
    return skip(data, position)


def _read_described(data: bytes, position: int, depth: int) -> tuple[Any, int]:
    if depth > MAX_DEPTH:
        raise DecodeError("values are nested too deep")
    descriptor, position = read(data, position, depth)
    value, position = read(data, position, depth)
    return Described(descriptor, value), position


def _constant(value: Any) -> _Reader:
    def reader(data: bytes, position: int, depth: int) -> tuple[Any, int]:
        return value, position

    return reader


def _number(layout: str, kind: type | None) -> _Reader:
    shape = struct.Struct(layout)
    unpack, size = shape.unpack_from, shape.size

    def plain(data: bytes, position: int, depth: int) -> tuple[Any, int]:
        return unpack(data, position)[0], position + size

    def wrapped(data: bytes, position: int, depth: int) -> tuple[Any, int]:
        return wrap(unpack(data, position)[0]), position + size

    if kind is None:
        return plain
    wrap = kind
    return wrapped


def _read_boolean(data: bytes, position: int, depth: int) -> tuple[bool, int]:
    value = data[position]
    if value > 1:
        raise DecodeError(f"a boolean byte of {value}")
    return value == 1, position + 1


def _read_char(data: bytes, position: int, depth: int) -> tuple[Char, int]:
    return Char(chr(struct.unpack_from(">I", data, position)[0])), position + 4


def _read_uuid(data: bytes, position: int, depth: int) -> tuple[uuid.UUID, int]:
    return uuid.UUID(bytes=_take(data, position, 16)), position + 16


def _fixed_bytes(kind: type[bytes], size: int) -> _Reader:
    def reader(data: bytes, position: int, depth: int) -> tuple[Any, int]:
        return kind(_take(data, position, size)), position + size

    return reader


def _take(data: bytes, position: int, size: int) -> bytes:
    end = position + size
    if end > len(data):
        raise DecodeError("a value is longer than its frame")
    return data[position:end]


def _variable(width: int, convert: Callable[[bytes], Any]) -> _Reader:
    def reader(data: bytes, position: int, depth: int) -> tuple[Any, int]:
        start = position + width
        end = start + int.from_bytes(data[position:start], "big")
        if start > len(data) or end > len(data):
            raise DecodeError("a value is longer than its frame")
        return convert(data[start:end]), end

    return reader


def _text(raw: bytes) -> str:
    return raw.decode("utf-8")


def _symbol(raw: bytes) -> Symbol:
    return Symbol(raw.decode("ascii"))


def _bounds(data: bytes, position: int, width: int) -> tuple[int, int, int]:
    """Return count, first item's position and end of a compound value."""
    body = position + width
    size = int.from_bytes(data[position:body], "big")
    start = body + width
    end = body + size
    if size < width or end > len(data):
        raise DecodeError("a compound value is longer than its frame")
    return int.from_bytes(data[body:start], "big"), start, end


def _list_reader(width: int) -> _Reader:
    def reader(data: bytes, position: int, depth: int) -> tuple[list[Any], int]:
        if depth >= MAX_DEPTH:
            raise DecodeError("values are nested too deep")
        count, position, end = _bounds(data, position, width)
        if count > end - position:
            raise DecodeError("a list claims more items than it has bytes")
        items = []
        for _ in range(count):
            item, position = read(data, position, depth + 1)
            items.append(item)
        if position != end:
            raise DecodeError("a list's size and its items disagree")
        return items, end

    return reader


def _map_reader(width: int) -> _Reader:
    def reader(data: bytes, position: int, depth: int) -> tuple[dict[Any, Any], int]:
        if depth >= MAX_DEPTH:
            raise DecodeError("values are nested too deep")
        count, position, end = _bounds(data, position, width)
        if count % 2 or count > end - position:
            raise DecodeError("a map with an impossible number of items")
        pairs: dict[Any, Any] = {}
        for _ in range(count // 2):
            key, position = read(data, position, depth + 1)
            pairs[key], position = read(data, position, depth + 1)
        if position != end:
            raise DecodeError("a map's size and its items disagree")
        return pairs, end

    return reader


def _array_reader(width: int) -> _Reader:
    def reader(data: bytes, position: int, depth: int) -> tuple[Array, int]:
        if depth >= MAX_DEPTH:
            raise DecodeError("values are nested too deep")
        count, position, end = _bounds(data, position, width)
        descriptor = None
        if data[position] == 0:
            descriptor, position = read(data, position + 1, depth + 1)
        code = data[position]
        item_reader = _READERS[code]
        if item_reader is None:
            raise DecodeError(f"unknown AMQP format code 0x{code:02x}")
        position += 1
        if count > max(end - position, MAX_ZERO_WIDTH_ITEMS):
            raise DecodeError("an array claims more items than it has bytes")
        items = []
        for _ in range(count):
            item, position = item_reader(data, position, depth + 1)
            items.append(item)
        if position != end:
            raise DecodeError("an array's size and its items disagree")
        return Array(code, tuple(items), descriptor), end

    return reader


def _read_empty_list(data: bytes, position: int, depth: int) -> tuple[list[Any], int]:
    return [], position


for _code, _reader in {
    0x40: _constant(None),
    0x41: _constant(value=True),
    0x42: _constant(value=False),
    0x43: _constant(UInt(0)),
    0x44: _constant(ULong(0)),
    0x45: _read_empty_list,
    0x50: _number(">B", UByte),
    0x51: _number(">b", Byte),
    0x52: _number(">B", UInt),
    0x53: _number(">B", ULong),
    0x54: _number(">b", Int),
    0x55: _number(">b", None),
    0x56: _read_boolean,
    0x60: _number(">H", UShort),
    0x61: _number(">h", Short),
    0x70: _number(">I", UInt),
    0x71: _number(">i", Int),
    0x72: _number(">f", Float),
    0x73: _read_char,
    0x74: _fixed_bytes(Decimal32, 4),
    0x80: _number(">Q", ULong),
    0x81: _number(">q", None),
    0x82: _number(">d", None),
    0x83: _number(">q", Timestamp),
    0x84: _fixed_bytes(Decimal64, 8),
    0x94: _fixed_bytes(Decimal128, 16),
    0x98: _read_uuid,
    0xA0: _variable(1, bytes),
    0xB0: _variable(4, bytes),
    0xA1: _variable(1, _text),
    0xB1: _variable(4, _text),
    0xA3: _variable(1, _symbol),
    0xB3: _variable(4, _symbol),
    0xC0: _list_reader(1),
    0xD0: _list_reader(4),
    0xC1: _map_reader(1),
    0xD1: _map_reader(4),
    0xE0: _array_reader(1),
    0xF0: _array_reader(4),
}.items():
    _READERS[_code] = _reader


# ---- writing


def encode(value: Any) -> bytes:
    """
    Write one value, in its shortest form.

    A plain int is a long, a plain float a double, a plain str a string; the other types have classes.
    """
    writer = _WRITERS.get(type(value))
    if writer is None:
        raise TypeError(f"{type(value).__name__} has no AMQP form")
    return writer(value)


def encode_list(items: list[Any]) -> bytes:
    """Write a list."""
    body = b"".join([encode(item) for item in items])
    if len(body) < 255 and len(items) < 256:
        return bytes((0xC0, len(body) + 1, len(items))) + body
    return struct.pack(">BII", 0xD0, len(body) + 4, len(items)) + body


def encode_pairs(count: int, body: bytes) -> bytes:
    """Write a map whose `count` keys and values are already encoded in `body`."""
    if len(body) < 255 and count < 256:
        return bytes((0xC1, len(body) + 1, count)) + body
    return struct.pack(">BII", 0xD1, len(body) + 4, count) + body


def encode_array(array: Array) -> bytes:
    """Write an array with the constructor it names."""
    constructor = bytes((array.code,))
    if array.descriptor is not None:
        constructor = b"\x00" + encode(array.descriptor) + constructor
    body = constructor + b"".join([_encode_as(array.code, item) for item in array.items])
    if len(body) < 255 and len(array.items) < 256:
        return bytes((0xE0, len(body) + 1, len(array.items))) + body
    return struct.pack(">BII", 0xF0, len(body) + 4, len(array.items)) + body


def longs(values: list[int]) -> Array:
    """Make an array of AMQP longs."""
    return Array(0x81, tuple(values))


def timestamps(values: list[int]) -> Array:
    """Make an array of AMQP timestamps."""
    return Array(0x83, tuple(Timestamp(value) for value in values))


def _encode_as(code: int, value: Any) -> bytes:
    """Write a value's bytes under a given format code, without the code."""
    fixed = _FIXED.get(code)
    if fixed is not None:
        return struct.pack(fixed, value)
    if code in _NOTHING_TO_WRITE:
        return b""
    if code == 0x73:
        return struct.pack(">I", ord(value))
    if code == 0x98:
        return bytes(value.bytes)
    if code in (0x74, 0x84, 0x94):
        return bytes(value)
    return _encode_sized(code, value)


def _encode_sized(code: int, value: Any) -> bytes:
    small = (code >> 4) in (0xA, 0xC, 0xE)
    if code & 0xF0 in (0xA0, 0xB0):
        raw = value.encode() if isinstance(value, str) else bytes(value)
        return len(raw).to_bytes(1 if small else 4, "big") + raw
    if code in (0xE0, 0xF0):
        constructor = b"" if value.descriptor is None else b"\x00" + encode(value.descriptor)
        count = len(value.items)
        body = constructor + bytes((value.code,)) + b"".join([_encode_as(value.code, item) for item in value.items])
    else:
        parts = value if isinstance(value, list) else [part for pair in value.items() for part in pair]
        count = len(parts)
        body = b"".join([encode(part) for part in parts])
    width = 1 if small else 4
    return (len(body) + width).to_bytes(width, "big") + count.to_bytes(width, "big") + body


_NOTHING_TO_WRITE = frozenset((0x40, 0x41, 0x42, 0x43, 0x44, 0x45))
_FIXED = {
    0x50: ">B",
    0x51: ">b",
    0x52: ">B",
    0x53: ">B",
    0x54: ">b",
    0x55: ">b",
    0x56: ">?",
    0x60: ">H",
    0x61: ">h",
    0x70: ">I",
    0x71: ">i",
    0x72: ">f",
    0x80: ">Q",
    0x81: ">q",
    0x82: ">d",
    0x83: ">q",
}


def _packer(code: int) -> Callable[[Any], bytes]:
    pack = struct.Struct(">B" + _FIXED[code][1:]).pack

    def writer(value: Any) -> bytes:
        return pack(code, value)

    return writer


def _unsigned(zero: bytes, small: int, large: str) -> Callable[[Any], bytes]:
    pack = struct.Struct(large).pack
    code = 0x70 if large == ">BI" else 0x80

    def writer(value: int) -> bytes:
        if value == 0:
            return zero
        if 0 < value < 256:
            return bytes((small, value))
        return pack(code, value)

    return writer


def _write_int(value: int) -> bytes:
    return struct.pack(">Bb", 0x54, value) if -128 <= value < 128 else struct.pack(">Bi", 0x71, value)


def _write_long(value: int) -> bytes:
    return struct.pack(">Bb", 0x55, value) if -128 <= value < 128 else struct.pack(">Bq", 0x81, value)


def _blob(small: int) -> Callable[[bytes], bytes]:
    def writer(raw: bytes) -> bytes:
        size = len(raw)
        if size < 256:
            return bytes((small, size)) + raw
        return struct.pack(">BI", small + 0x10, size) + raw

    return writer


_write_binary = _blob(0xA0)
_write_utf8 = _blob(0xA1)
_write_ascii = _blob(0xA3)


def _write_map(pairs: dict[Any, Any]) -> bytes:
    body = b"".join([encode(part) for pair in pairs.items() for part in pair])
    return encode_pairs(2 * len(pairs), body)


def _write_described(value: Described) -> bytes:
    return b"\x00" + encode(value.descriptor) + encode(value.value)


_WRITERS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda value: b"\x40",
    bool: lambda value: b"\x41" if value else b"\x42",
    UByte: _packer(0x50),
    UShort: _packer(0x60),
    UInt: _unsigned(b"\x43", 0x52, ">BI"),
    ULong: _unsigned(b"\x44", 0x53, ">BQ"),
    Byte: _packer(0x51),
    Short: _packer(0x61),
    Int: _write_int,
    int: _write_long,
    Timestamp: _packer(0x83),
    Float: _packer(0x72),
    float: _packer(0x82),
    Char: lambda value: struct.pack(">BI", 0x73, ord(value)),
    Decimal32: lambda value: b"\x74" + bytes(value),
    Decimal64: lambda value: b"\x84" + bytes(value),
    Decimal128: lambda value: b"\x94" + bytes(value),
    uuid.UUID: lambda value: b"\x98" + value.bytes,
    bytes: _write_binary,
    str: lambda value: _write_utf8(value.encode()),
    Symbol: lambda value: _write_ascii(value.encode("ascii")),
    list: encode_list,
    dict: _write_map,
    Array: encode_array,
    Described: _write_described,
}
