"""What a call draws on, and the budget of a single process; many instances share one in Redis or SQL."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pipeline.chains.budget import hold
from pipeline.sources.base import UsageNote

MAX_KEYS = 100_000


class Draws(NamedTuple):
    """What a call counts against: a use case on an object, besides the app and the user."""

    use_case: str
    object_id: str
    user_id: str

    def keys(self, source: str) -> tuple[str, str, str]:
        """The budget keys to ask before the call."""
        return f"{source}:app", f"{source}:{self.use_case}:{self.object_id}", f"{source}:user:{self.user_id}"

    def blamed(self, source: str, whom: str) -> str:
        """The key of the budget that an error says is used up."""
        app, own, user = self.keys(source)
        fixed = {"app": app, "user": user, "object": own, "": own}
        return fixed.get(whom) or f"{source}:{whom}:{self.object_id}"


class MemoryBudget:
    """A `Budget` in memory. Keys are bounded; those that block no more go first."""

    def __init__(self, *, minute_seconds: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._minute = minute_seconds
        self._clock = clock
        self._not_before: OrderedDict[str, float] = OrderedDict()

    async def wait(self, keys: Sequence[str]) -> float:
        """Seconds until a call under all these keys may be made; 0 when now."""
        latest = max((self._not_before.get(key, 0.0) for key in keys), default=0.0)
        return max(0.0, latest - self._clock()) if latest else 0.0

    async def note(self, notes: Sequence[UsageNote]) -> None:
        """Remember what an answer said; never lowers a block that is still running."""
        now = self._clock()
        for note in notes:
            seconds = hold(note.percent, note.wait, minute_seconds=self._minute)
            if seconds and now + seconds > self._not_before.get(note.key, 0.0):
                self._not_before[note.key] = now + seconds
                self._not_before.move_to_end(note.key)
        if len(self._not_before) > MAX_KEYS:
            self._drop(now)

    def _drop(self, now: float) -> None:
        for key in [key for key, until in self._not_before.items() if until <= now]:
            del self._not_before[key]
        while len(self._not_before) > MAX_KEYS:
            self._not_before.popitem(last=False)
