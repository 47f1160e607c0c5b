"""
The steps every client must pass, for azure-servicebus of any version.

Run inside the throw-away environment: `python steps.py CONNECTION_STRING`. It prints one
line per step and ends with 1 when one failed. It imports nothing of the project.
"""

import asyncio
import sys
import traceback
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone

import azure.servicebus
from azure.servicebus import ServiceBusMessage, ServiceBusReceivedMessage, ServiceBusReceiveMode, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver
from azure.servicebus.exceptions import MessageLockLostError, MessagingEntityNotFoundError, ServiceBusError

Step = Callable[["Bus"], Awaitable[None]]


class Bus:
    """One client with the links that most steps share."""

    def __init__(self, client: ServiceBusClient) -> None:
        self.client = client
        self.sender = client.get_queue_sender("main")
        self.receiver = client.get_queue_receiver("main")
        self.dead = client.get_queue_receiver("main", sub_queue=ServiceBusSubQueue.DEAD_LETTER)


async def one(receiver: ServiceBusReceiver) -> ServiceBusReceivedMessage:
    (message,) = await receiver.receive_messages(1, max_wait_time=5)
    return message


async def send_and_complete(bus: Bus) -> None:
    await bus.sender.send_messages(ServiceBusMessage("hello", application_properties={"n": 1}, message_id="m"))
    message = await one(bus.receiver)
    await bus.receiver.complete_message(message)
    assert (str(message), message.message_id, message.delivery_count) == ("hello", "m", 0)
    assert (message.application_properties or {})[b"n"] == 1


async def batch_of_several_frames(bus: Bus) -> None:
    await bus.sender.send_messages([ServiceBusMessage("x" * 3000) for _ in range(60)])
    done = 0
    while done < 60:
        for message in await bus.receiver.receive_messages(60, max_wait_time=5):
            await bus.receiver.complete_message(message)
            done += 1


async def large_message(bus: Bus) -> None:
    await bus.sender.send_messages(ServiceBusMessage("x" * 240_000))
    message = await one(bus.receiver)
    await bus.receiver.complete_message(message)
    assert len(str(message)) == 240_000


async def peek(bus: Bus) -> None:
    await bus.sender.send_messages(ServiceBusMessage("seen"))
    message = await one(bus.receiver)
    peeked = await bus.receiver.peek_messages(5, sequence_number=message.sequence_number or 0)
    await bus.receiver.complete_message(message)
    assert [str(item) for item in peeked] == ["seen"]


async def abandon_to_the_dead_letters(bus: Bus) -> None:
    await bus.sender.send_messages(ServiceBusMessage("poison"))
    for _ in range(3):
        await bus.receiver.abandon_message(await one(bus.receiver))
    message = await one(bus.dead)
    await bus.dead.complete_message(message)
    assert message.dead_letter_reason == "MaxDeliveryCountExceeded"


async def dead_letter_with_a_reason(bus: Bus) -> None:
    await bus.sender.send_messages(ServiceBusMessage("bad"))
    await bus.receiver.dead_letter_message(await one(bus.receiver), reason="r", error_description="d")
    message = await one(bus.dead)
    await bus.dead.complete_message(message)
    assert (message.dead_letter_reason, message.dead_letter_error_description) == ("r", "d")


async def defer_and_receive_by_number(bus: Bus) -> None:
    await bus.sender.send_messages(ServiceBusMessage("later"))
    message = await one(bus.receiver)
    await bus.receiver.defer_message(message)
    (deferred,) = await bus.receiver.receive_deferred_messages([message.sequence_number or 0])
    await bus.receiver.complete_message(deferred)
    assert str(deferred) == "later"


async def schedule_and_cancel(bus: Bus) -> None:
    due = datetime.now(timezone.utc) + timedelta(seconds=1)  # noqa: UP017 - the client supports Python 3.8
    numbers = await bus.sender.schedule_messages([ServiceBusMessage("kept"), ServiceBusMessage("gone")], due)
    await bus.sender.cancel_scheduled_messages(numbers[1])
    message = await one(bus.receiver)
    await bus.receiver.complete_message(message)
    assert str(message) == "kept"


async def renew_and_lose_a_lock(bus: Bus) -> None:
    await bus.client.get_queue_sender("short").send_messages(ServiceBusMessage("slow"))
    receiver = bus.client.get_queue_receiver("short")
    message = await one(receiver)
    await asyncio.sleep(1.2)
    await receiver.renew_message_lock(message)
    await asyncio.sleep(1.2)
    await receiver.renew_message_lock(message)
    await asyncio.sleep(2.5)
    try:
        await receiver.complete_message(message)
    except MessageLockLostError:
        again = await one(receiver)
        await receiver.complete_message(again)
        assert again.delivery_count == 1
    else:
        raise AssertionError("the lost lock was not noticed")


async def duplicate_detection(bus: Bus) -> None:
    sender = bus.client.get_queue_sender("once")
    for _ in range(2):
        await sender.send_messages(ServiceBusMessage("d", message_id="same"))
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    async with bus.client.get_queue_receiver("once", receive_mode=mode) as receiver:
        got = await receiver.receive_messages(5, max_wait_time=2)
    assert len(got) == 1


async def topic_with_forwarding(bus: Bus) -> None:
    await bus.client.get_topic_sender("news").send_messages(ServiceBusMessage("n"))
    first = bus.client.get_subscription_receiver("news", "first")
    await first.complete_message(await one(first))
    sink = bus.client.get_queue_receiver("sink")
    await sink.complete_message(await one(sink))


async def unknown_entity(bus: Bus) -> None:
    try:
        await bus.client.get_queue_sender("nowhere").send_messages(ServiceBusMessage("x"))
    except MessagingEntityNotFoundError:
        return
    raise AssertionError("no error")


async def sessions_are_refused(bus: Bus) -> None:
    try:
        async with bus.client.get_queue_receiver("main", session_id="s"):
            pass
    except ServiceBusError:
        return
    raise AssertionError("no error")


STEPS: tuple[Step, ...] = (
    send_and_complete,
    batch_of_several_frames,
    large_message,
    peek,
    abandon_to_the_dead_letters,
    dead_letter_with_a_reason,
    defer_and_receive_by_number,
    schedule_and_cancel,
    renew_and_lose_a_lock,
    duplicate_detection,
    topic_with_forwarding,
    unknown_entity,
    sessions_are_refused,
)


async def run(connection_string: str) -> int:
    failed = 0
    async with ServiceBusClient.from_connection_string(connection_string, retry_backoff_factor=0.1) as client:
        bus = Bus(client)
        for step in STEPS:
            name = getattr(step, "__name__", "?")
            try:
                await asyncio.wait_for(step(bus), 60)
                print(f"ok      {name}", flush=True)
            except Exception:
                failed += 1
                print(f"FAILED  {name}", flush=True)
                traceback.print_exc(limit=3)
    return failed


if __name__ == "__main__":
    print(f"azure-servicebus {azure.servicebus.__version__}", flush=True)
    sys.exit(1 if asyncio.run(run(sys.argv[1])) else 0)
