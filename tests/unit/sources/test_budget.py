"""The call budget: full speed, slowing down, blocked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chains.budget import hold
from pipeline.sources.base import UsageNote
from pipeline.sources.budget import MemoryBudget


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


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_block_that_runs_is_never_shortened():
    """A late answer with an older, lower usage must not open a blocked key."""
    clock = Clock()
    budget = MemoryBudget(clock=clock)
    await budget.note([UsageNote("a", 100.0, 600.0)])

    await budget.note([UsageNote("a", 80.0), UsageNote("a", 0.0)])

    assert await budget.wait(["a", "b"]) == 600.0


async def test_the_longest_wait_of_all_keys_counts():
    """A call draws on the app, the object and the user at once."""
    budget = MemoryBudget(clock=Clock())

    await budget.note([UsageNote("a", 100.0), UsageNote("b", 100.0, 900.0)])

    assert await budget.wait(["a", "b", "c"]) == 900.0
    assert await budget.wait(["c"]) == 0.0
    assert await budget.wait([]) == 0.0


async def test_a_block_ends_by_itself():
    """Nobody has to unblock anything."""
    clock = Clock()
    budget = MemoryBudget(clock=clock)
    await budget.note([UsageNote("a", 100.0)])

    clock.now += 300.0

    assert await budget.wait(["a"]) == 0.0
