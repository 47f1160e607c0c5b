"""What a call draws on, and the budget of a single process; many instances share one in SQL."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pipeline.chains.budget import FREE, Block, blocked, must_probe, passed, probing, worst
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
        self._blocks: OrderedDict[str, Block] = OrderedDict()

    async def wait(self, keys: Sequence[str]) -> float:
        """Seconds until a call under all these keys may be made; 0 when now, or when this call is to find out."""
        now = self._clock()
        found = [(key, self._blocks[key]) for key in keys if key in self._blocks]
        latest = max((block.until for _, block in found), default=now)
        if latest > now:
            return latest - now
        for key, block in found:
            if must_probe(block, now, minute_seconds=self._minute):
                self._blocks[key] = probing(block, now, minute_seconds=self._minute)
        return 0.0

    async def note(self, notes: Sequence[UsageNote]) -> None:
        """Remember what an answer said; never lowers a block that is still running."""
        now = self._clock()
        for key, load in worst(notes).items():
            known = self._blocks.get(key, FREE)
            block = blocked(known, now, load, minute_seconds=self._minute)
            if block != known:
                self._blocks[key] = block
                self._blocks.move_to_end(key)
        if len(self._blocks) > MAX_KEYS:
            self._drop(now)

    async def passed(self, keys: Sequence[str]) -> None:
        """Note that a call under these keys was answered, and that nothing is used up."""
        for key in keys:
            if key in self._blocks and passed(self._blocks[key], self._clock()) == FREE:
                del self._blocks[key]

    def _drop(self, now: float) -> None:
        for key in [key for key, block in self._blocks.items() if block.until <= now]:
            del self._blocks[key]
        while len(self._blocks) > MAX_KEYS:
            self._blocks.popitem(last=False)
