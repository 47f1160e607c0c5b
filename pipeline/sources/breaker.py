"""Stop calling a host that only fails, and find out gently when it is back. Per host and use case."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

FAILURES = 10
"""So many failures in a row, of all users together, open it: three users' quick retries, and one more."""

FIRST_PAUSE_MINUTES = 0.5
LONGEST_PAUSE_MINUTES = 5.0
MAX_BREAKERS = 1_000


class Breaker:
    """
    Closed: calls pass. Open: none does for a pause. Half open: one probe at a time; its result decides.

    A failure is an answer that says the API is down (or none at all); throttles and refusals are not failures.
    """

    def __init__(self, *, minute_seconds: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first = FIRST_PAUSE_MINUTES * minute_seconds
        self._longest = LONGEST_PAUSE_MINUTES * minute_seconds
        self._failures = 0
        self._pause = 0.0
        self._until = 0.0
        self._probe_until = 0.0

    def wait(self, probe_seconds: float) -> float:
        """
        Give the seconds until a call may be made, 0 for now. When half open, the 0 is the right to the one probe.

        The probe's caller must report a result; if it dies, the next probe is due after `probe_seconds`.
        """
        if not self._pause:
            return 0.0
        now = self._clock()
        if now < self._until:
            return self._until - now
        if now < self._probe_until:
            return self._probe_until - now
        self._probe_until = now + probe_seconds
        return 0.0

    def note(self, *, alive: bool) -> None:
        """Note what a call showed about the API."""
        if alive:
            self.succeeded()
        else:
            self.failed()

    def succeeded(self) -> None:
        """Note an answer that shows the API alive."""
        self._failures = 0
        self._pause = 0.0

    def failed(self) -> None:
        """Note a failure: opens after `FAILURES` in a row; a failed probe doubles the pause."""
        self._failures += 1
        now = self._clock()
        if self._pause and now < self._until:
            return  # an answer to a call that began before it opened
        if self._pause or self._failures >= FAILURES:
            self._pause = min(self._pause * 2 or self._first, self._longest)
            self._until = now + self._pause
            self._probe_until = 0.0

    def released(self) -> None:
        """Give the right to the probe back unused: the caller was cancelled before there was a result."""
        self._probe_until = 0.0


class Breakers:
    """The breakers of one source, by host and use case; bounded, the least recently used one is forgotten."""

    def __init__(self, *, minute_seconds: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._minute = minute_seconds
        self._clock = clock
        self._breakers: OrderedDict[tuple[str, str], Breaker] = OrderedDict()

    def of(self, host: str, use_case: str) -> Breaker:
        """The breaker of a use case at a host."""
        key = (host, use_case)
        breaker = self._breakers.get(key)
        if breaker is None:
            breaker = self._breakers[key] = Breaker(minute_seconds=self._minute, clock=self._clock)
            if len(self._breakers) > MAX_BREAKERS:
                self._breakers.popitem(last=False)
        else:
            self._breakers.move_to_end(key)
        return breaker
