"""Which columns follow from a model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from pipeline.feeds import load_feeds
from pipeline.feeds.base import Item
from pipeline.feeds.posts import FEED as POSTS
from pipeline.storage.analytics_columns import ColumnType, data_columns, reader

FEEDS = load_feeds()


class Place(BaseModel):
    """An object in an item."""

    city: str = ""
    point: dict[str, float] | None = None


class Odd(Item):
    """An item with every kind of field."""

    count: int = 0
    price: float | None = None
    open: bool = False
    tags: list[str] | None = None
    place: Place | None = None
    anything: Any = None
    user_id: str = ""
    Order: str = ""


ODD = replace(POSTS, name="odd", item=Odd, enrich=(), topic="", queue="", raw_data_type="")


def values(data: dict[str, Any]) -> dict[str, Any]:
    """Read all columns of an odd item."""
    columns, row = data_columns(ODD), list[Any]()
    reader(columns)(data, row.append)
    return dict(zip((column.name for column in columns), row, strict=True))


def test_scalars_become_typed_columns_and_objects_are_flattened():
    """People ask SQL for `place_city`, not for a path into JSON text."""
    columns = {column.name: column.type for column in data_columns(ODD)}

    assert columns == {
        "count": ColumnType.INTEGER,
        "price": ColumnType.NUMBER,
        "open": ColumnType.BOOLEAN,
        "tags": ColumnType.JSON,
        "place_city": ColumnType.TEXT,
        "place_point": ColumnType.JSON,
        "anything": ColumnType.JSON,
        "user_id_value": ColumnType.TEXT,
        "order": ColumnType.TEXT,
    }


def test_values_stand_under_their_columns():
    """A shifted column would be wrong data that looks right."""
    data = {"count": 5, "price": 1.5, "open": True, "tags": ["a"], "place": {"city": "Ulm", "point": {"x": 1}}}

    found = values({**data, "anything": {"b": None}, "user_id": "u", "Order": "first"})

    assert found == {
        "count": 5,
        "price": 1.5,
        "open": True,
        "tags": '["a"]',
        "place_city": "Ulm",
        "place_point": '{"x":1}',
        "anything": '{"b":null}',
        "user_id_value": "u",
        "order": "first",
    }


def test_of_two_fields_of_one_column_name_the_first_has_it():
    """A table cannot have two; the values of the other are still in the lake."""

    class Twice(Item):
        place_city: str = ""
        place: Place | None = None

    columns = data_columns(replace(ODD, item=Twice))

    assert [(one.name, one.path) for one in columns if one.name == "place_city"] == [("place_city", ("place_city",))]


@pytest.mark.parametrize("data", [{}, {"place": None}, {"place": "not an object"}])
def test_what_is_not_there_is_null(data):
    """Messages of an older version of a feed lack its newer fields."""
    assert set(values(data).values()) == {None}


def test_an_integer_that_no_column_can_hold_is_null():
    """One absurd number must not fail its whole message for ever; the raw lake still has it."""
    assert values({"count": 2**63})["count"] is None
    assert values({"count": -(2**63)})["count"] == -(2**63)


@pytest.mark.parametrize("feed", FEEDS.values(), ids=FEEDS.keys())
def test_every_feed_has_columns_of_different_names(feed):
    """A feed that is added must work in analytics without a line there."""
    names = [column.name for column in data_columns(feed)]

    assert names
    assert len(set(names)) == len(names)
