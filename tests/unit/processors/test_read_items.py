"""Validation: every item of a page becomes a candidate or goes to quarantine with its reason; none is dropped."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.feeds import posts
from pipeline.processors.read_items import content_hash, read_page
from pipeline.sources.base import BrokenItem
from tests.fakes import iso

GOOD = {"id": "x", "created_time": iso(100), "message": "hello", "shares": {"count": 2}}

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(["id", "created_time", "updated_time", "message", "shares", "comments", "from", "other"])


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(JUNK, st.dictionaries(FIELDS, JUNK).map(lambda extra: {**GOOD, **extra})), max_size=6))
def test_received_equals_candidates_plus_quarantine(items: list[Any]) -> None:
    """S14: nothing is dropped silently, and one bad item never takes a good one with it."""
    page = read_page(posts.FEED, [*items, GOOD], observed=1)
    assert len(page.candidates) + len(page.bad) == len(items) + 1
    assert any(one.id == "x" and one.raw == GOOD for one in page.candidates)
    assert all(bad.reason in ("malformed", "unencodable", "oversize") for bad in page.bad)


def test_the_position_is_the_last_item_in_the_apis_order_that_has_a_time() -> None:
    """Rule 0: the smallest time, with one pinned old item, makes coverage lie."""
    old = {**GOOD, "id": "pinned", "created_time": iso(1)}
    assert read_page(posts.FEED, [old, GOOD], observed=1).last == (100, "x")
    bad = {**GOOD, "id": "y", "created_time": iso(50), "message": 7}
    assert read_page(posts.FEED, [GOOD, bad], observed=1).last == (50, "y")
    assert read_page(posts.FEED, [GOOD, {"id": "z"}, 5], observed=1).last == (100, "x")
    assert read_page(posts.FEED, [], observed=1).last is None


def test_a_reason_names_fields_and_never_values() -> None:
    """It is read by people who may not see the data."""
    (bad,) = read_page(posts.FEED, [{**GOOD, "message": ["secret"]}], observed=1).bad
    assert "message" in bad.detail
    assert "secret" not in bad.detail
    assert b"secret" in bad.body


def test_what_is_no_json_goes_to_quarantine_alone() -> None:
    """The source hands it on as text; it must stand in nobody's way."""
    page = read_page(posts.FEED, [BrokenItem(reason="NaN", text="{…"), GOOD], observed=1)
    assert (len(page.candidates), len(page.bad)) == (1, 1)


@settings(max_examples=200, deadline=None)
@given(st.permutations(list(GOOD)), st.booleans())
def test_the_same_content_has_one_hash_however_it_is_written(order: list[str], escaped: bool) -> None:
    """Key order and escapes change from answer to answer; each would be a revision."""
    written = json.loads(json.dumps({name: GOOD[name] for name in order}, ensure_ascii=escaped))
    assert content_hash(posts.FEED, written) == content_hash(posts.FEED, GOOD)


def test_undeclared_and_volatile_fields_are_not_hashed_and_declared_ones_are() -> None:
    """Signed links differ at each poll: hashed, they would publish everything for ever."""
    feed = replace(posts.FEED, volatile=("permalink_url",))
    one = content_hash(feed, {**GOOD, "full_picture": "https://a?sig=1", "permalink_url": "https://b?1"})
    two = content_hash(feed, {**GOOD, "full_picture": "https://a?sig=2", "permalink_url": "https://b?2"})
    assert one == two
    assert one != content_hash(feed, {**GOOD, "message": "edited"})
    assert one != content_hash(feed, {**GOOD, "shares": {"count": 3}})


@pytest.mark.parametrize("item_id", ["", "i" * 129])
def test_an_id_that_does_not_fit_is_quarantined_not_cut(item_id: str) -> None:
    """Two ids cut to one are one item lost."""
    page = read_page(posts.FEED, [{**GOOD, "id": item_id}], observed=1)
    assert not page.candidates
    assert page.bad[0].item_id is None
