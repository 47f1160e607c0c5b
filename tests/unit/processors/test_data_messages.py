"""Data messages: never above the broker's limit, nothing missing, nothing twice, whatever the items weigh."""

from __future__ import annotations

import random
import zlib
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.bus.messages import MAX_BODY_BYTES, MAX_DECODED_BYTES, MAX_ITEMS, Outgoing, unpack
from pipeline.chains.protocol import Chain, Key, Lane
from pipeline.feeds import posts
from pipeline.feeds.base import Partition
from pipeline.processors.data_messages import encode
from pipeline.processors.read_items import read_item, read_page
from pipeline.storage.items import Accepted, Candidate, deletion
from pipeline.storage.quarantine import Bad
from tests.fakes import iso

CHAIN = Chain(key=Key("user", "posts", "page", Lane.MAIN), epoch=2, seq=3, correlation_id="c" * 16)
BROKER_BYTES = 256 * 1024
HEADERS_BYTES = 4_096
"""More than our ids and properties ever take."""


def noise(size: int, seed: int = 0) -> str:
    """Give text that does not compress below half of its size."""
    return random.Random(seed).randbytes(size // 2).hex()[:size]


def raw(item_id: str, message: str = "", moment: int = 5) -> dict[str, Any]:
    """Give an item."""
    return {"id": item_id, "created_time": iso(moment), "message": message}


def messages(items: list[dict[str, Any]], partition: Partition = Partition.PAGE) -> tuple[list[Outgoing], list[Bad]]:
    """Read a page and encode all that is good in it."""
    feed = replace(posts.FEED, partition=partition)
    page = read_page(feed, items, observed=1)
    accepted = [Accepted(one, 1) for one in page.candidates]
    return encode(feed, "topic", CHAIN, accepted, "nonce"), page.bad


def items_of(message: Outgoing) -> list[dict[str, Any]]:
    """Read a message's items without the product's reader."""
    found: list[dict[str, Any]] = orjson.loads(zlib.decompress(message.body))["jsonDataArray"]
    return found


def ids(found: list[Outgoing]) -> list[str]:
    """Give the item ids in all messages, in order."""
    return [item["id"] for one in found for item in items_of(one)]


@pytest.mark.parametrize("size", [*range(160_000, 420_001, 20_000), 500_000, 900_000, 2_000_000])
def test_an_item_of_any_size_ends_in_one_message_or_in_quarantine(size: int) -> None:
    """One item that the broker refuses would dead-letter its whole chain, again and again."""
    found, bad = messages([raw("small"), raw("large", noise(size)), raw("last")])
    assert sorted(ids(found) + [str(one.item_id) for one in bad]) == ["large", "last", "small"]
    assert [one.reason for one in bad] in ([], ["oversize"])
    for one in found:
        assert len(one.body) <= MAX_BODY_BYTES
        assert len(one.body) + HEADERS_BYTES < BROKER_BYTES
        assert len(unpack(one.body, "zlib")) <= MAX_DECODED_BYTES
    if size <= 160_000:
        assert not bad
    if size >= 900_000:
        assert bad


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([10, 2_000, 40_000, 90_000, 150_000]), min_size=1, max_size=25), st.randoms())
def test_pages_are_split_by_encoded_size_and_keep_their_order(sizes: list[int], rng: random.Random) -> None:
    """The split must neither lose nor repeat what stands at its edge."""
    wanted = [raw(f"i{number}", noise(size, number)) for number, size in enumerate(sizes)]
    found, bad = messages(wanted)
    assert not bad
    assert ids(found) == [f"i{number}" for number in range(len(sizes))]
    assert all(len(one.body) <= MAX_BODY_BYTES for one in found)
    assert len({one.message_id for one in found}) == len(found)


def test_what_compresses_well_is_limited_by_its_decoded_size() -> None:
    """Two hundred kilobytes of zeros are two hundred megabytes to a reader."""
    found, bad = messages([raw(f"i{number}", "0" * 1_500_000) for number in range(12)])
    assert not bad
    assert len(ids(found)) == 12
    assert all(len(unpack(one.body, "zlib")) <= MAX_DECODED_BYTES for one in found)


def test_no_message_holds_more_than_a_hundred_items() -> None:
    """Readers size their batches by it."""
    found, _ = messages([raw(f"i{number}") for number in range(2 * MAX_ITEMS + 1)])
    assert [one.properties["itemCount"] for one in found] == [100, 100, 1]


def test_a_feed_may_split_by_hour_in_utc() -> None:
    """Offsets of the source must not move an item to another hour."""
    found, _ = messages(
        [raw("a", moment=7200), raw("b", moment=7199), {**raw("c"), "created_time": "1970-01-01T03:30:00+0200"}],
        Partition.HOUR,
    )
    hours = [[i["hour"] for i in items_of(one)] for one in found]
    assert hours == [["1970-01-01T02"], ["1970-01-01T01", "1970-01-01T01"]]


def test_a_deletion_carries_no_content() -> None:
    """What was deleted must not be published once more."""
    (one,) = encode(posts.FEED, "topic", CHAIN, [Accepted(deletion("x", 5), 4)], "nonce")
    (item,) = items_of(one)
    assert (item["op"], item["revision"], item["raw"], item["data"]) == ("delete", 4, None, None)


def test_the_same_accepted_items_give_the_same_bytes() -> None:
    """A body is frozen with its id; only the nonce makes two commits differ."""
    found = read_item(posts.FEED, raw("x"), observed=1)
    assert isinstance(found, Candidate)
    one, two = (encode(posts.FEED, "topic", CHAIN, [Accepted(found, 1)], "nonce") for _ in range(2))
    assert one == two
    (other,) = encode(posts.FEED, "topic", CHAIN, [Accepted(found, 1)], "other")
    assert other.message_id != one[0].message_id
