"""Reprocessing: what the processor makes differently today becomes a revision, and nothing else changes."""

from __future__ import annotations

import gzip
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from pydantic import Field, create_model

from pipeline.bus.messages import unpack
from pipeline.chains.protocol import Key, Lane
from pipeline.errors import ConfigurationError, RetryLater
from pipeline.feeds.base import Feed
from pipeline.feeds.posts import FEED as POSTS
from pipeline.feeds.posts import Post
from pipeline.operations.reprocess import Counts, reprocess
from pipeline.processors.read_items import read_item, read_page
from pipeline.storage import items
from pipeline.storage.items import Candidate, Writing, deletion
from pipeline.storage.lake import FolderLake
from pipeline.storage.reprocessing import Redone, revise
from tests.integration.subscribers.test_analytics import Crash, crash_at
from tests.unit.subscribers.making import START, gone, post, sent

SINCE = datetime.fromtimestamp(START, UTC)
UNTIL = SINCE + timedelta(days=30)
MOODY = replace(POSTS, item=create_model("Post", __base__=Post, mood=(str, "calm")))
"""Posts, after someone has added a field."""

STRICT = replace(POSTS, item=create_model("Post", __base__=Post, message=(str, Field(max_length=9))))
"""Posts, after someone has forbidden long messages."""


async def mined(stage: Any, nonce: str, *raws: dict[str, Any], user: str = "user-1", scope: str = "page-1") -> int:
    """Have items accepted and kept in the lake, as a miner and raw storage do; gives the time of observation."""
    stage.clock.advance(60)
    candidates = read_page(POSTS, raws, observed=stage.clock.now).candidates
    accepted = await accept(stage, candidates, stage.clock.now, user=user, scope=scope)
    await stage.give("raw-storage", sent(accepted, nonce, user_id=user, scope=scope))
    return int(stage.clock.now)


async def accept(stage: Any, candidates: Any, observed: int, *, user: str = "user-1", scope: str = "page-1") -> Any:
    """Have items accepted by SQL only."""
    key = Key(user, "posts", scope, Lane.MAIN)
    writing = Writing(observed, stage.clock.now, f"test-{stage.clock.now}-{observed}")
    accepted, _ = await stage.pipeline.database.write("test", items.accept, key, candidates, writing)
    return accepted


def running(stage: Any, feed: Feed) -> Any:
    """Give the pipeline after a deploy with another declaration of posts."""
    plan = stage.pipeline.plans["posts"]._replace(feed=feed)
    return replace(stage.pipeline, plans={**stage.pipeline.plans, "posts": plan})


async def revisions(stage: Any) -> dict[str, int]:
    """Give the latest revision of each item."""
    return {row["item_id"]: row["revision"] for row in await stage.rows("SELECT item_id, revision FROM items")}


def published(stage: Any) -> list[dict[str, Any]]:
    """Give the items that stand in topics."""
    bodies = [message.body for topic in stage.bus.topics.values() for message in topic]
    return [item for body in bodies for item in orjson.loads(unpack(body, "zlib"))["jsonDataArray"]]


async def test_without_a_change_nothing_is_published(stage):
    """Reprocessing by mistake must not flood all subscribers with what they have."""
    await mined(stage, "a1", post(1), post(2))

    counts = await reprocess(stage.pipeline, "posts", SINCE, UNTIL)

    assert counts == Counts(objects=1, items=2, unchanged=2)
    assert published(stage) == []


async def test_what_the_processor_makes_differently_becomes_a_revision(stage):
    """A field that was added today fills in for years that the API has long forgotten."""
    await mined(stage, "a1", post(1, mood="glad"), post(2))

    counts = await reprocess(running(stage, MOODY), "posts", SINCE, UNTIL)

    assert counts == Counts(objects=1, items=2, revised=2)
    assert [(one["id"], one["revision"], one["data"]["mood"]) for one in published(stage)] == [
        ("post_1", 2, "glad"),
        ("post_2", 2, "calm"),
    ]
    assert await revisions(stage) == {"post_1": 2, "post_2": 2}


async def test_a_second_run_finds_nothing_to_do(stage):
    """A run may stop anywhere and be started again, before or after its revisions have reached the lake."""
    await mined(stage, "a1", post(1), post(2))
    deployed = running(stage, MOODY)
    await reprocess(deployed, "posts", SINCE, UNTIL)

    before = await reprocess(deployed, "posts", SINCE, UNTIL)
    await stage.publish("raw-storage")
    after = await reprocess(deployed, "posts", SINCE, UNTIL)

    assert before == Counts(objects=1, items=2, older=2)
    assert after == Counts(objects=2, items=4, unchanged=2, older=2)
    assert await revisions(stage) == {"post_1": 2, "post_2": 2}


