"""The synchronous client of azure-servicebus against the emulator; one client for the whole module."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from azure.servicebus import (
    ServiceBusClient,
    ServiceBusMessage,
    ServiceBusReceivedMessage,
    ServiceBusReceiver,
    ServiceBusSender,
    ServiceBusSubQueue,
)
from azure.servicebus.exceptions import MessageLockLostError, MessageSizeExceededError, MessagingEntityNotFoundError

from tests.contract.servicebus.conftest import Emulator


@dataclass
class Bus:
    """The module's client, with the sender and receivers of the queue `main`."""

    client: ServiceBusClient
    sender: ServiceBusSender
    receiver: ServiceBusReceiver
    dead: ServiceBusReceiver


@pytest.fixture(scope="module")
def bus(emulator: Emulator) -> Iterator[Bus]:
    with ServiceBusClient.from_connection_string(emulator.connection_string, retry_backoff_factor=0.1) as client:
        yield Bus(
            client,
            client.get_queue_sender("main"),
            client.get_queue_receiver("main"),
            client.get_queue_receiver("main", sub_queue=ServiceBusSubQueue.DEAD_LETTER),
        )


def one(receiver: ServiceBusReceiver) -> ServiceBusReceivedMessage:
    (message,) = receiver.receive_messages(1, max_wait_time=5)
    return message


def test_a_batch_is_received_and_completed(bus: Bus, emulator: Emulator) -> None:
    """The plain way through, in several messages and one transfer."""
    name = emulator.queue()
    got: list[str] = []
    with bus.client.get_queue_sender(name) as sender, bus.client.get_queue_receiver(name) as receiver:
        sender.send_messages([ServiceBusMessage(f"m{n}", application_properties={"n": n}) for n in range(20)])
        while len(got) < 20:
            for message in receiver.receive_messages(20, max_wait_time=5):
                got.append(str(message))
                receiver.complete_message(message)

    assert got == [f"m{n}" for n in range(20)]


def test_iterating_ends_when_nothing_comes(bus: Bus, emulator: Emulator) -> None:
    """The other way to receive: a for loop with a time limit."""
    name = emulator.queue()
    got = []
    with bus.client.get_queue_sender(name) as sender:
        sender.send_messages([ServiceBusMessage("a"), ServiceBusMessage("b")])
    with bus.client.get_queue_receiver(name, max_wait_time=1) as receiver:
        for message in receiver:
            got.append(str(message))
            receiver.complete_message(message)

    assert got == ["a", "b"]


def test_each_way_to_settle_has_its_effect(bus: Bus) -> None:
    """Abandon, defer, dead-letter, complete; the sync client takes other paths than the asyncio one."""
    bus.sender.send_messages(ServiceBusMessage("m"))
    bus.receiver.abandon_message(one(bus.receiver))
    again = one(bus.receiver)
    number = again.sequence_number
    assert number is not None
    bus.receiver.defer_message(again)
    (deferred,) = bus.receiver.receive_deferred_messages([number])
    bus.receiver.dead_letter_message(deferred, reason="r", error_description="d")
    dead = one(bus.dead)
    bus.dead.complete_message(dead)

    assert again.delivery_count == 1
    assert (dead.dead_letter_reason, dead.dead_letter_error_description) == ("r", "d")


def test_a_lock_is_renewed_and_lost(bus: Bus, emulator: Emulator) -> None:
    """Renewal moves the end; expiry takes the message away."""
    bus.sender.send_messages(ServiceBusMessage("m"))
    message = one(bus.receiver)
    until = bus.receiver.renew_message_lock(message)
    emulator.call("POST", "/emulator/faults/expire-locks", {"entity": "main"})

    assert until > datetime.now(UTC) + timedelta(seconds=50)
    with pytest.raises(MessageLockLostError):
        bus.receiver.complete_message(message)
    bus.receiver.complete_message(one(bus.receiver))


def test_a_schedule_is_kept_and_cancelled(bus: Bus) -> None:
    """The number returned cancels; what is not cancelled comes."""
    due = datetime.now(UTC) + timedelta(seconds=1)
    numbers = bus.sender.schedule_messages([ServiceBusMessage("kept"), ServiceBusMessage("gone")], due)
    bus.sender.cancel_scheduled_messages(numbers[1])

    got = one(bus.receiver)
    bus.receiver.complete_message(got)

    assert str(got) == "kept"
    assert bus.receiver.peek_messages(1, sequence_number=numbers[0]) == []


def test_a_topic_reaches_its_subscription(bus: Bus) -> None:
    """Publishing and subscribing over the sync client."""
    with bus.client.get_topic_sender("news") as sender:
        sender.send_messages(ServiceBusMessage("n"))
    with bus.client.get_subscription_receiver("news", "first") as receiver:
        message = one(receiver)
        receiver.complete_message(message)

    assert str(message) == "n"


def test_errors_are_the_documented_ones(bus: Bus) -> None:
    """An unknown entity and an oversize message, each by its class."""
    with pytest.raises(MessageSizeExceededError):
        bus.sender.send_messages(ServiceBusMessage(b"x" * 262_200))
    with pytest.raises(MessagingEntityNotFoundError):
        bus.client.get_queue_receiver("nowhere").receive_messages(max_wait_time=1)
