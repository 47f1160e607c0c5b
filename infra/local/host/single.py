"""Cardinality one: many messages at once, each settled by itself, its lock renewed meanwhile."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import NamedTuple

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusReceiver
from azure.servicebus.exceptions import ServiceBusError

from infra.local.host import messages, tracing
from infra.local.host.functions import Function, ServiceBusTrigger
from infra.local.host.listeners import IDLE_SECONDS, Listener, Means

log = logging.getLogger("host")

# Under load this bounds how long a part of a page is held back in the hope of the rest.
_BUSY_SECONDS = 0.02
# How long a saturated listener waits for more slots before it asks for few messages.
_TOP_UP_SECONDS = 0.003
_RENEW_EVERY_SECONDS = 0.25


class _InFlight(NamedTuple):
    message: ServiceBusReceivedMessage
    since: float
    lock_seconds: float


class SingleListener(Listener):
    """Cardinality one: up to maxConcurrentCalls messages at once over one link."""

    def __init__(self, function: Function, trigger: ServiceBusTrigger, means: Means) -> None:
        super().__init__(function, trigger, means)
        self._in_flight: dict[asyncio.Task[None], _InFlight] = {}
        self._freed = asyncio.Event()
        self._topped_up = False
        self._owed = 0

    def stop(self) -> None:
        super().stop()
        self._freed.set()

    async def abandon_rest(self) -> None:
        for task in list(self._in_flight):
            task.cancel()
        await asyncio.gather(*self._in_flight, return_exceptions=True)

    async def _listen(self, receiver: ServiceBusReceiver) -> None:
        renewal = asyncio.create_task(self._renew_locks(receiver))
        try:
            await self._receive(receiver)
            while self._in_flight:
                await asyncio.wait(self._in_flight)
        finally:
            renewal.cancel()

    async def _receive(self, receiver: ServiceBusReceiver) -> None:
        busy = False
        while not self._stopping.is_set():
            if not await self._worker_is_ready():
                continue
            free = self._options.max_concurrent_calls - len(self._in_flight)
            if free < self._options.max_concurrent_calls and await self._saturated(free, busy=busy):
                continue
            # The client waits for the whole count once it has one message: ask for one
            # while idle, so that a lone message is run at once.
            wanted = free if busy else 1
            received = await receiver.receive_messages(
                max_message_count=wanted, max_wait_time=_BUSY_SECONDS if busy else IDLE_SECONDS
            )
            self._owed = wanted - len(received)
            busy = bool(received)
            for message in received:
                self._start(receiver, message)

    async def _saturated(self, free: int, *, busy: bool) -> bool:
        """
        Wait for a slot, and under load a moment for more of them; tell whether it waited.

        A receive call costs as much for one message as for eight. But what the broker still owes on the last call may
        come at any moment, and the client gives back what comes between two calls: delivered and settled for nothing.
        """
        if free > 0 and (self._owed or not busy or 2 * free >= self._options.max_concurrent_calls or self._topped_up):
            self._topped_up = False
            return False
        self._freed.clear()
        if free <= 0:
            await self._freed.wait()
        else:
            self._topped_up = True
            await asyncio.sleep(_TOP_UP_SECONDS)
        return True

    def _start(self, receiver: ServiceBusReceiver, message: ServiceBusReceivedMessage) -> None:
        task = asyncio.create_task(self._one(receiver, message))
        self._in_flight[task] = _InFlight(message, time.monotonic(), _lock_seconds_left(message))
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._in_flight[task]
        self._freed.set()
        if not task.cancelled() and (failed := task.exception()) is not None:
            log.error("%s: a message was left to its lock: %r", self.name, failed)

    async def _one(self, receiver: ServiceBusReceiver, message: ServiceBusReceivedMessage) -> None:
        try:
            properties = messages.properties_of(message)
            data, metadata = messages.single(message, properties, binary=self._trigger.binary)
            result = await self._means.run.run(self._function, data, metadata, trace=tracing.of_message(properties))
        except asyncio.CancelledError:
            await self._settle(receiver, message, ok=False)
            raise
        if self._complete or not result.ok:
            await self._settle(receiver, message, ok=result.ok)

    async def _renew_locks(self, receiver: ServiceBusReceiver) -> None:
        """Renew each lock at half its time, for as long as the extension would."""
        limit = self._options.lock_renewal
        while True:
            await asyncio.sleep(_RENEW_EVERY_SECONDS)
            now = time.monotonic()
            due = [
                each.message
                for each in self._in_flight.values()
                if _lock_seconds_left(each.message) < each.lock_seconds / 2
                and (limit is None or now - each.since < limit.total_seconds())
            ]
            for message, outcome in zip(
                due,
                await asyncio.gather(
                    *(receiver.renew_message_lock(message) for message in due), return_exceptions=True
                ),
                strict=True,
            ):
                if isinstance(outcome, ServiceBusError):
                    log.warning("%s: lock of message %s not renewed: %s", self.name, message.message_id, outcome)


def _lock_seconds_left(message: ServiceBusReceivedMessage) -> float:
    until = message.locked_until_utc
    return (until - datetime.now(UTC)).total_seconds() if until else float("inf")