async def test_an_older_raw_never_overwrites_a_newer_revision(stage):
    """The lake holds every revision; only the latest may be taken again, wherever it stands."""
    await mined(stage, "f1", post(1, message="first"))
    await mined(stage, "a1", post(1, message="edited"))

    counts = await reprocess(running(stage, MOODY), "posts", SINCE, UNTIL)

    assert counts == Counts(objects=2, items=2, revised=1, older=1)
    assert [(one["revision"], one["data"]["message"]) for one in published(stage)] == [(3, "edited")]


async def test_a_revision_that_has_not_reached_the_lake_is_left_alone(stage):
    """Raw storage may be hours behind; publishing what it has as the newest would undo an edit."""
    await mined(stage, "a1", post(1, message="first"))
    edited = read_page(POSTS, [post(1, message="edited")], observed=0).candidates
    await accept(stage, edited, stage.clock.now + 1)

    counts = await reprocess(running(stage, MOODY), "posts", SINCE, UNTIL)

    assert counts == Counts(objects=1, items=1, older=1)
    assert await revisions(stage) == {"post_1": 2}


async def test_a_deleted_item_stays_deleted(stage):
    """The raw of a deleted item is still in the lake; it must not come back to life."""
    await mined(stage, "a1", post(1))
    await accept(stage, [deletion("post_1", START + 60)], stage.clock.now + 1)

    counts = await reprocess(running(stage, MOODY), "posts", SINCE, UNTIL)

    assert counts.older == 1
    assert await stage.rows("SELECT revision, deleted FROM items") == [{"revision": 2, "deleted": 1}]


async def test_a_tombstone_in_the_lake_is_no_item(stage):
    """It has no raw to work on; it must neither be counted nor land in quarantine."""
    await mined(stage, "a1", post(1))
    await accept(stage, [deletion("post_1", START + 60)], stage.clock.now + 1)
    await stage.give("raw-storage", sent([gone(post(1), 2)], "a2"))

    counts = await reprocess(running(stage, MOODY), "posts", SINCE, UNTIL)

    assert counts == Counts(objects=2, items=1, older=1)
    assert await stage.rows("SELECT id FROM quarantine") == []


async def test_an_enrichment_step_that_is_added_reaches_old_items(stage):
    """The item's own content hashes as before; it is what is published that differs."""
    await mined(stage, "a1", post(1))
    louder = replace(POSTS, enrich=(*POSTS.enrich, lambda raw, context: {"loud": raw["message"].upper()}))

    counts = await reprocess(running(stage, louder), "posts", SINCE, UNTIL)

    assert counts.revised == 1
    assert [one["data"]["loud"] for one in published(stage)] == ["MESSAGE 1"]


async def test_an_edit_that_is_being_mined_meanwhile_still_wins(stage):
    """A page was fetched before the run and commits after it; its content is newer than any raw of the lake."""
    await mined(stage, "a1", post(1, message="first"))
    observed = stage.clock.now + 1
    stage.clock.advance(3600)
    await reprocess(running(stage, MOODY), "posts", SINCE, UNTIL)

    edited = read_page(MOODY, [post(1, message="edited")], observed=observed).candidates
    accepted = await accept(stage, edited, observed)

    assert [one.revision for one in accepted] == [3]


async def test_an_item_that_was_revised_between_look_and_commit_is_left_alone(stage):
    """The commit compares the revision again; what the look had seen counts for nothing."""
    await mined(stage, "a1", post(1))
    again = read_item(MOODY, post(1), observed=0)
    assert isinstance(again, Candidate)

    written = await stage.pipeline.database.write(
        "test", revise, Key("user-1", "posts", "page-1", Lane.BACKFILL), MOODY, [Redone(7, again, False)], [], _never
    )

    assert (written.revised, written.held) == (0, [])
    assert await revisions(stage) == {"post_1": 1}


def _never(accepted: Any, nonce: str) -> Any:
    raise AssertionError("nothing is to be published")


async def test_only_the_ordered_time_and_user_are_touched(stage):
    """A trial run on one user and one day must not reach anybody else."""
    day = 24 * 60
    await mined(stage, "a1", post(0), post(day), post(2 * day))
    await mined(stage, "a2", post(day), user="user-2")

    counts = await reprocess(
        running(stage, MOODY), "posts", SINCE + timedelta(hours=1), SINCE + timedelta(days=2), user="user-1"
    )

    assert (counts.items, counts.revised) == (1, 1)
    assert [(one["id"], one["revision"]) for one in published(stage)] == [(f"post_{day}", 2)]


