"""
The canonical form of an item: its declared fields as JSON, in the model's order and types. It is hashed and published.

A model of plain JSON types is written by orjson, which gives the same bytes as pydantic in a quarter of the time; one
with dates, decimals, nested models or writers of its own is written by pydantic.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import cache, cached_property
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin

import orjson
from pydantic.fields import FieldInfo
from typing_extensions import get_type_hints, is_typeddict

from pipeline.feeds.base import Item

Writer = Callable[[Item], bytes]

_PLAIN = (str, int, float, bool, type(None))
_CONTAINERS = (Union, types.UnionType, list, dict, Required, NotRequired)


@cache
def writer_of(model: type[Item]) -> Writer:
    """Give what writes items of this model."""
    return _by_orjson if is_plain(model) else _by_pydantic


def is_plain(model: type[Item]) -> bool:
    """Tell whether orjson writes this model as pydantic would: its types are JSON's, and it declares nothing else."""
    cached = any(isinstance(value, cached_property) for base in model.__mro__ for value in vars(base).values())
    decorated = model.__pydantic_decorators__ != Item.__pydantic_decorators__
    if cached or decorated or model.model_config != Item.model_config:
        return False
    return all(_is_plain_field(field) for field in model.model_fields.values())


def _is_plain_field(field: FieldInfo) -> bool:
    excluded = field.exclude or field.exclude_if
    return not excluded and not field.metadata and _is_plain_type(field.annotation)


def _is_plain_type(annotation: Any, within: tuple[Any, ...] = ()) -> bool:
    if annotation in _PLAIN or annotation in within:  # a comment's replies are comments
        return True
    if is_typeddict(annotation):
        try:
            hints = get_type_hints(annotation, include_extras=True)
        except NameError:  # declared inside a function: pydantic finds its names there, and nobody else
            return False
        return all(_is_plain_type(hint, (*within, annotation)) for hint in hints.values())
    origin = get_origin(annotation)
    if origin is Literal:
        return all(type(value) in _PLAIN for value in get_args(annotation))
    return origin in _CONTAINERS and all(_is_plain_type(argument, within) for argument in get_args(annotation))


def _by_orjson(item: Item) -> bytes:
    try:
        return orjson.dumps(item.__dict__)
    except orjson.JSONEncodeError:  # an integer beyond 64 bits, which came as text
        return _by_pydantic(item)


def _by_pydantic(item: Item) -> bytes:
    return item.__pydantic_serializer__.to_json(item)
