"""Seeded schedules of every world. `SEEDS` says how many in all (20000 for the long run), `SEED` replays one."""

from __future__ import annotations

import math
import os

import pytest

from pipeline.bus.messages import Outgoing
from tests.integration.interleavings.configs import CONFIGS
from tests.integration.interleavings.runs import make, run_seeds
from tests.integration.interleavings.steps import Violation

SEEDS = int(os.environ.get("SEEDS", "2800"))
FIRST = int(os.environ.get("FIRST_SEED", "0"))
PARTS = 2
"""Each world's seeds in two parts, so that two processes end at about the same time."""


@pytest.mark.timeout(0 if SEEDS > 3000 else 120)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", CONFIGS)
def test_every_schedule_keeps_every_promise(name: str, part: int) -> None:
    """One schedule that loses or repeats an item is one customer's missing post: nobody would ever see why."""
    if "SEED" in os.environ:
        run_seeds(name, int(os.environ["SEED"]), 1)
        return
    count = math.ceil(SEEDS / (len(CONFIGS) * PARTS))
    run_seeds(name, FIRST + part * count, count)


def test_a_seed_gives_the_same_schedule_again() -> None:
    """A failure that cannot be replayed cannot be understood."""
    traces = []
    for _ in range(2):
        world = make(CONFIGS["two_users"], 3)
        world.run()
        traces.append(world.trace)
    assert traces[0] == traces[1]


def test_the_checks_notice_a_missing_item() -> None:
    """A check that cannot fail proves nothing: an item is taken away from what arrived."""
    world = make(CONFIGS["no_faults"], 1)
    world.run()
    world.oracle.received.popitem()
    with pytest.raises(Violation, match="lost item"):
        world.oracle.final()


def test_the_checks_notice_a_second_copy() -> None:
    """As above: one message's items come under another MessageId."""
    world = make(CONFIGS["no_faults"], 1)
    copies: list[Outgoing] = []
    published = world.oracle.published

    def keep(message: Outgoing) -> None:
        copies.append(message)
        published(message)

    world.oracle.published = keep  # type: ignore[method-assign]
    world.run()
    with pytest.raises(Violation, match="published twice"):
        published(copies[0])


def test_the_checks_notice_a_false_claim() -> None:
    """As above: coverage says more than what is stored."""
    world = make(CONFIGS["no_faults"], 1)
    world.run()
    world._put("u0", world.clock.now // 1_000_000 - 3600, 0)
    with pytest.raises(Violation, match="lies about"):
        world.oracle.honest()
