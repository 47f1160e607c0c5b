"""Two deliveries of one doorbell, step by step: the cases that chance meets too rarely to rely on."""

from __future__ import annotations

import pytest

from tests.integration.interleavings.configs import Config, only
from tests.integration.interleavings.runs import make
from tests.integration.interleavings.world import World

TWINS = Config(
    watchdog=False, pages_per_message=4, workers=4, max_deliveries=30, items=tuple(range(1, 9)), now=9, hidden=(),
    fresh=20, events=only(), cache=False,
)  # fmt: skip


def before_commit(world: World, place: int) -> None:
    """Let a worker go on until it has fetched a page and would commit it now."""
    for _ in range(30):
        worker = world.workers[place]
        assert worker is not None
        assert worker.work is not None
        world.clock.now += 1
        if worker.work.send(None) == "fetch":
            worker.work.send(None)
            return
    raise AssertionError("it never fetched")


def until_settled(world: World, place: int) -> None:
    """Let a worker go on until its message is settled."""
    while world.workers[place] is not None:
        world.clock.now += 1
        world.step(place)


def two_before_commit() -> World:
    """Give a world in which two deliveries hold the same page; the second has the lock."""
    world = make(TWINS, 0)
    world.tick("u0")
    (slot,) = world.slots
    world.deliver(slot, 0)
    before_commit(world, 0)
    world.unlock(slot)
    world.deliver(slot, 1)
    before_commit(world, 1)
    return world


@pytest.mark.parametrize("pages", [1, 2, 3])
def test_a_loser_that_settles_leaves_a_copy_for_the_winner_that_dies(pages: int) -> None:
    """Rule 7: the loser holds the only message; without its copy the chain waits for the watchdog."""
    world = two_before_commit()
    while world.oracle.commits < pages:
        world.step(0)
    until_settled(world, 1)
    assert world.oracle.copies == 1
    world.crash(0)
    world.heal()
    world.oracle.final()


@pytest.mark.parametrize("losers", [1, 2, 3])
def test_losers_that_lose_at_once_leave_copies_that_differ(losers: int) -> None:
    """Copies that shared a MessageId would be one message to duplicate detection; its attempt comes from the row."""
    world = make(TWINS, 0)
    world.tick("u0")
    (slot,) = world.slots
    for place in range(losers + 1):
        if place:
            world.unlock(slot)
        world.deliver(slot, place)
        before_commit(world, place)
    world.step(0)
    for place in range(1, losers + 1):
        until_settled(world, place)
    assert world.oracle.copies == losers
    bell = slot.message.message_id + "/"
    ids = [one.message.message_id for one in world.slots if one.message.message_id.startswith(bell)]
    assert len(ids) == len(set(ids)) == losers
    world.crash(0)
    world.heal()
    world.oracle.final()


def test_a_winner_that_yields_makes_the_losers_copy_stale() -> None:
    """A copy that fetched all the same would cost a call for each lost lock, for ever."""
    world = two_before_commit()
    until_settled(world, 0)
    calls = world.calls
    until_settled(world, 1)
    assert world.calls == calls
    world.heal()
    world.oracle.final()


def test_a_stale_doorbell_makes_no_call() -> None:
    """Its chain has moved on; whoever fetches for it wastes the user's budget."""
    world = make(Config(**{**TWINS.__dict__, "pages_per_message": 1}), 0)
    world.tick("u0")
    (slot,) = world.slots
    world.deliver(slot, 0)
    before_commit(world, 0)
    world.unlock(slot)
    until_settled(world, 0)
    calls = world.calls
    world.deliver(slot, 1)
    until_settled(world, 1)
    assert world.calls == calls
    world.heal()
    world.oracle.final()


def test_parks_at_one_page_each_ring_their_own_bell() -> None:
    """Rule 10: an id that is a function of the page would be swallowed the second time."""
    world = make(TWINS, 0)
    world.tick("u0")
    for _ in range(4):
        world.throttled = True
        world._drain()
        world.clock.advance(121)
    world._drain()
    assert world.dropped == 0
    assert world.database.scalar("SELECT DISTINCT state FROM chains") == "done"
