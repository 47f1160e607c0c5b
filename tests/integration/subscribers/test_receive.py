"""What happens to a message that a subscriber cannot take."""

from __future__ import annotations

import orjson
import pytest

from pipeline import failpoints
from pipeline.bus.messages import Outgoing, pack, unpack
from pipeline.errors import BusUnavailable, RetryLater, StoreUnavailable
from tests.unit.subscribers.making import accept, post, sent

QUEUE = "analytics-queue-local"


def newer() -> Outgoing:
    """Give a message of the next version of the contract."""
    message = sent([accept(post(1))])
    plain = orjson.loads(unpack(message.body, "zlib"))
    return message._replace(body=pack(orjson.dumps(plain | {"version": 2})))


def unavailable(name: str) -> None:
    """Fail the analytics transaction."""
    if name == "store.analytics.before":
        raise StoreUnavailable("the database is out of reach")


async def test_a_message_of_a_newer_version_is_put_off_with_its_body_untouched(stage):
    """During a rolling deployment the new instances must get what the old ones cannot read."""
    message = newer()

    await stage.give("analytics", message)

    [copy] = stage.bus.queues[QUEUE]
    assert copy.message.body == message.body
    assert copy.message.properties["originalId"] == message.message_id
    assert copy.message.properties["copies"] == 1
    assert copy.message.message_id != message.message_id


async def test_a_message_that_stays_newer_is_raised_in_the_end(stage):
    """Without an end, a message that nobody can read would circle for ever, unseen."""
    with pytest.raises(RetryLater):
        await stage.give("analytics", newer(), copies=30)


@pytest.mark.parametrize("body", [b"", b"not zlib", pack(b"not json"), pack(b"[]"), pack(b"{}")])
@pytest.mark.parametrize("subscriber", ["analytics", "raw-storage"])
async def test_what_can_never_be_read_waits_in_quarantine(stage, subscriber, body):
    """Ten redeliveries would not make it readable; a person sees the reason and the body."""
    message = sent([accept(post(1))])._replace(body=body)

    await stage.give(subscriber, message)
    await stage.give(subscriber, message)

    [row] = await stage.rows("SELECT kind, scope, state FROM quarantine")
    assert row == {"kind": "message", "scope": f"{subscriber}-queue-local", "state": "waiting"}
    assert stage.bus.queues == {}


async def test_while_the_store_is_out_of_reach_messages_are_put_off_ever_longer(stage):
    """Raising would burn ten deliveries in a second and dead-letter what is perfectly good."""
    failpoints.install(unavailable)
    message = sent([accept(post(1))])

    await stage.give("analytics", message)
    await stage.give("analytics", message, copies=3)

    delays = [one.message.properties["copies"] for one in stage.bus.queues[QUEUE]]
    first, second = (one.message.due for one in stage.bus.queues[QUEUE])
    assert delays == [1, 4]
    assert 30_000_000 < second - first < 40_000_000


async def test_without_store_and_bus_the_broker_keeps_the_message(stage):
    """Raising abandons it: it comes again, and in the end waits as a dead letter, never lost."""
    failpoints.install(unavailable)
    stage.bus.down = True

    with pytest.raises(BusUnavailable):
        await stage.give("analytics", sent([accept(post(1))]))


async def test_a_copy_of_a_message_that_was_taken_changes_nothing(stage):
    """A put-off whose first delivery had committed after all leaves two copies of one message."""
    message = sent([accept(post(1))])
    await stage.give("analytics", message)

    await stage.give("analytics", message._replace(message_id="copy"), originalId=message.message_id, copies=1)

    assert await stage.rows("SELECT message_id FROM inbox") == [{"message_id": message.message_id}]


async def test_a_feed_that_is_not_enabled_is_put_off(stage):
    """Its columns are not known here; another deployment, or the same one later, knows them."""
    await stage.give("analytics", sent([accept(post(1))])._replace(body=foreign()))

    assert len(stage.bus.queues[QUEUE]) == 1


def foreign() -> bytes:
    """Give the body of a message of an unknown feed."""
    plain = orjson.loads(unpack(sent([accept(post(1))]).body, "zlib"))
    return pack(orjson.dumps(plain | {"feed": "unknown"}))
