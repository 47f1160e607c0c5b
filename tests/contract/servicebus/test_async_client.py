"""The asyncio client of azure-servicebus against the emulator; one client for the whole module."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from azure.servicebus import (
    ServiceBusMessage,
    ServiceBusMessageState,
    ServiceBusReceivedMessage,
    ServiceBusReceiveMode,
    ServiceBusSubQueue,
)
from azure.servicebus.aio import AutoLockRenewer, ServiceBusClient, ServiceBusReceiver, ServiceBusSender
from azure.servicebus.exceptions import (
    MessageLockLostError,
    MessageNotFoundError,
    MessageSizeExceededError,
    MessagingEntityNotFoundError,
    ServiceBusError,
)

from tests.contract.servicebus.conftest import Emulator

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Bus:
    """
    The module's client, with the sender and receivers of the queue `main`.

    A receiver that got less than it asked for leaves its link open for more, which then has locks of its own: a test
    that may end so opens a queue and links for itself.
    """

    client: ServiceBusClient
    sender: ServiceBusSender
    receiver: ServiceBusReceiver
    dead: ServiceBusReceiver


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bus(emulator: Emulator) -> AsyncIterator[Bus]:
    async with ServiceBusClient.from_connection_string(emulator.connection_string, retry_backoff_factor=0.1) as client:
        yield Bus(
            client,
            client.get_queue_sender("main"),
            client.get_queue_receiver("main"),
            client.get_queue_receiver("main", sub_queue=ServiceBusSubQueue.DEAD_LETTER),
        )


async def one(receiver: ServiceBusReceiver, *, wait: float = 5) -> ServiceBusReceivedMessage:
    """Receive exactly one message."""
    (message,) = await receiver.receive_messages(1, max_wait_time=wait)
    return message


def soon(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


# ---- sending and receiving


async def test_a_message_arrives_as_it_was_sent(bus: Bus) -> None:
    """Every part of a message that the product sets must reach its reader."""
    sent = ServiceBusMessage(
        b"body",
        application_properties={"text": "t", "number": 7, "flag": True},
        message_id="id-1",
        correlation_id="c",
        subject="s",
        content_type="application/json",
        reply_to="r",
        to="somewhere",
        partition_key="p",
        time_to_live=timedelta(minutes=5),
    )
    await bus.sender.send_messages(sent)

    got = await one(bus.receiver)
    locked_until = got.locked_until_utc
    await bus.receiver.complete_message(got)

    assert b"".join(got.body) == b"body"
    assert got.application_properties is not None
    assert got.application_properties[b"number"] == 7
    assert got.application_properties[b"text"] == b"t"
    assert (got.message_id, got.correlation_id, got.subject, got.content_type) == ("id-1", "c", "s", "application/json")
    assert (got.reply_to, got.to, got.partition_key) == ("r", "somewhere", "p")
    assert got.time_to_live == timedelta(minutes=5)
    assert got.delivery_count == 0
    assert got.sequence_number is not None
    assert got.state is ServiceBusMessageState.ACTIVE
    assert locked_until is not None
    assert locked_until > datetime.now(UTC)


async def test_batches_arrive_complete_and_in_order(bus: Bus, emulator: Emulator) -> None:
    """A batch is one transfer in several frames; each message in it is its own."""
    name = emulator.queue()
    numbers: list[int] = []
    async with bus.client.get_queue_sender(name) as sender, bus.client.get_queue_receiver(name) as receiver:
        batch = await sender.create_message_batch()
        for number in range(100):
            batch.add_message(ServiceBusMessage(f"{number}:" + "x" * 2000))
        await sender.send_messages(batch)
        await sender.send_messages([ServiceBusMessage("100:last")])

        while len(numbers) < 101:
            for message in await receiver.receive_messages(50, max_wait_time=5):
                numbers.append(int(str(message).partition(":")[0]))
                await receiver.complete_message(message)

    assert numbers == list(range(101))


async def test_a_message_of_almost_the_limit_passes_and_one_beyond_it_does_not(bus: Bus) -> None:
    """256 KiB is the Standard tier's limit; the SDK names the error."""
    await bus.sender.send_messages(ServiceBusMessage(b"x" * 261_000))
    got = await one(bus.receiver)
    await bus.receiver.complete_message(got)

    assert len(b"".join(got.body)) == 261_000
    with pytest.raises(MessageSizeExceededError):
        await bus.sender.send_messages(ServiceBusMessage(b"x" * 262_200))
    with pytest.raises(ValueError, match="size"):
        (await bus.sender.create_message_batch()).add_message(ServiceBusMessage(b"x" * 262_200))


