"""Validate a page's items: each becomes a candidate for the store or goes to quarantine; none is dropped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson
from pydantic import TypeAdapter, ValidationError

from pipeline.bus.messages import MAX_BODY_BYTES, MAX_DECODED_BYTES, pack
from pipeline.chains.protocol import MICROS, Position
from pipeline.feeds.base import Feed, Item, Kind, Raw
from pipeline.processors.canonical import writer_of
from pipeline.storage.items import Candidate
from pipeline.storage.quarantine import Bad
from pipeline.times import item_time

MAX_ITEM_ID = 128

ENVELOPE_BYTES = 2_000
"""What a data message holds besides its items, generously."""


class ReadPage(NamedTuple):
    """A page after validation."""

    candidates: list[Candidate]
    bad: list[Bad]
    last: Position | None
    """Time and id of the last item in the API's order that has both."""


def read_page(
    feed: Feed,
    items: Sequence[Any],
    *,
    observed: int,
    context: Mapping[str, Any] | None = None,
) -> ReadPage:
    """
    Read all items of a page in the API's order. `observed` is the page's observation (microseconds): the time of
    snapshot items that have none. `context` is what enrichment steps may use.
    """
    offered = context or {}
    outcomes = [
        _read(feed, item, model, observed, offered) for item, model in zip(items, _models(feed, items), strict=True)
    ]
    places = (place for outcome in reversed(outcomes) if (place := _place(outcome)))
    return ReadPage(
        [outcome for outcome in outcomes if isinstance(outcome, Candidate)],
        [outcome for outcome in outcomes if isinstance(outcome, Bad)],
        next(places, None),
    )


def read_item(feed: Feed, raw: Any, *, observed: int, context: Mapping[str, Any] | None = None) -> Candidate | Bad:
    """Validate one item against its feed's model; arguments as of `read_page`."""
    return _read(feed, raw, None, observed, context or {})


def _place(outcome: Candidate | Bad) -> Position | None:
    if isinstance(outcome, Candidate):
        return Position(outcome.time, outcome.id)
    if outcome.item_id is None or outcome.item_time is None:
        return None
    return Position(outcome.item_time, outcome.item_id)


@cache
def _adapter(item: type[Item]) -> TypeAdapter[list[Item]]:
    return TypeAdapter(list[item])  # type: ignore[valid-type]  # the feed's model is known only at run time


def _models(feed: Feed, items: Sequence[Any]) -> Sequence[Item | None]:
    """Validate a whole page at once, which a good page passes; a bad one is looked at item by item."""
    try:
        return _adapter(feed.item).validate_python(items)
    except (ValidationError, RecursionError):
        return [None] * len(items)


def _read(feed: Feed, raw: Any, model: Item | None, observed: int, context: Mapping[str, Any]) -> Candidate | Bad:
    if not isinstance(raw, dict):
        return _bad("malformed", "not an object", raw)
    created = raw.get(feed.time_field)
    moment = item_time(created)
    if moment is None:
        if feed.kind is Kind.TIMELINE:
            return _bad("malformed", f"{feed.time_field}: no time", raw, feed)
        moment = observed // MICROS
    try:
        if model is None:
            model = feed.item.model_validate(raw)
        raw_json = orjson.dumps(raw)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['type']}" for e in error.errors()[:5])
        return _bad("malformed", faults, raw, feed, moment)
    except (orjson.JSONEncodeError, RecursionError) as error:
        return _bad("unencodable", type(error).__name__, raw, feed, moment)
    if not 0 < len(model.id) <= MAX_ITEM_ID:
        return _bad("malformed", "id: too long or empty", raw, feed, moment)
    canonical = writer_of(feed.item)(model)
    data = _enriched(feed, canonical, raw, context) if feed.enrich else canonical
    if _too_large(raw_json, data):
        return _bad("oversize", f"{len(data)} bytes", raw, feed, moment)
    content, updated = _hash(feed, model, canonical), _updated(feed, raw, created, moment)
    return Candidate(model.id, moment, content, updated, raw, data, raw_json)


def _updated(feed: Feed, raw: Raw, created: Any, moment: int) -> int | None:
    value = raw.get(feed.updated_field) if feed.updated_field else None
    if value is None:
        return None
    return moment if value == created else item_time(value)


def content_hash(feed: Feed, raw: Raw) -> str:
    """
    Hash an item's declared, non-volatile fields in canonical form: the model's own order and types, whatever the
    API's key order, escapes or extra fields. 32 hexadecimal characters. Raises ValidationError.
    """
    model = feed.item.model_validate(raw)
    return _hash(feed, model, writer_of(feed.item)(model))


def _hash(feed: Feed, model: Item, canonical: bytes) -> str:
    stable = canonical
    if feed.volatile:
        stable = model.__pydantic_serializer__.to_json(model, exclude=set(feed.volatile))
    return blake2b(stable, digest_size=16).hexdigest()


def _enriched(feed: Feed, canonical: bytes, raw: Raw, context: Mapping[str, Any]) -> bytes:
    added: dict[str, Any] = {}
    for step in feed.enrich:
        added |= step(raw, context)
    return canonical[:-1] + b"," + orjson.dumps(added)[1:] if added else canonical


def _too_large(raw_json: bytes, data: bytes) -> bool:
    size = len(raw_json) + len(data)
    if size + ENVELOPE_BYTES <= MAX_BODY_BYTES:
        return False
    return size > MAX_DECODED_BYTES // 2 or len(pack(raw_json + data)) + ENVELOPE_BYTES > MAX_BODY_BYTES


def _bad(reason: str, detail: str, raw: Any, feed: Feed | None = None, moment: int | None = None) -> Bad:
    item_id = raw.get(feed.id_field) if feed and isinstance(raw, dict) else None
    if not isinstance(item_id, str) or not 0 < len(item_id) <= MAX_ITEM_ID or not item_id.isprintable():
        item_id = None
    return Bad("item", "validate", reason, detail, _keep(raw), item_id, moment)


def _keep(raw: Any) -> bytes:
    """Give the bytes to keep of something that may not even be encodable."""
    try:
        return orjson.dumps(raw)
    except (orjson.JSONEncodeError, RecursionError):
        pass
    try:
        return json.dumps(raw).encode("utf-8", "backslashreplace")
    except (TypeError, ValueError, RecursionError):
        return repr(type(raw)).encode()
