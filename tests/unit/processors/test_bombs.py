"""Bodies that claim more than they are: cut at the limit, damaged ones named, nothing unbounded in memory."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.bus.data import read_data
from pipeline.bus.messages import (
    MAX_DECODED_BYTES,
    Received,
    decode_mining,
    pack,
    unpack,
)
from pipeline.errors import BadMessage, NewerMessage


def bomb(megabytes: int) -> bytes:
    """Give a small body that decodes to so many megabytes of zeros."""
    stream = zlib.compressobj(9)
    chunk = bytes(1024 * 1024)
    return b"".join(stream.compress(chunk) for _ in range(megabytes)) + stream.flush()


def test_a_bomb_is_refused_within_the_limits_memory() -> None:
    """One message of 256 KB could claim a quarter of a gigabyte, and nested ones far more."""
    body = bomb(200)
    assert len(body) < 256 * 1024
    tracemalloc.start()
    with pytest.raises(BadMessage, match="oversize"):
        unpack(body, "zlib")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * 1024 * 1024


def test_a_bomb_in_a_bomb_stays_packed() -> None:
    """Nothing is unpacked twice."""
    assert unpack(pack(bomb(100)), "zlib") == bomb(100)


def test_exactly_the_limit_passes() -> None:
    """What we send ourselves must be readable."""
    assert len(unpack(pack(bytes(MAX_DECODED_BYTES)), "zlib")) == MAX_DECODED_BYTES
    with pytest.raises(BadMessage, match="oversize"):
        unpack(pack(bytes(MAX_DECODED_BYTES + 1)), "zlib")
    with pytest.raises(BadMessage, match="oversize"):
        unpack(bytes(MAX_DECODED_BYTES + 1), None)


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "ZLIB", "zlib, zlib"])
def test_an_unknown_encoding_is_named(encoding: str) -> None:
    """Guessing would hand garbage on."""
    with pytest.raises(BadMessage, match="encoding"):
        unpack(b"x", encoding)


def test_a_cut_body_is_damaged_not_shorter() -> None:
    """Half a page that parses would be half a page lost."""
    body = pack(json.dumps({"a": list(range(1000))}).encode())
    with pytest.raises(BadMessage, match="damaged"):
        unpack(body[:-5], "zlib")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_by_name(body: bytes) -> None:
    """Anything else would be an exception: ten deliveries and the dead-letter queue."""
    for read in (lambda: decode_mining(body), lambda: read_data(Received("queue", "id", body, {})),
                 lambda: read_data(Received("queue", "id", body, {"contentEncoding": "zlib"}))):  # fmt: skip
        with contextlib.suppress(BadMessage, NewerMessage):
            read()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["version", "userId", "feed", "x"]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["version", "userId", "feed", "scope", "lane", "doorbellId", "attempt", "tick"]), JSON
    )
)
def test_any_json_object_is_a_mining_message_or_refused_by_name(value: dict[str, object]) -> None:
    """A newer version is never guessed at, a malformed one never raised."""
    try:
        message = decode_mining(json.dumps(value).encode())
    except (BadMessage, NewerMessage):
        return
    assert message.user_id
    assert message.doorbell_id


def test_a_newer_version_is_put_off_and_not_parsed() -> None:
    """An old worker must leave it for a new one, whatever else stands in it."""
    with pytest.raises(NewerMessage):
        decode_mining(b'{"version": 2, "userId": 7}')
    with pytest.raises(NewerMessage):
        read_data(Received("queue", "id", json.dumps({"version": 99, "userId": 5, "items": []}).encode(), {}))
