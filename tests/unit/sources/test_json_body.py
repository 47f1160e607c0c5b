"""Bodies that are nearly JSON: one hostile item must cost that item, nothing else."""

from __future__ import annotations

import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.feeds.posts import Post
from pipeline.sources.base import BrokenItem
from pipeline.sources.json_body import NotJson, parse

GOOD = b'{"id": "1", "message": "a \\" ] } , : \\u00e9 \xf0\x9f\x98\x80"}'

HOSTILE = {
    "lone surrogate": b'{"id": "2", "message": "\\ud800"}',
    "NaN": b'{"id": "2", "n": NaN}',
    "infinity": b'{"id": "2", "n": -Infinity}',
    "huge number": b'{"id": "2", "n": 1e999}',
    "endless digits": b'{"id": "2", "n": ' + b"9" * 6000 + b"}",
    "deep": b'{"id": "2", "n": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "not UTF-8": b'{"id": "2", "message": "\xff\xfe"}',
    "raw control character": b'{"id": "2", "message": "\x01"}',
    "single quotes": b"{'id': '2'}",
    "missing": b"",
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())
def test_one_hostile_item_does_not_cost_the_page(hostile):
    """Otherwise one post with half an emoji stops a user's history for ever."""
    body = b'{"data": [' + GOOD + b"," + hostile + b"," + GOOD + b'], "paging": {"next": "x"}}'

    value = parse(body, list_fields=["data"])

    assert [item == orjson.loads(GOOD) for item in value["data"]] == [True, False, True]
    assert isinstance(value["data"][1], BrokenItem)
    assert value["data"][1].text.isascii()
    assert value["paging"] == {"next": "x"}


def test_no_model_accepts_a_broken_item():
    """It must end in quarantine, not in the store."""
    with pytest.raises(ValidationError):
        Post.model_validate(BrokenItem(reason="x", text="{}"))


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b'{"data": [{"id": "1"}, {"id"', b'{"data": [1, 2', b'{"data": NaN', b"[" * 100_000, b'"\\',
     b'{"data": [}]', b'{"x": {"data": [NaN]}', b"\xff\xfe", b'{"data": "[NaN]" x}'],
)  # fmt: skip
def test_what_is_no_json_even_item_by_item_says_so(body):
    """A cut body must be fetched again, not read as a short page."""
    with pytest.raises(NotJson):
        parse(body, list_fields=["data"])


def test_only_the_list_of_the_outermost_object_is_split():
    """A `data` list inside an error or an item is not the page."""
    value = parse(b'{"x": {"data": [1]}, "data": [NaN, [2, 3], {"data": [4]}]}', list_fields=["data"])

    assert value["x"] == {"data": [1]}
    assert [type(item) for item in value["data"]] == [BrokenItem, list, dict]


def test_a_bare_list_is_split_too():
    """Some APIs send the list without an object around it."""
    assert isinstance(parse(b"[1, NaN]", list_fields=["data"])[1], BrokenItem)


def test_an_error_with_broken_text_can_still_be_read():
    """Its code decides whether a chain parks or halts."""
    assert parse(b'{"error": {"code": 4, "message": "\xff\\ud800"}}', list_fields=["data"])["error"]["code"] == 4


def test_hostile_bodies_cost_bounded_time():
    """A body of quotes and backslashes must not make the scanner quadratic."""
    started = time.perf_counter()

    for body in (b'{"data": ["' + b'\\"' * 500_000, b'"' * 1_000_001, b'{"data":[' + b"[" * 3_000_000):
        with pytest.raises(NotJson):
            parse(body, list_fields=["data"])

    assert time.perf_counter() - started < 20.0


@given(st.lists(st.recursive(st.none() | st.booleans() | st.text() | st.integers(-(2**53), 2**53), st.lists)))
def test_good_items_read_the_same_beside_a_broken_one(items):
    """The slow path must agree with the fast one, whatever the items hold."""
    joined = b",".join([*(orjson.dumps(item) for item in items), b"NaN"])

    value = parse(b'{"data":[' + joined + b"]}", list_fields=["data"])

    assert value["data"][:-1] == items
