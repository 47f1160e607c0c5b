"""The comparison on which the exit code hangs: what it must see, and what it must forgive."""

from __future__ import annotations

from infra.local.run.compare import Copy, Delivered, Fact, Key, Verdict, compare, digest, facts

ONE, TWO = Key("posts", "u1", "p1", "1"), Key("posts", "u1", "p1", "2")
SEEN = Fact(digest="a", created=100, visible=True, deleted=False, malformed=False)
GONE = SEEN._replace(visible=False, deleted=True)


def _got(*copies: Copy) -> Delivered:
    delivered = Delivered()
    for copy in copies:
        delivered.add(copy)
    return delivered


def _copy(key: Key = ONE, revision: int = 1, op: str = "upsert", message: str = "m1", content: str = "a") -> Copy:
    return Copy(key, revision, op, message, content)


def test_what_equals_the_truth_matches():
    """The only way to exit code 0."""
    verdict = compare({ONE: SEEN}, _got(_copy()))

    assert verdict.matched
    assert verdict.text() == "equal to the truth"


def test_nothing_expected_is_no_match():
    """A world that did not load must not end green."""
    assert not compare({}, Delivered()).matched


def test_an_item_that_did_not_come_is_lost():
    """The first thing the project promises against."""
    verdict = compare({ONE: SEEN, TWO: SEEN}, _got(_copy()))

    assert verdict.lost == [TWO]
    assert "lost 1 (posts/p1/2)" in verdict.text()


def test_one_revision_under_two_message_ids_came_twice():
    """The second thing; the same message again is only a redelivery."""
    again = _copy(message="m1")

    assert compare({ONE: SEEN}, _got(_copy(), again)).matched
    assert compare({ONE: SEEN}, _got(_copy(), _copy(message="m2"))).twice == [ONE]


def test_the_greatest_revision_counts_whatever_came_last():
    """Messages overtake each other."""
    old, new = _copy(revision=1, content="old"), _copy(revision=2, message="m2")

    assert compare({ONE: SEEN}, _got(new, old)).matched
    assert compare({ONE: SEEN}, _got(old)).different == [ONE]


def test_a_tombstone_for_something_that_is_there_is_wrong():
    """A sweep that believes an empty page would delete everything."""
    assert compare({ONE: SEEN}, _got(_copy(), _copy(revision=2, op="delete", message="m2"))).different == [ONE]


def test_a_deletion_must_be_noticed_only_where_the_feed_looks_again():
    """A timeline reads its refresh window again, nothing older."""
    delivered = _got(_copy(), _copy(TWO))

    assert compare({ONE: GONE, TWO: SEEN}, delivered, deletions_since=50).undeleted == [ONE]
    assert compare({ONE: GONE, TWO: SEEN}, delivered, deletions_since=101).matched


def test_what_the_truth_does_not_know_is_reported():
    """An item of another user, or one made up."""
    assert compare({ONE: SEEN}, _got(_copy(), _copy(TWO))).unknown == [TWO]


def test_an_item_that_the_api_spoils_need_not_come():
    """It waits in quarantine."""
    verdict = compare({ONE: SEEN, TWO: SEEN._replace(malformed=True)}, _got(_copy()))

    assert verdict.matched
    assert verdict.malformed == 1


def test_verdicts_of_feeds_add_up():
    """One feed at fault is enough."""
    good, bad = compare({ONE: SEEN}, _got(_copy())), compare({TWO: SEEN}, Delivered())

    whole = Verdict.together([good, bad])

    assert (whole.expected, whole.arrived, whole.lost, whole.matched) == (2, 1, [TWO], False)


def test_the_digest_does_not_depend_on_the_order_of_fields():
    """The simulator hashes what it would send; we hash what we got."""
    assert digest({"b": 1, "a": [{"d": "ü", "c": None}]}) == digest({"a": [{"c": None, "d": "ü"}], "b": 1})


def test_rows_of_the_truth_are_read_with_ids_as_text():
    """The REST API's ids are numbers; ours are text."""
    row = {"user": 7, "scope": 7, "id": 42, "hash": "h", "created": 1.0, "visible": True, "deleted": False}

    assert facts("transactions", [row]) == {
        Key("transactions", "7", "7", "42"): Fact("h", 1, visible=True, deleted=False, malformed=False)
    }
