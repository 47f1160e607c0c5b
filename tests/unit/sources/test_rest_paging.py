"""Page numbers: nothing may be lost between two pages, however the listing shifts between the calls."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.sources.rest_paging import (
    SMALLEST,
    Place,
    Window,
    following,
    has_more,
    overlapping,
    place_behind,
    read_cursor,
)


@given(st.integers(1, 10**9), st.integers(1, 200))
def test_the_next_page_holds_the_last_item_read_and_something_new(read, limit):
    """Without the overlap a shift goes unnoticed; without something new the chain treads on the spot."""
    window = overlapping(read, limit)

    assert window.size <= max(SMALLEST, limit)
    assert window.start <= read - 1
    assert window.start + window.size > read


@given(st.integers(1, 20_000))
@example(51)
def test_the_overlap_costs_little(read):
    """It is paid with calls: after 51 items no page of up to 100 that begins before brings more than 49 new ones."""
    window = overlapping(read, 100)

    assert window.start + window.size - read >= 49


def test_the_first_page_is_as_large_as_asked():
    """There is nothing to overlap with."""
    assert overlapping(0, 50) == Window(1, 50)


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1:", "1: ", "12345678901", "1:" + "9" * 129, "9999999999", "1:a\n"])
def test_a_foreign_cursor_is_no_place(cursor):
    """It may come from an older version of a feed, or from someone's hand; then we start from the top."""
    assert read_cursor(cursor) is None


@given(st.builds(Place, st.integers(0, 10**9), st.from_regex(r"[!-~]{0,128}", fullmatch=True)))
def test_a_cursor_leads_back_to_its_place(place):
    """It is stored between two calls."""
    assert read_cursor(place.cursor()) == place


@pytest.mark.parametrize(
    ("items", "place"),
    [
        ([{"id": 1}, {"id": 2}], Place(102, "2")),
        ([{"id": 1}, {}, None, 7], Place(101, "1")),
        ([None], Place(101)),
        ([{"id": "a b"}], Place(101)),
        ([], Place(110)),
    ],
)
def test_the_place_behind_a_page_is_an_item_that_can_be_found_again(items, place):
    """A page that ends in broken items must not make the next one look shifted for ever."""
    assert place_behind(items, Window(11, 10), "id") == place


def test_only_what_follows_the_last_item_is_new():
    """Ids are numbers here and text in our rows."""
    items = [None, {"id": 1}, {"id": 2}, {"id": 3}]

    assert following(items, "id", "2") == 3
    assert following(items, "id", "9") is None


@pytest.mark.parametrize(
    ("body", "got", "more"),
    [
        ({"has_more": True}, 0, True),
        ({"has_more": False}, 10, False),
        ({"next_page": None}, 10, False),
        ({"next_page": 4}, 10, True),
        ({"next": ""}, 10, False),
        ({"total_pages": 3}, 10, False),
        ({"total_pages": 4}, 10, True),
        ({"total_pages": 4}, 0, False),
        ({"total": 30}, 10, False),
        ({"total": 31}, 10, True),
        ({}, 10, True),
        ({}, 9, False),
        ([], 10, True),
    ],
)
def test_the_api_says_in_one_of_several_ways_whether_there_is_more(body, got, more):
    """Stopping early loses the rest; the page after the last one is empty and harmless."""
    assert has_more(body, Window(3, 10), got) is more
