"""
Posts that a page published, newest first. The series calls them wall posts.

What the API leaves out is None here: a default object would be copied for every item.
"""

from __future__ import annotations

from pydantic import BaseModel, Field

from pipeline.feeds.base import Discovered, Feed, Item
from pipeline.feeds.enrichment import author_profile, engagement


class Author(BaseModel):
    """Who wrote it; absent without permission."""

    id: str
    name: str = ""


class Shares(BaseModel):
    """How often it was shared; the API leaves it out at zero."""

    count: int = 0


class Total(BaseModel):
    """The `summary` of an expanded edge."""

    total_count: int = 0


class Expansion(BaseModel):
    """An expanded edge, asked for with its summary only."""

    summary: Total | None = None


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
