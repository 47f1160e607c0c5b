"""What every feed must be, tested by its existence."""

from __future__ import annotations

from datetime import timedelta

import pytest
from croniter import croniter
from pydantic import BaseModel

from pipeline.errors import ConfigurationError
from pipeline.feeds import load_feeds
from pipeline.feeds.base import ChildOf, Feed, Item, Kind, every
from pipeline.miners.plan import make_plans
from pipeline.settings import load

FEEDS = load_feeds()

feeds = pytest.mark.parametrize("feed", FEEDS.values(), ids=FEEDS)


@feeds
def test_a_feeds_schedule_is_an_expression_the_host_takes(feed: Feed):
    """The host would refuse to start the whole app."""
    assert len(feed.schedule.split()) == 6
    assert croniter.is_valid(feed.schedule, second_at_beginning=True)


@feeds
def test_a_feeds_path_names_only_its_scope_or_user(feed: Feed):
    """Any other placeholder would stand in a URL as it is."""
    assert feed.path.format(scope="s", user="u").startswith("/")


@feeds
def test_a_feeds_volatile_fields_are_fields_of_its_model(feed: Feed):
    """A misspelt one would be hashed and republish every item at each poll."""
    assert set(feed.volatile) <= set(feed.item.model_fields)


@feeds
def test_a_timeline_without_order_has_one_lane(feed: Feed):
    """Coverage of a listing without order is proven only by its end."""
    rules = make_plans(FEEDS, load({}))[feed.name].rules

    assert rules.ordered == (feed.kind is Kind.TIMELINE and feed.newest_first)
    assert len(rules.lanes) >= 1


@feeds
def test_a_feeds_parents_and_sources_of_enrichment_exist(feed: Feed):
    """A feed that hangs on nothing would never be opened."""
    named = {*feed.enrich_from, *({feed.scope.feed} if isinstance(feed.scope, ChildOf) else ())}

    assert named <= set(FEEDS)
    assert all(FEEDS[name].keep_latest for name in feed.enrich_from)


@feeds
def test_a_feeds_model_copies_no_default_objects(feed: Feed):
    """A default object is copied for every item: a third of a page's time went there."""
    defaults = [field.default for field in feed.item.model_fields.values()]

    assert not [default for default in defaults if isinstance(default, (BaseModel, list, dict))]


@feeds
def test_a_feed_settles_before_it_claims(feed: Feed):
    """An item that becomes visible later than it was created would fall into a proven interval."""
    assert feed.settle >= timedelta(seconds=1)


def test_a_feed_with_a_strange_name_is_refused():
    """The name stands in queues, settings and functions."""
    with pytest.raises(ConfigurationError, match="lower-case"):
        Feed(name="Posts!", source="graph", item=Item, path="/x")


def test_an_unknown_feed_is_refused_by_name():
    """A typing slip in FEEDS_ENABLED must not switch a feed off silently."""
    with pytest.raises(ConfigurationError, match="potss"):
        load_feeds(enabled=["potss"])


def test_a_child_without_its_parent_is_refused():
    """Comments hang on posts; without them no comment is ever mined."""
    with pytest.raises(ConfigurationError, match="posts"):
        load_feeds(enabled=["comments"])


@pytest.mark.parametrize(
    ("interval", "expression"),
    [({"minutes": 15}, "0 */15 * * * *"), ({"hours": 4}, "0 0 */4 * * *"), ({"seconds": 30}, "*/30 * * * * *")],
)
def test_plain_intervals_become_ncrontab(interval: dict[str, int], expression: str):
    """Nobody should have to count stars."""
    assert every(**interval) == expression


def test_an_interval_that_does_not_divide_its_unit_is_refused():
    """Every 7 minutes means 4 minutes at the full hour."""
    with pytest.raises(ConfigurationError, match="7"):
        every(minutes=7)
