"""Blocks, told and guessed, as several instances see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import sqlalchemy as sa

from pipeline import failpoints
from pipeline.chains.budget import BLOCK_MINUTES, PROBE_MINUTES
from pipeline.sources.base import UsageNote
from pipeline.storage import migrate
from pipeline.storage.budgets import FORGET_SECONDS, SharedBudget
from pipeline.storage.database import Database
from pipeline.storage.tables import budgets
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


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def database(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'one.db'}", threads=1, clock=clock)
    migrate.upgrade(opened)
    yield opened
    await opened.close()


@pytest.fixture
def budget(database: Database, clock: ManualClock) -> SharedBudget:
    return SharedBudget(database, clock=lambda: clock.now / MICROS)


async def asked(instances: Instances, times: int = 5) -> list[float]:
    """Ask so many times on both instances at once; gives the seconds to wait."""
    both = [instances.one, instances.other] * times
    return await asyncio.gather(*(one.wait(KEYS) for one in both))


async def test_what_one_instance_hears_holds_the_other(instances):
    """Quotas are the app's: an instance that does not know of a block calls into it."""
    await instances.one.note([UsageNote("app", 100.0, 8 * MINUTE), UsageNote("app", 80.0), UsageNote("other", 100.0)])

    waits = await asked(instances)

    assert waits == [8 * MINUTE] * 10
    assert await instances.other.wait(["user"]) == 0.0


async def test_a_block_that_runs_is_never_shortened(instances):
    """A late answer with an older, lower usage must not open a blocked key."""
    await instances.one.note([UsageNote("app", 100.0, 10 * MINUTE)])
    await instances.one.note([UsageNote("app", 80.0), UsageNote("app", 0.0)])
    await instances.other.note([UsageNote("app", 80.0), UsageNote("app", 0.0)])

    assert await asked(instances) == [10 * MINUTE] * 10


async def test_the_longest_wait_of_all_keys_counts(instances):
    """A call draws on the app, the object and the user at once."""
    await instances.one.note([UsageNote("app", 100.0), UsageNote("user", 100.0, 15 * MINUTE)])

    assert await asked(instances) == [15 * MINUTE] * 10
    assert await instances.other.wait(["app", "another"]) == BLOCK_MINUTES * MINUTE
    assert await instances.other.wait(["another"]) == 0.0
    assert await instances.other.wait([]) == 0.0


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


async def test_a_call_that_must_wait_for_one_key_takes_no_right_to_another(instances):
    """It makes no call; whoever needs only the other key would wait a minute for nobody's answer."""
    await instances.one.note([FULL, UsageNote("user", 100.0)])
    instances.rest(BLOCK_MINUTES)
    finds_out, waits = await asyncio.gather(instances.other.wait(["user"]), instances.one.wait(KEYS))

    assert (finds_out, waits) == (0.0, PROBE_MINUTES * MINUTE)
    assert await instances.one.wait(["app"]) == 0.0


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


async def test_a_block_begun_during_a_look_holds_whoever_looked(database, budget):
    """What SQL said before it must not be believed after it, by the one who asked nor by the next."""
    read, learned = asyncio.Event(), asyncio.Event()

    async def late(work: Callable[..., Any], *arguments: Any) -> Any:
        found = await Database.read(database, work, *arguments)
        read.set()
        await learned.wait()
        return found

    with mock.patch.object(database, "read", late):
        looking = asyncio.create_task(budget.wait(["app"]))
        await read.wait()
        await budget.note([UsageNote("app", 100.0, 8 * MINUTE)])
        learned.set()
        assert await looking == 8 * MINUTE
    assert await budget.wait(["app"]) == 8 * MINUTE


async def test_each_block_holds_however_many_there_are(database, clock, budget):
    """Sixty thousand users can be in a block at once; to read them all at each look took a sixth of a processor."""
    names = [f"user:{number}" for number in range(60_000)]
    block = {"not_before": clock.now + 6 * 60 * MICROS, "percent": 100, "updated_at": clock.now, "pause": 0}
    with database.engine.connect() as connection:
        connection.execute(sa.insert(budgets), [{"name": name, **block} for name in names])
        connection.commit()

    waits = [await budget.wait(["app", name]) for name in names[::5_000]]

    assert waits == [6 * MINUTE] * 12


async def test_what_is_known_of_a_key_is_dropped_when_nobody_asks(clock, budget):
    """A worker that lives for weeks meets each user and each page."""
    for number in range(50):
        await budget.wait(["app", f"user:{number}"])
        clock.advance(FORGET_SECONDS / 10)

    assert len(budget._known) <= 12


async def test_answers_that_only_slow_calls_down_write_once_while_the_key_is_held(clock, budget, units):
    """At three quarters of the app's budget each of a thousand calls a second would write the same row."""

    for _ in range(100):
        await budget.note([UsageNote("app", 85.0)])
        clock.advance(0.001)
    held = await budget.wait(["app"])
    assert units == ["store.budget.before"]
    assert held == pytest.approx(0.5 * MINUTE, abs=0.2)

    await budget.note([UsageNote("app", 94.0)])
    assert await budget.wait(["app"]) == pytest.approx(0.95 * MINUTE, abs=0.2)
