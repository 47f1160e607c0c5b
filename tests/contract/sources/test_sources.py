"""What every source promises, run over each one against its simulator and the simulator's truth."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipeline.sources.base import Fault, FaultKind, Page
from tests.contract.sources import blocks, simulators
from tests.contract.sources.collecting import collect
from tests.contract.sources.faults import GRAPH, REST, Sequence
from tests.contract.sources.simulators import Simulation

Open = Callable[..., AbstractAsyncContextManager[Simulation]]
SOURCES: dict[str, Open] = {"graph": simulators.graph, "rest": simulators.rest}
FAULTS = {"graph": GRAPH, "rest": REST}
MINUTE = 0.004
"""A rolling hour passes in a quarter of a second, so that blocks are met and outlived."""

pytestmark = pytest.mark.parametrize("name", SOURCES)


async def test_a_quiet_listing_is_collected_whole_once_and_in_order(name):
    """The least that a source can promise, and with the fewest calls."""
    async with SOURCES[name]() as simulation:
        found = await collect(simulation.source, simulation.request())
        truth = await simulation.truth()

    ids = [str(item["id"]) for item in found.items]
    times = [item[simulation.feed.time_field] for item in found.items]
    assert len(truth) == len(ids)
    assert set(ids) == truth
    assert times == sorted(times, reverse=True)
    assert found.calls == found.pages <= 8


@pytest.mark.slow
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # examples wait in real time: shrinking one took minutes
)
@given(data=st.data())
def test_after_any_faults_that_end_what_was_collected_is_the_truth(name, data):
    """
    Nothing lost, in any mix of outages, throttles, cut answers, dead cursors, shifting pages and used up budgets; and
    no call is made while an answer says or implies that none may be (`blocks.py` says what that is).
    """
    sequence: Sequence = data.draw(FAULTS[name])

    async def run() -> None:
        async with SOURCES[name](minute=MINUTE, read_timeout=1.0) as simulation:
            before = await simulation.truth()
            if sequence.budgets:
                await simulation.control("POST", "budgets", sequence.budgets)
            await simulation.control("POST", "faults", sequence.faults)

            async def change(step: int) -> None:
                for due, what in sequence.changes:
                    if due == step:
                        await simulation.change(what)

            with blocks.wire() as heard:
                found = await collect(simulation.source, simulation.request(), before=change)
            stayed = before & await simulation.truth()
            log = await simulation.calls()
        assert stayed <= found.ids("id")
        findings = blocks.judge(heard, blocks.DRAWS[simulation.feed.name], minute=simulation.minute)
        assert findings.too_early == []
        assert log["while_blocked"] <= findings.unknowable
        assert log["total"] - log["throttled"] <= sequence.most_calls
        assert log["token_in_query"] == 0

    asyncio.run(run())


@pytest.mark.parametrize("what", ["create", "delete newest", "delete oldest", "delete middle"])
async def test_what_stays_is_collected_while_the_listing_changes(name, what):
    """People post and delete while we read."""
    async with SOURCES[name]() as simulation:
        before = await simulation.truth()
        found = await collect(simulation.source, simulation.request(), before=lambda step: simulation.change(what))
        after = await simulation.truth()

    assert before & after <= found.ids("id")
    assert before != after


async def test_a_connection_that_breaks_costs_one_call(name):
    """HTTP clients like to send a GET again by themselves: uncounted, and without asking the budget."""
    async with SOURCES[name]() as simulation:
        await simulation.control("POST", "faults", {"kind": "reset", "times": 2, "after_calls": 1})
        found = await collect(simulation.source, simulation.request())
        truth = await simulation.truth()
        log = await simulation.calls()

    assert found.ids("id") == truth
    assert log["total"] == found.calls == found.pages + 2


async def test_a_dead_token_says_so_and_a_new_one_works_at_once(name):
    """The user is parked, not the app; a rotated token is picked up with the next request."""
    async with SOURCES[name]() as simulation:
        old, new = await simulation.rotate()
        dead = await simulation.source.fetch(simulation.request(token=old))
        page = await simulation.source.fetch(simulation.request(token=new))

    assert isinstance(dead, Fault)
    assert (dead.kind, dead.calls) == (FaultKind.TOKEN_DEAD, 1)
    assert isinstance(page, Page)


async def test_one_item_is_read_by_id_until_it_is_gone(name):
    """A tombstone needs this answer and no other."""
    async with SOURCES[name]() as simulation:
        item_id = sorted(await simulation.truth())[0]
        arguments = (simulation.feed, simulation.user_id, simulation.scope, item_id, simulation.token)
        item = await simulation.source.fetch_item(*arguments)
        assert not isinstance(item, Fault)
        await simulation.control("POST", "mutate", {"do": "delete", "user": simulation.user_id, "id": item["id"]})
        gone = await simulation.source.fetch_item(*arguments)

    assert str(item["id"]) == item_id
    assert isinstance(gone, Fault)
    assert gone.kind is FaultKind.GONE


async def test_another_users_data_is_never_asked_for_with_ones_token(name):
    """Two users at a time, through one instance: each call carries its own token."""
    async with SOURCES[name]() as simulation:
        other = simulation.other_user()
        mine, theirs = await asyncio.gather(
            collect(simulation.source, simulation.request()), collect(simulation.source, other)
        )
        log = await simulation.calls()

    assert not mine.ids("id") & theirs.ids("id")
    assert log["cross_user"] == 0
