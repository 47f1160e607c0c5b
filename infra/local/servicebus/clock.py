"""Time as a dependency: locks, time to live, schedules and windows read one clock."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """Something that will happen, and can be called off."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Milliseconds since 1970 (the unit of an AMQP timestamp), and a way to wait for one."""

    def now(self) -> int: ...

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer: ...


class SystemClock:
    """The machine's time; it never goes back, because locks must not come back to life."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> int:
        return int((time.monotonic() + self._offset) * 1000)

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer:
        # One millisecond late on purpose: the loop may wake early, and an early wake finds nothing due.
        delay = max(0, when - self.now() + 1) / 1000
        return asyncio.get_running_loop().call_later(delay, callback)


class ManualClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: int = 1_700_000_000_000) -> None:
        self._now = now
        self._order = itertools.count()
        self._timers: list[tuple[int, int, _ManualTimer]] = []

    def now(self) -> int:
        return self._now

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer:
        timer = _ManualTimer(callback)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def advance(self, *, seconds: float) -> None:
        """Move on, running what falls due in the order in which it falls due."""
        end = self._now + round(seconds * 1000)
        while self._timers and self._timers[0][0] <= end:
            when, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, when)
            timer.run()
        self._now = end


class _ManualTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self._callback = None

    def run(self) -> None:
        if self._callback is not None:
            self._callback()
