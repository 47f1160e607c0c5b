"""Read a listing of the Graph API: its items, and whether there is more. Pure."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from pipeline.sources.base import FaultKind
from pipeline.sources.verdicts import Verdict

MAX_CURSOR = 512
"""Characters of a cursor that we accept and store; real ones have up to some 200."""

_CURSOR = re.compile(r"[A-Za-z0-9_\-=+/.:|~%,]+")
_OURS = re.compile(r"(?:u([0-9]{1,12})!)?(.+)", re.DOTALL)


class Start(NamedTuple):
    """
    Where a page begins. The API's own `next` keeps `until` beside `after`, and so do our cursors: `u1700000000!QVFI`.

    Without it, the cursor of an empty first page, which points at no item, would lead back to the top.
    """

    after: str | None
    until: int | None

    def parameters(self) -> dict[str, str]:
        """The query parameters."""
        wanted = {"after": self.after, "until": None if self.until is None else str(self.until)}
        return {name: value for name, value in wanted.items() if value is not None}

    def cursor(self, after: str | None) -> str | None:
        """Our cursor of the next page, whose own is `after`."""
        return after if after is None or self.until is None else f"u{self.until}!{after}"


def read_start(cursor: str | None, until: int | None) -> Start:
    """Take a request's cursor apart; without one it is a fresh start."""
    match = _OURS.fullmatch(cursor) if cursor else None
    if match is None:
        return Start(None, until)
    return Start(match[2], int(match[1]) if match[1] else None)


class Listing(NamedTuple):
    """Items in the API's order, and the cursor of the next page; None at the end."""

    items: list[Any]
    after: str | None


def read_listing(body: Any, asked: str | None) -> Listing | Verdict:
    """
    Read an answer to a request with the cursor `asked`.

    Only an absent `next` is an end: a short or empty page is not, and the last page has cursors, too. `next` itself
    is never kept, for it holds the token and a host of the answer's choice. A cursor that leads to where we are is as
    good as an invalid one.
    """
    if not isinstance(body, dict) or not isinstance(body.get("data"), list):
        return Verdict(FaultKind.REFUSED, "no-list")
    items: list[Any] = body["data"]
    paging = body.get("paging")
    if not isinstance(paging, dict) or not paging.get("next"):
        return Listing(items, None)
    cursors = paging.get("cursors")
    after = cursors.get("after") if isinstance(cursors, dict) else None
    if not isinstance(after, str) or len(after) > MAX_CURSOR or not _CURSOR.fullmatch(after):
        return Verdict(FaultKind.REFUSED, "no-cursor", detail="there is more, but no cursor that could be followed")
    if after == asked:
        return Verdict(FaultKind.INVALID_CURSOR, "repeated-cursor")
    return Listing(items, after)
