"""Which columns a feed's table has: the scalars of its data, flattened; lists and free objects as JSON text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import reduce
from typing import Any, NamedTuple

import orjson

from pipeline.feeds.base import Feed
from pipeline.feeds.published import Schema, data_schema

MAX_DEPTH = 5
"""Objects below this depth become JSON text."""

MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1

OWN = frozenset(
    "user_id scope item_id revision deleted source_time source_date capture feed_version message_id written_at".split()
)
"""Columns that every table has; a field of the same name gets the suffix `_value`."""


class ColumnType(StrEnum):
    """What a column holds, in words of JSON Schema."""

    TEXT = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    JSON = "json"


class DataColumn(NamedTuple):
    """A column and where its value stands in `data`."""

    name: str
    type: ColumnType
    path: tuple[str, ...]

    def reader(self) -> Callable[[Mapping[str, Any]], Any]:
        """Give the function that reads the value out of `data`; None where it is not there."""
        pick = _picker(self.path)
        if self.type is ColumnType.JSON:
            return lambda data: None if (value := pick(data)) is None else orjson.dumps(value).decode()
        if self.type is ColumnType.INTEGER:
            return lambda data: _stored_integer(pick(data))
        return pick


def data_columns(feed: Feed) -> tuple[DataColumn, ...]:
    """Give the columns of a feed's data, in the order of its model; `id` is the item's own column."""
    schema = data_schema(feed)
    found: dict[str, DataColumn] = {}
    for column in _flatten(schema, schema.get("$defs", {}), ()):
        if column.path != ("id",):
            found.setdefault(column.name, column)
    return tuple(found.values())


def table_name(feed: str) -> str:
    """Name a feed's table."""
    return f"data_{feed.replace('-', '_')}"


def _flatten(schema: Schema, definitions: Schema, path: tuple[str, ...]) -> list[DataColumn]:
    columns: list[DataColumn] = []
    for name, field in schema.get("properties", {}).items():
        here = (*path, name)
        resolved = _resolve(field, definitions)
        if resolved.get("properties") and len(here) < MAX_DEPTH:
            columns += _flatten(resolved, definitions, here)
        else:
            columns.append(DataColumn(_column_name(here), _type(resolved), here))
    return columns


def _resolve(field: Schema, definitions: Schema) -> Schema:
    """Follow references, and see through `or null`."""
    for _ in range(MAX_DEPTH):
        if "$ref" in field:
            field = definitions.get(field["$ref"].rpartition("/")[2], {})
            continue
        options = [one for one in field.get("anyOf", []) if one.get("type") != "null"]
        if len(options) != 1:
            break
        field = options[0]
    return field


def _type(field: Schema) -> ColumnType:
    try:
        return ColumnType(field.get("type", ""))
    except ValueError:
        return ColumnType.JSON


def _column_name(path: tuple[str, ...]) -> str:
    name = re.sub(r"[^a-z0-9_]", "_", "_".join(path).lower())
    return f"{name}_value" if name in OWN else name


def _picker(path: tuple[str, ...]) -> Callable[[Mapping[str, Any]], Any]:
    if len(path) == 1:
        name = path[0]
        return lambda data: data.get(name)
    return lambda data: reduce(_step, path, data)


def _step(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _stored_integer(value: Any) -> Any:
    """Give an integer that a column can hold; one beyond 64 bits would fail the whole message for ever."""
    return value if value is None or MIN_INTEGER <= value <= MAX_INTEGER else None
