"""Leases by the database's clock, with fencing numbers that grow."""

from __future__ import annotations

from pipeline.storage import leases
from pipeline.storage.database import Database
from tests.fakes import MICROS, ManualClock


def acquire(database: Database, holder: str, seconds: float = 30) -> int | None:
    """Try to take the lease."""
    return database.write_here("lease", leases.acquire, "listener", holder, seconds=seconds)


def holds(database: Database, holder: str, token: int) -> bool:
    """Ask whether a fenced write may go on."""
    return database.read_here(leases.holds, "listener", holder, token)


def test_one_holder_at_a_time(database: Database) -> None:
    """Two listeners count each event twice."""
    assert acquire(database, "a") == 1
    assert acquire(database, "b") is None
    assert acquire(database, "a") == 1


def test_a_killed_holders_lease_goes_to_the_next_after_its_time(database: Database, clock: ManualClock) -> None:
    """A lock row that nobody may take locks the user for ever."""
    assert acquire(database, "a") == 1
    clock.advance(29.9)
    assert acquire(database, "b") is None
    clock.advance(0.2)
    assert acquire(database, "b") == 2


def test_a_holder_that_slept_writes_nothing(database: Database, clock: ManualClock) -> None:
    """S15: it wakes up believing that it still holds the lease; its number says otherwise."""
    old = acquire(database, "a")
    clock.advance(31)
    new = acquire(database, "b")
    assert old
    assert new
    assert not holds(database, "a", old)
    assert holds(database, "b", new)
    assert not database.write_here("lease", leases.release, "listener", "a", old)
    assert acquire(database, "c") is None


def test_a_holder_that_comes_back_late_gets_a_new_number(database: Database, clock: ManualClock) -> None:
    """Another may have held it in between, under the number that follows."""
    assert acquire(database, "a") == 1
    clock.advance(31)
    assert acquire(database, "a") == 2
    assert not holds(database, "a", 1)


def test_a_released_lease_is_free_and_its_number_still_grows(database: Database) -> None:
    """Numbers that start again would let an old writer in."""
    assert acquire(database, "a") == 1
    assert database.write_here("lease", leases.release, "listener", "a", 1)
    assert acquire(database, "b") == 2


def test_the_wait_of_a_queue_is_noted_once_a_minute_by_the_databases_clock(
    database: Database, clock: ManualClock
) -> None:
    """A worker with a wrong clock would silence the watchdog, or make it ring everything."""
    assert database.write_here("queues", leases.note_wait, "q", clock.now - 7 * MICROS)
    clock.advance(59)
    assert not database.write_here("queues", leases.note_wait, "q", clock.now)
    assert database.read_here(leases.queue_waits) == {"q": 7 * MICROS}
    clock.advance(2)
    assert database.write_here("queues", leases.note_wait, "q", clock.now + 5)
    assert database.read_here(leases.queue_waits) == {"q": 0}


def test_a_tick_runs_again_until_it_was_finished(database: Database) -> None:
    """A fan-out that died half-way leaves half of the users without a message."""
    assert database.write_here("tick", leases.start_tick, "posts", 5)
    assert database.write_here("tick", leases.start_tick, "posts", 5)
    database.write_here("tick", leases.finish_tick, "posts", 5, 3)
    assert not database.write_here("tick", leases.start_tick, "posts", 5)
    assert database.write_here("tick", leases.start_tick, "posts", 6)


def test_the_incarnation_is_drawn_once(database: Database) -> None:
    """It is in every Redis key: a restored database must not meet the keys of its past."""
    first = database.write_here("incarnation", leases.read_incarnation)
    assert database.write_here("incarnation", leases.read_incarnation) == first
    assert len(first) >= 12
