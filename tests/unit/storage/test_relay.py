"""The relay: what it cannot send must not keep the rest from being sent, and a bus that is gone must not hold it up."""

from __future__ import annotations

from pipeline.bus.messages import Outgoing
from pipeline.chains.protocol import Key, Lane
from pipeline.storage import outbox
from pipeline.storage.database import Database
from pipeline.storage.flush import MAX_SILENT, RELAY_ROWS, Flusher
from tests.fakes import FakeBus, ManualClock

KEY = Key("user", "posts", "page", Lane.MAIN)


def leave(database: Database, clock: ManualClock, entity: str, count: int) -> None:
    """Freeze messages whose handler died, one second after all that was left before."""
    messages = [Outgoing(entity, f"{entity}/{number}", b"{}", {}) for number in range(count)]
    database.write_here("put", outbox.put, KEY, messages, clock.now)
    clock.advance(1)


def left(database: Database) -> set[str]:
    """Give the entities that something waits for."""
    return {held.message.entity for held in database.read_here(outbox.of_chain, KEY)}


async def test_a_topic_out_of_reach_holds_up_its_own_rows_only(database: Database, clock: ManualClock) -> None:
    """A full topic with more old rows than a batch would be all that the relay ever takes, run after run."""
    bus = FakeBus(clock)
    bus.away = {"full-topic-local"}
    leave(database, clock, "full-topic-local", RELAY_ROWS + 1)
    leave(database, clock, "posts-mining-queue-local", 3)
    clock.advance(outbox.RELAY_AGE_SECONDS)
    flusher = Flusher(database, bus)

    sent = await flusher.relay()
    assert (sent, left(database), len(bus.ready("posts-mining-queue-local"))) == (3, {"full-topic-local"}, 3)
    assert bus.tried.count("full-topic-local") == 1

    bus.away.clear()
    clock.advance(outbox.CLAIM_SECONDS + 1)
    assert await flusher.relay() == RELAY_ROWS + 1
    assert left(database) == set()


async def test_a_bus_out_of_reach_is_tried_a_few_times_only(database: Database, clock: ManualClock) -> None:
    """Each try takes seconds, and the relay is due three times a minute."""
    bus = FakeBus(clock)
    bus.down = True
    for number in range(2 * MAX_SILENT):
        leave(database, clock, f"queue-{number}", 1)
    clock.advance(outbox.RELAY_AGE_SECONDS)

    assert await Flusher(database, bus).relay() == 0
    assert len(bus.tried) == MAX_SILENT
    assert len(left(database)) == 2 * MAX_SILENT
