"""Dead letters: recorded, sent round, kept; never destroyed."""

import pytest

from pipeline.bus.messages import Outgoing, Received
from pipeline.errors import StoreUnavailable
from pipeline.operations.dead_letters import DeadLetters, Ended
from tests.desk import Desk

QUEUE = "raw-storage-queue-local"


def _data(desk: Desk) -> Outgoing:
    """A data message as the topic has it."""
    desk.user("u1", posts=3)
    desk.run("mine", "posts")
    desk.work()
    return desk.bus.topics["posts-data-topic-local"][0]


def _dead(message: Outgoing, entity: str = QUEUE, told: str = "MaxDeliveryCountExceeded") -> Received:
    return Received(
        entity, message.message_id, message.body, {**message.properties, "DeadLetterReason": told}, delivery_count=1
    )


def _data_letter(desk: Desk, received: Received) -> Ended:
    return desk.with_pipeline(lambda pipeline: pipeline.dead_letters.handle_data(received))


def _work_letter(desk: Desk, received: Received) -> Ended:
    return desk.with_pipeline(lambda pipeline: pipeline.dead_letters.handle_work(received))


def _newest(desk: Desk) -> Outgoing:
    return desk.bus.queues[QUEUE][-1].message


def test_a_subscribers_message_goes_round_later_with_its_first_identity(desk: Desk):
    """The inbox knows it by its first MessageId; a new one would count it twice."""
    message = _data(desk)

    assert _data_letter(desk, _dead(message)) is Ended.RETRIED

    again = _newest(desk)
    assert again.body == message.body
    assert again.due > desk.clock.now
    assert again.message_id != message.message_id
    assert again.properties["originalId"] == message.message_id
    assert "DeadLetterReason" not in again.properties


def test_a_permanent_poison_goes_round_three_times_and_is_then_kept_for_a_person(desk: Desk):
    """H50: a fresh message has a fresh delivery count, so without a cap it would go round for ever."""
    letter = _dead(_data(desk))
    ends = []
    for _ in range(4):
        ends.append(_data_letter(desk, letter))
        letter = _dead(_newest(desk))

    assert ends == [Ended.RETRIED, Ended.RETRIED, Ended.RETRIED, Ended.KEPT]
    row = desk.run("quarantine", "list", "--kind", "message", "--user", "u1", "--json").json[0]
    assert (row["reason"], row["stage"], row["feed"]) == ("max-deliveries", "dead-letter", "posts")


def test_a_dead_letter_handled_twice_goes_round_once(desk: Desk):
    """A crash between send and settle must not double the message."""
    letter = _dead(_data(desk))

    _data_letter(desk, letter)
    _data_letter(desk, letter)

    assert len(desk.bus.queues[QUEUE]) == 1


def test_what_was_kept_can_be_replayed_to_its_queue_and_begins_anew(desk: Desk):
    """After the bug is fixed the message must arrive, with its whole life before it."""
    message = _data(desk)
    letter = _dead(message)._replace(properties={**message.properties, "DeadLetterReason": "x", "dlqCycles": 3})
    _data_letter(desk, letter)

    said = desk.run("quarantine", "replay", "--kind", "message", "--json")

    assert said.json["counts"] == {"replayed": 1}
    again = _newest(desk)
    assert (again.body, again.properties["originalId"]) == (message.body, message.message_id)
    assert not {"dlqCycles", "queue", "DeadLetterReason"} & set(again.properties)


def test_a_replayed_message_that_comes_back_waits_again(desk: Desk):
    """Without it a message could vanish on its second way round."""
    message = _data(desk)
    letter = _dead(message)._replace(properties={**message.properties, "DeadLetterReason": "x", "dlqCycles": 3})
    _data_letter(desk, letter)
    desk.run("quarantine", "replay", "--all")

    _data_letter(desk, letter)

    assert len(desk.run("quarantine", "list", "--json").json) == 1


def test_a_dead_doorbell_is_recorded_and_dropped_and_the_chain_goes_on(desk: Desk):
    """The chain's row is the truth: the watchdog rings, and the record tells that something died."""
    desk.user("u1", posts=30)
    desk.variables["PAGES_PER_MESSAGE"] = "1"
    desk.source.limit = 10
    desk.run("mine", "posts")
    queue = "posts-mining-queue-local"
    tick = desk.bus.queues[queue][0]
    desk.with_pipeline(lambda pipeline: pipeline.miner.handle(desk.bus.receive(queue, tick)))
    desk.bus.complete(queue, tick)
    doorbells = [desk.bus.receive(queue, one) for one in list(desk.bus.queues[queue])]
    desk.bus.queues[queue].clear()

    ends = [_work_letter(desk, doorbell._replace(properties={"DeadLetterReason": "x"})) for doorbell in doorbells]
    desk.clock.advance(130)
    desk.with_pipeline(lambda pipeline: pipeline.watchdog.run())
    desk.work()

    assert set(ends) == {Ended.RECORDED}
    assert len(desk.run("quarantine", "list", "--user", "u1", "--feed", "posts", "--json").json) == len(doorbells)
    assert desk.run("status", "--json").json["feeds"][0]["items"] == 30


@pytest.mark.parametrize("body", [b"\xff\xfe", b"[]", b'{"version": 99}', b""])
def test_a_dead_letter_that_nobody_can_read_is_kept_byte_for_byte(desk: Desk, body: bytes):
    """H49: what is completed without a row is destroyed."""
    received = Received("posts-mining-queue-local", "m1", body, {"DeadLetterReason": "MaxDeliveryCountExceeded"})

    ended = _work_letter(desk, received)

    assert ended is Ended.RECORDED
    row = desk.run("quarantine", "list", "--json").json[0]
    assert row["reason"] == "max-deliveries"


async def test_a_store_that_is_away_gives_the_letter_back_after_a_pause():
    """A dead-letter queue redelivers at once and for ever: without the pause an outage costs a delivery a moment."""

    class Away:
        async def write(self, *arguments: object, **keywords: object) -> None:
            raise StoreUnavailable("away")

    class Asks:
        dead_letter_retry_seconds = 300.0

    letters = DeadLetters(Away(), None, Asks(), pause_seconds=0.01)  # type: ignore[arg-type]  # stand-ins

    with pytest.raises(StoreUnavailable):
        await letters.handle_data(Received(QUEUE, "m1", b"x", {}))