async def test_receive_and_delete_leaves_nothing_behind(bus: Bus, emulator: Emulator) -> None:
    """Without a lock the message is gone when it is handed out."""
    name = emulator.queue()
    async with bus.client.get_queue_sender(name) as sender:
        await sender.send_messages([ServiceBusMessage("a"), ServiceBusMessage("b")])
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    async with bus.client.get_queue_receiver(name, receive_mode=mode) as receiver:
        got = await receiver.receive_messages(2, max_wait_time=5)

    assert [str(message) for message in got] == ["a", "b"]
    assert emulator.counts(name)["active"] == 0


async def test_messages_a_closing_receiver_had_prefetched_come_back_uncounted(bus: Bus, emulator: Emulator) -> None:
    """A restart of the app must not eat a delivery of every message in its buffers."""
    name = emulator.queue()
    async with bus.client.get_queue_sender(name) as sender:
        await sender.send_messages([ServiceBusMessage(str(n)) for n in range(5)])
    async with bus.client.get_queue_receiver(name, prefetch_count=5) as greedy:
        await greedy.complete_message(await one(greedy))
    async with bus.client.get_queue_receiver(name) as receiver:
        got = await receiver.receive_messages(4, max_wait_time=5)

    assert [(str(message), message.delivery_count) for message in got] == [(str(n), 0) for n in range(1, 5)]


# ---- settling


async def test_abandoning_redelivers_and_counts_and_merges_properties(bus: Bus) -> None:
    """The next delivery says that it is not the first."""
    await bus.sender.send_messages(ServiceBusMessage("again", application_properties={"kept": "k"}))
    await bus.receiver.abandon_message(await one(bus.receiver))

    got = await one(bus.receiver)
    await bus.receiver.complete_message(got)

    assert got.delivery_count == 1
    assert (got.application_properties or {})[b"kept"] == b"k"


async def test_too_many_deliveries_end_in_the_dead_letters(bus: Bus) -> None:
    """With the reason that Azure gives."""
    await bus.sender.send_messages(ServiceBusMessage("poison"))
    for _ in range(3):
        await bus.receiver.abandon_message(await one(bus.receiver))

    got = await one(bus.dead)
    await bus.dead.complete_message(got)

    assert (str(got), got.dead_letter_reason) == ("poison", "MaxDeliveryCountExceeded")


async def test_dead_lettering_keeps_reason_and_description(bus: Bus) -> None:
    """A person reads them weeks later."""
    await bus.sender.send_messages(ServiceBusMessage("bad", application_properties={"kept": "k"}))
    await bus.receiver.dead_letter_message(await one(bus.receiver), reason="schema", error_description="no id")

    got = await one(bus.dead)
    await bus.dead.complete_message(got)

    assert (got.dead_letter_reason, got.dead_letter_error_description) == ("schema", "no id")
    assert (got.application_properties or {})[b"kept"] == b"k"


async def test_a_deferred_message_is_had_by_its_number_only(bus: Bus, emulator: Emulator) -> None:
    """And settled like any other."""
    name = emulator.queue()
    async with bus.client.get_queue_sender(name) as sender, bus.client.get_queue_receiver(name) as receiver:
        await sender.send_messages(ServiceBusMessage("later"))
        first = await one(receiver)
        assert first.sequence_number is not None
        await receiver.defer_message(first)

        peeked = await receiver.peek_messages(10, sequence_number=first.sequence_number)
        nothing = await receiver.receive_messages(1, max_wait_time=0.5)
        (got,) = await receiver.receive_deferred_messages([first.sequence_number])
        await receiver.complete_message(got)
        with pytest.raises(MessageNotFoundError):
            await receiver.receive_deferred_messages([first.sequence_number])

    assert nothing == []
    assert [message.state for message in peeked] == [ServiceBusMessageState.DEFERRED]
    assert (str(got), got.state) == ("later", ServiceBusMessageState.DEFERRED)


async def test_a_message_is_settled_from_another_link(bus: Bus, emulator: Emulator) -> None:
    """The lock belongs to the message: the link it came on may be gone."""
    name = emulator.queue()
    async with bus.client.get_queue_sender(name) as sender:
        await sender.send_messages([ServiceBusMessage("a"), ServiceBusMessage("b")])
    async with bus.client.get_queue_receiver(name) as first:
        completed, dead = await first.receive_messages(2, max_wait_time=5)
    async with bus.client.get_queue_receiver(name) as second:
        await second.complete_message(completed)
        await second.dead_letter_message(dead, reason="elsewhere")

    assert emulator.counts(name) | {"active": 0, "locked": 0, "deadLetter": 1} == emulator.counts(name)


