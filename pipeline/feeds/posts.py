"""
Posts that a page published, newest first. The series calls them wall posts.

What the API leaves out is None here: a default object would be copied for every item. Objects in a post are typed
dictionaries, for a model's instance costs several times as much to make.
"""

from __future__ import annotations

from typing import NotRequired

from pydantic import Field
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from pipeline.feeds.base import Discovered, Feed, Item
from pipeline.feeds.enrichment import author_profile, engagement


class Author(TypedDict):
    """Who wrote it; absent without permission."""

    id: str
    name: NotRequired[str]


class Shares(TypedDict):
    """How often it was shared; the API leaves it out at zero."""

    count: NotRequired[int]


class Total(TypedDict):
    """The `summary` of an expanded edge."""

    total_count: NotRequired[int]


class Expansion(TypedDict):
    """An expanded edge, asked for with its summary only."""

    summary: NotRequired[Total | None]


class Post(Item):
    """One post; `message` is empty for stories."""

    created_time: str
    updated_time: str | None = None
    message: str = ""
    story: str = ""
    permalink_url: str = ""
    status_type: str = ""
    author: Author | None = Field(default=None, alias="from")
    shares: Shares | None = None
    comments: Expansion | None = None
    reactions: Expansion | None = None


FEED = Feed(
    name="posts",
    source="graph",
    item=Post,
    path="/{scope}/published_posts",
    fields="id,created_time,updated_time,message,story,permalink_url,status_type,from,shares,"
    "comments.limit(0).summary(true),reactions.limit(0).summary(true)",
    scope=Discovered(kind="page"),
    schedule="0 */15 * * * *",
    child_marker=("comments", "summary", "total_count"),
    enrich=(author_profile, engagement),
    enrich_from=("profile",),
)
