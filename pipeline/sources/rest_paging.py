"""
Page numbers as a cursor that notices when the listing has shifted. Pure.

Items that appear at the top push everything down, deleted ones pull it up: page 3 is then not what follows page 2.
So a cursor is the number of items read so far and the last one's id, and the next page is chosen to begin a little
before that: it must contain the last item read. If it does not, the listing has shifted, and the cursor counts as
invalid.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

SMALLEST = 25
"""With sizes from 12 to 25 to choose from, one always overlaps and still ends behind what was read."""

MAX_READ = 10**9
"""No cursor counts more items than this."""

_CURSOR = re.compile(r"([0-9]{1,10})(?::([!-~]{1,128}))?")
_NAME = re.compile(r"[!-~]{1,128}")


class Window(NamedTuple):
    """A page to ask for: its number (from 1) and size, and the place of its first item in the listing."""

    number: int
    size: int

    @property
    def start(self) -> int:
        """How many items stand before it."""
        return (self.number - 1) * self.size


class Place(NamedTuple):
    """How far a listing was read: the number of items, and the id of the last one that has any."""

    read: int
    last_id: str = ""

    def cursor(self) -> str:
        """The cursor that leads back here."""
        return f"{self.read}:{self.last_id}" if self.last_id else str(self.read)


def read_cursor(cursor: str | None) -> Place | None:
    """Give the place that a cursor leads to, None if it is not one of ours."""
    if cursor is None:
        return Place(0)
    match = _CURSOR.fullmatch(cursor)
    if match is None or int(match[1]) > MAX_READ:
        return None
    return Place(int(match[1]), match[2] or "")


def place_behind(items: Sequence[Any], window: Window, id_field: str) -> Place:
    """
    Give the place behind a page.

    Items at its end that have no id are read again with the next page, for they could not be found there.
    """
    for place in range(len(items), 0, -1):
        item = items[place - 1]
        name = str(item.get(id_field, "")) if isinstance(item, dict) else ""
        if _NAME.fullmatch(name):
            return Place(window.start + place, name)
    return Place(window.start + (len(items) or window.size))


def overlapping(read: int, limit: int) -> Window:
    """
    Choose a page of at most `limit` items (`SMALLEST` at least) that begins before item `read` and ends as far behind
    it as possible.

    API pages begin only at multiples of their size, so the size is what can be chosen.
    """
    limit = max(SMALLEST, limit)
    if read <= 0:
        return Window(1, limit)
    sizes = range(limit // 2, limit + 1)
    return max((Window((read - 1) // size + 1, size) for size in sizes), key=lambda page: page.start + page.size)


def following(items: Sequence[Any], id_field: str, last_id: str) -> int | None:
    """Give the place of the first item behind the last one read; None if that is not on the page."""
    for place, item in enumerate(items):
        if isinstance(item, dict) and str(item.get(id_field)) == last_id:
            return place + 1
    return None


def has_more(body: Any, window: Window, got: int) -> bool:
    """
    Tell whether there are further pages, from whatever the API says about it.

    Without a word from the API, only a page that is not full is the end.
    """
    if isinstance(body, dict):
        for field in ("has_more", "next_page", "next"):
            if field in body:
                return bool(body[field])
        for field, reached in (("total_pages", window.number), ("total", window.start + got)):
            total = body.get(field)
            if isinstance(total, int) and not isinstance(total, bool):
                return reached < total and got > 0
    return got >= window.size
