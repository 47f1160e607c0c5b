"""The algebra of intervals against a naive set of seconds."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.chains.coverage import Spans, add, normal, proven, uncovered

SECONDS = st.integers(0, 40)
PAIRS = st.lists(st.tuples(SECONDS, SECONDS), max_size=12)


def seconds(spans: Spans) -> set[int]:
    """Give the seconds in some intervals."""
    return {second for lo, hi in spans for second in range(lo, hi)}


def is_normal(spans: Spans) -> bool:
    """Whether intervals are sorted, none empty, none touching the next."""
    return all(lo < hi for lo, hi in spans) and all(a[1] < b[0] for a, b in itertools.pairwise(spans))


@settings(max_examples=500, deadline=None)
@given(PAIRS)
def test_proving_intervals_proves_exactly_their_seconds(pairs: list[tuple[int, int]]) -> None:
    """A second too many is a post that is never looked for again."""
    spans = normal(pairs)
    assert is_normal(spans)
    assert seconds(spans) == {second for lo, hi in pairs for second in range(lo, hi)}


@settings(max_examples=500, deadline=None)
@given(PAIRS, SECONDS, SECONDS)
def test_what_is_uncovered_is_exactly_what_is_missing(pairs: list[tuple[int, int]], lo: int, hi: int) -> None:
    """A second too few would be mined for ever, one too many never."""
    spans = normal(pairs)
    gaps = uncovered(spans, lo, hi)
    assert is_normal(gaps)
    assert seconds(gaps) == set(range(lo, hi)) - seconds(spans)
    assert proven(spans, lo, hi) == (not gaps)


@settings(max_examples=300, deadline=None)
@given(PAIRS, SECONDS, SECONDS)
def test_filling_all_gaps_proves_the_whole(pairs: list[tuple[int, int]], lo: int, hi: int) -> None:
    """History, increments and gaps are one algorithm only if it ends."""
    spans = normal(pairs)
    for a, b in uncovered(spans, lo, hi):
        spans = add(spans, a, b)
    assert proven(spans, lo, hi)


@settings(max_examples=300, deadline=None)
@given(PAIRS)
def test_the_order_of_proofs_does_not_matter(pairs: list[tuple[int, int]]) -> None:
    """Lanes and users commit in any order."""
    assert normal(pairs) == normal(reversed(pairs))
    assert normal(normal(pairs)) == normal(pairs)


def test_intervals_are_half_open_and_touching_ones_become_one() -> None:
    """Off by one here is one second of posts."""
    assert add(((0, 5),), 5, 7) == ((0, 7),)
    assert add(((0, 5),), 6, 7) == ((0, 5), (6, 7))
    assert uncovered(((0, 5),), 0, 6) == ((5, 6),)
    assert add((), 3, 3) == ()
