"""Schedules written out by hand: races so narrow that seeds seldom meet them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from pipeline import failpoints
from pipeline.bus.messages import Outgoing
from pipeline.chains.protocol import Key, Lane
from pipeline.errors import StoreUnavailable
from pipeline.storage import outbox
from tests.integration.interleavings.configs import Config, only
from tests.integration.interleavings.runs import make
from tests.integration.interleavings.steps import WorkerKilled
from tests.integration.interleavings.world import QUEUES, UNIT, Worker, World

HISTORY = Config(
    items=(1, 2, 3, 4, 5, 6, 7, 8), hidden=(), now=10, fresh=99, workers=3, pages_per_message=3, events=only(),
    cache=False, watchdog=False,
)  # fmt: skip


def begun(config: Config = HISTORY) -> World:
    """Give a world with one tick in the queue."""
    world = make(config, 0)
    world.tick("u0")
    return world


def until(world: World, place: int, unit: str) -> None:
    """Let one worker go on until a unit of that name is committed."""
    world.oracle.last_unit = ""
    while world.oracle.last_unit != unit:
        assert world.workers[place] is not None, f"the worker ended before {unit!r}"
        world.step(place)


def until_fetched(world: World, place: int) -> None:
    """Let one worker go on until its next page is there and not yet committed."""
    calls = world.calls
    while world.calls == calls:
        world.step(place)


def ended(world: World, place: int) -> None:
    """Let one worker go on to its end."""
    while world.workers[place] is not None:
        world.step(place)


def settled(world: World) -> None:
    """Let time pass and messages be delivered; nothing else helps."""
    for _ in range(20):
        world.clock.advance(UNIT)
        world._drain()


def twin(world: World) -> None:
    """Take the lock of the only message from its worker and hand it to the next one."""
    (slot,) = world.slots
    world.unlock(slot)
    world.deliver(slot, 1)


def test_a_twin_that_loses_to_one_that_dies_keeps_the_doorbell_alive() -> None:
    """The winner's lock is gone, the loser would complete the message: nobody is left to ring (rule 7)."""
    world = begun()
    world.deliver(world.slots[0], 0)
    until_fetched(world, 0)
    twin(world)
    until_fetched(world, 1)
    until(world, 0, "page")
    world.crash(0)
    ended(world, 1)
    settled(world)
    assert world.database.scalar("SELECT state FROM chains WHERE lane = 'main'") == "done"
    assert world.database.scalar("SELECT count(*) FROM items") == 8


def test_of_two_twins_that_fetched_one_page_one_commits_it() -> None:
    """Two that both advance the chain are two chains: the second writes over what the first has proven."""
    world = begun()
    world.deliver(world.slots[0], 0)
    until_fetched(world, 0)
    twin(world)
    until_fetched(world, 1)
    until(world, 0, "page")
    until(world, 1, "lose")
    assert world.oracle.commits == 1
    assert world.database.scalar("SELECT seq FROM chains WHERE lane = 'main'") == 1


def test_a_parent_that_changes_while_its_child_is_fetched_is_not_forgotten() -> None:
    """What `wanted` was before the fetch is old when the page is committed: the new reply is lost (rule 14)."""
    world = begun(dataclasses.replace(HISTORY, items=(1,), parents=(0,), refresh_every=1, pages_per_message=1))
    settled(world)
    world._reply(0)
    world.tick("u0")
    while not any(slot.entity == QUEUES[1] for slot in world.slots):
        world.clock.advance(UNIT)
        world.deliver(next(slot for slot in world.slots if slot.visible_at <= world.clock.now), 0)
        ended(world, 0)
    world.clock.advance(5 * UNIT)
    world.deliver(next(slot for slot in world.slots if slot.entity == QUEUES[1]), 1)
    until_fetched(world, 1)
    world._reply(0)
    world.tick("u0")
    while any(slot.entity == QUEUES[0] and slot.lock is None for slot in world.slots):
        world.deliver(next(slot for slot in world.slots if slot.entity == QUEUES[0]), 0)
        ended(world, 0)
    ended(world, 1)
    settled(world)
    assert world.database.scalar("SELECT count(*) FROM items WHERE feed = 'replies'") == 2


