"""The profile of each page: one object, published when a declared field changes."""

from __future__ import annotations

from pipeline.feeds.base import Discovered, Feed, Item, Kind


class Profile(Item):
    """A page's public face."""

    name: str = ""
    username: str = ""
    category: str = ""
    about: str = ""
    link: str = ""
    fan_count: int = 0
    followers_count: int = 0


FEED = Feed(
    name="profile",
    source="graph",
    item=Profile,
    path="/{scope}",
    fields="id,name,username,category,about,link,fan_count,followers_count",
    scope=Discovered(kind="page"),
    kind=Kind.SNAPSHOT,
    newest_first=False,
    pages_by_time=False,
    updated_field=None,
    schedule="0 10 * * * *",
    keep_latest=True,
)
