"""Outages of what stands around the pipeline: topics that refuse, and every way in which Redis can fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.end_to_end.box import Box, running_box, until

LIMIT_ROWS = 60
SIMULATED_MINUTES = 10
CALL_SECONDS = 0.2
AT_ONCE = 16
"""host.json maxConcurrentCalls: so many handlers of one queue run at a time."""

NEVER = "0 0 0 1 1 *"


def rows(box: Box, statement: str) -> list[tuple[Any, ...]]:
    """Read the pipeline's own tables."""
    path = box.stack.places.database
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as connection:
        return connection.execute(statement).fetchall()


def unsent(box: Box) -> int:
    """Give the rows of the outbox that wait for the bus."""
    return int(rows(box, "SELECT count(*) FROM outbox WHERE sent_at IS NULL")[0][0])


async def topics_refuse(box: Box, *, count: int) -> None:
    """Have every topic refuse so many sends; 0 ends it."""
    config = json.loads((box.stack.places.folder / "Config.json").read_text())
    for topic in config["UserConfig"]["Namespaces"][0]["Topics"]:
        body = {"entity": topic["Name"], "count": count}
        await box.stack.bus.send("POST", "/emulator/faults/refuse-sends", body)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_topics_that_refuse_for_ten_minutes_fill_the_outbox_to_its_limit_and_no_further(tmp_path: Path) -> None:
    """
    An outage of the bus must cost time only: no store that fills up, nothing dead-lettered, nothing lost.

    A handler looks at the outbox every two seconds, so the limit may be passed by what 16 handlers fetch meanwhile;
    each page takes a fifth of a second here.
    """
    graph = ["--users", "30", "--posts", "1000", "--seed", "7", "--time-scale", "60"]
    settings = {"FEEDS_ENABLED": "posts", "OUTBOX_MAX_ROWS": str(LIMIT_ROWS), "BACKPRESSURE_SECONDS": "1"}
    async with running_box(tmp_path, graph=graph, settings=settings) as box:
        await box.faults({"kind": "slow", "seconds": CALL_SECONDS})
        await box.import_users()
        await topics_refuse(box, count=1_000_000)
        await box.stack.product.run("mine", "posts")

        async def parked() -> bool:
            return bool(rows(box, "SELECT 1 FROM chains WHERE reason = 'backpressure'"))

        await until(parked, seconds=60, what="backpressure")
        peak = 0
        for _ in range(SIMULATED_MINUTES * 4):  # GRAPH_MINUTE_SECONDS is 1
            await asyncio.sleep(0.25)
            peak = max(peak, unsent(box))
        pages = int(rows(box, "SELECT sum(pages) FROM chains")[0][0])

        assert peak <= LIMIT_ROWS + AT_ONCE * int(2 / CALL_SECONDS + 1), peak
        assert pages < 30 * 10, "the whole world was mined into the outbox"
        assert await box.dead_letters() == {}

        await topics_refuse(box, count=0)
        await box.heal()
        verdict = await box.until_equal("posts", "posts", seconds=120)

        assert verdict.matched, verdict.text()
        assert await box.dead_letters() == {}
        assert unsent(box) == 0


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_redis_flushed_slow_absent_or_lying_changes_no_result(tmp_path: Path) -> None:
    """
    Redis is a hint: what subscribers get must be the same, to the item and the revision, whatever it says.

    Every outage meets new posts and edits. No item may have more revisions than it had contents.
    """
    graph = ["--users", "8", "--posts", "250", "--seed", "7", "--time-scale", "60"]
    settings = {"FEEDS_ENABLED": "posts", "POSTS_SCHEDULE_MINER": NEVER, "REFRESH_EVERY_SECONDS": "1"}
    async with running_box(tmp_path, graph=graph, settings=settings) as box:
        if not box.stack.cache.command:
            pytest.skip("no Redis server of our own to trouble")
        await box.import_users()
        made = await _mined(box, contents=8 * 250)

        async with _redis(box) as redis:
            await redis.flushall()
        made = await _changed_and_mined(box, made)

        async with _redis(box) as redis:
            await redis.client_pause(5000)
        made = await _changed_and_mined(box, made)

        async with _redis(box) as redis:
            new = await _change(box)
            for name in await redis.keys("known:*"):
                await redis.sadd(name, *new)
        made = await _mined(box, contents=made + 2 * len(new))

        await box.stack.processes["redis"].kill()
        made = await _changed_and_mined(box, made)

        await box.stack.processes["redis"].start()
        made = await _changed_and_mined(box, made)
        assert await box.dead_letters() == {}


async def _changed_and_mined(box: Box, made: int) -> int:
    new = await _change(box)
    return await _mined(box, contents=made + 2 * len(new))


async def _change(box: Box) -> list[str]:
    """Have four users edit their newest post and write another; gives the new ids."""
    users = [user["id"] for user in (await box.stack.graph.get("/__sim/world"))["users"]][:4]
    edits = [{"do": "edit", "edge": "posts", "user": user, "pick": "newest"} for user in users]
    await box.stack.graph.send("POST", "/__sim/mutate", edits)
    posts = [{"do": "create", "edge": "posts", "user": user} for user in users]
    answer = await box.stack.graph.send("POST", "/__sim/mutate", posts)
    return [row["id"] for row in answer["rows"]]


async def _mined(box: Box, *, contents: int) -> int:
    """Order everything until the subscriber holds the truth; it must have got each content once."""
    verdict = await box.verdict("posts", "posts")
    for _ in range(6):
        await asyncio.sleep(1.1)  # an ordered tick is the database's second; a refresh is due after another
        await box.stack.product.run("mine", "posts")
        verdict = await box.until_equal("posts", "posts", seconds=10)
        if verdict.matched:
            break
    assert verdict.matched, verdict.text()
    revisions = int(rows(box, "SELECT sum(revision) FROM items")[0][0])
    assert revisions == contents
    return contents


@contextlib.asynccontextmanager
async def _redis(box: Box) -> AsyncIterator[Redis]:
    client = Redis.from_url(box.stack.cache.url, socket_timeout=2, decode_responses=True)
    try:
        yield client
    finally:
        await client.aclose()
