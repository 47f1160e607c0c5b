"""The scheduler's fan-out: one message per active user and occurrence, however often the run dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import failpoints
from pipeline.errors import ConfigurationError
from pipeline.feeds import load_feeds
from pipeline.miners.plan import Plan, make_plans
from pipeline.schedulers import fan_out
from pipeline.schedulers.fan_out import FanOut, last_due
from pipeline.settings import load
from pipeline.storage import directory, migrate
from pipeline.storage.database import Database
from tests.fakes import MICROS, FakeBus, ManualClock

USERS = 23
SCHEDULE = "0 */15 * * * *"


class Killed(BaseException):
    """Stands for a process that is gone."""


@pytest.fixture
def clock() -> ManualClock:
    """Stands still until a test moves it."""
    return ManualClock()


@pytest.fixture
def database(tmp_path: Path, clock: ManualClock) -> Iterator[Database]:
    """A database with users, one of them disabled."""
    database = Database(f"sqlite:///{tmp_path}/pipeline.db", threads=1, clock=clock)
    migrate.upgrade(database)
    for number in range(USERS):
        database.write_here("users", directory.put_user, f"u{number:02}", priority=number % 3)
    database.write_here("users", directory.put_user, "gone")
    database.write_here("users", directory.disable_user, "gone")
    yield database
    failpoints.install(None)
    database.engine.dispose()


@pytest.fixture
def bus(clock: ManualClock) -> FakeBus:
    """A bus in memory."""
    return FakeBus(clock)


@pytest.fixture
def plan() -> Plan:
    """The plan of the posts feed."""
    return make_plans(load_feeds(enabled=("posts",)), load({}))["posts"]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five users at a time, so that a run has several batches."""
    monkeypatch.setattr(fan_out, "PAGE_OF_USERS", 5)


def queued(bus: FakeBus, plan: Plan) -> list[str]:
    """Give the MessageIds in the queue."""
    return [one.message.message_id for one in bus.queues.get(plan.queue, [])]


async def test_every_active_user_gets_one_message(database: Database, bus: FakeBus, plan: Plan) -> None:
    """Nobody is forgotten at the edge of a batch, and nobody who left is mined."""
    sent = await FanOut(database, bus, load({})).scheduled(plan, SCHEDULE)
    assert sent == USERS
    assert len(set(queued(bus, plan))) == USERS
    assert not any(b'"gone"' in one.message.body for one in bus.queues[plan.queue])


HITS = ["fan_out.send.before", "fan_out.send.after", "bus.send.before", "bus.send.after", "store.tick.after"]


@pytest.mark.parametrize("batch", range(1, 6))
@pytest.mark.parametrize("name", HITS)
async def test_a_run_that_dies_at_any_batch_is_done_again_without_ringing_anybody_twice(
    name: str, batch: int, database: Database, bus: FakeBus, plan: Plan
) -> None:
    """The host does not run a failed timer again; the next one must reach everybody, once."""
    left = batch

    def die(hit: str) -> None:
        nonlocal left
        left -= hit == name
        if not left:
            raise Killed

    failpoints.install(die)
    runs = FanOut(database, bus, load({}))
    try:
        await runs.scheduled(plan, SCHEDULE)
    except Killed:
        failpoints.install(None)
        assert await runs.scheduled(plan, SCHEDULE) in (0, USERS)
    failpoints.install(None)
    assert sorted(queued(bus, plan)) == sorted(set(queued(bus, plan)))
    assert len(queued(bus, plan)) == USERS


async def test_a_tick_that_runs_twice_sends_once(database: Database, bus: FakeBus, plan: Plan) -> None:
    """A timer that fires on two instances, or early and then past due."""
    runs = FanOut(database, bus, load({}))
    assert await runs.scheduled(plan, SCHEDULE) == USERS
    assert await runs.scheduled(plan, SCHEDULE) == 0
    assert len(queued(bus, plan)) == USERS


async def test_the_next_occurrence_has_other_ids(
    database: Database, bus: FakeBus, plan: Plan, clock: ManualClock
) -> None:
    """Ids that repeat would be swallowed by duplicate detection: a user is mined once and never again."""
    runs = FanOut(database, bus, load({}))
    await runs.scheduled(plan, SCHEDULE)
    clock.advance(900)
    await runs.scheduled(plan, SCHEDULE)
    assert len(set(queued(bus, plan))) == 2 * USERS


async def test_an_allow_list_keeps_all_others_out(database: Database, bus: FakeBus, plan: Plan) -> None:
    """For a first day with one user."""
    assert await FanOut(database, bus, load({"MINING_USER_ALLOWLIST": "u03, u07"})).scheduled(plan, SCHEDULE) == 2


async def test_high_priorities_come_first(database: Database, bus: FakeBus, plan: Plan) -> None:
    """They wait least in a backlog."""
    await FanOut(database, bus, load({})).scheduled(plan, SCHEDULE)
    order = [int(one.message.body.split(b'"userId":"u')[1][:2]) % 3 for one in bus.queues[plan.queue]]
    assert order == sorted(order, reverse=True)


def at(text: str) -> int:
    """Give an instant as microseconds."""
    from datetime import datetime

    return int(datetime.fromisoformat(text + "+00:00").timestamp()) * MICROS


@pytest.mark.parametrize(
    ("schedule", "now", "due"),
    [
        ("0 */15 * * * *", "2026-03-01T10:14:59", "2026-03-01T10:00:00"),
        ("0 */15 * * * *", "2026-03-01T10:15:00", "2026-03-01T10:15:00"),
        ("*/10 * * * * *", "2026-03-01T10:15:09", "2026-03-01T10:15:00"),
        ("30 5 * * * *", "2026-03-01T00:05:29", "2026-02-28T23:05:30"),
        ("0 0 3 * * 1", "2026-03-03T10:00:00", "2026-03-02T03:00:00"),
        ("0 0 0 1 * 1", "2026-07-01T10:00:00", "2026-06-01T00:00:00"),
        ("0 30 2 29 2 *", "2026-03-01T00:00:00", "2024-02-29T02:30:00"),
    ],
)
def test_the_occurrence_is_the_instant_that_fell_due_last(schedule: str, now: str, due: str) -> None:
    """Two runs of one tick must agree on it to the second, or they are two ticks."""
    assert last_due(schedule, at(now)) == at(due)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1_600_000_000, 1_900_000_000), st.sampled_from(["0 */15 * * * *", "*/20 * * * * *", "0 0 */6 * * *"])
)
def test_an_occurrence_is_its_own_last_due(second: int, schedule: str) -> None:
    """It never lies ahead, and asking at the instant itself gives the instant."""
    due = last_due(schedule, second * MICROS)
    assert due <= second * MICROS
    assert last_due(schedule, due) == due
    assert last_due(schedule, due - 1) < due


@pytest.mark.parametrize("schedule", ["", "every day", "* * * *", "0 0 25 * * *"])
def test_a_schedule_that_is_none_is_named(schedule: str) -> None:
    """The text comes from an app setting."""
    with pytest.raises(ConfigurationError, match="NCRONTAB"):
        last_due(schedule, at("2026-03-01T00:00:00"))
