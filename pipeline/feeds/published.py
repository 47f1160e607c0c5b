"""What a feed publishes as `data`: its model's fields, and those that enrichment steps add, as one JSON Schema."""

from __future__ import annotations

from typing import Any, get_type_hints

from pydantic import TypeAdapter

from pipeline.feeds.base import Enrich, Feed

Schema = dict[str, Any]

_SCHEMA_REF = "#/$defs/{model}"


def data_schema(feed: Feed) -> Schema:
    """
    Give the JSON Schema of an item's `data`, as it is written. Required are the fields without a default: what has one
    may be missing in messages that an older version of the feed wrote.

    An enrichment step is described by the TypedDict that it is annotated to return; one that returns a plain Mapping
    adds fields that are promised to nobody.
    """
    schema = feed.item.model_json_schema(mode="serialization", by_alias=False, ref_template=_SCHEMA_REF)
    for step in feed.enrich:
        added = _added_fields(step)
        schema.setdefault("properties", {}).update(added.get("properties", {}))
        schema["required"] = [*schema.get("required", []), *added.get("required", [])]
        if definitions := added.get("$defs"):
            schema.setdefault("$defs", {}).update(definitions)
    return schema


def _added_fields(step: Enrich) -> Schema:
    returned: Any = get_type_hints(step).get("return")
    if not hasattr(returned, "__required_keys__"):  # not a TypedDict
        return {}
    return TypeAdapter(returned).json_schema(mode="serialization", ref_template=_SCHEMA_REF)
