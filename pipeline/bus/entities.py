"""
What the bus says of its queues and topics: depths for the status page, properties for the doctor.

Azure is asked through its management interface (the identity needs the right to manage), the local Service Bus
through its control interface. Where neither can be asked, depths are unknown, and said to be.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from azure.servicebus.aio.management import ServiceBusAdministrationClient

log = logging.getLogger(__name__)

R = TypeVar("R")

ANSWER_SECONDS = 5.0
"""A status page waits no longer for the bus; depths are then unknown."""

MAX_ENTITIES = 1000


class Depth(NamedTuple):
    """Messages of one queue. `scheduled` ones are not due yet."""

    active: int
    scheduled: int
    dead_letters: int


class Described(NamedTuple):
    """What exists. A queue's properties are None where they cannot be read; a subscription's value is its target."""

    queues: Mapping[str, Mapping[str, Any] | None]
    topics: Mapping[str, Mapping[str, str | None]]


class Entities(Protocol):
    """Who can be asked about queues and topics; None means that nobody can, or did not answer in time."""

    async def depths(self) -> dict[str, Depth] | None:
        """Give the depth of every queue."""
        ...

    async def describe(self) -> Described | None:
        """Give every queue and topic."""
        ...


class UnknownEntities:
    """Nobody can be asked."""

    async def depths(self) -> dict[str, Depth] | None:
        """Nothing is known."""
        return None

    async def describe(self) -> Described | None:
        """Nothing is known."""
        return None


class ControlledEntities:
    """The local Service Bus, by its control interface."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    async def depths(self) -> dict[str, Depth] | None:
        """Give the depth of every queue."""
        known = await self._get()
        if known is None:
            return None
        return {
            name: Depth(counts["active"], counts["scheduled"], counts["deadLetter"])
            for name, counts in known["queues"].items()
        }

    async def describe(self) -> Described | None:
        """Give every queue and topic; this interface tells no properties."""
        known = await self._get()
        if known is None:
            return None
        topics = {name: dict.fromkeys(topic["subscriptions"]) for name, topic in known["topics"].items()}
        return Described(dict.fromkeys(known["queues"]), topics)

    async def _get(self) -> dict[str, Any] | None:
        import httpx  # only a desk asks this way

        try:
            async with httpx.AsyncClient(timeout=ANSWER_SECONDS) as client:
                answer = await client.get(f"{self._url}/emulator/entities")
                answer.raise_for_status()
                known: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            log.warning("the control interface of the bus does not answer: %s", type(error).__name__)
            return None
        return known


class ManagedEntities:
    """Azure Service Bus, by its management interface. `connect` opens a client; each question uses its own."""

    def __init__(self, connect: Callable[[], ServiceBusAdministrationClient]) -> None:
        self._connect = connect

    async def depths(self) -> dict[str, Depth] | None:
        """Give the depth of every queue; None without the right to manage."""

        async def ask(client: ServiceBusAdministrationClient) -> dict[str, Depth]:
            return {
                one.name: Depth(
                    one.active_message_count or 0, one.scheduled_message_count or 0, one.dead_letter_message_count or 0
                )
                async for one in client.list_queues_runtime_properties()
                if one.name
            }

        return await self._ask(ask)

    async def describe(self) -> Described | None:
        """Give every queue with its properties, and every topic; None without the right to manage."""

        async def ask(client: ServiceBusAdministrationClient) -> Described:
            queues = {one.name: _properties(one) async for one in client.list_queues()}
            names = [one.name async for one in client.list_topics()][:MAX_ENTITIES]
            topics: dict[str, dict[str, str | None]] = {}
            for name in names:
                topics[name] = {one.name: _last(one.forward_to) async for one in client.list_subscriptions(name)}
            return Described(queues, topics)

        return await self._ask(ask)

    async def _ask(self, question: Callable[[ServiceBusAdministrationClient], Awaitable[R]]) -> R | None:
        from azure.core.exceptions import AzureError  # the management client loads when it is asked first

        client = self._connect()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await question(client)
        except (AzureError, TimeoutError, OSError) as error:
            log.warning("the management interface of the bus does not answer: %s", type(error).__name__)
            return None
        finally:
            with suppress(AzureError, OSError):
                await client.close()


def _properties(queue: Any) -> dict[str, Any]:
    """Give a queue's properties under the names that the topology has."""
    return {
        "LockDuration": queue.lock_duration,
        "MaxDeliveryCount": queue.max_delivery_count,
        "DefaultMessageTimeToLive": queue.default_message_time_to_live,
        "DeadLetteringOnMessageExpiration": queue.dead_lettering_on_message_expiration,
        "RequiresDuplicateDetection": queue.requires_duplicate_detection,
        "DuplicateDetectionHistoryTimeWindow": queue.duplicate_detection_history_time_window,
    }


def _last(address: str | None) -> str | None:
    """Azure gives a forwarding target as an address; its last part is the name."""
    return address.rstrip("/").rpartition("/")[2] if address else None


def duration(text: str) -> timedelta:
    """Read the ISO 8601 durations that the topology uses: days, hours, minutes and seconds."""
    import re

    found = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?", text)
    if not found:
        raise ValueError(f"{text!r} is not a duration")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
