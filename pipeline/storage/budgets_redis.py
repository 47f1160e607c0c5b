"""Blocks of call budgets in Redis: one value per key, replaced only if it is still what the rule decided upon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pipeline.chains.budget import FREE, LONGEST_PAUSE_MINUTES, Block
from pipeline.failpoints import failpoint
from pipeline.storage.cache import DEADLINE_SECONDS

if TYPE_CHECKING:
    from redis.asyncio import Redis

_SWAP = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""

MAX_SWAPS = 5
"""Whoever loses so often leaves it to those who won: they have noted the same."""

_PREFIX = "budget:"

Decide = Callable[[Block, float], Block]
"""The rule: a block and the time now to the block from now on."""


class RedisBlocks:
    """The blocks of all instances. Every call has a deadline and may raise whatever the client raises."""

    def __init__(self, client: Redis, *, minute_seconds: float) -> None:
        self._client = client
        self._remembered = LONGEST_PAUSE_MINUTES * minute_seconds

    async def read(self, keys: Sequence[str]) -> dict[str, Block]:
        """Give the blocks of those keys that have one; instants are unix seconds."""
        failpoint("cache.budget.before")
        async with asyncio.timeout(DEADLINE_SECONDS):
            values = await self._client.mget([_PREFIX + key for key in keys]) if keys else []
        return {key: _block(value) for key, value in zip(keys, values, strict=True) if value}

    async def change(self, key: str, decide: Decide) -> tuple[Block, Block]:
        """Replace a block by what the rule makes of it; gives both, the same one twice if nothing was replaced."""
        failpoint("cache.budget.before")
        before = FREE
        async with asyncio.timeout(DEADLINE_SECONDS):
            for _ in range(MAX_SWAPS):
                value = await self._client.get(_PREFIX + key)
                before, now = _block(value), time.time()
                after = decide(before, now)
                if after == before:
                    break
                text = "" if after == FREE else "|".join(map(repr, after))
                kept = str(int((after.until - now + self._remembered) * 1000) + 1000)
                if await self._client.eval(_SWAP, 1, _PREFIX + key, value or "", text, kept):
                    return before, after
        return before, before

    async def some(self, count: int) -> dict[str, Block]:
        """Give about so many blocks, in no order."""
        failpoint("cache.budget.before")
        keys: list[str] = []
        async with asyncio.timeout(DEADLINE_SECONDS):
            async for name in self._client.scan_iter(match=_PREFIX + "*", count=count):
                keys.append((name.decode() if isinstance(name, bytes) else str(name)).removeprefix(_PREFIX))
                if len(keys) >= count:
                    break
        return await self.read(keys)


def _block(value: bytes | str | None) -> Block:
    if not value:
        return FREE
    until, since, pause = (value.decode() if isinstance(value, bytes) else value).split("|")
    return Block(float(until), float(since), float(pause))
