"""A scheduled copy of a message is a redelivery of it: an earlier delivery may have done part of the work."""

from __future__ import annotations

from typing import Any

from pipeline.chains import ids
from pipeline.chains.protocol import Key, Lane
from pipeline.storage import transitions
from pipeline.storage.transitions import Tick
from tests.integration.interleavings.configs import CONFIGS
from tests.integration.interleavings.runs import make


def test_a_copied_tick_mines_what_its_first_delivery_opened_and_what_fell_due_since() -> None:
    """The commit that opened one lane had an unknown outcome; the copy opened the other and rang only one of them."""
    world = make(CONFIGS["no_faults"], 0)
    world.clock.advance(600)
    world.tick("u0")
    (slot,) = world.slots
    occurrence = world.clock.now
    plan = world.pipeline.plans["entries"]
    tick = Tick(ids.tick_id("entries", "u0", occurrence), occurrence, "")
    assert slot.message.message_id == tick.tick_id

    narrow = plan._replace(rules=plan.rules._replace(fresh_window=1))

    def first_delivery(connection: Any) -> bool:
        key = Key("u0", "entries", "u0", Lane.GAP)  # all that was due then
        return transitions.open_by_tick(
            connection, key, plan.feed, narrow.rules, tick, plan.route, lane_doorbell=None
        ).opened

    assert world.database.write_here("open", first_delivery)
    world.miner.plans["entries"] = narrow  # type: ignore[index]
    try:
        slot.message = slot.message._replace(properties={"originalId": tick.tick_id, "copies": 1})
        world._drain()
        world.oracle._chains()
        assert {row.state for row in world.oracle.chains.values()} == {"done"}
        assert world.database.scalar("SELECT count(*) FROM chains") == 2
    finally:
        world.miner.plans["entries"] = plan  # type: ignore[index]
