"""What the simulators say is true, feed by feed, in the fields that each feed asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from infra.local.run.compare import Fact, Key, facts
from infra.local.run.stack import Stack

EDGES = {
    "published_posts": "posts",
    "posts": "posts",
    "feed": "posts",
    "comments": "comments",
    "ads": "ads",
    "adsets": "adsets",
    "campaigns": "campaigns",
    "insights": "insights",
    "{scope}": "accounts",
}
"""The edge of the truth for the last part of a feed's path; `{scope}` alone is the object itself."""

NEVER = 2**63


class Checked(NamedTuple):
    """A feed and how its truth is asked for; an empty `edge` means that no simulator knows it."""

    feed: str
    source: str
    edge: str
    fields: str
    kind: str
    child: bool


def checked_feeds(listed: str) -> list[Checked]:
    """Read the answer of `pipeline feeds --json`; feeds that are off are left out."""
    return [_checked(row) for row in json.loads(listed) if not row["off"]]


def _checked(row: Mapping[str, Any]) -> Checked:
    last = str(row["path"]).rstrip("/").rpartition("/")[2]
    edge = EDGES.get(last, "") if row["source"] == "graph" else last if row["source"] == "rest" else ""
    child = str(row["scope"]).startswith("each of")
    return Checked(row["feed"], row["source"], edge, row["fields"], row["kind"], child)


class Truth:
    """The facts of all checked feeds, as they were when last read."""

    def __init__(self, stack: Stack, *, refresh_seconds: int) -> None:
        self.feeds: list[Checked] = []
        self.unchecked: list[str] = []
        self.facts: dict[str, dict[Key, Fact]] = {}
        self._stack = stack
        self._refresh_seconds = refresh_seconds
        self._now = 0.0

    def use(self, feeds: Sequence[Checked]) -> None:
        """Say which feeds are compared."""
        self.feeds = [feed for feed in feeds if feed.edge]
        self.unchecked = [feed.feed for feed in feeds if not feed.edge]

    async def read(self) -> None:
        """Ask the simulators; some thousand rows take them a moment."""
        for feed in self.feeds:
            answer = await self._ask(feed)
            self._now = float(answer["now"])
            rows = answer["rows"]
            if feed.edge == "accounts":  # the truth lists pages under their user; the feed's scope is the page
                rows = [{**row, "scope": row["id"]} for row in rows]
            self.facts[feed.feed] = facts(feed.feed, rows)
        spoiled = {key.item for found in self.facts.values() for key, fact in found.items() if fact.malformed}
        for feed in self.feeds:
            if feed.child:
                self.facts[feed.feed] = _reachable(self.facts[feed.feed], spoiled)

    def deletions_since(self, feed: Checked) -> int:
        """
        Give the item time from which a deletion must be noticed.

        A sweep sees every one; a timeline reads only its refresh window again; comments go with their post.
        """
        if feed.child or feed.source == "rest":
            return NEVER
        return 0 if feed.kind == "snapshot" else int(self._now) - self._refresh_seconds

    async def _ask(self, feed: Checked) -> Any:
        if feed.source == "rest":
            return await self._stack.rest.get("/__sim/truth")
        query: dict[str, str | int] = {"edge": feed.edge, "fields": feed.fields}
        if feed.edge == "insights":  # from the first day on, with today as far as it has come
            query["since"] = 0
        return await self._stack.graph.get("/__sim/truth", **query)


def _reachable(found: Mapping[Key, Fact], spoiled: set[str]) -> dict[Key, Fact]:
    """Ask for no children of an item that is spoiled: it waits in quarantine, and nobody looks below it."""
    return {key: fact._replace(visible=fact.visible and key.scope not in spoiled) for key, fact in found.items()}
