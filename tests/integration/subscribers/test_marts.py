"""Marts and data tests: figures that people read, and what watches over them."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.feeds import load_feeds
from pipeline.feeds.base import Feed
from pipeline.storage.analytics import Analytics
from pipeline.storage.data_tests import run_data_tests
from pipeline.storage.marts import load_marts
from pipeline.storage.marts.base import AcceptedValues, Mart, NotNull, Relation, Unique
from tests.unit.subscribers.making import accept, gone, post, sent

FEEDS = load_feeds()
MARTS = {mart.name: mart for mart in load_marts()}


def page(feed: Feed, *raws: dict[str, Any], scope: str, nonce: str) -> Any:
    """Give the message of a page of some feed."""
    return sent([accept(raw, feed=feed) for raw in raws], nonce, feed=feed, scope=scope)


def clicks(ad: str, day: str, spend: str, count: str) -> dict[str, Any]:
    """Give a row of an ads report, numbers as text."""
    return {"ad_id": ad, "date_start": day, "spend": spend, "clicks": count, "impressions": "1000"}


def payment(number: int, day: str, amount: float, currency: str = "EUR") -> dict[str, Any]:
    """Give a transaction."""
    return {
        "id": number,
        "created_at": f"{day}T12:00:00Z",
        "amount": amount,
        "currency": currency,
        "fan_id": number % 2,
    }


def comment(number: int, author: str) -> dict[str, Any]:
    """Give a comment."""
    return {
        "id": f"comment_{number}",
        "created_time": "2026-01-06T01:00:00+0000",
        "from": {"id": author, "name": author},
    }


@pytest.fixture
async def filled(stage):
    """Some data of every feed that has a mart."""
    edited = [accept(post(1)), accept(post(2)), accept(post(24 * 60))]
    for message in (
        sent(edited, "p1"),
        sent([accept(post(3))], "p2"),
        sent([gone(post(3), 2)], "p3"),
        page(FEEDS["comments"], comment(1, "a"), comment(2, "a"), comment(3, "b"), scope="post_1", nonce="c1"),
        page(
            FEEDS["ads-clicks"],
            clicks("ad-1", "2026-01-05", "1.50", "3"),
            clicks("ad-2", "2026-01-05", "0.50", "1"),
            clicks("ad-1", "2026-01-06", "0.00", "0"),
            scope="act_1",
            nonce="k1",
        ),
        page(
            FEEDS["ads"],
            *({"id": f"ad-{number}", "status": status} for number, status in enumerate(["ACTIVE", "PAUSED", "ACTIVE"])),
            scope="act_1",
            nonce="n1",
        ),
        page(
            FEEDS["transactions"],
            payment(1, "2026-01-05", 10.0),
            payment(2, "2026-01-05", 5.5),
            payment(3, "2026-01-05", 7.0, "USD"),
            scope="user-1",
            nonce="t1",
        ),
    ):
        await stage.give("analytics", message)
    return stage


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (
            "SELECT day, posts, comments, reactions, shares, engagement FROM mart_posts_per_day ORDER BY day",
            [("2026-01-05", 2, 3, 4, 2, 9), ("2026-01-06", 1, 1440, 2, 1, 1443)],
        ),
        (
            "SELECT page_id, posts, first_day, last_day, engagement_per_post FROM mart_engagement_per_page",
            [("page-1", 3, "2026-01-05", "2026-01-06", 484.0)],
        ),
        (
            "SELECT page_id, day, comments, commenters FROM mart_comments_per_day",
            [("page-1", "2026-01-06", 3, 2)],
        ),
        (
            "SELECT account_id, day, ads, impressions, clicks, spend, cost_per_click FROM mart_ad_spend_per_day"
            " ORDER BY day",
            [("act_1", "2026-01-05", 2, 2000, 4, 2.0, 0.5), ("act_1", "2026-01-06", 1, 1000, 0, 0.0, None)],
        ),
        ("SELECT status, ads FROM mart_ads_per_status ORDER BY status", [("ACTIVE", 2), ("PAUSED", 1)]),
        (
            "SELECT day, currency, transactions, revenue, fans FROM mart_revenue_per_day ORDER BY currency",
            [("2026-01-05", "EUR", 2, 15.5, 2), ("2026-01-05", "USD", 1, 7.0, 1)],
        ),
    ],
    ids=[
        "posts_per_day",
        "engagement_per_page",
        "comments_per_day",
        "ad_spend_per_day",
        "ads_per_status",
        "revenue_per_day",
    ],
)
async def test_a_mart_says_what_the_items_say(filled, query, expected):
    """People decide by these figures; deleted items and other currencies must not be in them."""
    rows = await filled.rows(query)

    assert [tuple(row.values()) for row in rows] == expected


async def test_good_data_passes_all_tests(filled):
    """A test that fails on good data is soon ignored."""
    results = await run_data_tests(filled.pipeline.database, filled.pipeline.analytics)

    assert [result for result in results if result.failed] == []
    assert {result.table for result in results} == {
        *(f"data_{name.replace('-', '_')}" for name in FEEDS),
        *(mart.view for mart in MARTS.values()),
    }


@pytest.mark.parametrize(
    ("damage", "table", "test"),
    [
        ("UPDATE data_posts SET created_time = NULL WHERE item_id = 'post_1'", "data_posts", "not_null(created_time)"),
        ("UPDATE data_posts SET deleted = 2 WHERE item_id = 'post_1'", "data_posts", "accepted_values(deleted)"),
        ("UPDATE data_transactions SET currency = NULL", "mart_revenue_per_day", "not_null(currency)"),
        ("UPDATE data_ads SET status = 'FLYING'", "mart_ads_per_status", "accepted_values(status)"),
        ("DELETE FROM data_posts WHERE item_id = 'post_1'", "data_comments", "relation(user_id, scope in data_posts)"),
    ],
)
async def test_bad_data_fails_the_test_that_watches_it(filled, damage, table, test):
    """A data test that was never seen to fail proves nothing."""
    await filled.pipeline.database.write("test", lambda connection: connection.exec_driver_sql(damage))

    results = await run_data_tests(filled.pipeline.database, filled.pipeline.analytics)

    assert (table, test) in {(result.table, result.test) for result in results if result.failed}


async def test_each_kind_of_test_counts_what_fails(stage):
    """Four small rules carry all promises about the data."""

    def count(connection: Any) -> list[int]:
        connection.exec_driver_sql("CREATE TABLE t (a, b)")
        connection.exec_driver_sql("INSERT INTO t VALUES (1, 'x'), (1, 'y'), (2, NULL), (3, 'z')")
        tests = (
            Unique(("a",)),
            Unique(("a", "b")),
            NotNull("b"),
            NotNull("b", where="a = 1"),
            AcceptedValues("b", ("x", "it's")),
            Relation(("a",), "t", ("a",)),
            Relation(("b",), "t", ("a",)),
        )
        return [connection.exec_driver_sql(test.failures("t")).scalar_one() for test in tests]

    assert await stage.pipeline.database.write("test", count) == [1, 0, 1, 0, 2, 0, 4]


async def test_a_changed_mart_replaces_the_old_view(stage):
    """A deploy must bring new figures without a hand in the database."""
    for amount in (1, 2, 2):
        mart = Mart(name="tried", feeds=("posts",), select=f"SELECT {amount} AS amount")
        await Analytics(stage.pipeline.database, [FEEDS["posts"]], [mart]).prepare()

    assert await stage.rows("SELECT amount FROM mart_tried") == [{"amount": 2}]


async def test_a_mart_of_a_feed_that_is_off_does_not_exist(stage):
    """A view over a table that was never made would fail for whoever opens it."""
    analytics = Analytics(stage.pipeline.database, [FEEDS["posts"]], load_marts())

    await analytics.prepare()

    assert {mart.name for mart in analytics.marts} == {"posts_per_day", "engagement_per_page"}
    assert await stage.rows("SELECT name FROM sqlite_master WHERE name = 'mart_revenue_per_day'") == []
