"""Faults of Redis: empty, silent, gone, and as it was some time ago."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.chaos.scene import Scene

PAUSE_SECONDS = 2.0
SECONDS = 1.0


async def flush(scene: Scene) -> bool:
    """Forget everything."""
    async with _client(scene) as client:
        await client.flushall()
    return True


async def pause(scene: Scene) -> bool:
    """Answer nobody for a while."""
    async with _client(scene) as client:
        await client.client_pause(int(PAUSE_SECONDS * 1000))
    await asyncio.sleep(PAUSE_SECONDS)
    return True


async def kill(scene: Scene) -> bool:
    """End the server and start it again, empty, after a while."""
    async with scene.redis_lock:
        await scene.stack.processes["redis"].kill()
        await asyncio.sleep(scene.chance.uniform(0.5, 3.0))
        await scene.restart("redis")
    return True


async def stale(scene: Scene) -> bool:
    """Go back to what was known some time ago."""
    async with _client(scene) as client:
        now = {key: value async for key in client.scan_iter() if (value := await client.dump(key)) is not None}
        if scene.dump:
            await client.flushall()
            for key, value in scene.dump.items():
                await client.restore(key, 3_600_000, value, replace=True)
        scene.dump = now
    return True


@contextlib.asynccontextmanager
async def _client(scene: Scene) -> AsyncIterator[Redis]:
    async with scene.redis_lock:
        client = Redis.from_url(scene.stack.cache.url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS)
        try:
            yield client
        finally:
            with contextlib.suppress(RedisError):
                await client.aclose()
