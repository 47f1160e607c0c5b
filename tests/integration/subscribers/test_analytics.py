"""Analytics: the table holds the latest revision of each item, whatever way the messages come."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import pytest
from pydantic import create_model

from pipeline import failpoints
from pipeline.feeds import load_feeds
from pipeline.feeds.posts import FEED as POSTS
from pipeline.feeds.posts import Post
from pipeline.storage import inbox
from pipeline.storage.analytics import Analytics
from pipeline.subscribers.analytics import NAME
from tests.unit.subscribers.making import accept, gone, message_of, post, sent

FEEDS = load_feeds()
COLUMNS = "item_id, revision, deleted, message, engagement_total"

HISTORY = [
    sent([accept(post(1, message="first"), 1), accept(post(2), 1)], "a1"),
    sent([accept(post(1, message="edited"), 2)], "a2"),
    sent([gone(post(1), 3)], "a3"),
    sent([accept(post(2, message="edited too"), 2)], "a4"),
]
LATEST = [
    {"item_id": "post_1", "revision": 3, "deleted": 1, "message": None, "engagement_total": None},
    {"item_id": "post_2", "revision": 2, "deleted": 0, "message": "edited too", "engagement_total": 5},
]


class Crash(BaseException):
    """The process dies here."""


def crash_at(point: str) -> None:
    """Die at the first hit of a failpoint."""

    def hook(name: str) -> None:
        if name == point:
            failpoints.install(None)
            raise Crash

    failpoints.install(hook)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
async def test_any_order_of_messages_gives_the_same_table(stage, order):
    """Topics promise no order; a tombstone that came early must not be undone by the item's older revision."""
    for number in order:
        await stage.give("analytics", HISTORY[number])

    assert await stage.rows(f"SELECT {COLUMNS} FROM data_posts ORDER BY item_id") == LATEST


async def test_a_message_that_comes_twice_is_taken_once(stage):
    """At-least-once on the wire, exactly once in effect."""
    message = message_of([accept(post(1))])

    taken = [await stage.pipeline.analytics.take(NAME, message) for _ in range(3)]

    assert taken == [True, False, False]


async def test_two_deliveries_at_the_same_moment_are_taken_once(stage):
    """A lock that was lost gives one message to two instances."""
    message = message_of([accept(post(1))])

    taken = await asyncio.gather(*(stage.pipeline.analytics.take(NAME, message) for _ in range(6)))

    assert sorted(taken) == [False] * 5 + [True]


@pytest.mark.parametrize("point", ["store.analytics.before", "store.analytics.after"])
async def test_a_crash_around_the_commit_neither_loses_nor_doubles(stage, point):
    """The inbox row and the data are one transaction: either both are there or none, and the redelivery mends it."""
    await stage.pipeline.analytics.prepare()
    crash_at(point)

    with pytest.raises(Crash):
        await stage.give("analytics", HISTORY[0])
    rows = await stage.rows("SELECT item_id FROM data_posts")
    noted = await stage.rows("SELECT message_id FROM inbox")
    await stage.give("analytics", HISTORY[0])

    assert (len(rows), len(noted)) == ((0, 0) if point.endswith("before") else (2, 1))
    assert len(await stage.rows("SELECT item_id FROM data_posts")) == 2


async def test_users_and_scopes_do_not_touch_each_other(stage):
    """Two pages may carry an item of the same id."""
    for user_id, scope in (("user-1", "page-1"), ("user-1", "page-2"), ("user-2", "page-1")):
        await stage.give(
            "analytics", sent([accept(post(1, message=user_id + scope))], user_id + scope, scope=scope, user_id=user_id)
        )

    rows = await stage.rows("SELECT user_id, scope, message FROM data_posts ORDER BY user_id, scope")

    assert [row["message"] for row in rows] == ["user-1page-1", "user-1page-2", "user-2page-1"]


async def test_columns_have_types_that_sql_can_count_with(stage):
    """A number stored as text sorts and sums wrongly, and nobody notices."""
    await stage.give("analytics", HISTORY[0])

    [row] = await stage.rows(
        "SELECT typeof(revision) AS a, typeof(engagement_total) AS b, typeof(message) AS c, source_time AS d,"
        " source_date AS e FROM data_posts WHERE item_id = 'post_1'"
    )

    assert row == {"a": "integer", "b": "integer", "c": "text", "d": "2026-01-05T05:01:00", "e": "2026-01-05"}


async def test_a_field_that_a_feed_gains_becomes_a_column(stage):
    """Adding a field to a model must not need a hand in the database; old rows have none of it."""
    await stage.give("analytics", HISTORY[0])
    grown = replace(POSTS, item=create_model("Post", __base__=Post, mood=(str, "")))
    analytics = Analytics(stage.pipeline.database, [grown])

    await analytics.take(NAME, message_of([accept(post(3, mood="glad"), feed=grown)], "b1", feed=grown))

    moods = await stage.rows("SELECT item_id, mood FROM data_posts ORDER BY item_id")
    assert [row["mood"] for row in moods] == [None, None, "glad"]


async def test_an_older_version_of_the_app_fills_a_table_that_a_newer_one_extended(stage):
    """During a rolling deployment both write to one table."""
    grown = replace(POSTS, item=create_model("Post", __base__=Post, mood=(str, "")))
    await Analytics(stage.pipeline.database, [grown]).prepare()

    await stage.give("analytics", HISTORY[0])

    assert len(await stage.rows("SELECT mood FROM data_posts")) == 2


@pytest.mark.parametrize("feed", FEEDS.values(), ids=FEEDS.keys())
async def test_every_feed_gets_its_table_again_and_again(stage, feed):
    """A feed is added in one file; its table follows, and a second start of the app finds it made."""
    for _ in range(2):
        table = await Analytics(stage.pipeline.database, [feed]).table(feed.name)

    found = await stage.rows(f"SELECT * FROM {table.name}")
    assert found == []


async def test_old_inbox_rows_are_forgotten_in_small_batches(stage):
    """An inbox that only grows is a bill that only grows; one large delete would lock out the subscribers."""
    database = stage.pipeline.database
    for number in range(7):
        await database.write("test", inbox.take, NAME, f"d{number}/0")
        stage.clock.advance(86_400)

    gone_rows = await inbox.purge_all(database, older_than_seconds=3 * 86_400, limit=2)

    assert gone_rows == 4
    assert [row["message_id"] for row in await stage.rows("SELECT message_id FROM inbox")] == ["d4/0", "d5/0", "d6/0"]


async def test_one_subscriber_s_inbox_is_not_another_s(stage):
    """Each subscriber takes every message once for itself."""
    database = stage.pipeline.database

    taken = [await database.write("test", inbox.take, name, "d1/0") for name in ("analytics", "other", "analytics")]

    assert taken == [True, True, False]
