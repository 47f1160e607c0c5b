"""Children of entries."""

from __future__ import annotations

from datetime import timedelta

from pipeline.feeds.base import ChildOf, Feed, Item


class Reply(Item):
    """`v` is the version that the truth gave the content."""

    v: int


FEED = Feed(
    name="replies",
    source="graph",
    item=Reply,
    path="/{scope}/replies",
    scope=ChildOf(feed="entries"),
    updated_field=None,
    page_limit=2,
    settle=timedelta(seconds=60),
    refresh_window=timedelta(seconds=0),
)
