"""A data message as its readers see it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, NamedTuple

from pipeline.bus.messages import Received, decode_data
from pipeline.errors import BadMessage

_FEED = re.compile(r"[a-z][a-z0-9-]{0,40}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class DataItem(NamedTuple):
    """One revision of one item."""

    id: str
    revision: int
    deleted: bool
    source_time: str
    """`2026-01-31T05:10:00Z`."""
    capture: str
    raw: Any
    """As the API gave it; None for a deletion."""
    data: dict[str, Any] | None
    """What the feed's contract promises; None for a deletion."""


class DataMessage(NamedTuple):
    """Items of one page of one user and scope."""

    id: str
    """The MessageId that the first copy had: the same message has the same id for ever."""
    user_id: str
    feed: str
    scope: str
    lane: str
    epoch: int
    page: int
    feed_version: int
    correlation_id: str
    items: list[DataItem]

    @property
    def newest(self) -> str:
        """The time of the newest item."""
        return max(item.source_time for item in self.items)


def read_data(received: Received) -> DataMessage:
    """
    Read a data message.

    Raises NewerMessage for a version this code does not know, BadMessage for anything that is not one.
    """
    raw = decode_data(received.body, received.properties)
    try:
        chain, metadata = raw.get("chain") or {}, raw.get("metaData") or {}
        message = DataMessage(
            id=received.original_id,
            user_id=_text(raw["userId"], 64),
            feed=_text(raw["feed"], 41),
            scope=_text(raw["scope"], 128),
            lane=str(chain.get("lane", "")),
            epoch=int(chain.get("epoch", 0)),
            page=int(raw.get("page", 0)),
            feed_version=int(raw.get("feedVersion", 1)),
            correlation_id=str(metadata.get("correlationId", "")),
            items=[_item(one) for one in raw["jsonDataArray"]],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadMessage("malformed", f"data message: {type(error).__name__}") from None
    if not message.items:
        raise BadMessage("malformed", "jsonDataArray: empty")
    if not message.id or not _FEED.fullmatch(message.feed):
        raise BadMessage("malformed", "feed or message id")
    return message


def _item(one: dict[str, Any]) -> DataItem:
    op, data = one["op"], one["data"]
    deleted = op == "delete"
    moment = one["sourceTime"]
    datetime.fromisoformat(moment)  # a 31st of February has the right form, and no database takes it
    good = _MOMENT.fullmatch(moment) and (data is None if deleted else isinstance(data, dict))
    if not good or op not in ("upsert", "delete") or not isinstance(one["revision"], int):
        raise ValueError(op)
    return DataItem(
        _text(one["id"], 128),
        one["revision"],
        deleted,
        moment,
        str(one.get("capture", "batch"))[:8],
        one["raw"],
        data,
    )


def _text(value: Any, limit: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= limit:
        raise ValueError(limit)
    return value
