"""A timeline whose order of revisions is the order of observation."""

from __future__ import annotations

from datetime import timedelta

from pipeline.feeds.base import Feed, FromUser, Item


class Entry(Item):
    """`v` is the version that the truth gave the content."""

    v: int
    replies: int = 0


FEED = Feed(
    name="entries",
    source="graph",
    item=Entry,
    path="/{scope}/entries",
    scope=FromUser(),
    updated_field=None,
    child_marker=("replies",),
    page_limit=2,
    settle=timedelta(seconds=60),
    schedule="0 * * * * *",
)
