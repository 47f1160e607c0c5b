"""Items and their revisions on a real SQLite file: what is new is what the insert says, newer is what differs later."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.chains.protocol import Key, Lane
from pipeline.storage import items
from pipeline.storage.database import Database
from pipeline.storage.items import Candidate, Stored, Writing, deletion, is_newer
from tests.unit.storage.candidates import candidate

KEY = Key("user", "posts", "page", Lane.MAIN)
TRANSACTIONS = itertools.count()


def accept(
    database: Database, *found: Candidate, observed: int, known: frozenset[str] = frozenset(), key: Key = KEY,
    mark: int = 0,
) -> list[tuple[str, int]]:  # fmt: skip
    """Commit a page; gives (id, revision) of what was accepted."""
    writing = Writing(observed, observed, f"m{next(TRANSACTIONS)}", "batch", mark)
    accepted, _ = database.write_here("page", items.accept, key, list(found), writing, known=known)
    return [(one.item.id, one.revision) for one in accepted]


def test_new_items_get_revision_one_and_known_ones_nothing(database: Database) -> None:
    """A second publication of the same content is a duplicate to every reader."""
    assert accept(database, candidate("a"), candidate("b"), observed=1) == [("a", 1), ("b", 1)]
    assert accept(database, candidate("b"), candidate("c"), observed=2) == [("c", 1)]


def test_content_that_goes_back_to_what_it_was_is_a_third_revision(database: Database) -> None:
    """A set of all hashes ever seen would drop it: the reader keeps the middle one for ever."""
    for observed, (content, expected) in enumerate([("A", 1), ("B", 2), ("A", 3)], start=1):
        assert accept(database, candidate("x", content), observed=observed) == [("x", expected)]


def test_an_older_observation_never_replaces_a_newer_one(database: Database) -> None:
    """A page that was fetched before an edit may be committed after it."""
    assert accept(database, candidate("x", "new"), observed=5) == [("x", 1)]
    assert accept(database, candidate("x", "old"), observed=4) == []
    assert accept(database, candidate("x", "same time"), observed=5) == []
    assert accept(database, candidate("x", "newer"), observed=6) == [("x", 2)]


def test_content_that_was_seen_again_counts_as_seen_then(database: Database) -> None:
    """A, then B, then A again: the page that saw B may be committed last, and B is not what stands in the API."""
    accept(database, candidate("x", "A"), observed=2)
    assert accept(database, candidate("x", "A"), observed=6) == []
    assert accept(database, candidate("x", "B"), observed=4) == []
    assert accept(database, candidate("x", "B"), observed=7) == [("x", 2)]


def test_a_time_of_change_that_is_not_hashed_is_kept_too(database: Database) -> None:
    """A feed may declare it and not publish it: the same content with a later one is the later content."""
    accept(database, candidate("x", "A", updated=2), observed=2)
    assert accept(database, candidate("x", "A", updated=6), observed=6) == []
    assert accept(database, candidate("x", "B", updated=4), observed=7) == []
    assert accept(database, candidate("x", "B", updated=8), observed=8) == [("x", 2)]


def test_an_old_page_with_the_same_content_takes_nothing_back(database: Database) -> None:
    """What was seen rises only: the copy of a doorbell that slept commits what was seen long ago."""
    accept(database, candidate("x", "A", updated=6), observed=6)
    assert accept(database, candidate("x", "A", updated=6), observed=2) == []
    assert accept(database, candidate("x", "B", updated=6), observed=4) == []


def test_a_deletion_that_was_seen_again_counts_as_seen_then(database: Database) -> None:
    """Else a page from between two looks at a deleted post brings it back."""
    accept(database, candidate("x"), observed=1)
    assert accept(database, deletion("x", 5), observed=2) == [("x", 2)]
    assert accept(database, deletion("x", 5), observed=6) == []
    assert accept(database, candidate("x"), observed=4) == []


def test_the_apis_own_time_of_change_comes_before_our_observation(database: Database) -> None:
    """A live event may be observed late and still be the older content."""
    assert accept(database, candidate("x", "new", updated=9), observed=1) == [("x", 1)]
    assert accept(database, candidate("x", "old", updated=8), observed=2) == []
    assert accept(database, candidate("x", "tie", updated=9), observed=3) == [("x", 2)]
    assert accept(database, candidate("x", "late", updated=10), observed=2) == [("x", 3)]


def test_a_deletion_is_a_revision_and_is_not_undone_by_an_older_page(database: Database) -> None:
    """S16: a tombstone that an old page overwrites brings a deleted post back."""
    accept(database, candidate("x"), observed=1)
    assert accept(database, deletion("x", 5), observed=5) == [("x", 2)]
    assert accept(database, deletion("x", 5), observed=6) == []
    assert accept(database, candidate("x"), observed=4) == []
    assert accept(database, candidate("x"), observed=7) == [("x", 3)]


def test_deleting_what_was_never_stored_changes_nothing(database: Database) -> None:
    """A tombstone without an item tells readers of something they never had."""
    assert accept(database, deletion("ghost", 5), observed=5) == []
    assert accept(database, candidate("ghost"), observed=6) == [("ghost", 1)]


def test_an_item_that_stands_twice_on_a_page_counts_once(database: Database) -> None:
    """Shifting listings repeat items; the insert must not fail or count both."""
    found = accept(database, candidate("x", "A"), candidate("y"), candidate("x", "B"), observed=1)
    assert sorted(found) == [("x", 1), ("y", 1)]
    assert accept(database, candidate("x", "A"), observed=2) == []


@pytest.mark.parametrize("known", [frozenset(), frozenset({"a"}), frozenset({"a", "b", "c", "zzz"})])
def test_a_wrong_hint_changes_nothing(database: Database, known: frozenset[str]) -> None:
    """S12: Redis may be empty, full, or another database's memory."""
    accept(database, candidate("a"), observed=1)
    result = accept(database, candidate("a", "edited"), candidate("b"), candidate("c"), observed=2, known=known)
    assert result == [("a", 2), ("b", 1), ("c", 1)]


