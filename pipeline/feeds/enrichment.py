"""Enrichment steps that feeds declare: pure functions from a raw item and a context to fields of the published data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.feeds.base import Raw


def author_profile(raw: Raw, context: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give the author's name, category and followers by the latest revision of the profile feed, if it is known."""
    author = raw.get("from")
    author_id = author.get("id") if isinstance(author, dict) else None
    profile = context.get("profile", {}).get(author_id)
    if profile is None:
        return {"author_profile": None}
    chosen = {name: profile.get(name) for name in ("id", "name", "username", "category", "followers_count")}
    return {"author_profile": chosen}


def engagement(raw: Raw, context: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give counts of comments, reactions and shares, and their sum; what the API leaves out is zero."""
    counts = {
        "comments": _count(raw, "comments", "summary", "total_count"),
        "reactions": _count(raw, "reactions", "summary", "total_count"),
        "shares": _count(raw, "shares", "count"),
    }
    return {"engagement": {**counts, "total": sum(counts.values())}}


def _count(raw: Raw, *path: str) -> int:
    value: Any = raw
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, int) else 0
