"""The quick writer is only for models that pydantic would write with the same bytes."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Literal, NotRequired

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, computed_field, field_serializer, field_validator
from typing_extensions import TypedDict

from pipeline.feeds import posts
from pipeline.feeds.base import Item
from pipeline.processors.canonical import is_plain, writer_of


class Place(TypedDict):
    """A nested object."""

    name: str
    height: NotRequired[float | None]


class Reply(TypedDict):
    """An object that holds its like."""

    text: str
    replies: NotRequired[list[Reply]]


class Threaded(Item):
    """Nobody knows how deep it goes."""

    replies: list[Reply]


class Plain(Item):
    """All types that JSON has."""

    text: str = ""
    number: int | None = None
    share: float = 0.0
    yes: bool = False
    kind: Literal["a", "b"] = "a"
    place: Place | None = Field(default=None, alias="where")
    words: list[str] = Field(default_factory=list)
    counts: dict[str, int] = Field(default_factory=dict)


class WithDate(Item):
    """Orjson writes another zone."""

    at: datetime


class WithDecimal(Item):
    """Orjson does not know it."""

    price: Decimal


class Inner(BaseModel):
    """A model of its own."""

    name: str


class Nested(Item):
    """Its instances are no JSON type."""

    inner: list[Inner]


class Hidden(Item):
    """One field is never published."""

    secret: str = Field(default="", exclude=True)


class Quiet(Item):
    """One field is published only if it says something."""

    message: str = Field(default="", exclude_if=lambda value: not value)


class Written(Item):
    """One field is written another way."""

    shout: Annotated[str, PlainSerializer(str.upper)]


class Decorated(Item):
    """The same, by a method."""

    shout: str

    @field_serializer("shout")
    def _upper(self, value: str) -> str:
        return value.upper()


class Computed(Item):
    """A field that no API sent."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def size(self) -> int:
        """Give the id's length."""
        return len(self.id)


class Validated(Item):
    """A validator may give anything, whatever the annotation says."""

    at: str

    @field_validator("at")
    @classmethod
    def _parse(cls, value: str) -> datetime:
        return datetime.fromisoformat(value)


class Remembering(Item):
    """What it remembers stands beside its fields."""

    @cached_property
    def size(self) -> int:
        """Give the id's length."""
        return len(self.id)


class Open(Item):
    """What is not declared is published, too."""

    model_config = ConfigDict(extra="allow")


class Heir(Decorated):
    """Inherits what it does not say."""


@pytest.mark.parametrize(
    "model",
    [WithDate, WithDecimal, Nested, Hidden, Quiet, Written, Decorated, Computed, Validated, Remembering, Open, Heir],
    ids=lambda model: model.__name__,
)
def test_pydantic_writes_what_only_pydantic_can(model: type[Item]) -> None:
    """Written the quick way, an item would be published with other bytes, or with what its feed hides."""
    assert not is_plain(model)


@pytest.mark.parametrize("model", [Item, Plain, Threaded, posts.Post], ids=lambda model: model.__name__)
def test_the_usual_models_are_plain(model: type[Item]) -> None:
    """Else the quick way would be for nobody."""
    assert is_plain(model)


_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_PLACE = st.fixed_dictionaries({"name": _TEXT, "stranger": _TEXT}, optional={"height": st.floats()})
_OBJECTS = st.fixed_dictionaries(
    {"id": _TEXT},
    optional={
        "text": _TEXT,
        "number": st.none() | st.integers(-(2**70), 2**70),
        "share": st.floats(),
        "yes": st.booleans(),
        "kind": st.sampled_from(["a", "b"]),
        "where": st.none()
        | st.fixed_dictionaries({"name": _TEXT, "stranger": _TEXT}, optional={"height": st.floats()}),
        "words": st.lists(_TEXT),
        "counts": st.dictionaries(_TEXT, st.integers()),
        "stranger": _TEXT,
    },
)


@given(_OBJECTS)
def test_both_ways_give_the_same_bytes(raw: dict[str, object]) -> None:
    """They are hashed: other bytes would be a new revision of every item on the day of an upgrade."""
    item = Plain.model_validate(raw)
    assert writer_of(Plain)(item) == item.__pydantic_serializer__.to_json(item)


def test_what_is_nested_too_deep_for_the_quick_way_is_written_by_pydantic() -> None:
    """Both writers have a limit; the item is lost only beyond the wider one."""
    reply: dict[str, object] = {"text": "last"}
    for _ in range(253):
        reply = {"text": "next", "replies": [reply]}
    item = Threaded.model_validate({"id": "1", "replies": [reply]})
    with pytest.raises(orjson.JSONEncodeError):
        orjson.dumps(item.__dict__)
    try:
        expected = item.__pydantic_serializer__.to_json(item)
    except ValueError:
        pytest.fail("pydantic's limit is the narrower one")
    assert writer_of(Threaded)(item) == expected


def test_a_model_declared_in_a_function_is_written_by_pydantic() -> None:
    """Its names are found by nobody else."""

    class Word(TypedDict):
        """Known here only."""

        text: str

    class Sentence(TypedDict):
        """Uses it."""

        words: list[Word]

    class Declared(Item):
        """Uses that."""

        said: Sentence

    assert not is_plain(Declared)
    item = Declared.model_validate({"id": "1", "said": {"words": [{"text": "x"}]}})
    assert orjson.loads(writer_of(Declared)(item)) == {"id": "1", "said": {"words": [{"text": "x"}]}}


def test_a_post_is_written_in_its_models_order_without_strangers() -> None:
    """As it is published: defaults and None stand there, what the feed does not declare does not."""
    raw = {"from": {"name": "N", "id": "1", "x": 1}, "x": 1, "created_time": "2026-01-01T00:00:00+0000", "id": "1_2"}
    item = posts.Post.model_validate(raw)
    written = orjson.loads(writer_of(posts.Post)(item))
    assert list(written) == list(posts.Post.model_fields)
    assert written["author"] == {"id": "1", "name": "N"}
    assert (written["message"], written["shares"]) == ("", None)
