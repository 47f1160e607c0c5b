"""Faults of the bus, by the emulator's control interface and by clients that do what nobody should."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from azure.servicebus import ServiceBusMessage
from azure.servicebus.exceptions import ServiceBusError

from tests.chaos.scene import Scene

FAULTS = "/emulator/faults"
REFUSALS = (
    "com.microsoft:server-busy",
    "amqp:resource-limit-exceeded",
    "amqp:internal-error",
    "com.microsoft:timeout",
)
MOST_BUS_DEATHS = 4
"""The emulator keeps nothing on disk; each of its deaths has everything of ten minutes sent again."""


async def drop_connections(scene: Scene) -> bool:
    """Cut every connection, or those of one entity."""
    entity = scene.chance.choice([None, *scene.mining_queues, *scene.data_queues])
    answer = await scene.stack.bus.send("POST", f"{FAULTS}/drop-connections", {"entity": entity} if entity else {})
    return bool(answer["dropped"])


async def refuse_sends(scene: Scene) -> bool:
    """Refuse sends as a throttled, full or broken entity does."""
    body = {"entity": _intake(scene), "count": scene.chance.randint(1, 12), "condition": scene.chance.choice(REFUSALS)}
    await scene.stack.bus.send("POST", f"{FAULTS}/refuse-sends", body)
    return True


async def delay_sends(scene: Scene) -> bool:
    """Hold sends back, so that what was sent later overtakes them."""
    body = {"entity": _intake(scene), "count": scene.chance.randint(1, 8), "seconds": scene.chance.uniform(0.2, 2.0)}
    await scene.stack.bus.send("POST", f"{FAULTS}/delay-sends", body)
    return True


async def deliver_twice(scene: Scene) -> bool:
    """Deliver messages twice, side by side."""
    body = {"entity": _intake(scene), "count": scene.chance.randint(1, 20)}
    await scene.stack.bus.send("POST", f"{FAULTS}/deliver-twice", body)
    return True


async def lose_send(scene: Scene) -> bool:
    """Take messages and cut the connection instead of saying so."""
    body = {"entity": _intake(scene), "count": scene.chance.randint(1, 4), "of": "send"}
    await scene.stack.bus.send("POST", f"{FAULTS}/lose-acknowledgements", body)
    return True


async def lose_settle(scene: Scene) -> bool:
    """Settle messages and cut the connection instead of saying so."""
    queue = scene.chance.choice(scene.mining_queues + scene.data_queues)
    body = {"entity": queue, "count": scene.chance.randint(1, 4), "of": "settle"}
    await scene.stack.bus.send("POST", f"{FAULTS}/lose-acknowledgements", body)
    return True


async def expire_locks(scene: Scene) -> bool:
    """Let all locks of some queues expire while their messages are worked on."""
    expired = 0
    for queue in scene.mining_queues + scene.data_queues:
        answer = await scene.stack.bus.send("POST", f"{FAULTS}/expire-locks", {"entity": queue})
        expired += answer["expired"]
    return expired > 0


async def purge(scene: Scene) -> bool:
    """Lose every doorbell of a queue: it is deleted and made anew."""
    queue = scene.chance.choice(scene.mining_queues)
    await scene.stack.bus.send("DELETE", f"/emulator/queues/{queue}")
    await scene.stack.bus.send("PUT", f"/emulator/queues/{queue}", scene.properties_of(queue))
    return True


async def use_up_ids(scene: Scene) -> bool:
    """Have the duplicate window know the ids of re-rings to come: they are dropped without a word."""
    chains = scene.rows(
        "SELECT feed, doorbell_id, attempt FROM chains WHERE state IN ('open', 'parked') AND feed = 'posts' LIMIT 20"
    )
    if not chains:
        return False
    never = datetime.now(UTC) + timedelta(hours=1)
    queue = next(name for name in scene.mining_queues if name.startswith("posts"))
    messages = [
        ServiceBusMessage(b"{}", message_id=f"{doorbell}/{attempt + 1}", scheduled_enqueue_time_utc=never)
        for _, doorbell, attempt in chains
    ]
    try:
        async with scene.client() as client, client.get_queue_sender(queue) as sender:
            await sender.send_messages(messages)
    except ServiceBusError:
        return False
    return True


async def dead_letter(scene: Scene) -> bool:
    """Dead-letter messages before anybody works on them: a doorbell is recorded, data goes round once more."""
    queue = scene.chance.choice(scene.mining_queues + scene.data_queues * 2)
    try:
        async with scene.client() as client, client.get_queue_receiver(queue, max_wait_time=1) as receiver:
            messages = await receiver.receive_messages(max_message_count=3, max_wait_time=1)
            for message in messages:
                await receiver.dead_letter_message(message, reason="Chaos", error_description="on purpose")
    except ServiceBusError:
        return False
    return bool(messages)


async def kill_bus(scene: Scene) -> bool:
    """Kill the emulator, which keeps nothing, and republish what the outbox kept."""
    async with scene.bus_lock:
        if scene.stack.processes["servicebus"].starts > MOST_BUS_DEATHS:
            return False
        await scene.stack.processes["servicebus"].kill()
        await asyncio.sleep(scene.chance.uniform(0.0, 1.0))
        await scene.restart("servicebus")
        scene.forgetful = not await scene.command("republish")
    return True


def _intake(scene: Scene) -> str:
    return scene.chance.choice(scene.mining_queues + scene.topics + scene.data_queues)
