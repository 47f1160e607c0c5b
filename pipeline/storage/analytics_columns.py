"""Which columns a feed's table has: the scalars of its data, flattened; lists and free objects as JSON text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from itertools import groupby
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

    @property
    def scalar(self) -> bool:
        """Whether it is a field of the item itself, not of an object in it."""
        return len(self.path) == 1 and self.type is not ColumnType.JSON


Read = Callable[[Mapping[str, Any], Callable[[Any], None]], None]
"""Hands the values of all columns, in their order, to the second argument."""


def reader(columns: Sequence[DataColumn]) -> Read:
    """Give the function that reads columns out of one item's `data`; None for what is not there."""
    fields = _tree([(column.path, column.type) for column in columns])

    def read(data: Mapping[str, Any], put: Callable[[Any], None]) -> None:
        _read(fields, data, put)

    return read


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


_Field = tuple[str, Any, Callable[[Any], Any] | None]
"""A field's name, the fields below it (None for a column), and what makes its value fit."""

_NOTHING: Mapping[str, Any] = {}


def _tree(columns: Sequence[tuple[tuple[str, ...], ColumnType]]) -> list[_Field]:
    """Nest the columns, so that each object is looked up once; `_flatten` left them standing together by object."""
    fields: list[_Field] = []
    for name, group in groupby(columns, key=lambda column: column[0][0]):
        members = list(group)
        path, kind = members[0]
        if len(path) == 1:
            fields.append((name, None, _FITTING.get(kind)))
        else:
            fields.append((name, _tree([(path[1:], kind) for path, kind in members]), None))
    return fields


def _read(fields: list[_Field], data: Mapping[str, Any], put: Callable[[Any], None]) -> None:
    for name, below, fit in fields:
        value = data.get(name)
        if below is not None:
            _read(below, value if isinstance(value, dict) else _NOTHING, put)
        elif fit is None or value is None:
            put(value)
        else:
            put(fit(value))


def _stored_integer(value: Any) -> Any:
    """Give an integer that a column can hold; one beyond 64 bits would fail the whole message for ever."""
    return value if MIN_INTEGER <= value <= MAX_INTEGER else None


def _stored_text(value: Any) -> str:
    return orjson.dumps(value).decode()


_FITTING = {ColumnType.INTEGER: _stored_integer, ColumnType.JSON: _stored_text}
