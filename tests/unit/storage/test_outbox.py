"""The outbox: nothing that was frozen is removed before it was sent, and no two relays send the same row."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from pipeline.bus.messages import Outgoing
from pipeline.chains.protocol import Key, Lane
from pipeline.storage import outbox
from pipeline.storage.database import Database
from pipeline.storage.outbox import Held
from tests.fakes import MICROS, ManualClock

KEY = Key("user", "posts", "page", Lane.MAIN)


def put(connection: Connection, *names: str, key: Key = KEY, now: int = 1_700_000_000 * MICROS) -> list[Held]:
    """Freeze messages of these ids."""
    return outbox.put(connection, key, [Outgoing("entity", name, name.encode(), {"n": 1}) for name in names], now)


def unsent(database: Database) -> list[str]:
    """Give the ids of what is unsent."""
    return [held.message.message_id for held in database.read_here(outbox.of_chain, KEY)]


def test_a_removed_rows_id_is_never_given_to_another(database: Database) -> None:
    """A sender that is slow to remove what it sent would remove a page that nobody has sent: that page is lost."""
    first = database.write_here("put", put, "sent-by-two")
    database.write_here("outbox", outbox.sent, [held.id for held in first], keep=False)
    database.write_here("put", put, "new")
    database.write_here("outbox", outbox.sent, [held.id for held in first], keep=False)  # the slower twin
    assert unsent(database) == ["new"]


def test_two_relays_never_take_the_same_row(database: Database, clock: ManualClock) -> None:
    """Duplicate detection forgets after ten minutes; two relays that send the same rows publish them twice."""
    database.write_here("put", put, *(f"m{number}" for number in range(10)), now=clock.now)
    clock.advance(outbox.RELAY_AGE_SECONDS + 1)
    one = database.write_here("relay", outbox.claim, limit=6)
    two = database.write_here("relay", outbox.claim, limit=6)
    ids = [held.message.message_id for held in one + two]
    assert len(one) == 6
    assert sorted(ids) == sorted(set(ids))
    assert len(ids) == 10
    assert database.write_here("relay", outbox.claim, limit=6) == []


def test_a_relay_that_died_gives_its_rows_back(database: Database, clock: ManualClock) -> None:
    """A claim that never ended would keep a page from its readers for ever."""
    database.write_here("put", put, "left", now=clock.now)
    clock.advance(outbox.RELAY_AGE_SECONDS + 1)
    assert len(database.write_here("relay", outbox.claim, limit=6)) == 1
    clock.advance(outbox.CLAIM_SECONDS + 1)
    assert len(database.write_here("relay", outbox.claim, limit=6)) == 1


def test_a_relay_leaves_young_rows_to_their_handler(database: Database, clock: ManualClock) -> None:
    """Taking them would send every page twice, for the handler is about to."""
    database.write_here("put", put, "young", now=clock.now)
    clock.advance(outbox.RELAY_AGE_SECONDS - 1)
    assert database.write_here("relay", outbox.claim, limit=6) == []


def test_what_is_frozen_comes_back_byte_for_byte(database: Database) -> None:
    """The body and its id are one promise: a row that changes between two sends is two messages with one id."""
    message = Outgoing("topic", "d1/0", bytes(range(256)), {"feed": "posts", "itemCount": 3}, 17)
    database.write_here("put", outbox.put, KEY, [message], 1)
    (held,) = database.read_here(outbox.of_chain, KEY)
    assert held.message == message


def test_kept_rows_are_sent_again_after_the_bus_lost_its_memory(database: Database, clock: ManualClock) -> None:
    """The local emulator forgets everything when it is killed; what was on it must come back from here."""
    held = database.write_here("put", put, "a", "b", now=clock.now)
    database.write_here("outbox", outbox.sent, [row.id for row in held], keep=True)
    assert unsent(database) == []
    assert database.write_here("outbox", outbox.unsend, since=clock.now) == 2
    assert unsent(database) == ["a", "b"]


def test_kept_rows_go_after_their_retention(database: Database, clock: ManualClock) -> None:
    """Kept for ever, they would be a second copy of all data."""
    held = database.write_here("put", put, "a", "b", now=clock.now)
    database.write_here("outbox", outbox.sent, [held[0].id], keep=True)
    clock.advance(601)
    assert database.write_here("outbox", outbox.purge_sent, older_than_seconds=600) == 1
    assert unsent(database) == ["b"]


def test_the_backlog_counts_unsent_rows_only(database: Database, clock: ManualClock) -> None:
    """Backpressure and health act on it."""
    held = database.write_here("put", put, "a", "bcd", now=clock.now)
    database.write_here("outbox", outbox.sent, [held[0].id], keep=True)
    assert database.read_here(outbox.backlog) == outbox.Backlog(1, 3, clock.now)
