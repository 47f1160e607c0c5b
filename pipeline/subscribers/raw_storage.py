"""
Raw storage: each data message becomes one write-once JSONL.gz object of the lake.

A line is one item: as received, beside its enriched form, with where it comes from. The object's name follows from
the message, so a message that comes twice writes nothing the second time, and no inbox is needed.
"""

from __future__ import annotations

import hashlib
import re

import orjson
from isal import igzip

from pipeline.bus.data import DataItem, DataMessage
from pipeline.errors import ConfigurationError
from pipeline.subscribers.base import Services, Subscriber

GZIP_LEVEL = 2
"""ISA-L writes it: a tenth of the time of gzip at level 6, for a few per cent more bytes."""

_OUR_ID = re.compile(r"d[0-9a-f]+/\d+")


async def handle(services: Services, message: DataMessage) -> bool:
    """Keep the message's items."""
    if services.lake is None:
        raise ConfigurationError("LAKE_URL is missing: raw storage has nowhere to write")
    return await services.lake.write(object_name(message), lines(message))


def object_name(message: DataMessage) -> str:
    """Name the message's object by feed, date and hour of its newest item."""
    newest = message.newest
    ours = _OUR_ID.fullmatch(message.id)
    name = message.id.replace("/", "-") if ours else _hashed(message.id)
    return f"feed={message.feed}/date={newest[:10]}/hour={newest[11:13]}/{name}.jsonl.gz"


def _hashed(message_id: str) -> str:
    """Name what somebody else has sent: its id may hold anything, a path for example."""
    return "m" + hashlib.blake2b(message_id.encode(), digest_size=16).hexdigest()


def lines(message: DataMessage) -> bytes:
    """Give the object: the same bytes for the same message."""
    origin = {
        "messageId": message.id,
        "userId": message.user_id,
        "feed": message.feed,
        "scope": message.scope,
        "chain": {"lane": message.lane, "epoch": message.epoch},
        "page": message.page,
        "feedVersion": message.feed_version,
        "correlationId": message.correlation_id,
    }
    head = orjson.dumps(origin)[:-1] + b","
    text = b"".join(head + orjson.dumps(_item(item))[1:] + b"\n" for item in message.items)
    return igzip.compress(text, GZIP_LEVEL, mtime=0)


def _item(item: DataItem) -> dict[str, object]:
    return {
        "id": item.id,
        "revision": item.revision,
        "op": "delete" if item.deleted else "upsert",
        "sourceTime": item.source_time,
        "capture": item.capture,
        "raw": orjson.Fragment(item.raw_json),
        "data": orjson.Fragment(item.data_json),
    }


SUBSCRIBER = Subscriber(name="raw-storage", handle=handle)
