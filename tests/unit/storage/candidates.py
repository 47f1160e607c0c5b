"""Candidates for tests, made as pages make them."""

from __future__ import annotations

from pipeline.feeds import posts
from pipeline.processors.read_items import read_item
from pipeline.storage.items import Candidate
from tests.fakes import iso


def candidate(item_id: str, content: str = "A", *, time: int = 5, updated: int | None = None) -> Candidate:
    """Give a good item."""
    raw = {"id": item_id, "created_time": iso(time), "message": content}
    found = read_item(posts.FEED, raw, observed=1)
    assert isinstance(found, Candidate)
    return found._replace(updated=updated)
