"""
Service Bus by the ordinary client. The only place that sends.

A sender is a connection of its own and takes half a second to open: one per entity and process, opened on first use,
at most `max_senders`, the least recently used closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from azure.servicebus import ServiceBusMessage
from azure.servicebus.exceptions import MessageSizeExceededError, ServiceBusError

from pipeline.bus.messages import Outgoing
from pipeline.chains.protocol import MICROS
from pipeline.errors import BusUnavailable
from pipeline.failpoints import failpoint

if TYPE_CHECKING:
    from azure.servicebus.aio import ServiceBusClient, ServiceBusSender

log = logging.getLogger(__name__)

REOPENED = 3
"""Senders that one send may find closed by those who used them before; then the bus counts as out of reach."""

SEND_SECONDS = 5.0
"""One batch; DESIGN counts it into the time of a page."""


BATCH_BYTES = 256 * 1024 - 8 * 1024
"""
What a batch may hold by the client's count, which is some 50 bytes too low for 20 messages. The broker takes 256 KiB; a
batch that it refuses is put together in the same way by every later try, and its rows would wait for ever.
"""


class Bus(Protocol):
    """Where messages go."""

    async def send(self, entity: str, messages: Sequence[Outgoing]) -> None:
        """Send all messages to one queue or topic; returns when the broker has them. Raises BusUnavailable."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class _Sender:
    """One link; the client's senders must not be used by two tasks at once."""

    def __init__(self, sender: ServiceBusSender) -> None:
        self.sender = sender
        self.lock = asyncio.Lock()
        self.users = 0
        self.closed = False


class ServiceBus:
    """Sends in batches over a bounded set of senders."""

    def __init__(self, connect: Callable[[], ServiceBusClient], *, max_senders: int = 8) -> None:
        self._connect = connect
        self._client: ServiceBusClient | None = None
        self._senders: OrderedDict[str, _Sender] = OrderedDict()
        self._max_senders = max_senders

    async def send(self, entity: str, messages: Sequence[Outgoing]) -> None:
        """Send all messages to one entity, in as few batches as fit."""
        if not messages:
            return
        for _ in range(REOPENED):
            if await self._sent_through(self._sender(entity), entity, messages):
                await self._evict()
                return
        raise BusUnavailable(f"sending to {entity}: senders fail one after the other")

    async def close(self) -> None:
        """Close all senders and the client."""
        for entity in list(self._senders):
            await _close(self._senders.pop(entity).sender, entity)
        if self._client is not None:
            client, self._client = self._client, None
            await _close(client, "the client")

    async def _sent_through(self, held: _Sender, entity: str, messages: Sequence[Outgoing]) -> bool:
        """Send through one sender; False if it failed another task, and was closed, while this one waited for it."""
        held.users += 1
        try:
            async with held.lock:
                if held.closed:
                    return False
                failpoint("bus.send.before")
                try:
                    await self._send(held.sender, [_message(message) for message in messages])
                except (ServiceBusError, TimeoutError, OSError) as error:
                    await self._forget(entity, held)
                    raise BusUnavailable(f"sending to {entity}: {type(error).__name__}") from error
                failpoint("bus.send.after")
                return True
        finally:
            held.users -= 1

    async def _send(self, sender: ServiceBusSender, messages: list[ServiceBusMessage]) -> None:
        async with asyncio.timeout(SEND_SECONDS):
            if len(messages) == 1:
                await sender.send_messages(messages[0])
                return
            batch = await sender.create_message_batch(BATCH_BYTES)
            for message in messages:
                try:
                    batch.add_message(message)
                except (ValueError, MessageSizeExceededError):  # the batch is full
                    if len(batch):
                        await sender.send_messages(batch)
                    batch = await sender.create_message_batch(BATCH_BYTES)
                    batch.add_message(message)
            await sender.send_messages(batch)

    def _sender(self, entity: str) -> _Sender:
        held = self._senders.get(entity)
        if held is None:
            if self._client is None:
                self._client = self._connect()
            # A topic's sender is a queue's sender: the client only puts the name into the address.
            held = self._senders[entity] = _Sender(self._client.get_queue_sender(entity))
        self._senders.move_to_end(entity)
        return held

    async def _forget(self, entity: str, held: _Sender) -> None:
        """Drop a sender that failed; the next send opens a fresh one."""
        held.closed = True
        if self._senders.get(entity) is held:
            del self._senders[entity]
        await _close(held.sender, entity)

    async def _evict(self) -> None:
        while len(self._senders) > self._max_senders:
            idle = next((name for name, held in self._senders.items() if not held.users), None)
            if idle is None:
                return
            await _close(self._senders.pop(idle).sender, idle)


async def _close(link: ServiceBusSender | ServiceBusClient, name: str) -> None:
    """Close what is of no use any more; whatever goes wrong there is nobody's business."""
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await link.close()
    except (ServiceBusError, TimeoutError, OSError) as error:
        log.debug("closing %s failed: %s", name, type(error).__name__)


def _message(message: Outgoing) -> ServiceBusMessage:
    due = datetime.fromtimestamp(message.due / MICROS, UTC) if message.due else None
    properties: dict[str | bytes, Any] = dict(message.properties.items())
    return ServiceBusMessage(
        message.body,
        message_id=message.message_id,
        application_properties=properties,
        scheduled_enqueue_time_utc=due,
        content_type="application/json",
    )
