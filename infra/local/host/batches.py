"""Cardinality many: one batch at a time, settled as a whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusReceiver

from infra.local.host import messages, tracing
from infra.local.host.functions import Function, ServiceBusTrigger
from infra.local.host.listeners import IDLE_SECONDS, Listener, Means

_SETTLE_AT_ONCE = 50


class BatchListener(Listener):
    """Cardinality many: one batch at a time, settled as a whole, its locks never renewed."""

    def __init__(self, function: Function, trigger: ServiceBusTrigger, means: Means) -> None:
        super().__init__(function, trigger, means)
        self._running: asyncio.Task[None] | None = None

    async def abandon_rest(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _listen(self, receiver: ServiceBusReceiver) -> None:
        while not self._stopping.is_set():
            if not await self._worker_is_ready():
                continue
            received = await self._gathered(receiver)
            if received:
                self._running = asyncio.create_task(self._one(receiver, received))
                await asyncio.wait([self._running])

    async def _gathered(self, receiver: ServiceBusReceiver) -> list[ServiceBusReceivedMessage]:
        options = self._options
        received = await receiver.receive_messages(max_message_count=options.max_batch, max_wait_time=IDLE_SECONDS)
        until = time.monotonic() + options.max_batch_wait.total_seconds()
        while received and len(received) < options.min_batch and not self._stopping.is_set():
            left = until - time.monotonic()
            if left <= 0:
                break
            received += await receiver.receive_messages(
                max_message_count=options.max_batch - len(received), max_wait_time=min(left, IDLE_SECONDS)
            )
        return received

    async def _one(self, receiver: ServiceBusReceiver, received: Sequence[ServiceBusReceivedMessage]) -> None:
        ok = False
        try:
            data, metadata = messages.batch(received, binary=self._trigger.binary)
            # A batch has many parents: production links them and begins a trace of its own.
            result = await self._means.run.run(self._function, data, metadata, trace=(tracing.continued(None), ""))
            ok = result.ok
        finally:
            if self._complete or not ok:
                for start in range(0, len(received), _SETTLE_AT_ONCE):
                    part = received[start : start + _SETTLE_AT_ONCE]
                    await asyncio.gather(*(self._settle(receiver, message, ok=ok) for message in part))
