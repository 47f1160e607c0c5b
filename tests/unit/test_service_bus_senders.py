"""The senders that tasks share: one that failed is closed, and whoever waited for it must not notice."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.exceptions import ServiceBusConnectionError

from pipeline.bus import service_bus
from pipeline.bus.messages import Outgoing
from pipeline.bus.service_bus import ServiceBus
from pipeline.errors import BusUnavailable


class Sender:
    """A sender as azure-servicebus makes them: after `close` every use is a ValueError."""

    def __init__(self, client: Connection) -> None:
        self._client = client
        self._closed = False

    async def send_messages(self, message: object) -> None:
        """Fail as long as the connection does."""
        if self._closed:
            raise ValueError("The handler has already been shutdown.")
        await asyncio.sleep(0)
        if self._client.failures:
            self._client.failures -= 1
            raise ServiceBusConnectionError(message="cut")
        self._client.sent += 1

    async def close(self) -> None:
        """Make it unusable."""
        self._closed = True
        if self._client.closing == "fails":
            raise ServiceBusConnectionError(message="cut")
        if self._client.closing == "hangs":
            await asyncio.sleep(3600)


class Connection:
    """A client whose first sends fail, and whose links may be hard to close."""

    def __init__(self, failures: int, closing: str = "works") -> None:
        self.failures = failures
        self.closing = closing
        self.sent = 0
        self.opened = 0

    def get_queue_sender(self, entity: str) -> Sender:
        """Open a sender."""
        self.opened += 1
        return Sender(self)

    async def close(self) -> None:
        """Nothing to close."""


async def send_together(connection: Connection, tasks: int) -> list[Any]:
    """Send from so many tasks at once; gives what each ended with."""
    bus = ServiceBus(lambda: cast(ServiceBusClient, connection))
    sends = (bus.send("posts", [Outgoing("posts", str(number), b"{}", {})]) for number in range(tasks))
    return await asyncio.gather(*sends, return_exceptions=True)


async def test_who_waits_for_a_sender_that_fails_sends_through_a_fresh_one() -> None:
    """It met a closed sender once, and the error of that is a bug's: the doorbells went to the dead letters."""
    connection = Connection(failures=1)

    ended = await send_together(connection, tasks=5)

    assert [type(one) for one in ended] == [BusUnavailable, *[type(None)] * 4]
    assert (connection.sent, connection.opened) == (4, 2)


@pytest.mark.parametrize("tasks", [5, 20])
async def test_a_bus_that_stays_away_is_unavailable_to_everybody(tasks: int) -> None:
    """However many wait, each gets the error that leaves its rows to the relay."""
    ended = await send_together(Connection(failures=1000), tasks)

    assert {type(one) for one in ended} == {BusUnavailable}


@pytest.mark.parametrize("closing", ["fails", "hangs"])
async def test_a_sender_that_cannot_be_closed_fails_no_send_and_holds_up_no_end(closing, monkeypatch) -> None:
    """What was sent would be told to have failed, and a worker that ends would never do so."""
    monkeypatch.setattr(service_bus, "SEND_SECONDS", 0.05)
    connection = Connection(failures=0, closing=closing)
    bus = ServiceBus(lambda: cast(ServiceBusClient, connection), max_senders=1)

    async with asyncio.timeout(5):
        for entity in ("posts", "comments"):  # the second closes the first's
            await bus.send(entity, [Outgoing(entity, "1", b"{}", {})])
        await bus.close()

    assert (connection.sent, connection.opened) == (2, 2)
