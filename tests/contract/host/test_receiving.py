"""How the host asks for messages: what the broker owes may come at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from infra.local.host import single
from infra.local.host.functions import Entity, Function, ServiceBusTrigger
from infra.local.host.listeners import Means, Options
from infra.local.host.settings import AppSettings, Connection, HostJson

AT_ONCE = 16


class Receiver:
    """Gives these numbers of messages, then ends the listener's life."""

    def __init__(self, *numbers: int) -> None:
        self.asked: list[int] = []
        self._numbers = list(numbers)
        self.done = asyncio.Event()

    async def receive_messages(self, *, max_message_count: int, max_wait_time: float) -> Sequence[object]:
        self.asked.append(max_message_count)
        if not self._numbers:
            self.done.set()
            await asyncio.Event().wait()
        return [object()] * self._numbers.pop(0)


class Endless(single.SingleListener):
    """Its functions never end."""

    def _start(self, receiver: Any, message: Any) -> None:
        self._in_flight[asyncio.create_task(asyncio.sleep(3600))] = single._InFlight(message, 0.0, 60.0)


def listener() -> Endless:
    entity = Entity("q")
    trigger = ServiceBusTrigger("m", Connection("c", None, None), entity, many=False, binary=True, auto_complete=True)
    options = Options.read(
        HostJson({"extensions": {"serviceBus": {"maxConcurrentCalls": AT_ONCE}}}, AppSettings({})), 1
    )
    pool: Any = SimpleNamespace(ready=True)
    nothing: Any = None
    return Endless(Function("f", "1", trigger, {}, None), trigger, Means(nothing, pool, nothing, options))


async def test_no_pause_while_the_broker_owes_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gives back what reaches it between two calls: delivered, settled and billed for nothing."""
    monkeypatch.setattr(single, "_TOP_UP_SECONDS", 3600)
    endless, receiver = listener(), Receiver(1, 9, 2)

    listening = asyncio.create_task(endless._receive(receiver))  # type: ignore[arg-type]  # only what is used here
    await asyncio.wait_for(receiver.done.wait(), 5)
    listening.cancel()

    assert receiver.asked == [1, 15, 6, 4]
