"""From the source's items to the lake and the tables: what people read equals what the API had."""

from __future__ import annotations

import gzip
from typing import Any

import orjson

from tests.fakes import MICROS


async def mine(stage: Any) -> None:
    """Order posts, and work every message that is due until none is left."""
    plan = stage.pipeline.plans["posts"]
    await stage.pipeline.fan_out.ordered(plan)
    while ready := stage.bus.ready(plan.queue):
        for one in ready:
            await stage.pipeline.miner.handle(stage.bus.receive(plan.queue, one))
            stage.bus.complete(plan.queue, one)


async def test_lake_and_tables_equal_the_source_to_item_and_revision(stage):
    """The one promise of the whole pipeline, over a crash-free run: nothing lost, nothing twice, nothing stale."""
    add_user = "INSERT INTO users (user_id, state, priority, created_at) VALUES ('user-1', 'active', 0, 0)"
    await stage.pipeline.database.write("test", lambda connection: connection.exec_driver_sql(add_user))
    stage.source.limit = 7
    newest = stage.clock.now // MICROS - 30
    for number in range(40):
        stage.source.add("page-user-1", f"post_{number:02}", newest - 600 * number)
    await mine(stage)
    first = await stage.publish("raw-storage", "analytics", "analytics")
    stage.source.add("page-user-1", "post_00", newest, message="edited")
    stage.source.add("page-user-1", "post_99", newest + 60)
    stage.clock.advance(120)

    await mine(stage)
    await stage.publish("analytics", "raw-storage", "raw-storage")

    truth = {item["id"]: item["message"] for item in stage.source.items["page-user-1"]}
    rows = await stage.rows("SELECT item_id, message, revision FROM data_posts")
    stored = await stage.rows("SELECT item_id, revision FROM items WHERE feed = 'posts'")
    lines = [orjson.loads(line) for path in stage.objects() for line in gzip.decompress(path.read_bytes()).splitlines()]
    kept = {(line["id"], line["revision"]): line["raw"]["message"] for line in lines}
    latest = {row["item_id"]: row["revision"] for row in stored}
    assert first >= 6
    assert {row["item_id"]: row["revision"] for row in rows} == latest
    assert len(kept) == len(lines) == sum(latest.values())
    assert {row["item_id"]: row["message"] for row in rows} == {item: kept[item, latest[item]] for item in latest}
    assert {row["item_id"]: row["message"] for row in rows} == truth
    assert latest["post_00"] == 2
