"""Every AMQP type survives the round trip, and no bytes do harm."""

import contextlib
import math
import struct
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.local.servicebus.codec import (
    Array,
    Byte,
    Char,
    Decimal32,
    Decimal64,
    Decimal128,
    DecodeError,
    Described,
    Float,
    Int,
    Short,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
    decode,
    encode,
    skip,
)
from infra.local.servicebus.performatives import read_performative
from infra.local.servicebus.sections import parse_message, split_batch

ascii_text = st.text(st.characters(max_codepoint=127), max_size=300)
any_text = st.text(st.characters(codec="utf-8"), max_size=300)


def whole(kind: type, low: int, high: int) -> st.SearchStrategy[Any]:
    return st.integers(low, high).map(kind)


scalars: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    whole(UByte, 0, 2**8 - 1),
    whole(UShort, 0, 2**16 - 1),
    whole(UInt, 0, 2**32 - 1),
    whole(ULong, 0, 2**64 - 1),
    whole(Byte, -(2**7), 2**7 - 1),
    whole(Short, -(2**15), 2**15 - 1),
    whole(Int, -(2**31), 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1),
    whole(Timestamp, -(2**63), 2**63 - 1),
    st.floats(width=32, allow_nan=False).map(Float),
    st.floats(allow_nan=False),
    st.characters(codec="utf-8").map(Char),
    st.binary(min_size=4, max_size=4).map(Decimal32),
    st.binary(min_size=8, max_size=8).map(Decimal64),
    st.binary(min_size=16, max_size=16).map(Decimal128),
    st.uuids(),
    st.binary(max_size=300),
    any_text,
    ascii_text.map(Symbol),
)

arrays = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=300).map(lambda v: Array(0x81, tuple(v))),
    st.lists(st.uuids(), max_size=40).map(lambda v: Array(0x98, tuple(v))),
    st.lists(ascii_text.map(Symbol), max_size=20).map(lambda v: Array(0xB3, tuple(v))),
    st.lists(st.binary(max_size=255), max_size=20).map(lambda v: Array(0xA0, tuple(v))),
    st.lists(st.none(), max_size=20).map(lambda v: Array(0x40, tuple(v))),
    st.lists(st.lists(st.booleans(), max_size=5), max_size=9).map(lambda v: Array(0xD0, tuple(v), ULong(0x1D))),
)
keys = st.one_of(st.integers(-(2**63), 2**63 - 1), any_text, ascii_text.map(Symbol))
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(scalars, arrays),
    lambda inner: st.one_of(
        st.lists(inner, max_size=8),
        st.dictionaries(keys, inner, max_size=8),
        st.builds(Described, whole(ULong, 0, 2**64 - 1), inner),
    ),
    max_leaves=20,
)


def shape(value: Any) -> Any:
    """Return the value with its types spelled out: plain equality takes a UInt for an Int."""
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, dict):
        return [(shape(key), shape(item)) for key, item in value.items()]
    if isinstance(value, Described):
        return ("described", shape(value.descriptor), shape(value.value))
    if isinstance(value, Array):
        return ("array", value.code, shape(list(value.items)), shape(value.descriptor))
    return (type(value), value)


@settings(deadline=None)  # a busy machine is not a failure
@given(values)
def test_every_value_comes_back_with_its_value_and_its_type(value: Any) -> None:
    """An annotation whose type changes on the way is a different annotation to its receiver."""
    data = encode(value)

    decoded, end = decode(data)

    assert end == len(data)
    assert shape(decoded) == shape(value)


@settings(deadline=None)  # a busy machine is not a failure
@given(values)
def test_skipping_a_value_ends_where_reading_it_ends(value: Any) -> None:
    """The broker passes bodies on unread; a wrong length would shift everything behind."""
    data = encode(value) + b"rest"

    assert skip(data, 0) == decode(data)[1] == len(data) - 4


def test_not_a_number_survives_too() -> None:
    """NaN equals nothing, so the property above leaves it out."""
    assert math.isnan(decode(encode(math.nan))[0])


@settings(deadline=None)  # a busy machine is not a failure
@given(st.binary(max_size=400))
def test_random_bytes_are_a_value_or_a_decode_error(data: bytes) -> None:
    """Whatever arrives on the socket, only one exception type may come out."""
    for read in (decode, read_performative, parse_message, split_batch):
        with contextlib.suppress(DecodeError):
            read(data)


@settings(deadline=None)  # a busy machine is not a failure
@given(values, st.data())
def test_a_damaged_value_is_a_value_or_a_decode_error(value: Any, data: st.DataObject) -> None:
    """Random bytes rarely get past the first; a flipped one inside a good value does."""
    raw = bytearray(encode(value))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    with contextlib.suppress(DecodeError):
        decode(bytes(raw[:cut]))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xd0\xff\xff\xff\xff\xff\xff\xff\xff", id="a list of four thousand million items"),
        pytest.param(b"\xf0\x00\x00\x00\x05\xff\xff\xff\xff\x40", id="an array of as many nulls in no bytes"),
        pytest.param(b"\xc0\x03\x01" * 40 + b"\x40", id="lists nested too deep"),
        pytest.param(b"\x00" * 5000, id="descriptors nested too deep"),
        pytest.param(b"\xb0\xff\xff\xff\xff" + b"x" * 10, id="a binary longer than its frame"),
        pytest.param(b"\xc1\x03\x01\x40\x40", id="a map with half a pair"),
        pytest.param(b"\xc1\x04\x02\x45\x40", id="a map whose key cannot be one"),
        pytest.param(b"\xa1\x01\xff", id="text that is not UTF-8"),
        pytest.param(b"\x73\x00\x11\x00\x00", id="a character beyond Unicode"),
        pytest.param(b"\x56\x02", id="a boolean that is neither"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x3f", id="an unknown format code"),
    ],
)
def test_hostile_values_are_refused(data: bytes) -> None:
    """Each of these asks for memory, depth or a crash; each gets the one documented error."""
    with pytest.raises(DecodeError):
        decode(data)


def test_wide_forms_are_read_like_narrow_ones() -> None:
    """Clients may write any form of a value, not only the shortest."""
    assert decode(struct.pack(">BI", 0x70, 7))[0] == UInt(7)
    assert decode(struct.pack(">BQ", 0x80, 7))[0] == ULong(7)
    assert decode(struct.pack(">Bi", 0x71, 7))[0] == Int(7)
    assert decode(b"\xd0\x00\x00\x00\x05\x00\x00\x00\x01\x41")[0] == [True]
    assert decode(b"\x98" + uuid.UUID(int=5).bytes)[0] == uuid.UUID(int=5)
