"""
Redis as a hint: ids that are certainly stored, so that an insert of rows that are there anyway can be spared.

Positives only, written after the commit, decided upon by nobody: SQL finds out when the hint is wrong. A cache that
fails is left alone for a while; the page goes on without it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline import telemetry
from pipeline.chains.protocol import Key
from pipeline.failpoints import failpoint

if TYPE_CHECKING:
    from redis.asyncio import Redis

TTL_SECONDS = 6 * 3600
MAX_IDS = 2000
"""Ids kept per scope: the recent window. Unknown old ids fall to SQL, which is right."""

DEADLINE_SECONDS = 0.2
FAULTS_BEFORE_PAUSE = 3
PAUSE_SECONDS = 15.0


class Cache:
    """Known ids per (incarnation, user, feed, scope). Without a client it knows nothing."""

    def __init__(self, client: Redis | None, incarnation: str) -> None:
        self._client = client
        self._incarnation = incarnation
        self._faults = 0
        self._paused_until = 0.0

    async def known(self, key: Key, ids: Sequence[str]) -> frozenset[str]:
        """Give those of `ids` that are certainly stored; empty when the cache cannot say."""
        client = self.client
        if client is None or not ids:
            return frozenset()
        try:
            failpoint("cache.read.before")
            async with asyncio.timeout(DEADLINE_SECONDS):
                answer = await client.smismember(self._name(key), list(ids))
        except Exception as error:  # noqa: BLE001 - whatever a hint's store does wrong, the page goes on
            self.fault(error)
            return frozenset()
        self._faults = 0
        known = frozenset(item for item, hit in zip(ids, answer, strict=True) if hit)
        telemetry.count("pipeline.dedupe.lookups", len(known), hit="yes")
        telemetry.count("pipeline.dedupe.lookups", len(ids) - len(known), hit="no")
        return known

    async def remember(self, key: Key, ids: Sequence[str]) -> None:
        """Add ids that a commit has made certain."""
        client = self.client
        if client is None or not ids:
            return
        name = self._name(key)
        try:
            failpoint("cache.write.before")
            async with asyncio.timeout(DEADLINE_SECONDS):
                pipe = client.pipeline(transaction=False)
                pipe.scard(name)
                pipe.sadd(name, *ids)
                pipe.expire(name, int(TTL_SECONDS * random.uniform(0.9, 1.1)))
                size, *_ = await pipe.execute()
                if size > MAX_IDS:
                    await client.delete(name)  # bounded memory; it fills again from the fresh end
            failpoint("cache.write.after")
        except Exception as error:  # noqa: BLE001 - as above
            self.fault(error)

    @property
    def configured(self) -> bool:
        """Whether there is a client at all."""
        return self._client is not None

    async def answers(self) -> bool:
        """Ask the server for a sign of life."""
        if self._client is None:
            return False
        try:
            failpoint("cache.ping.before")
            async with asyncio.timeout(DEADLINE_SECONDS):
                await self._client.ping()
        except Exception as error:  # noqa: BLE001 - whatever goes wrong, it does not answer
            self.fault(error)
            return False
        return True

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    @property
    def client(self) -> Redis | None:
        """The client, unless there is none or it failed a moment ago."""
        return self._client if time.monotonic() >= self._paused_until else None

    def fault(self, error: Exception) -> None:
        """Note that the client failed; after three times it is left alone for a while."""
        telemetry.count("pipeline.dedupe.bypassed")
        self._faults += 1
        if self._faults >= FAULTS_BEFORE_PAUSE:
            self._faults = 0
            self._paused_until = time.monotonic() + PAUSE_SECONDS

    def _name(self, key: Key) -> str:
        parts = (key.user_id, key.feed, key.scope)
        return f"known:{self._incarnation}:" + "".join(f"{len(part)}:{part}" for part in parts)


def connect(url: str) -> Redis:
    """Open a client that fails at once: redis-py's own retries take seconds on a refused port."""
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    client: Redis = Redis.from_url(
        url,
        socket_timeout=DEADLINE_SECONDS,
        socket_connect_timeout=DEADLINE_SECONDS,
        retry=Retry(NoBackoff(), 0),
        max_connections=32,
    )
    return client
