"""Service Bus: listeners for queue, topic and dead-letter triggers, senders for output bindings."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

from azure.servicebus import ServiceBusMessage, ServiceBusReceivedMessage, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver, ServiceBusSender
from azure.servicebus.exceptions import MessageLockLostError, ServiceBusError

from infra.local.host import messages, tracing
from infra.local.host.execution import Executor
from infra.local.host.functions import Entity, Function, ServiceBusOutput, ServiceBusTrigger
from infra.local.host.pool import WorkerPool
from infra.local.host.settings import Connection, HostJson
from infra.local.host.worker import Plain

log = logging.getLogger("host")

# The client reads frame by frame and blocks this long for one that another reader has
# taken, so it is the price in latency of a settlement beside an idle receive.
_READ_SECONDS = 0.05
# How long one receive call may wait: idle (a stop is noticed after it) and under load,
# where it bounds how long a part of a page is held back in the hope of the rest.
_IDLE_SECONDS = 1.0
_BUSY_SECONDS = 0.02
# How long a saturated listener waits for more slots before it asks for few messages.
_TOP_UP_SECONDS = 0.003
_RECONNECT_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
_RENEW_EVERY_SECONDS = 0.25
_SETTLE_AT_ONCE = 50


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
            sender = self._sender(key, output)
            await sender.send_messages(_outgoing(value))

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


def _outgoing(value: Plain) -> list[ServiceBusMessage]:
    kind, body = value
    if kind == "bytes":
        return [ServiceBusMessage(body, content_type="application/octet-stream")]
    bodies: Iterable[str] = [str(body)]
    if str(body).lstrip().startswith("["):
        with contextlib.suppress(ValueError):
            bodies = [item if isinstance(item, str) else json.dumps(item) for item in json.loads(body)]
    return [ServiceBusMessage(text, content_type="text/plain") for text in bodies]


class Listener(Protocol):
    """Feeds one function until it is stopped."""

    name: str

    async def run(self) -> None:
        """Receive and run until `stop`; errors of the connection are survived here."""

    def stop(self) -> None:
        """Receive no more; `run` returns when what is in flight has ended."""

    async def abandon_rest(self) -> None:
        """Give back what is still in flight after the drain's limit."""


class _InFlight(NamedTuple):
    message: ServiceBusReceivedMessage
    since: float
    lock_seconds: float


class SingleListener:
    """Cardinality one: up to maxConcurrentCalls messages at once over one link."""

    def __init__(
        self,
        function: Function,
        trigger: ServiceBusTrigger,
        *,
        bus: Bus,
        pool: WorkerPool,
        run: Executor,
        options: Options,
    ) -> None:
        self.name = function.name
        self._function = function
        self._trigger = trigger
        self._bus = bus
        self._pool = pool
        self._run = run
        self._options = options
        self._complete = options.auto_complete if trigger.auto_complete is None else trigger.auto_complete
        self._in_flight: dict[asyncio.Task[None], _InFlight] = {}
        self._freed = asyncio.Event()
        self._topped_up = False
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        await _connected(self, self._bus, self._trigger, self._options.prefetch_count, self._stopping, self._listen)

    def stop(self) -> None:
        self._stopping.set()
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
            if not self._pool.ready:
                await _either(self._pool.wait_until_ready(), self._stopping)
                continue
            free = self._options.max_concurrent_calls - len(self._in_flight)
            if free < self._options.max_concurrent_calls and await self._saturated(free, busy=busy):
                continue
            # The client waits for the whole count once it has one message: ask for one
            # while idle, so that a lone message is run at once.
            received = await receiver.receive_messages(
                max_message_count=free if busy else 1, max_wait_time=_BUSY_SECONDS if busy else _IDLE_SECONDS
            )
            busy = bool(received)
            for message in received:
                self._start(receiver, message)

    async def _saturated(self, free: int, *, busy: bool) -> bool:
        """
        Wait for a slot, and under load a moment for more of them; tell whether it waited.

        A receive call costs as much for one message as for eight.
        """
        if free > 0 and (not busy or 2 * free >= self._options.max_concurrent_calls or self._topped_up):
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
            result = await self._run.run(self._function, data, metadata, trace=tracing.of_message(properties))
        except asyncio.CancelledError:
            await _settle(self.name, receiver, message, ok=False)
            raise
        if self._complete or not result.ok:
            await _settle(self.name, receiver, message, ok=result.ok)

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


