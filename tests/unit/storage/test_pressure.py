"""How long messages wait on a queue, as the watchdog asks."""

from __future__ import annotations

from pipeline.bus.messages import Received
from pipeline.miners.pressure import Pressure
from pipeline.settings import load
from pipeline.storage import leases
from pipeline.storage.database import Database
from tests.fakes import MICROS, ManualClock


async def test_a_message_that_comes_again_does_not_tell_how_long_its_queue_is(
    database: Database, clock: ManualClock
) -> None:
    """Its age is that of a crash and a lock, and silent chains would be left alone for twice as long."""
    pressure = Pressure(database, load({"ENVIRONMENT": "local"}))
    enqueued = clock.now - 300 * MICROS

    await pressure.note_wait(Received("q", "again", b"", {}, enqueued, 2))
    assert database.read_here(leases.queue_waits) == {}

    await pressure.note_wait(Received("q", "first", b"", {}, clock.now - 7 * MICROS, 1))
    assert database.read_here(leases.queue_waits) == {"q": 7 * MICROS}