# ---- locks


async def test_a_lost_lock_is_told_on_renewal_and_on_completion(bus: Bus, emulator: Emulator) -> None:
    """The handler must learn that somebody else has its message."""
    await bus.sender.send_messages(ServiceBusMessage("slow"))
    lost = await one(bus.receiver)
    assert emulator.call("POST", "/emulator/faults/expire-locks", {"entity": "main"}) == (200, {"expired": 1})

    with pytest.raises(MessageLockLostError):
        await bus.receiver.renew_message_lock(lost)
    with pytest.raises(MessageLockLostError):
        await bus.receiver.complete_message(lost)
    again = await one(bus.receiver)
    await bus.receiver.complete_message(again)
    assert again.delivery_count == 1


async def test_a_renewer_keeps_a_short_lock_alive(bus: Bus, emulator: Emulator) -> None:
    """Work longer than the lock is normal."""
    name = emulator.queue(LockDuration="PT3S")
    async with bus.client.get_queue_sender(name) as sender, bus.client.get_queue_receiver(name) as receiver:
        await sender.send_messages(ServiceBusMessage("long"))
        async with AutoLockRenewer() as renewer:
            got = await one(receiver)
            renewer.register(receiver, got, max_lock_renewal_duration=10)
            await asyncio.sleep(4)
            await receiver.complete_message(got)

    assert emulator.counts(name)["active"] == 0


# ---- schedules, time to live, duplicates


async def test_scheduled_messages_come_when_they_are_due_unless_cancelled(bus: Bus) -> None:
    """The park of the product is a scheduled copy."""
    due = soon(1.5)
    (kept, cancelled) = await bus.sender.schedule_messages([ServiceBusMessage("kept"), ServiceBusMessage("gone")], due)
    annotated = ServiceBusMessage("annotated", scheduled_enqueue_time_utc=due)
    await bus.sender.send_messages(annotated)
    peeked = await bus.receiver.peek_messages(10)
    await bus.sender.cancel_scheduled_messages(cancelled)
    early = await bus.receiver.receive_messages(1, max_wait_time=0.3)

    got = [await one(bus.receiver), await one(bus.receiver)]
    for message in got:
        await bus.receiver.complete_message(message)

    assert [message.state for message in peeked] == [ServiceBusMessageState.SCHEDULED] * 3
    assert early == []
    assert sorted(map(str, got)) == ["annotated", "kept"]
    assert all(message.enqueued_time_utc and message.enqueued_time_utc >= due for message in got)
    with pytest.raises(MessageNotFoundError):
        await bus.sender.cancel_scheduled_messages(cancelled)
    assert kept != cancelled


async def test_an_expired_message_is_found_in_the_dead_letters(bus: Bus, emulator: Emulator) -> None:
    """Only where the queue says so."""
    name = emulator.queue(DeadLetteringOnMessageExpiration=True, DefaultMessageTimeToLive="PT1S")
    async with bus.client.get_queue_sender(name) as sender:
        await sender.send_messages(ServiceBusMessage("stale"))
    async with bus.client.get_queue_receiver(name, sub_queue=ServiceBusSubQueue.DEAD_LETTER) as dead:
        got = await one(dead)

    assert (str(got), got.dead_letter_reason) == ("stale", "TTLExpiredException")


async def test_a_duplicate_is_accepted_and_dropped(bus: Bus, emulator: Emulator) -> None:
    """The sender of a retry hears of success."""
    async with bus.client.get_queue_sender("once") as sender:
        for _ in range(3):
            await sender.send_messages(ServiceBusMessage("x", message_id="same"))

    assert emulator.counts("once")["active"] == 1


# ---- topics


async def test_every_subscription_gets_its_copy_and_a_forwarding_one_passes_it_on(bus: Bus) -> None:
    """The data topics of the series."""
    async with bus.client.get_topic_sender("news") as sender:
        await sender.send_messages([ServiceBusMessage("n", message_id="n1")])
    async with bus.client.get_subscription_receiver("news", "first") as first:
        copy = await one(first)
        await first.complete_message(copy)
    async with bus.client.get_queue_receiver("sink") as sink:
        forwarded = await one(sink)
        await sink.complete_message(forwarded)

    assert (copy.message_id, forwarded.message_id) == ("n1", "n1")
    assert forwarded.enqueued_sequence_number == 1


