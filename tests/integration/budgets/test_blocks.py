"""Blocks, told and guessed, as several instances see them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from pipeline import failpoints
from pipeline.chains.budget import BLOCK_MINUTES, PROBE_MINUTES
from pipeline.sources.base import UsageNote
from pipeline.storage import migrate
from pipeline.storage.budgets import SharedBudget
from pipeline.storage.database import Database
from tests.fakes import MICROS, ManualClock
from tests.integration.budgets.conftest import MINUTE, Instances

FULL = UsageNote("app", 100.0)
KEYS = ("app", "user")


@pytest.fixture
def units() -> Iterator[list[str]]:
    """The units of the budget that are begun."""
    names: list[str] = []
    failpoints.install(lambda name: names.append(name) if name == "store.budget.before" else None)
    yield names
    failpoints.install(None)


async def asked(instances: Instances, times: int = 5) -> list[float]:
    """Ask so many times on both instances at once; gives the seconds to wait."""
    budgets = [instances.one, instances.other] * times
    return await asyncio.gather(*(budget.wait(KEYS) for budget in budgets))


async def test_what_one_instance_hears_holds_the_other(instances):
    """Quotas are the app's: an instance that does not know of a block calls into it."""
    await instances.one.note([UsageNote("app", 100.0, 8 * MINUTE), UsageNote("app", 80.0), UsageNote("other", 100.0)])

    waits = await asked(instances)

    assert waits == [8 * MINUTE] * 10
    assert await instances.other.wait(["user"]) == 0.0


async def test_when_a_guessed_block_is_over_one_call_finds_out_and_frees_all(instances):
    """Every chain that waited would ask at once, and each such call lengthens a block that still runs."""
    await instances.one.note([FULL])
    held = await asked(instances)
    instances.rest(BLOCK_MINUTES)
    first = await asked(instances)
    await instances.one.passed(KEYS)
    await instances.other.passed(KEYS)
    instances.rest(1)
    after = await asked(instances)

    assert held == [BLOCK_MINUTES * MINUTE] * 10
    assert sorted(first) == [0.0] + [PROBE_MINUTES * MINUTE] * 9
    assert not any(after)


async def test_while_the_key_stays_full_its_pause_doubles_and_a_success_forgets_that(instances):
    """An hour without a hint is met by three calls, not by twelve; and the next block begins small again."""
    pauses = []
    for _ in range(2):
        await instances.one.note([FULL, FULL])
        await instances.other.note([FULL])  # a call that was under way makes no second block
        pauses.append(await instances.other.wait(KEYS))
        instances.rest(pauses[-1] / MINUTE)
        assert 0.0 in await asked(instances, times=1)
    await instances.one.passed(KEYS)
    await instances.other.passed(KEYS)
    instances.rest(1)
    await instances.other.note([FULL])
    pauses.append(await instances.one.wait(KEYS))

    assert [pause / MINUTE for pause in pauses] == [5, 10, 5]


async def test_a_call_that_never_comes_back_leaves_the_question_to_the_next_one(instances):
    """A worker dies with the right to ask; the key must not stay shut."""
    await instances.one.note([FULL])
    instances.rest(BLOCK_MINUTES)
    first = await asked(instances)
    instances.rest(max(first) / MINUTE)

    assert sorted(await asked(instances)) == [0.0] + [PROBE_MINUTES * MINUTE] * 9


async def test_a_block_whose_end_was_told_opens_for_all_at_once(instances):
    """Nothing has to be found out, so nobody has to wait for anybody."""
    await instances.one.note([UsageNote("app", 100.0, 6 * MINUTE)])
    instances.rest(6)

    assert not any(await asked(instances))


async def test_answers_that_only_slow_calls_down_write_once_while_the_key_is_held(tmp_path, units):
    """At three quarters of the app's budget each of a thousand calls a second would write the same row."""
    clock = ManualClock()
    database = Database(f"sqlite:///{tmp_path / 'one.db'}", threads=1, clock=clock)
    migrate.upgrade(database)
    budget = SharedBudget(database, clock=lambda: clock.now / MICROS)

    for _ in range(100):
        await budget.note([UsageNote("app", 85.0)])
        clock.advance(0.001)
    held = await budget.wait(["app"])
    assert units == ["store.budget.before"]
    assert held == pytest.approx(0.5 * MINUTE, abs=0.2)

    await budget.note([UsageNote("app", 94.0)])
    assert await budget.wait(["app"]) == pytest.approx(0.95 * MINUTE, abs=0.2)
    await database.close()
