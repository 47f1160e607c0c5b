"""Data messages: the public contract. Frozen in the page's transaction, split by encoded size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import orjson

from pipeline.bus.messages import DATA_VERSION, MAX_BODY_BYTES, MAX_DECODED_BYTES, MAX_ITEMS, ZLIB, Outgoing, pack
from pipeline.chains import ids
from pipeline.chains.protocol import Chain
from pipeline.errors import PipelineError
from pipeline.feeds.base import Feed, Partition
from pipeline.storage.items import Accepted
from pipeline.times import iso

PRODUCED_BY = "pipeline"


def encode(
    feed: Feed, topic: str, chain: Chain, accepted: Sequence[Accepted], nonce: str, *, capture: str = "batch"
) -> list[Outgoing]:
    """Give the data messages for the accepted items of one page, in the page's order."""
    return [
        Outgoing(topic, ids.data_message_id(nonce, part), body, _properties(feed, chain, items))
        for part, (items, body) in enumerate(_bodies(feed, chain, list(accepted), nonce, capture))
    ]


def _bodies(
    feed: Feed, chain: Chain, accepted: list[Accepted], nonce: str, capture: str
) -> Iterable[tuple[list[Accepted], bytes]]:
    for part in _partitions(feed, accepted):
        for start in range(0, len(part), MAX_ITEMS):
            yield from _fitting(feed, chain, part[start : start + MAX_ITEMS], nonce, capture)


def _partitions(feed: Feed, accepted: list[Accepted]) -> Iterable[list[Accepted]]:
    if feed.partition is Partition.PAGE:
        return [accepted]
    unit = 3600 if feed.partition is Partition.HOUR else 86_400
    return [list(group) for _, group in groupby(accepted, key=lambda one: one.item.time // unit)]


def _fitting(
    feed: Feed, chain: Chain, items: list[Accepted], nonce: str, capture: str
) -> Iterable[tuple[list[Accepted], bytes]]:
    """Halve until each body fits; an item that does not fit alone was kept out when it was read."""
    decoded = _body(feed, chain, items, nonce, capture)
    body = pack(decoded) if len(decoded) <= MAX_DECODED_BYTES else b""
    if body and len(body) <= MAX_BODY_BYTES:
        yield items, body
        return
    if len(items) == 1:
        raise PipelineError("an item is too large for a message")
    middle = len(items) // 2
    yield from _fitting(feed, chain, items[:middle], nonce, capture)
    yield from _fitting(feed, chain, items[middle:], nonce, capture)


def _properties(feed: Feed, chain: Chain, items: list[Accepted]) -> dict[str, str | int]:
    return {
        "contentEncoding": ZLIB,
        "feed": feed.name,
        "version": DATA_VERSION,
        "itemCount": len(items),
        "correlationId": chain.correlation_id,
    }


def _body(feed: Feed, chain: Chain, items: list[Accepted], nonce: str, capture: str) -> bytes:
    times = [one.item.time for one in items]
    newest, oldest = iso(max(times)), iso(min(times))
    key = chain.key
    head = {
        "version": DATA_VERSION,
        "userId": key.user_id,
        "feed": key.feed,
        "scope": key.scope,
        "chain": {"lane": key.lane.value, "epoch": chain.epoch},
        "page": chain.seq,
        "feedVersion": feed.version,
        "originalTimeOfData": newest,
        "metaData": {
            "facebookUserId": key.user_id,
            "itemCount": len(items),
            "firstItemTime": oldest,
            "lastItemTime": newest,
            "correlationId": chain.correlation_id,
        },
        "includeMetadataWhenStoring": True,
        "rawDataType": feed.raw_data_type,
        "featureName": feed.name,
        "fileName": f"{key.user_id}-{nonce}",
        "producedBy": PRODUCED_BY,
        "jsonDataArray": [_item(one, capture) for one in items],
    }
    return orjson.dumps(head)


def _item(one: Accepted, capture: str) -> dict[str, Any]:
    item = one.item
    moment = iso(item.time)
    return {
        "id": item.id,
        "revision": one.revision,
        "op": "delete" if item.deleted else "upsert",
        "sourceTime": moment,
        "hour": moment[:13],
        "capture": capture,
        "raw": orjson.Fragment(item.raw_json),
        "data": orjson.Fragment(item.data),
    }
