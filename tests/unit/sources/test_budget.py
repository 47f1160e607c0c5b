"""The call budget: full speed, slowing down, blocked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chains.budget import FREE, Block, Load, blocked, hold, must_probe, passed, probing, slowed, worst
from pipeline.sources.base import UsageNote


@pytest.mark.parametrize(
    ("percent", "wait", "seconds"),
    [
        (0, 0, 0),
        (74.9, 0, 0),
        (75, 0, 0),
        (80, 0, 15),
        (85, 0, 30),
        (94.999, 0, 60),
        (95, 0, 300),
        (144, 0, 300),
        (100, 60, 300),
        (100, 900, 900),
        (10, 60, 60),
        (80, 60, 60),
        (80, 1, 15),
        (100, 10**9, 86_400),
    ],
)
def test_the_rule_is_full_speed_then_slower_then_blocked(percent, wait, seconds):
    """Below 75 % nothing, up to a minute until 95 %, then the longer of the hint and five minutes."""
    assert hold(percent, wait) == pytest.approx(seconds, abs=0.01)


@given(st.floats(0, 200), st.floats(0, 200), st.floats(0, 3600))
def test_more_usage_never_means_less_waiting(low, high, wait):
    """Otherwise a worse answer would free a key."""
    low, high = sorted((low, high))

    assert hold(low, wait) <= hold(high, wait)


def test_the_rule_scales_with_the_apis_minute():
    """At a desk a minute of the simulated API lasts a second."""
    assert hold(100, minute_seconds=1.0) == 5.0


FULL = Load(100.0, 0.0)


def block_of(minutes: float) -> int:
    """The calls that meet a block of so many minutes that nobody tells of, each as soon as the rule lets it."""
    block, calls, start = blocked(FREE, 1000.0, FULL), 0, 1000.0
    while block.until - start < 60 * minutes:
        assert must_probe(block, block.until)
        calls, block = calls + 1, blocked(probing(block, block.until), block.until, FULL)
    return calls


@pytest.mark.parametrize(("minutes", "calls"), [(5, 0), (6, 1), (60, 3), (65, 3), (120, 4), (24 * 60, 26)])
def test_pauses_that_were_not_named_grow_to_an_hour(minutes, calls):
    """An hour's block is met by three calls instead of twelve, each of which would lengthen it."""
    assert block_of(minutes) == calls


def test_several_answers_about_one_block_are_one_block():
    """Ten calls that were under way when the budget ran out must not stop it for a day."""
    first = blocked(FREE, 1000.0, FULL)

    assert blocked(first, 1001.0, FULL) == first


def test_a_told_end_takes_the_place_of_a_guess():
    """The API knows better, and then nobody has to find out."""
    block = blocked(blocked(FREE, 1000.0, FULL), 1001.0, Load(100.0, 900.0))

    assert block == Block(1901.0, 1001.0, 0.0)
    assert not must_probe(block, 1901.0)


def test_a_pause_is_forgotten_an_hour_after_it_ended():
    """What was full yesterday says nothing about today."""
    block = blocked(FREE, 1000.0, FULL)

    assert not must_probe(block, block.until + 3600.0)
    assert blocked(block, block.until + 3600.0, FULL).pause == block.pause


def test_only_the_answer_to_a_call_after_the_pause_ends_it():
    """An answer that was under way when the block began knows nothing of it."""
    block = blocked(FREE, 1000.0, FULL)

    assert passed(block, 1001.0) == block
    assert passed(probing(block, block.until), block.until) == FREE
    assert passed(FREE, 1000.0) == FREE


def test_the_worst_word_about_a_key_counts():
    """Several headers speak of one budget, and the last one need not be the fullest."""
    notes = [UsageNote("a", 100.0), UsageNote("b", 80.0, 5.0), UsageNote("a", 20.0, 60.0)]

    assert worst(notes) == {"a": Load(100.0, 60.0), "b": Load(80.0, 5.0)}


@pytest.mark.parametrize(
    ("load", "until", "is_slowed"),
    [
        (Load(85.0, 0.0), 30.0, True),
        (Load(85.0, 0.0), 29.9, True),
        (Load(85.0, 0.0), 29.7, False),
        (Load(94.0, 0.0), 30.0, False),
        (Load(85.0, 5.0), 300.0, False),
        (Load(95.0, 0.0), 600.0, False),
    ],
)
def test_an_answer_is_passed_over_only_if_it_slows_calls_that_wait_as_long(load, until, is_slowed):
    """A full budget and a hint are always written: they are what stops the other instances."""
    block = Block(1000.0 + until, 1000.0, 0.0)
    assert slowed(block, 1000.0, load, within=0.2) is is_slowed
