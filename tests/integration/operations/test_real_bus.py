"""Dead letters and depths with the real client against the local Service Bus."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.servicebus import ServiceBusClient, ServiceBusMessage, ServiceBusSubQueue

from pipeline.bus.entities import ControlledEntities
from pipeline.bus.messages import Outgoing, Received
from pipeline.bus.service_bus import ServiceBus
from pipeline.operations.dead_letters import DeadLetters, Ended
from pipeline.storage.flush import Flusher
from tests.contract.host.broker import Broker
from tests.desk import Desk

SECONDS = 15


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    running = Broker(tmp_path_factory.mktemp("bus"))
    yield running
    running.close()


def _dead_letter(client: ServiceBusClient, queue: str) -> Received:
    """Receive a dead letter and complete it, as the trigger does."""
    with client.get_queue_receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER, max_wait_time=SECONDS) as receiver:
        message = receiver.receive_messages(max_message_count=1)[0]
        properties = {_text(name): _text(value) for name, value in (message.application_properties or {}).items()}
        receiver.complete_message(message)
    return Received(queue, str(message.message_id), b"".join(bytes(part) for part in message.body), properties)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def test_a_message_that_died_of_its_deliveries_comes_back_to_its_queue(broker: Broker, tmp_path: Path):
    """The broker's own property names, its own schedule and its own duplicate detection, not those of a fake."""
    from azure.servicebus.aio import ServiceBusClient as AsyncClient

    queue = broker.queue(MaxDeliveryCount=1, RequiresDuplicateDetection=True)
    desk = Desk(tmp_path, variables={"DEAD_LETTER_RETRY_SECONDS": "0.2"})
    bus = ServiceBus(lambda: AsyncClient.from_connection_string(broker.connection_string))

    async def handle(received: Received) -> Ended:
        pipeline = await desk.build(desk.settings)
        letters = DeadLetters(pipeline.database, Flusher(pipeline.database, bus), pipeline.settings)
        try:
            return await letters.handle_data(received)
        finally:
            await bus.close()
            await pipeline.close()

    with ServiceBusClient.from_connection_string(broker.connection_string) as client:
        with client.get_queue_sender(queue) as sender:
            sender.send_messages(ServiceBusMessage(b"body", message_id="m1"))
        with client.get_queue_receiver(queue, max_wait_time=SECONDS) as receiver:
            receiver.abandon_message(receiver.receive_messages(max_message_count=1)[0])
        letter = _dead_letter(client, queue)
        ended = asyncio.run(handle(letter))
        with client.get_queue_receiver(queue, max_wait_time=SECONDS) as receiver:
            again = receiver.receive_messages(max_message_count=1)[0]
            receiver.complete_message(again)

    properties = {_text(name): _text(value) for name, value in (again.application_properties or {}).items()}
    assert letter.properties["DeadLetterReason"] == "MaxDeliveryCountExceeded"
    assert ended is Ended.RETRIED
    assert b"".join(bytes(part) for part in again.body) == b"body"
    assert (properties["originalId"], properties["dlqCycles"]) == ("m1", "1")


async def test_depths_are_those_of_the_bus(broker: Broker):
    """What the status shows is what stands in the queues."""
    queue, topic = broker.queue(), broker.topic("readers")
    await asyncio.to_thread(broker.send, queue, ["a", "b", "c"])
    entities = ControlledEntities(broker._http)

    depths, described = await entities.depths(), await entities.describe()

    assert depths is not None
    assert depths[queue].active == 3
    assert described is not None
    assert described.topics[topic] == {"readers": None}


async def test_a_bus_that_does_not_answer_leaves_depths_unknown():
    """The status page must come while the bus is down: that is when it is read."""
    assert await ControlledEntities("http://127.0.0.1:9").depths() is None


def test_a_batch_is_never_larger_than_the_broker_takes(broker: Broker):
    """The client counts too little: a full batch was refused, and put together in the same way for ever after."""
    from azure.servicebus.aio import ServiceBusClient as AsyncClient

    queue = broker.queue()
    bus = ServiceBus(lambda: AsyncClient.from_connection_string(broker.connection_string))
    due = time.time_ns() // 1000 + 3_600_000_000
    properties: dict[str, str | int] = {"feed": "posts", "originalId": "d0/0", "itemCount": 100}

    def message(number: int, size: int) -> Outgoing:
        return Outgoing(queue, f"d{size:05}/{number}", bytes(size), properties, due)

    async def send() -> None:
        for size in (*range(12_940, 12_956), 100):  # of these, 20 messages are about as large as the limit
            await bus.send(queue, [message(number, size) for number in range(20 if size > 100 else 2_000)])
        await bus.close()

    asyncio.run(send())
