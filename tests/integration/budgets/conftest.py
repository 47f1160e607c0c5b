"""Two instances of the product that share a budget: in SQL, in Redis, or one process's own memory."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, Popen

import pytest

from infra.local.run.cache import find_cache
from infra.local.run.places import ADDRESS, Places, free_ports
from pipeline.sources.base import Budget
from pipeline.sources.budget import MemoryBudget
from pipeline.storage import migrate
from pipeline.storage.budgets import SharedBudget
from pipeline.storage.cache import Cache, connect
from pipeline.storage.database import Database

MINUTE = 0.2
REDIS_SECONDS = 10.0


@dataclass
class Instances:
    """Two budgets over one store (the same one twice where it is a process's own)."""

    one: Budget
    other: Budget

    async def rest(self, minutes: float) -> None:
        """Let time pass, and what an instance believes to know grow old."""
        await asyncio.sleep(minutes * MINUTE + 0.02)


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    places = Places(tmp_path_factory.mktemp("redis"), free_ports())
    found = find_cache(places, {})
    if not found.command:
        pytest.skip("there is no Redis server here")
    with Popen(found.command, stdout=DEVNULL, stderr=DEVNULL) as process:
        try:
            _wait_for(places.ports.redis)
            yield found.url
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    until = time.monotonic() + REDIS_SECONDS
    while True:
        try:
            socket.create_connection((ADDRESS, port), timeout=1.0).close()
        except OSError:
            assert time.monotonic() < until, "Redis did not start"
            time.sleep(0.02)
        else:
            return


@pytest.fixture(params=["memory", "sql", "redis"])
async def instances(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Instances]:
    if request.param == "memory":
        budget = MemoryBudget(minute_seconds=MINUTE)
        yield Instances(budget, budget)
        return
    databases = [Database(f"sqlite:///{tmp_path / 'shared.db'}", threads=2) for _ in range(2)]
    migrate.upgrade(databases[0])
    url = request.getfixturevalue("redis_url") if request.param == "redis" else ""
    caches = [Cache(connect(url) if url else None, "") for _ in databases]
    one, other = _shared(databases, caches)
    yield Instances(one, other)
    for cache in caches:
        if cache.client is not None:
            await cache.client.flushall()
        await cache.close()
    for database in databases:
        database.engine.dispose()


def _shared(databases: Sequence[Database], caches: Sequence[Cache]) -> list[SharedBudget]:
    return [
        SharedBudget(database, cache, minute_seconds=MINUTE) for database, cache in zip(databases, caches, strict=True)
    ]