def test_the_same_id_under_another_user_or_scope_is_another_item(database: Database) -> None:
    """Two users in one conversation must both get their copy, and never the other's."""
    assert accept(database, candidate("x"), observed=1) == [("x", 1)]
    for key in (KEY._replace(user_id="USER"), KEY._replace(scope="Page"), KEY._replace(feed="comments")):
        assert accept(database, candidate("x"), observed=1, key=key) == [("x", 1)]


@pytest.mark.parametrize("item_id", ["'; DROP TABLE items; --", "a\nb", "ü" * 60, "1:2", "x%", '"]'])
def test_hostile_ids_are_only_ids(database: Database, item_id: str) -> None:
    """Ids come from outside and stand in one JSON parameter."""
    assert accept(database, candidate(item_id), observed=1) == [(item_id, 1)]
    assert accept(database, candidate(item_id, "B"), observed=2) == [(item_id, 2)]


def test_what_an_epoch_did_not_return_is_found_by_its_mark(database: Database) -> None:
    """Rule 16: only these are read by id; everything else was seen."""
    accept(database, candidate("a", time=10), candidate("b", time=20), candidate("c", time=30), observed=1)
    accept(database, candidate("a", time=10), observed=2, mark=7)
    missing = database.read_here(items.not_returned, KEY, mark=7, lo=0, hi=30, limit=9)
    assert missing == [("b", 20)]
    accept(database, deletion("b", 20), observed=3)
    assert database.read_here(items.not_returned, KEY, mark=7, lo=0, hi=30, limit=9) == []


CONTENT = st.sampled_from("ABC")


@settings(max_examples=300, deadline=None)
@given(CONTENT, CONTENT, st.integers(0, 3), st.integers(0, 3), st.booleans(), st.booleans())
def test_no_two_observations_each_replace_the_other(
    one: str, two: str, first: int, second: int, gone_one: bool, gone_two: bool
) -> None:
    """Revisions that flap publish the same post for ever."""
    a = deletion("x", 1) if gone_one else candidate("x", one)
    b = deletion("x", 1) if gone_two else candidate("x", two)
    stored_a = Stored(1, a.hash, a.updated, first, a.deleted, 0)
    stored_b = Stored(1, b.hash, b.updated, second, b.deleted, 0)
    assert not (is_newer(a, stored_b, first) and is_newer(b, stored_a, second))
    assert not is_newer(a, stored_a, first + 9)


def test_the_hash_that_names_a_deletion_is_nobodys_content() -> None:
    """Content with that hash would be a deletion."""
    assert len(items.TOMBSTONE) != len(hashlib.blake2b(b"", digest_size=16).hexdigest())
