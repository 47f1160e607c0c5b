"""Comments on posts; a post is their scope. Mined when a post is new or changed, and by a sweep of old posts."""

from __future__ import annotations

from datetime import timedelta
from typing import NotRequired

from pydantic import Field
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from pipeline.feeds.base import ChildOf, Feed, Item


class Commenter(TypedDict):
    """Who wrote it; absent without permission."""

    id: str
    name: NotRequired[str]


class Parent(TypedDict):
    """The comment that this one answers."""

    id: str


class Comment(Item):
    """One comment; the API gives it no time of change."""

    created_time: str
    message: str = ""
    author: Commenter | None = Field(default=None, alias="from")
    parent: Parent | None = None
    like_count: int = 0
    comment_count: int = 0
    is_hidden: bool = False


FEED = Feed(
    name="comments",
    source="graph",
    item=Comment,
    path="/{scope}/comments",
    fields="id,created_time,message,from,parent,like_count,comment_count,is_hidden",
    params={"filter": "stream", "order": "reverse_chronological"},
    scope=ChildOf(feed="posts"),
    updated_field=None,
    schedule="0 30 3 * * *",
    sweep_every=timedelta(days=7),
)
