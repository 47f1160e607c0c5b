"""
Enrichment steps that feeds declare: pure functions from a raw item and a context to fields of the published data.

What a step is annotated to return is promised to readers: it stands in the contract and has columns of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from pipeline.feeds.base import Raw


class AuthorProfile(TypedDict):
    """What the profile feed knows of an author."""

    id: str | None
    name: str | None
    username: str | None
    category: str | None
    followers_count: int | None


class WithAuthorProfile(TypedDict):
    """Added by `author_profile`."""

    author_profile: AuthorProfile | None


class Engagement(TypedDict):
    """Counts, and their sum."""

    comments: int
    reactions: int
    shares: int
    total: int


class WithEngagement(TypedDict):
    """Added by `engagement`."""

    engagement: Engagement


def author_profile(raw: Raw, context: Mapping[str, Any]) -> WithAuthorProfile:
    """Give the author's name, category and followers by the latest revision of the profile feed, if it is known."""
    author = raw.get("from")
    author_id = author.get("id") if isinstance(author, dict) else None
    profile = context.get("profile", {}).get(author_id)
    if profile is None:
        return {"author_profile": None}
    return {
        "author_profile": {
            "id": profile.get("id"),
            "name": profile.get("name"),
            "username": profile.get("username"),
            "category": profile.get("category"),
            "followers_count": profile.get("followers_count"),
        }
    }


def engagement(raw: Raw, context: Mapping[str, Any]) -> WithEngagement:
    """Give counts of comments, reactions and shares, and their sum; what the API leaves out is zero."""
    comments, reactions = _total(raw, "comments"), _total(raw, "reactions")
    shares = raw.get("shares")
    shares = _count(shares.get("count")) if isinstance(shares, dict) else 0
    return {
        "engagement": {
            "comments": comments,
            "reactions": reactions,
            "shares": shares,
            "total": comments + reactions + shares,
        }
    }


def _total(raw: Raw, edge: str) -> int:
    try:
        return _count(raw[edge]["summary"]["total_count"])
    except (KeyError, TypeError):  # left out, or something else in its place
        return 0


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0
