"""What raw storage writes, and under which name."""

from __future__ import annotations

import gzip
import re

import orjson
import pytest

from pipeline.subscribers.raw_storage import lines, object_name
from tests.unit.subscribers.making import accept, gone, message_of, post


def test_an_object_is_named_by_the_hour_of_its_newest_item():
    """Partitions by date and hour are what readers of a lake prune by."""
    message = message_of([accept(post(0)), accept(post(61))], "ab12")

    assert object_name(message) == "feed=posts/date=2026-01-05/hour=06/dab12-0.jsonl.gz"


def test_a_message_always_gives_the_same_object():
    """Write-once only works if name and bytes follow from the message alone."""
    message = message_of([accept(post(1)), accept(post(2))])

    assert lines(message) == lines(message)
    assert object_name(message) == object_name(message)


@pytest.mark.parametrize("message_id", ["../../etc/passwd", "d12/0/../..", "a b", "D12/0", "d12/0\n", "ü" * 60])
def test_a_foreign_message_id_cannot_leave_its_folder(message_id):
    """Whoever may send to the topic must not choose where files are written."""
    message = message_of([accept(post(1))])._replace(id=message_id)

    name = object_name(message)

    assert re.fullmatch(r"feed=posts/date=2026-01-05/hour=05/m[0-9a-f]{32}\.jsonl\.gz", name)


def test_a_line_holds_the_item_as_received_beside_its_data_and_its_origin():
    """Years later the line alone must tell whose item it is, which revision, and how it came here."""
    raw = post(1, unknown_field={"kept": [1, 2.5, None]})

    message = message_of([accept(raw, 3), gone(post(2), 2)], "ab")
    first, second = (orjson.loads(line) for line in gzip.decompress(lines(message)).splitlines())

    assert first["raw"] == raw
    assert first["data"]["engagement"] == {"comments": 1, "reactions": 2, "shares": 1, "total": 4}
    origin = {name: value for name, value in first.items() if name not in ("raw", "data")}
    assert origin == {
        "messageId": "dab/0",
        "userId": "user-1",
        "feed": "posts",
        "scope": "page-1",
        "chain": {"lane": "main", "epoch": 3},
        "page": 7,
        "feedVersion": 1,
        "correlationId": "tick-1",
        "id": "post_1",
        "revision": 3,
        "op": "upsert",
        "sourceTime": "2026-01-05T05:01:00Z",
        "capture": "batch",
    }
    assert (second["op"], second["raw"], second["data"]) == ("delete", None, None)
