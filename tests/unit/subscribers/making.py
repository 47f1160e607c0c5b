"""Data messages as the pipeline writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.bus.data import DataMessage, read_data
from pipeline.bus.messages import Outgoing, Received
from pipeline.chains.protocol import Chain, Key, Lane
from pipeline.feeds.base import Feed
from pipeline.feeds.posts import FEED as POSTS
from pipeline.processors.data_messages import encode
from pipeline.processors.read_items import read_item
from pipeline.storage.items import Accepted, Candidate, deletion
from tests.fakes import iso

ENTITY = "subscriber-queue-local"
START = 1_767_589_200
"""2026-01-05T05:00:00Z."""


def post(number: int, **fields: Any) -> dict[str, Any]:
    """Give a raw post, a minute after the one before."""
    raw = {
        "id": f"post_{number}",
        "created_time": iso(START + 60 * number),
        "message": f"message {number}",
        "from": {"id": "page-1", "name": "A page"},
        "comments": {"data": [], "summary": {"total_count": number}},
        "reactions": {"data": [], "summary": {"total_count": 2}},
        "shares": {"count": 1},
    }
    return raw | fields


def accept(raw: dict[str, Any], revision: int = 1, feed: Feed = POSTS) -> Accepted:
    """Give an item as the store accepted it."""
    candidate = read_item(feed, raw, observed=START * 1_000_000)
    assert isinstance(candidate, Candidate), candidate
    return Accepted(candidate, revision)


def gone(raw: dict[str, Any], revision: int) -> Accepted:
    """Give the tombstone of a post."""
    return Accepted(deletion(raw["id"], accept(raw).item.time), revision)


def sent(
    accepted: Sequence[Accepted],
    nonce: str = "a1",
    *,
    feed: Feed = POSTS,
    user_id: str = "user-1",
    scope: str = "page-1",
) -> Outgoing:
    """Give the one data message of a page."""
    chain = Chain(key=Key(user_id, feed.name, scope, Lane.MAIN), epoch=3, seq=7, correlation_id="tick-1")
    [message] = encode(feed, f"{feed.topic}-local", chain, accepted, nonce)
    return message


def received(message: Outgoing, **properties: str | int) -> Received:
    """Give a sent message as a subscriber's trigger hands it over."""
    return Received(ENTITY, message.message_id, message.body, {**message.properties, **properties})


def message_of(accepted: Sequence[Accepted], nonce: str = "a1", **options: Any) -> DataMessage:
    """Give a data message as subscribers see it."""
    return read_data(received(sent(accepted, nonce, **options)))
