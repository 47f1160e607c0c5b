"""Re-rings under a backlog: the watchdog must not make a long queue longer."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.bus.messages import doorbell
from pipeline.chains.protocol import MICROS, Chain, Key, Lane, Ring, State
from pipeline.storage import chains
from tests.integration.interleavings.configs import Config, only
from tests.integration.interleavings.runs import make
from tests.integration.interleavings.steps import run_alone
from tests.integration.interleavings.world import START, UNIT, World

CHAINS = 3000
LOCK = 60
WAIT = 3 * LOCK
WATCHDOG_EVERY = 30

BACKLOG = Config(items=(1,), hidden=(), events=only(), cache=False, pages_per_message=1)


def fill(world: World, count: int) -> None:
    """Put chains that were opened just now, each with its doorbell in the queue."""
    plan = world.pipeline.plans["entries"]
    now = world.clock.now
    rows = [
        Chain(
            key=Key("u0", "entries", f"s{number}", Lane.MAIN), epoch=1, doorbell_id=f"b{number}", rung_at=now,
            state=State.OPEN, opener=1, opened_at=now, lo=0, hi=START,
        )
        for number in range(count)
    ]  # fmt: skip

    def store(connection: Any) -> None:
        for row in rows:
            chains.store(connection, row, exists=False)
            chains.open_coverage(connection, row.key, history_start=0, now=now)

    world.database.write_here("fill", store)
    world.oracle.chains.clear()
    for row in rows:
        world.accept(plan.queue, doorbell(row, Ring(row.doorbell_id, 0, 0), plan.feed, plan.queue))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_wait_of_three_locks_rings_at_most_one_doorbell_in_a_hundred_again() -> None:
    """A re-ring of two locks whatever the queue says made a backlog of 60,000 chains take half as long again."""
    world = make(BACKLOG, 0)
    world.database.after = lambda unit, result: None  # its reads of 3,000 chains would be the whole test
    fill(world, CHAINS)
    doorbells, next_watch = 0, world.clock.now
    per_message = WAIT * MICROS // CHAINS
    for _ in range(CHAINS * 3):
        ready = [slot for slot in world.slots if slot.visible_at <= world.clock.now]
        if not ready:
            break
        doorbells += 1
        world.deliver(ready[0], 0)
        while world.workers[0] is not None:
            world.step(0)
        world.clock.now += per_message
        if world.clock.now >= next_watch:
            next_watch += WATCHDOG_EVERY * MICROS
            run_alone(world.pipeline.watchdog.run())
    rung = world.database.scalar("SELECT coalesce(sum(rerings), 0) FROM chains")
    assert world.database.scalar("SELECT count(*) FROM chains WHERE state <> 'done'") == 0
    assert doorbells - CHAINS <= CHAINS // 100
    assert rung <= CHAINS // 100


def test_a_chain_whose_doorbell_was_lost_is_rung_though_others_wait() -> None:
    """The longest silent come first and may all be told to wait: those that must be rung may not starve behind."""
    world = make(BACKLOG, 1)
    world.database.after = lambda unit, result: None
    fill(world, 1)
    world.slots.clear()
    world.clock.advance(3 * LOCK)
    now = world.clock.now

    def patient(connection: Any) -> None:
        for number in range(600):
            row = Chain(
                key=Key("u0", "entries", f"p{number}", Lane.MAIN), epoch=1, doorbell_id=f"p{number}", opener=1,
                state=State.OPEN, rung_at=now - 10 * LOCK * MICROS, rerings=6, lo=0, hi=START,
            )  # fmt: skip
            chains.store(connection, row, exists=False)

    world.database.write_here("fill", patient)
    for _ in range(2):
        run_alone(world.pipeline.watchdog.run())
        world.clock.advance(WATCHDOG_EVERY)
    assert [slot.message.message_id for slot in world.slots] == ["b0/1"]


def test_chains_of_a_feed_that_is_off_do_not_keep_others_from_being_rung() -> None:
    """They are silent for good; five hundred of them at the head of the list would be the end of the watchdog."""
    world = make(BACKLOG, 1)
    world.database.after = lambda unit, result: None
    fill(world, 1)
    world.slots.clear()

    def off(connection: Any) -> None:
        for number in range(600):
            row = Chain(
                key=Key("u0", "switched-off", f"p{number}", Lane.MAIN), epoch=1, doorbell_id=f"p{number}", opener=1,
                state=State.OPEN, rung_at=1, lo=0, hi=START,
            )  # fmt: skip
            chains.store(connection, row, exists=False)

    world.database.write_here("fill", off)
    world.clock.advance(3 * LOCK)
    run_alone(world.pipeline.watchdog.run())
    assert [slot.message.message_id for slot in world.slots] == ["b0/1"]


def test_a_stall_in_which_nothing_is_delivered_halts_no_chain() -> None:
    """Three hours of a dead host are not three deliveries that killed their workers."""
    world = make(BACKLOG, 2)
    world.database.after = lambda unit, result: None
    fill(world, 20)
    kept = list(world.slots)
    for _ in range(180):
        world.clock.advance(UNIT)
        run_alone(world.pipeline.watchdog.run())
    states = world.database.scalar("SELECT group_concat(DISTINCT state) FROM chains")
    assert states == "open"
    assert world.database.scalar("SELECT max(rerings) FROM chains") >= 4
    assert len(world.slots) - len(kept) <= 20 * 7  # 2, 4, 8 ... 128 locks: seven rings in three hours