async def test_what_the_processor_refuses_now_goes_to_quarantine_once(stage):
    """A stricter model shows its victims to a person; the published revisions stay what they are."""
    await mined(stage, "a1", post(1, message="much too long"), post(2, message="short"))
    deployed = running(stage, STRICT)

    first = await reprocess(deployed, "posts", SINCE, UNTIL)
    await reprocess(deployed, "posts", SINCE, UNTIL)

    assert (first.quarantined, first.unchanged, first.revised) == (1, 1, 0)
    assert await stage.rows("SELECT item_id, reason FROM quarantine") == [{"item_id": "post_1", "reason": "malformed"}]
    assert await revisions(stage) == {"post_1": 1, "post_2": 1}


async def test_a_hash_that_is_taken_differently_is_renewed_without_a_revision(stage):
    """Otherwise the next refresh would take every item for changed and publish all of them again."""
    await mined(stage, "a1", post(1), post(2))
    deployed = running(stage, replace(POSTS, volatile=("permalink_url", "message")))

    counts = await reprocess(deployed, "posts", SINCE, UNTIL)
    again = await reprocess(deployed, "posts", SINCE, UNTIL)

    assert (counts.rehashed, counts.revised) == (2, 0)
    assert again.unchanged == 2
    assert published(stage) == []


async def test_what_cannot_be_sent_waits_in_the_outbox(stage):
    """A run while the bus is away loses nothing: the relay sends what was committed."""
    await mined(stage, "a1", post(1))
    stage.bus.down = True
    counts = await reprocess(running(stage, MOODY), "posts", SINCE, UNTIL)
    stage.bus.down = False
    stage.clock.advance(60)

    await stage.pipeline.relay()

    assert counts.revised == 1
    assert [one["revision"] for one in published(stage)] == [2]


@pytest.mark.parametrize("point", ["store.reprocess.before", "store.reprocess.after"])
async def test_a_crash_around_the_commit_is_mended_by_the_next_run(stage, point):
    """Revision and message are one transaction, so each revision is published exactly once."""
    await mined(stage, "a1", post(1))
    deployed = running(stage, MOODY)
    crash_at(point)
    with pytest.raises(Crash):
        await reprocess(deployed, "posts", SINCE, UNTIL)

    await reprocess(deployed, "posts", SINCE, UNTIL)
    stage.clock.advance(60)
    await stage.pipeline.relay()

    assert [(one["id"], one["revision"]) for one in published(stage)] == [("post_1", 2)]


async def test_a_damaged_object_is_counted_and_the_rest_goes_on(stage):
    """One broken file among millions must not stop the run, nor pass unseen."""
    await mined(stage, "a1", post(1))
    [path] = stage.objects()
    path.with_name("da0-0.jsonl.gz").write_bytes(path.read_bytes()[:-9])
    path.with_name("da2-0.jsonl.gz").write_bytes(gzip.compress(b"[1, 2]\n"))
    path.with_name("da3-0.jsonl.gz").write_bytes(b"not gzip")

    counts = await reprocess(running(stage, MOODY), "posts", SINCE, UNTIL)

    assert counts == Counts(objects=4, unreadable=3, items=1, revised=1)


async def test_items_that_the_database_does_not_know_are_counted_only(stage):
    """After a restore, inventing rows from the lake would give revisions that later ones could not be compared with."""
    await stage.give("raw-storage", sent([_accepted(1)], "a1"))

    counts = await reprocess(running(stage, MOODY), "posts", SINCE, UNTIL)

    assert counts == Counts(objects=1, items=1, unknown=1)


def _accepted(number: int) -> Any:
    candidate = read_item(POSTS, post(number), observed=0)
    assert isinstance(candidate, Candidate)
    return items.Accepted(candidate, 1)


async def test_a_full_outbox_stops_the_run_with_a_reason(stage):
    """Years of revisions must not fill the database faster than the bus takes them."""
    await mined(stage, "a1", post(1))
    full = replace(running(stage, MOODY), settings=stage.pipeline.settings.model_copy(update={"outbox_max_rows": -1}))

    with pytest.raises(RetryLater, match="outbox"):
        await reprocess(full, "posts", SINCE, UNTIL)


async def test_without_a_lake_or_feed_the_fault_is_named(stage):
    """A person at a terminal must learn what to correct."""
    with pytest.raises(ConfigurationError, match="'poets' is not an enabled feed"):
        await reprocess(stage.pipeline, "poets", SINCE, UNTIL)
    with pytest.raises(ConfigurationError, match="LAKE_URL"):
        await reprocess(replace(stage.pipeline, lake=None), "posts", SINCE, UNTIL)


async def test_an_object_that_vanishes_is_counted(stage):
    """A retention rule may remove an object between the listing and the read."""
    await mined(stage, "a1", post(1))

    class Vanishing(FolderLake):
        async def read(self, name: str) -> bytes:
            raise KeyError(name)

    counts = await reprocess(replace(stage.pipeline, lake=Vanishing(stage.lake)), "posts", SINCE, UNTIL)

    assert counts == Counts(objects=1, unreadable=1)