async def test_a_subscription_has_dead_letters_of_its_own(bus: Bus) -> None:
    """In any spelling of the address."""
    async with bus.client.get_topic_sender("NEWS") as sender:
        await sender.send_messages(ServiceBusMessage("n"))
    async with bus.client.get_subscription_receiver("news", "First") as first:
        await first.dead_letter_message(await one(first), reason="r")
    dead_letters = bus.client.get_subscription_receiver("News", "FIRST", sub_queue=ServiceBusSubQueue.DEAD_LETTER)
    async with dead_letters as dead:
        got = await one(dead)
        await dead.complete_message(got)

    assert got.dead_letter_reason == "r"


# ---- refusals


async def test_an_unknown_entity_is_named_in_the_error(bus: Bus) -> None:
    """And does not disturb the client's other links."""
    with pytest.raises(MessagingEntityNotFoundError, match="nowhere"):
        await bus.client.get_queue_sender("nowhere").send_messages(ServiceBusMessage("x"))


async def test_sessions_are_refused_by_name(bus: Bus) -> None:
    """Whoever needs them is told where to go."""
    with pytest.raises(ServiceBusError, match="official"):
        async with bus.client.get_queue_receiver("main", session_id="s"):
            pass


async def test_peeking_goes_on_from_where_it_stopped(bus: Bus, emulator: Emulator) -> None:
    """A dashboard pages through a deep queue without locking anything."""
    name = emulator.queue()
    async with bus.client.get_queue_sender(name) as sender, bus.client.get_queue_receiver(name) as receiver:
        await sender.send_messages([ServiceBusMessage(str(n)) for n in range(25)])
        pages = [await receiver.peek_messages(10) for _ in range(4)]
        again = await receiver.peek_messages(2, sequence_number=3)

    assert [len(page) for page in pages] == [10, 10, 5, 0]
    assert [str(message) for page in pages for message in page] == [str(n) for n in range(25)]
    assert [message.sequence_number for message in again] == [3, 4]


# ---- faults


async def test_a_dropped_connection_is_survived(bus: Bus, emulator: Emulator) -> None:
    """The client reconnects; what was sent before is there."""
    name = emulator.queue()
    async with bus.client.get_queue_sender(name) as sender, bus.client.get_queue_receiver(name) as receiver:
        await sender.send_messages(ServiceBusMessage("first"))
        await receiver.complete_message(await one(receiver))  # its link is open, and asks for nothing
        await sender.send_messages(ServiceBusMessage("before"))
        status, answer = emulator.call("POST", "/emulator/faults/drop-connections", {"entity": name})
        await sender.send_messages(ServiceBusMessage("after"))
        got = {str(message) for message in [await one(receiver, wait=10), await one(receiver, wait=10)]}

    assert (status, answer) == (200, {"dropped": 2})
    assert got == {"before", "after"}


async def test_a_busy_namespace_is_waited_for(bus: Bus, emulator: Emulator) -> None:
    """Server-busy is what Azure says when it throttles; the SDK backs off and tries again."""
    name = emulator.queue()
    emulator.call("POST", "/emulator/faults/refuse-sends", {"entity": name, "count": 1})
    async with bus.client.get_queue_sender(name) as sender:
        await sender.send_messages(ServiceBusMessage("patient"))

    assert emulator.counts(name)["active"] == 1


async def test_a_lost_acknowledgement_makes_a_duplicate(bus: Bus, emulator: Emulator) -> None:
    """What MessageId and duplicate detection are for."""
    plain, once = emulator.queue(), emulator.queue(RequiresDuplicateDetection=True)
    for name in (plain, once):
        emulator.call("POST", "/emulator/faults/lose-acknowledgements", {"entity": name})
        async with bus.client.get_queue_sender(name) as sender:
            await sender.send_messages(ServiceBusMessage("x", message_id="same"))

    assert (emulator.counts(plain)["active"], emulator.counts(once)["active"]) == (2, 1)


async def test_a_message_arrives_twice_when_asked_to(bus: Bus, emulator: Emulator) -> None:
    """At least once means that twice is allowed."""
    name = emulator.queue(RequiresDuplicateDetection=True)
    emulator.call("POST", "/emulator/faults/deliver-twice", {"entity": name})
    async with bus.client.get_queue_sender(name) as sender, bus.client.get_queue_receiver(name) as receiver:
        await sender.send_messages(ServiceBusMessage("x", message_id="same"))
        got = await receiver.receive_messages(2, max_wait_time=5)
        more = await receiver.receive_messages(1, max_wait_time=0.5)

    assert [message.message_id for message in [*got, *more]] == ["same", "same"]