class BatchListener:
    """Cardinality many: one batch at a time, settled as a whole, its locks never renewed."""

    def __init__(
        self,
        function: Function,
        trigger: ServiceBusTrigger,
        *,
        bus: Bus,
        pool: WorkerPool,
        run: Executor,
        options: Options,
    ) -> None:
        self.name = function.name
        self._function = function
        self._trigger = trigger
        self._bus = bus
        self._pool = pool
        self._run = run
        self._options = options
        self._complete = options.auto_complete if trigger.auto_complete is None else trigger.auto_complete
        self._stopping = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def run(self) -> None:
        await _connected(self, self._bus, self._trigger, self._options.prefetch_count, self._stopping, self._listen)

    def stop(self) -> None:
        self._stopping.set()

    async def abandon_rest(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _listen(self, receiver: ServiceBusReceiver) -> None:
        while not self._stopping.is_set():
            if not self._pool.ready:
                await _either(self._pool.wait_until_ready(), self._stopping)
                continue
            received = await self._gathered(receiver)
            if received:
                self._running = asyncio.create_task(self._one(receiver, received))
                await asyncio.wait([self._running])

    async def _gathered(self, receiver: ServiceBusReceiver) -> list[ServiceBusReceivedMessage]:
        options = self._options
        received = await receiver.receive_messages(max_message_count=options.max_batch, max_wait_time=_IDLE_SECONDS)
        until = time.monotonic() + options.max_batch_wait.total_seconds()
        while received and len(received) < options.min_batch and not self._stopping.is_set():
            left = until - time.monotonic()
            if left <= 0:
                break
            received += await receiver.receive_messages(
                max_message_count=options.max_batch - len(received), max_wait_time=min(left, _IDLE_SECONDS)
            )
        return received

    async def _one(self, receiver: ServiceBusReceiver, received: Sequence[ServiceBusReceivedMessage]) -> None:
        ok = False
        try:
            data, metadata = messages.batch(received, binary=self._trigger.binary)
            # A batch has many parents: production links them and begins a trace of its own.
            result = await self._run.run(self._function, data, metadata, trace=(tracing.continued(None), ""))
            ok = result.ok
        finally:
            if self._complete or not ok:
                for start in range(0, len(received), _SETTLE_AT_ONCE):
                    part = received[start : start + _SETTLE_AT_ONCE]
                    await asyncio.gather(*(_settle(self.name, receiver, message, ok=ok) for message in part))


def listener(
    function: Function, trigger: ServiceBusTrigger, *, bus: Bus, pool: WorkerPool, run: Executor, options: Options
) -> Listener:
    kind = BatchListener if trigger.many else SingleListener
    return kind(function, trigger, bus=bus, pool=pool, run=run, options=options)


async def _connected(
    owner: SingleListener | BatchListener,
    bus: Bus,
    trigger: ServiceBusTrigger,
    prefetch: int,
    stopping: asyncio.Event,
    listen: Any,
) -> None:
    """Listen over a link, and over a new one whenever it breaks, until stopped."""
    failures = 0
    while not stopping.is_set():
        opened = time.monotonic()
        try:
            async with contextlib.AsyncExitStack() as stack:
                # Opening is tried for many seconds, and a stop must not wait for it.
                opening = asyncio.create_task(stack.enter_async_context(bus.receiver(trigger, prefetch)))
                await _either(opening, stopping)
                if stopping.is_set():
                    return
                log.debug("%s listens to %s", owner.name, trigger.entity)
                await listen(opening.result())
        except Exception as broken:  # noqa: BLE001 - whatever a connection throws, the listener outlives it
            failures = 1 if time.monotonic() - opened > 30 else failures + 1
            pause = _RECONNECT_SECONDS[min(failures, len(_RECONNECT_SECONDS)) - 1]
            log.warning("%s: %s: %s; again in %.1f s", owner.name, trigger.entity, broken, pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), pause)


async def _settle(name: str, receiver: ServiceBusReceiver, message: ServiceBusReceivedMessage, *, ok: bool) -> None:
    """Complete or abandon; what cannot be settled comes back when its lock ends."""
    try:
        if ok:
            await receiver.complete_message(message)
        else:
            await receiver.abandon_message(message)
    except MessageLockLostError:
        log.warning("%s: message %s lost its lock and will be delivered again", name, message.message_id)
    except (ServiceBusError, ValueError, RuntimeError) as failed:
        log.warning("%s: message %s could not be settled: %s", name, message.message_id, failed)


def _lock_seconds_left(message: ServiceBusReceivedMessage) -> float:
    until = message.locked_until_utc
    return (until - datetime.now(UTC)).total_seconds() if until else float("inf")


async def _either(waiting: Any, stopping: asyncio.Event) -> None:
    tasks = [asyncio.ensure_future(waiting), asyncio.ensure_future(stopping.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
