"""One declaration of queues and topics, and the files that follow from it."""

from __future__ import annotations

import pytest

from pipeline.feeds import load_feeds
from pipeline.subscribers import load_subscribers
from pipeline.topology import EMULATOR_FILE, ROOT, SETTINGS_FILE, emulator_config, topology, written_files


@pytest.mark.parametrize("path", written_files(), ids=str)
def test_written_files_are_not_stale(path):
    """Code, emulator, Azure and docs would name different queues; `python -m pipeline.topology --write` repairs it."""
    assert (ROOT / path).read_text() == written_files()[path]


def test_queues_and_topics_have_the_series_names():
    """Whoever comes from the series finds its names; ads publishes to a topic named after mining, as there."""
    wanted = topology(load_feeds(), load_subscribers())

    assert {"posts-mining-queue", "ads-mining-queue", "ads-clicks-mining-queue", "ads-clicks-parser-queue"} <= set(
        wanted.queues
    )
    assert {"posts-data-topic", "ads-mining-topic", "ads-clicks-data-topic"} <= set(wanted.topics)
    assert "ads-data-topic" not in wanted.topics


def test_every_subscription_forwards_to_a_queue_that_exists():
    """A subscription that forwards to nothing fills up and refuses the topic's messages."""
    config = emulator_config(topology(load_feeds(), load_subscribers()))["UserConfig"]["Namespaces"][0]
    queues = {queue["Name"] for queue in config["Queues"]}

    forwards = [one["Properties"]["ForwardTo"] for topic in config["Topics"] for one in topic["Subscriptions"]]

    assert forwards
    assert set(forwards) <= queues


def test_a_feed_that_is_off_has_no_queue():
    """Its messages would wait for nobody."""
    wanted = topology(load_feeds(enabled=["posts"]), load_subscribers())

    assert [queue for queue in wanted.queues if "mining" in queue] == ["posts-mining-queue"]


def test_a_package_of_own_feeds_gets_its_queue_topic_and_schedule(tmp_path, monkeypatch):
    """Own feeds live outside the clone: what is written for the broker and the app must know them all the same."""
    package = tmp_path / "shop_feeds"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "orders.py").write_text(OWN_FEED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("FEEDS_PACKAGE", "shop_feeds")

    files = written_files()

    assert '"orders-mining-queue-' in files[EMULATOR_FILE]
    assert '"orders-data-topic-' in files[EMULATOR_FILE]
    assert "ORDERS_SCHEDULE_MINER" in files[SETTINGS_FILE]


OWN_FEED = """
from pipeline.feeds.base import Feed, Item

FEED = Feed(name="orders", source="rest", item=Item, path="/users/{user}/orders", schedule="0 5 * * * *")
"""