def test_a_dead_cursor_costs_one_call() -> None:
    """The listing goes on from the position's second, not from its top: calls are what a user has fewest of."""
    world = begun(dataclasses.replace(HISTORY, items=tuple(range(1, 17)), now=20, page=2))
    world.deliver(world.slots[0], 0)
    for _ in range(3):
        until(world, 0, "page")
    last = world.database.scalar("SELECT cursor FROM chains WHERE lane = 'main'")
    world.truth["u0", last].deleted = True
    ended(world, 0)
    settled(world)
    assert world.database.scalar("SELECT state FROM chains WHERE lane = 'main'") == "done"
    assert world.calls == 8 + 1 + 1  # the pages, the dead cursor, and the one page of the lane `gap`


@pytest.fixture
def faults() -> Iterator[dict[str, BaseException]]:
    """What the worker that passes a failpoint next meets there."""
    planned: dict[str, BaseException] = {}

    def hook(name: str) -> None:
        if name in planned:
            raise planned.pop(name)

    failpoints.install(hook)
    yield planned
    failpoints.install(None)


def test_a_worker_that_dies_in_a_pages_transaction_leaves_nothing_of_it(faults: dict[str, BaseException]) -> None:
    """Items that are known and were never sent are lost for good: the next delivery takes them for old ones."""
    world = begun()
    faults["store.page.before"] = WorkerKilled()
    world.deliver(world.slots[0], 0)
    ended(world, 0)
    assert not faults
    assert world.database.scalar("SELECT count(*) FROM items") == 0
    assert world.database.scalar("SELECT spans FROM coverage") == "[]"
    world.unlock(world.slots[0])
    settled(world)
    assert len(world.oracle.received) == 8


def test_a_page_that_was_not_committed_sends_nothing(faults: dict[str, BaseException]) -> None:
    """A message without its transaction is a ghost: the page comes again and is published twice."""
    world = begun()
    faults["store.page.before"] = StoreUnavailable("the commit failed")
    world.deliver(world.slots[0], 0)
    ended(world, 0)
    assert not faults
    assert world.oracle.received == {}
    settled(world)
    assert len(world.oracle.received) == 8


def test_the_cache_learns_of_items_after_their_commit_only() -> None:
    """A cache that knows more than the database is believed by whoever reads it alone (S12)."""
    world = begun(dataclasses.replace(HISTORY, cache=True))
    world.deliver(world.slots[0], 0)
    until_fetched(world, 0)
    world.database.refuse = True
    ended(world, 0)
    assert world.cache.ids == set()
    settled(world)
    assert len(world.cache.ids) == 8


def test_handlers_that_send_at_once_send_their_own_rows_and_remove_no_others() -> None:
    """A batch shared by handlers loses what one adds while another sends, and sends the rest many times over."""
    world = make(dataclasses.replace(HISTORY, workers=32), 0)
    world.slots.clear()
    for place in range(32):
        key = Key("u0", "entries", f"s{place}", Lane.MAIN)
        messages = [Outgoing(QUEUES[number], f"m{place}.{number}", b"{}", {}) for number in range(2)]
        held = world.database.write_here("put", outbox.put, key, messages, world.clock.now)
        world.workers[place] = Worker(world.pipeline.flusher.send(held), f"flush {place}")
    for place in range(0, 32, 2):  # every other one has begun, and dies when all have
        world.step(place)
    for place in range(1, 32, 2):
        world.step(place)
    for place in range(0, 32, 4):
        world.crash(place)
    for _ in range(20):
        for place in range(32):
            if world.workers[place] is not None:
                world.step(place)
    sent = [slot.message.message_id for slot in world.slots]
    left = world.database.scalar("SELECT group_concat(message_id) FROM outbox").split(",")
    assert sorted(sent + left) == sorted(f"m{place}.{number}" for place in range(32) for number in range(2))
    assert world.dropped == 0
