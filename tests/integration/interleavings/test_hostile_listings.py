"""Listings that never end, turn in circles or go the wrong way: a chain halts, after a bounded number of calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.chains.protocol import STALLED_PAGES
from pipeline.sources.base import Fault, FaultKind, Page, PageRequest
from tests.fakes import iso
from tests.integration.interleavings.configs import Config, only
from tests.integration.interleavings.runs import make
from tests.integration.interleavings.steps import point
from tests.integration.interleavings.world import START, World

HOSTILE = Config(items=(1, 2, 3, 4, 5, 6), hidden=(), fresh=99, events=only(), cache=False)
BOUND = STALLED_PAGES + 40


def item(number: int, moment: int) -> dict[str, Any]:
    """Give one item."""
    return {"id": f"x{number}", "created_time": iso(moment), "v": 0, "replies": 0}


def treadmill(request: PageRequest, call: int) -> Page | Fault:
    """Give the same page with another cursor, for ever."""
    return Page(items=[item(1, START), item(2, START - 1)], cursor=f"c{call}", limit=2)


def cycle(request: PageRequest, call: int) -> Page | Fault:
    """Three cursors that lead round and round."""
    step = {None: 0, "c0": 1, "c1": 2, "c2": 0}[request.cursor]
    return Page(items=[item(step, START - step)], cursor=f"c{step}", limit=2)


def empty(request: PageRequest, call: int) -> Page | Fault:
    """Empty pages, each with a next."""
    return Page(items=[], cursor=f"c{call}", limit=2)


def rising(request: PageRequest, call: int) -> Page | Fault:
    """Items that get newer from page to page."""
    return Page(items=[item(call, START + call)], cursor=f"c{call}", limit=2)


def one_second(request: PageRequest, call: int) -> Page | Fault:
    """New items of one and the same second, for ever."""
    return Page(items=[item(call, START)], cursor=f"c{call}", limit=2)


def dead_cursors(request: PageRequest, call: int) -> Page | Fault:
    """Each cursor is dead at its first use, and the re-seek gives the same page."""
    if request.cursor is not None:
        return Fault(kind=FaultKind.INVALID_CURSOR, code="100", calls=1)
    return Page(items=[item(1, START), item(2, START - 1)], cursor=f"c{call}", limit=2)


def run(listing: Callable[[PageRequest, int], Page | Fault]) -> World:
    """Mine a hostile listing to its end."""
    world = make(HOSTILE, 0)
    world.oracle.published = lambda message: None  # type: ignore[method-assign]  # these items have no truth
    world.truth.clear()

    async def fetch(request: PageRequest) -> Page | Fault:
        await point("fetch")
        world.calls += 1
        return listing(request, world.calls)

    world.fetch = fetch  # type: ignore[method-assign]
    world.tick("u0")
    for _ in range(400):
        world.clock.advance(1)
        world._drain()
        if not world.slots:
            return world
    raise AssertionError(f"no end after {world.calls} calls")


@pytest.mark.parametrize("listing", [treadmill, cycle, empty, rising, one_second, dead_cursors])
def test_a_listing_without_end_halts_within_bounded_calls(listing: Callable[[PageRequest, int], Page | Fault]) -> None:
    """The series' markers that repeat never stop, and each turn of the wheel is a call that is paid for."""
    world = run(listing)
    assert world.calls <= 2 * BOUND
    assert world.database.scalar("SELECT state FROM chains WHERE lane = 'main'") == "halted"
    assert world.database.scalar("SELECT reason FROM chains WHERE lane = 'main'") == "no-progress"
    assert world.database.scalar("SELECT doorbell_id FROM chains WHERE lane = 'main'") == ""


def test_a_halted_chain_keeps_what_it_published_and_proved() -> None:
    """Halting in the page's transaction must not take the page with it."""
    world = run(treadmill)
    assert world.database.scalar("SELECT count(*) FROM items") == 2
    assert world.database.scalar("SELECT count(*) FROM outbox WHERE sent_at IS NULL") == 0


def test_a_chain_whose_listing_rises_claims_nothing_below_its_turn() -> None:
    """Coverage from a listing that is not in order would be a lie about everything it skipped."""
    world = run(rising)
    spans = world.database.scalar("SELECT spans FROM coverage")
    assert all(lo > START for lo, _ in json.loads(spans))


def test_a_halted_chain_is_opened_by_no_tick_before_its_time_and_by_one_after() -> None:
    """A day's rest, then another try: for ever halted is for ever lost, at once again is a call storm."""
    world = run(treadmill)
    calls = world.calls
    world.tick("u0")
    world._drain()
    assert world.calls == calls
    world.clock.advance(24 * 3600 + 1)
    world.tick("u0")
    world._drain()
    assert world.calls > calls
