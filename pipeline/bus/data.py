"""
A data message as its readers see it.

What an item holds stays JSON until somebody asks for it: raw storage writes it as it came, analytics reads the half
that it needs. Most of what reading a message cost was making objects that nobody looked at.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, NamedTuple, NoReturn

import msgspec
import orjson

from pipeline.bus.messages import DATA_VERSION, Received, unpack
from pipeline.errors import BadMessage, NewerMessage

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
    raw_json: bytes
    """As the API gave it, on one line; `null` for a deletion."""
    data_json: bytes
    """What the feed's contract promises, on one line; `null` for a deletion."""

    @property
    def raw(self) -> Any:
        """Parse `raw_json`, anew each time. Raises BadMessage."""
        return _parsed(self.raw_json)

    @property
    def data(self) -> dict[str, Any] | None:
        """Parse `data_json`, anew each time. Raises BadMessage."""
        found: dict[str, Any] | None = _parsed(self.data_json)
        return found


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


class _Item(msgspec.Struct, rename="camel"):
    id: str
    revision: int
    op: str
    source_time: str
    raw: msgspec.Raw
    data: msgspec.Raw
    capture: str = "batch"


class _Chain(msgspec.Struct):
    lane: str = ""
    epoch: int = 0


class _MetaData(msgspec.Struct, rename="camel"):
    correlation_id: str = ""


class _Body(msgspec.Struct, rename="camel"):
    version: int
    user_id: str
    feed: str
    scope: str
    json_data_array: list[_Item]
    chain: _Chain | None = None
    page: int = 0
    feed_version: int = 1
    meta_data: _MetaData | None = None


_DECODER = msgspec.json.Decoder(_Body)


def read_data(received: Received) -> DataMessage:
    """
    Read a data message.

    Raises NewerMessage for a version this code does not know, BadMessage for anything that is not one.
    """
    encoding = received.properties.get("contentEncoding")
    body = _decoded(unpack(received.body, str(encoding) if encoding else None))
    try:
        message = DataMessage(
            id=received.original_id,
            user_id=_text(body.user_id, 64),
            feed=_text(body.feed, 41),
            scope=_text(body.scope, 128),
            lane=body.chain.lane if body.chain else "",
            epoch=body.chain.epoch if body.chain else 0,
            page=body.page,
            feed_version=body.feed_version,
            correlation_id=body.meta_data.correlation_id if body.meta_data else "",
            items=[_item(one) for one in body.json_data_array],
        )
    except ValueError as error:
        raise BadMessage("malformed", f"data message: {error}") from None
    if not message.items:
        raise BadMessage("malformed", "jsonDataArray: empty")
    if not message.id or not _FEED.fullmatch(message.feed):
        raise BadMessage("malformed", "feed or message id")
    return message


def _decoded(text: bytes) -> _Body:
    try:
        if b"\n" in text or b"\r" in text:  # somebody else's layout: an item must stand on one line
            text = orjson.dumps(orjson.loads(text))
        text.decode()  # what is not parsed here is not checked for being UTF-8 either
        body = _DECODER.decode(text)
    except (ValueError, RecursionError, orjson.JSONEncodeError):
        _refuse(text)
    if body.version > DATA_VERSION:
        raise NewerMessage(body.version, DATA_VERSION)
    return body


def _refuse(text: bytes) -> NoReturn:
    """Say what is wrong; a newer version may have any shape, and is not."""
    try:
        raw = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise BadMessage("not-json") from None
    version = raw.get("version") if isinstance(raw, dict) else None
    if isinstance(version, int) and version > DATA_VERSION:
        raise NewerMessage(version, DATA_VERSION)
    raise BadMessage("malformed", "data message: its fields or their types")


def _item(one: _Item) -> DataItem:
    deleted = one.op == "delete"
    datetime.fromisoformat(one.source_time)  # a 31st of February has the right form, and no database takes it
    data = bytes(one.data)
    good = _MOMENT.fullmatch(one.source_time) and (data == b"null" if deleted else data.startswith(b"{"))
    if not good or one.op not in ("upsert", "delete"):
        raise ValueError("an item's time, op or data")
    return DataItem(_text(one.id, 128), one.revision, deleted, one.source_time, one.capture[:8], bytes(one.raw), data)


def _text(value: str, limit: int) -> str:
    if not 0 < len(value) <= limit:
        raise ValueError(f"a text that is empty or longer than {limit}")
    return value


def _parsed(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise BadMessage("not-json", "an item") from None
