"""The commands of subscribers, as a person types them."""

from __future__ import annotations

from pipeline.bootstrap import Pipeline
from tests.desk import Desk

BAD = """
INSERT INTO data_posts (user_id, scope, item_id, revision, deleted, source_time, source_date, capture, feed_version,
                        message_id, written_at, engagement_total)
VALUES ('u', 's', 'i', 1, 0, '2026-01-05T00:00:00', '2026-01-05', 'batch', 1, 'd1/0', 1, 5)
"""


async def spoil(pipeline: Pipeline) -> None:
    """Write a post that has no time."""
    await pipeline.database.write("test", lambda connection: connection.exec_driver_sql(BAD))


def test_data_tests_pass_on_a_fresh_database_and_fail_on_bad_data(tmp_path):
    """A deploy step runs the command; its exit code decides, so it must not fail before the first message."""
    desk = Desk(tmp_path)

    fresh = desk.run("data-tests")
    desk.with_pipeline(spoil)
    bad = desk.run("data-tests")
    listed = desk.run("data-tests", "--json").json

    assert (fresh.code, bad.code) == (0, 1)
    assert "data tests passed" in fresh.out
    assert [one["test"] for one in listed if one["failed"]] == ["not_null(created_time)"]
    assert "not_null(created_time)" in bad.out


def test_reprocess_says_what_it_met(tmp_path):
    """An empty lake is an answer, not a fault."""
    desk = Desk(tmp_path)

    said = desk.run("reprocess", "posts", "--since", "7d", "--json")

    assert said.code == 0
    assert set(said.json.values()) == {0}
