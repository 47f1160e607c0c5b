"""Validate a page's items: each becomes a candidate for the store or goes to quarantine; none is dropped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError

from pipeline.bus.messages import MAX_BODY_BYTES, MAX_DECODED_BYTES, pack
from pipeline.chains.protocol import MICROS, Position
from pipeline.feeds.base import Feed, Kind, Raw, item_time
from pipeline.storage.items import Candidate
from pipeline.storage.quarantine import Bad

MAX_ITEM_ID = 128

ENVELOPE_BYTES = 2_000
"""What a data message holds besides its items, generously."""


class ReadPage(NamedTuple):
    """A page after validation."""

    candidates: list[Candidate]
    bad: list[Bad]
    last: Position | None
    """Time and id of the last item in the API's order that has both."""


def read_page(feed: Feed, items: Sequence[Any], *, observed: int, context: Mapping[str, Any] | None = None) -> ReadPage:
    """
    Read all items of a page in the API's order. `observed` is the page's observation (microseconds): the time of
    snapshot items that have none. `context` is what enrichment steps may use.
    """
    candidates: list[Candidate] = []
    bad: list[Bad] = []
    last: Position | None = None
    for item in items:
        outcome = read_item(feed, item, observed=observed, context=context)
        if isinstance(outcome, Candidate):
            candidates.append(outcome)
            last = Position(outcome.time, outcome.id)
        else:
            bad.append(outcome)
            if outcome.item_id is not None and outcome.item_time is not None:
                last = Position(outcome.item_time, outcome.item_id)
    return ReadPage(candidates, bad, last)


def read_item(feed: Feed, raw: Any, *, observed: int, context: Mapping[str, Any] | None = None) -> Candidate | Bad:
    """Validate one item against its feed's model; arguments as of `read_page`."""
    if not isinstance(raw, dict):
        return _bad("malformed", "not an object", raw)
    moment = item_time(raw.get(feed.time_field))
    if moment is None:
        if feed.kind is Kind.TIMELINE:
            return _bad("malformed", f"{feed.time_field}: no time", raw, feed)
        moment = observed // MICROS
    try:
        model = feed.item.model_validate(raw)
        raw_json = orjson.dumps(raw)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['type']}" for e in error.errors()[:5])
        return _bad("malformed", faults, raw, feed, moment)
    except (orjson.JSONEncodeError, RecursionError) as error:
        return _bad("unencodable", type(error).__name__, raw, feed, moment)
    if not 0 < len(model.id) <= MAX_ITEM_ID:
        return _bad("malformed", "id: too long or empty", raw, feed, moment)
    data = _data(feed, model, raw, context or {})
    if _too_large(raw_json, data):
        return _bad("oversize", f"{len(raw_json)} bytes", raw, feed, moment)
    updated = item_time(raw.get(feed.updated_field)) if feed.updated_field else None
    return Candidate(model.id, moment, content_hash(feed, raw), updated, raw, data, raw_json)


def content_hash(feed: Feed, raw: Raw) -> str:
    """
    Hash an item's declared, non-volatile fields in canonical form: key order and escapes do not matter.

    32 hexadecimal characters.
    """
    chosen = {name: raw[name] for name in feed.hashed if name in raw}
    return hashlib.blake2b(orjson.dumps(chosen, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def _data(feed: Feed, model: Any, raw: Raw, context: Mapping[str, Any]) -> bytes:
    encoded: bytes = model.__pydantic_serializer__.to_json(model)
    if not feed.enrich:
        return encoded
    data = orjson.loads(encoded)
    for step in feed.enrich:
        data.update(step(raw, context))
    return orjson.dumps(data)


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
