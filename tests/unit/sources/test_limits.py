"""Page limits: halved when the API cannot bear them, small for quiet users, never above what is asked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.limits import FRESH_FLOOR, MAX_STATES, RECOVERY, PageLimits


def test_a_heavy_page_is_halved_down_to_one():
    """The cursor stays the same, so halving until it fits loses nothing."""
    limits, asked = PageLimits(), []
    limit = 100
    while limit:
        asked.append(limit)
        limit = limits.too_much("k", limit)

    assert asked == [100, 50, 25, 12, 6, 3, 1]
    assert limits.limit("k", 100, fresh=False) == 1


def test_the_limit_recovers_after_good_pages():
    """One heavy page must not make a user's whole history a hundred times as expensive."""
    limits = PageLimits()
    limits.too_much("k", 100)
    seen = []
    for _ in range(2 * RECOVERY):
        limit = limits.limit("k", 100, fresh=False)
        limits.succeeded("k", limit)
        seen.append(limit)

    assert seen == [50] * RECOVERY + [100] * RECOVERY


def test_one_users_heavy_page_is_nobody_elses():
    """Small pages cost calls, and calls are what is scarce."""
    limits = PageLimits()
    limits.too_much("a", 100)

    assert limits.limit("b", 100, fresh=False) == 100


def test_a_quiet_users_fresh_page_is_small():
    """A look at a listing where three items are new need not carry a hundred."""
    limits = PageLimits()
    limits.succeeded("k", 100, newest="9", new=3)

    assert limits.limit("k", 100, fresh=True) == FRESH_FLOOR
    assert limits.limit("k", 100, fresh=False) == 100


def test_a_busy_users_fresh_page_is_twice_what_was_new():
    """A second call costs more than the items saved."""
    limits = PageLimits()
    limits.succeeded("k", 100, newest="9", new=40)

    assert limits.limit("k", 100, fresh=True) == 80


def test_states_are_bounded():
    """There are as many keys as users times scopes."""
    limits = PageLimits()
    for key in range(MAX_STATES + 10):
        limits.too_much(key, 100)

    assert limits.limit(0, 100, fresh=False) == 100


@given(
    st.lists(
        st.tuples(st.sampled_from(["heavy", "good", "fresh"]), st.integers(0, 500), st.integers(1, 1000)), max_size=60
    )
)
def test_the_limit_is_always_between_one_and_what_is_asked(steps):
    """Zero would list nothing for ever, and more than the maximum is refused by the API."""
    limits = PageLimits()
    for what, new, asked in steps:
        limit = limits.limit("k", asked, fresh=what == "fresh")
        assert 1 <= limit <= asked
        if what == "heavy":
            limits.too_much("k", limit)
        else:
            limits.succeeded("k", limit, newest=new, new=new if what == "fresh" else None)
