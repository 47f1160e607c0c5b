"""The world's clock: real time, or fixed, and moved by hand."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from email.utils import formatdate
from functools import lru_cache


class Clock:
    """
    Two times: `now` is the world's wall clock, `elapsed` counts the API's own seconds for windows, blocks and hints.

    `scale` shrinks what the API makes callers wait: one real second counts for `scale` of its seconds. The wall clock
    is never scaled. A fixed clock still lets `elapsed` pass, so that a block ends by itself.
    """

    def __init__(
        self,
        *,
        fixed: datetime | None = None,
        scale: float = 1.0,
        wall: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timer = timer
        self.scale = scale
        self._origin = timer()
        self._start = fixed.timestamp() if fixed else wall()
        self._fixed = fixed is not None
        self._skipped = 0.0
        self._standing: float | None = None
        self._date = (-1, b"")

    def now(self) -> float:
        """Give the world's time as unix seconds."""
        return self._moving() if self._standing is None else self._standing

    @contextlib.contextmanager
    def standing(self, at: float | None = None) -> Iterator[None]:
        """Let the world's time stand while something happens; with `at`, put the clock there first."""
        if self._standing is not None:
            yield
            return
        if at is not None:
            self._put(at)
        self._standing = self._moving() if at is None else at
        try:
            yield
        finally:
            self._standing = None

    def catch_up(self, seconds: float) -> None:
        """Let a clock that runs have run for so long while nobody looked."""
        if not self._fixed:
            self._start += seconds

    def _moving(self) -> float:
        return self._start + (0.0 if self._fixed else self._timer() - self._origin)

    def _put(self, moment: float) -> None:
        self._start += moment - self._moving()
        if self._standing is not None:
            self._standing = moment

    def elapsed(self) -> float:
        """Give the API's seconds since the start; moving the clock counts one to one."""
        return (self._timer() - self._origin) * self.scale + self._skipped

    def advance(self, seconds: float) -> None:
        """Move the world's clock, also backwards."""
        self._put(self.now() + seconds)
        self._skipped += max(seconds, 0.0)

    def set(self, moment: float, *, fixed: bool) -> None:
        """Put the world's clock to `moment` (unix seconds), and let it stand or run from there."""
        self._skipped += max(moment - self.now(), 0.0)
        self._fixed = fixed
        self._put(moment)

    def http_date(self) -> bytes:
        """Give the value of the `Date` header; computed once a second."""
        second = int(self.now())
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True).encode())
        return self._date[1]


def iso(seconds: float) -> str:
    """Write an instant as the Graph API does: no colon in the offset, whole seconds."""
    days, rest = divmod(int(seconds), 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, rest = divmod(rest, 60)
    return f"{_day(days)}T{hours:02}:{minutes:02}:{rest:02}+0000"


@lru_cache(maxsize=8192)
def _day(days: int) -> str:
    """Write a day; strftime for each post would be a fifth of a page's cost."""
    return (date(1970, 1, 1) + timedelta(days=days)).isoformat()


def instant(value: object) -> float | None:
    """Read unix seconds, an ISO date or an ISO instant (UTC unless it says otherwise); None if it is neither."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        return float(value)
    text = str(value).strip()
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
