"""What a subscriber accepts as a data message."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from pipeline.bus.data import read_data
from pipeline.bus.messages import Received, unpack
from pipeline.errors import BadMessage, NewerMessage
from tests.unit.subscribers.making import accept, gone, message_of, post, received, sent


def body(**changes: Any) -> dict[str, Any]:
    """Give the plain body of a message with one post, changed."""
    message = sent([accept(post(1))])
    plain: dict[str, Any] = orjson.loads(unpack(message.body, "zlib"))
    return plain | changes


def item(**changes: Any) -> list[dict[str, Any]]:
    """Give the items of that message, changed."""
    return [body()["jsonDataArray"][0] | changes]


def read(plain: Any) -> None:
    """Read a body that is not compressed."""
    read_data(Received("queue", "id", orjson.dumps(plain), {}))


def test_a_message_is_read_as_the_processor_wrote_it():
    """One shape on both sides of the topic, or nothing that follows is true."""
    first, second = post(1), post(2)

    message = message_of([accept(first, 4), gone(second, 2)], "ab")

    assert message[:9] == ("dab/0", "user-1", "posts", "page-1", "main", 3, 7, 1, "tick-1")
    assert [(one.id, one.revision, one.deleted) for one in message.items] == [("post_1", 4, False), ("post_2", 2, True)]
    assert message.items[0].raw == first
    assert message.items[0].data is not None
    assert message.items[0].data["message"] == "message 1"
    assert message.items[1].data is None


def test_a_copy_is_known_by_the_id_of_the_first():
    """A message that was put off must count as the one that may have been taken already."""
    message = sent([accept(post(1))])

    copy = received(message, originalId="d77/0")

    assert read_data(copy).id == "d77/0"


@pytest.mark.parametrize(
    "plain",
    [
        [],
        {},
        body(jsonDataArray=[]),
        body(jsonDataArray={}),
        body(jsonDataArray=["text"]),
        body(userId=""),
        body(userId="u" * 65),
        body(scope=5),
        body(feed="../posts"),
        body(feed=None),
        body(chain="main"),
        body(page="many"),
        body(jsonDataArray=item(op="replace")),
        body(jsonDataArray=item(revision="1")),
        body(jsonDataArray=item(sourceTime="yesterday")),
        body(jsonDataArray=item(sourceTime=5)),
        body(jsonDataArray=item(sourceTime="2026-02-31T00:00:00Z")),
        body(jsonDataArray=item(sourceTime="2026-02-01T00:00:00+01:00")),
        body(jsonDataArray=item(data=None)),
        body(jsonDataArray=item(id="")),
    ],
)
def test_what_is_not_a_data_message_is_refused_with_a_reason(plain):
    """Quarantine shows the reason to a person; an exception would be retried ten times and dead-lettered."""
    with pytest.raises(BadMessage):
        read(plain)


def test_somebody_elses_layout_is_brought_onto_one_line():
    """Raw storage writes an item as it came: a line break inside would make two lines of the lake of one item."""
    message = read_data(Received("queue", "id", json.dumps(body(), indent=2).encode(), {}))

    assert b"\n" not in message.items[0].raw_json + message.items[0].data_json
    assert message.items[0].raw == post(1)


def test_text_that_is_no_utf8_is_refused_though_nobody_parses_it():
    """Raw storage would write a line that no reader of the lake can read."""
    plain = orjson.dumps(body()).replace(b"message 1", b"message \xff")

    with pytest.raises(BadMessage):
        read_data(Received("queue", "id", plain, {}))


def test_an_item_that_cannot_be_parsed_is_bad_when_it_is_looked_at():
    """A number beyond all doubles is JSON, and no value: the message goes to quarantine, and not round and round."""
    plain = orjson.dumps(body()).replace(b'"message":"message 1"', b'"message":1e999')

    (one,) = read_data(Received("queue", "id", plain, {})).items

    with pytest.raises(BadMessage):
        _ = one.raw


def test_a_newer_version_of_another_shape_is_not_guessed_at_either():
    """A new field type is why there is a new version."""
    with pytest.raises(NewerMessage):
        read(body(version=2, page={"number": 7}))


def test_a_newer_version_is_not_guessed_at():
    """During a rolling deployment old code meets new messages; it must leave them to the new code."""
    with pytest.raises(NewerMessage):
        read(body(version=2))


def test_the_deepest_item_that_is_published_can_be_read():
    """What passes the processor and breaks every reader would go to each subscriber's dead letters."""
    deep: Any = []
    for _ in range(252):
        deep = [deep]
    found = post(1) | {"extra": deep}

    (one,) = message_of([accept(found)], "ab").items

    assert one.raw == found
