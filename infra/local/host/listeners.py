"""What every Service Bus listener does: connect, reconnect, stop, settle."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, Final, NamedTuple

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusReceiver
from azure.servicebus.exceptions import MessageLockLostError, ServiceBusError

from infra.local.host.bus import Bus
from infra.local.host.execution import Executor
from infra.local.host.functions import Function, ServiceBusTrigger
from infra.local.host.pool import WorkerPool
from infra.local.host.settings import HostJson

log = logging.getLogger("host")

# How long an idle receive call waits; a stop is noticed after it.
IDLE_SECONDS: Final = 1.0
_RECONNECT_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
# A link that held this long had no trouble opening.
_SETTLED_SECONDS = 30.0


class Options(NamedTuple):
    """host.json `extensions.serviceBus`, under the names and defaults of the extension."""

    max_concurrent_calls: int
    prefetch_count: int
    auto_complete: bool
    lock_renewal: timedelta | None
    max_batch: int
    min_batch: int
    max_batch_wait: timedelta

    @classmethod
    def read(cls, host_json: HostJson, cores: int) -> Options:
        at = "extensions.serviceBus."
        if host_json.get(f"{at}messageHandlerOptions") is not None:
            log.warning("host.json: %smessageHandlerOptions is of extension 4; extension 5 ignores it", at)
        wait = host_json.span(f"{at}maxBatchWaitTime", timedelta(seconds=30))
        return cls(
            max_concurrent_calls=max(1, host_json.whole(f"{at}maxConcurrentCalls", 16 * cores)),
            prefetch_count=max(0, host_json.whole(f"{at}prefetchCount", 0)),
            auto_complete=host_json.flag(f"{at}autoCompleteMessages", default=True),
            lock_renewal=host_json.span(f"{at}maxAutoLockRenewalDuration", timedelta(minutes=5)),
            max_batch=max(1, host_json.whole(f"{at}maxMessageBatchSize", 1000)),
            min_batch=max(1, host_json.whole(f"{at}minMessageBatchSize", 1)),
            max_batch_wait=min(wait or timedelta(seconds=150), timedelta(seconds=150)),
        )


class Means(NamedTuple):
    """What a listener works with."""

    bus: Bus
    pool: WorkerPool
    run: Executor
    options: Options


class Listener(ABC):
    """Feeds one function until it is stopped."""

    def __init__(self, function: Function, trigger: ServiceBusTrigger, means: Means) -> None:
        self.name = function.name
        self._function = function
        self._trigger = trigger
        self._means = means
        self._options = means.options
        complete = trigger.auto_complete
        self._complete = means.options.auto_complete if complete is None else complete
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Listen over a link, and over a new one whenever it breaks, until stopped and drained."""
        failures = 0
        while not self._stopping.is_set():
            opened = time.monotonic()
            try:
                await self._listen_over_a_link()
            except Exception as broken:  # noqa: BLE001 - whatever a connection throws, the listener outlives it
                failures = 1 if time.monotonic() - opened > _SETTLED_SECONDS else failures + 1
                pause = _RECONNECT_SECONDS[min(failures, len(_RECONNECT_SECONDS)) - 1]
                log.warning("%s: %s: %s; again in %.1f s", self.name, self._trigger.entity, broken, pause)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)

    def stop(self) -> None:
        """Receive no more; `run` returns when what is in flight has ended."""
        self._stopping.set()

    @abstractmethod
    async def abandon_rest(self) -> None:
        """Give back what is still in flight after the drain's limit."""

    @abstractmethod
    async def _listen(self, receiver: ServiceBusReceiver) -> None:
        """Receive and run until stopped, then let what is in flight end."""

    async def _listen_over_a_link(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            receiver = self._means.bus.receiver(self._trigger, self._options.prefetch_count)
            # Opening is tried for many seconds, and a stop must not wait for it.
            opening = asyncio.create_task(stack.enter_async_context(receiver))
            await self._unless_stopped(opening)
            if not self._stopping.is_set():
                log.debug("%s listens to %s", self.name, self._trigger.entity)
                await self._listen(opening.result())

    async def _worker_is_ready(self) -> bool:
        """Wait for a worker before messages are locked for it; False when a wait was needed."""
        if self._means.pool.ready:
            return True
        await self._unless_stopped(self._means.pool.wait_until_ready())
        return False

    async def _unless_stopped(self, waiting: Awaitable[Any]) -> None:
        tasks = [asyncio.ensure_future(waiting), asyncio.ensure_future(self._stopping.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _settle(self, receiver: ServiceBusReceiver, message: ServiceBusReceivedMessage, *, ok: bool) -> None:
        """Complete or abandon; what cannot be settled comes back when its lock ends."""
        try:
            if ok:
                await receiver.complete_message(message)
            else:
                await receiver.abandon_message(message)
        except MessageLockLostError:
            log.warning("%s: message %s lost its lock and will be delivered again", self.name, message.message_id)
        except (ServiceBusError, ValueError, RuntimeError) as failed:
            log.warning("%s: message %s could not be settled: %s", self.name, message.message_id, failed)
