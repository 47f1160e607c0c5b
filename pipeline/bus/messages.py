"""What stands on the bus: mining messages (please look at this chain) and data messages (it is so)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from isal import isal_zlib
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from pipeline.chains.protocol import Chain, Ring
from pipeline.compression import Damaged, TooLarge, inflate
from pipeline.errors import BadMessage, NewerMessage
from pipeline.feeds.base import Feed

MINING_VERSION = 1
DATA_VERSION = 1

MAX_BODY_BYTES = 200_000
"""A data message's body as sent; the broker's limit of 256 KiB counts headers and properties too."""

MAX_DECODED_BYTES = 8 * 1024 * 1024
MAX_ITEMS = 100

ZLIB = "zlib"
"""The encoding's name on the wire. Written by ISA-L, a fifth of zlib's own time for fewer bytes; any zlib reads it."""

Properties = Mapping[str, str | int]


class Outgoing(NamedTuple):
    """A message frozen in the outbox. `due` is when it may be seen, microseconds; 0 is at once."""

    entity: str
    message_id: str
    body: bytes
    properties: Properties
    due: int = 0


class Received(NamedTuple):
    """A message as a trigger hands it over. `enqueued_at` is the broker's clock, microseconds; 0 if unknown."""

    entity: str
    message_id: str
    body: bytes
    properties: Properties
    enqueued_at: int = 0
    delivery_count: int = 1

    @property
    def original_id(self) -> str:
        """The MessageId that the first copy had."""
        return str(self.properties.get("originalId", self.message_id))

    @property
    def seen_before(self) -> bool:
        """Whether an earlier delivery, of this message or of what it is a copy of, may have done part of the work."""
        return self.delivery_count > 1 or "originalId" in self.properties


class MiningMessage(BaseModel):
    """
    A doorbell, or a tick (then `lane` and `scope` are empty). The chain's row is the truth.

    Fields other than `user_id`, `feed`, `scope`, `lane`, `doorbell_id`, `attempt` and `tick` are for people.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    version: int = MINING_VERSION
    user_id: str = Field(min_length=1, max_length=64)
    feed: str = Field(min_length=1, max_length=41)
    scope: str = Field(default="", max_length=128)
    lane: str = Field(default="", max_length=12)
    doorbell_id: str = Field(min_length=1, max_length=128)
    attempt: int = Field(default=0, ge=0)
    tick: int = Field(default=0, ge=0)
    epoch: int = 0
    seq: int = 0
    limit: int = 100
    current_marker: str | None = None
    consecutive_batch_repeats: int = 0
    consecutive_batch_repeats_limit: int = 5
    correlation_id: str = Field(default="", max_length=64)
    mining_type: str = ""
    start_date: int | None = None
    """With `end_date`: the window that a person ordered, item time; such a tick opens the lane `backfill`."""
    end_date: int | None = None

    @property
    def is_tick(self) -> bool:
        """Whether it opens chains instead of waking one."""
        return not self.lane

    def encode(self) -> bytes:
        """Give the JSON body, names in camelCase."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


def decode_mining(body: bytes) -> MiningMessage:
    """
    Read a mining message.

    Raises NewerMessage for a version this code does not know, BadMessage for anything that is not one.
    """
    raw = _json_object(body)
    version = raw.get("version", MINING_VERSION)
    if isinstance(version, int) and version > MINING_VERSION:
        raise NewerMessage(version, MINING_VERSION)
    try:
        return MiningMessage.model_validate(raw)
    except ValidationError as error:
        raise BadMessage("malformed", _where(error)) from None


def doorbell(chain: Chain, ring: Ring, feed: Feed, entity: str) -> Outgoing:
    """Give the message that rings a chain; the marker is cut, for it is for people only."""
    message = MiningMessage(
        user_id=chain.key.user_id,
        feed=chain.key.feed,
        scope=chain.key.scope,
        lane=chain.key.lane.value,
        doorbell_id=ring.doorbell_id,
        attempt=ring.attempt,
        epoch=chain.epoch,
        seq=chain.seq,
        limit=feed.page_limit,
        current_marker=chain.cursor[:200] if chain.cursor else None,
        consecutive_batch_repeats=chain.stalled,
        correlation_id=chain.correlation_id,
        mining_type=feed.raw_data_type,
    )
    return Outgoing(entity, ring.message_id, message.encode(), {"feed": feed.name}, ring.due)


def pack(body: bytes) -> bytes:
    """Compress a data message's body."""
    return isal_zlib.compress(body, 1)


def unpack(body: bytes, encoding: str | None, *, limit: int = MAX_DECODED_BYTES) -> bytes:
    """
    Give the decoded body, never more than `limit` bytes: a small message could claim gigabytes.

    Raises BadMessage if the encoding is unknown, the body damaged or too large.
    """
    if not encoding:
        if len(body) > limit:
            raise BadMessage("oversize", f"more than {limit} bytes")
        return body
    if encoding != ZLIB:
        raise BadMessage("encoding", "known is zlib")
    try:
        return inflate(body, limit=limit)
    except Damaged as error:
        raise BadMessage("damaged", f"zlib: {error}") from None
    except TooLarge as error:
        raise BadMessage("oversize", str(error)) from None


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadMessage("not-json") from None
    if not isinstance(raw, dict):
        raise BadMessage("not-an-object")
    return raw


def _where(error: ValidationError) -> str:
    """Name the fields at fault and why, never their values."""
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['type']}" for e in error.errors()[:5])
