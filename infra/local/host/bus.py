"""Clients, receivers and senders of Service Bus, one set for the whole host."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable
from typing import Any

from azure.servicebus import ServiceBusMessage, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver, ServiceBusSender
from azure.servicebus.exceptions import MessageSizeExceededError

from infra.local.host.functions import Entity, ServiceBusOutput, ServiceBusTrigger
from infra.local.host.settings import Connection
from infra.local.host.worker import Plain

# The client reads frame by frame and blocks this long for one that another reader has
# taken, so it is the price in latency of a settlement beside an idle receive.
_READ_SECONDS = 0.05
_SEND_SECONDS = 30.0


class Bus:
    """Clients by connection, senders by entity: opened on first use, no more than the app has bindings."""

    def __init__(self) -> None:
        self._clients: dict[str, ServiceBusClient] = {}
        self._credentials: list[Any] = []
        self._senders: dict[tuple[str, Entity], ServiceBusSender] = {}
        self._locks: dict[tuple[str, Entity], asyncio.Lock] = {}

    def receiver(self, trigger: ServiceBusTrigger, prefetch: int) -> ServiceBusReceiver:
        entity = trigger.entity
        options: dict[str, Any] = {"prefetch_count": prefetch, "socket_timeout": _READ_SECONDS}
        if entity.dead_letters:
            options["sub_queue"] = ServiceBusSubQueue.DEAD_LETTER
        client = self._client(trigger.connection)
        if entity.subscription is None:
            return client.get_queue_receiver(entity.name, **options)
        return client.get_subscription_receiver(entity.name, entity.subscription, **options)

    async def send(self, output: ServiceBusOutput, value: Plain) -> None:
        """Send what an output binding was given: a body, and for a JSON array one message per element."""
        key = (output.connection.name, output.entity)
        # A sender serves one coroutine at a time.
        async with self._locks.setdefault(key, asyncio.Lock()):
            await _send_in_batches(self._sender(key, output), _outgoing(value))

    def _sender(self, key: tuple[str, Entity], output: ServiceBusOutput) -> ServiceBusSender:
        sender = self._senders.get(key)
        if sender is None:
            # Entities of triggers and outputs are named alike; a queue's sender serves a topic as well.
            sender = self._client(output.connection).get_queue_sender(output.entity.name)
            self._senders[key] = sender
        return sender

    def _client(self, connection: Connection) -> ServiceBusClient:
        client = self._clients.get(connection.name)
        if client is None:
            client = self._clients[connection.name] = self._open(connection)
        return client

    def _open(self, connection: Connection) -> ServiceBusClient:
        if connection.connection_string is not None:
            return ServiceBusClient.from_connection_string(connection.connection_string)
        from azure.identity.aio import DefaultAzureCredential

        credential = DefaultAzureCredential(managed_identity_client_id=connection.client_id)
        self._credentials.append(credential)
        assert connection.namespace is not None
        return ServiceBusClient(connection.namespace, credential)

    async def close(self) -> None:
        closing = [*self._senders.values(), *self._clients.values(), *self._credentials]
        await asyncio.gather(*(each.close() for each in closing), return_exceptions=True)


async def _send_in_batches(sender: ServiceBusSender, outgoing: list[ServiceBusMessage]) -> None:
    """Send them in as few batches as their sizes allow; raises when a single one is too large."""
    while outgoing:
        batch = await sender.create_message_batch()
        sent = 0
        with contextlib.suppress(MessageSizeExceededError):
            for message in outgoing:
                batch.add_message(message)
                sent += 1
        # Nothing fitted: the client's own error for a message that is too large.
        await sender.send_messages(batch if sent else outgoing[0], timeout=_SEND_SECONDS)
        outgoing = outgoing[max(1, sent) :]


def _outgoing(value: Plain) -> list[ServiceBusMessage]:
    kind, body = value
    if kind == "bytes":
        return [ServiceBusMessage(body, content_type="application/octet-stream")]
    bodies: Iterable[str] = [str(body)]
    if str(body).lstrip().startswith("["):
        with contextlib.suppress(ValueError):
            bodies = [item if isinstance(item, str) else json.dumps(item) for item in json.loads(body)]
    return [ServiceBusMessage(text, content_type="text/plain") for text in bodies]
