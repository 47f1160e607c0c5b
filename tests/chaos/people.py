"""What people do meanwhile, and every content that was true once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from infra.local.run.stack import Stack
from infra.local.run.truth import Checked

Row = dict[str, Any]
Name = tuple[str, str, str, str]
DAY_SECONDS = 86_400

DEEDS: Sequence[tuple[str, Mapping[str, Any]]] = (
    ("posts", {"do": "create", "edge": "posts"}),
    ("posts", {"do": "create", "edge": "posts", "age_seconds": 7_200}),
    ("posts", {"do": "edit", "edge": "posts", "pick": "newest"}),
    ("posts", {"do": "edit", "edge": "posts", "pick": "newest"}),
    ("posts", {"do": "delete", "edge": "posts", "pick": "newest"}),
    ("comments", {"do": "create", "edge": "comments"}),
    ("ads", {"do": "create", "edge": "ads"}),
    ("ads", {"do": "edit", "edge": "ads", "pick": "random", "item": {"effective_status": "PAUSED"}}),
    ("ads", {"do": "edit", "edge": "ads", "pick": "random", "item": {"effective_status": "IN_PROCESS"}}),
    ("ads", {"do": "delete", "edge": "ads", "pick": "oldest"}),
    ("transactions", {"do": "create", "count": 2}),
)
"""
Only what a pipeline promises to notice: recent posts within the refresh window, ads by a sweep, new comments. An ad's
name stands in reports of years, which nobody reads again, so it stays.
"""


class People:
    """Change the world through the simulators' own interface, and remember what it looked like in between."""

    def __init__(self, stack: Stack, feeds: Sequence[Checked], chance: Random) -> None:
        self.users: Sequence[str] = ()
        self.deeds = 0
        self._stack = stack
        self._feeds = {feed.feed: feed for feed in feeds}
        self._chance = chance
        self._once: dict[Name, set[str]] = {}

    async def do_something(self) -> None:
        """Do one thing; raises httpx.HTTPError."""
        feed, deed = self._chance.choice(DEEDS)
        user = self._chance.choice(list(self.users))
        if feed == "transactions":
            await self._stack.rest.send("POST", "/__sim/mutate", {**deed, "user": user})
        else:
            await self._remember(user)
            await self._stack.graph.send("POST", "/__sim/mutate", {**deed, "user": user})
            await self._remember(user)
        self.deeds += 1

    async def _remember(self, user: str) -> None:
        for feed in ("posts", "ads"):  # the others are never edited here
            for row in await self.rows(feed, user=user):
                self._once.setdefault(name_of(row), set()).add(row["hash"])

    async def remember_all(self) -> None:
        """Note every content before anybody changes anything."""
        for feed in ("posts", "ads"):
            for row in await self._all(feed):
                self._once.setdefault(name_of(row), set()).add(row["hash"])

    async def truth(self) -> tuple[list[Row], float]:
        """Give all rows as the checker takes them, with their histories, and the world's time."""
        found: list[Row] = []
        for feed in self._feeds.values():
            if feed.edge:
                found += await self._all(feed.feed)
        now = float((await self._stack.graph.get("/__sim/clock"))["now"])
        for row in found:
            if row["feed"] in ("posts", "ads"):
                row["history"] = sorted(self._once.get(name_of(row), ()))
        return found, now

    async def _all(self, feed: str) -> list[Row]:
        """Ask user by user: one answer over a large world would keep its simulator from everybody else."""
        return [row for user in self.users for row in await self.rows(feed, user=user)]

    async def rows(self, feed: str, user: str = "") -> list[Row]:
        """Give the truth of one feed, of all users or one."""
        checked = self._feeds[feed]
        query: dict[str, str | int] = {"user": user} if user else {}
        if checked.source == "rest":
            rows = (await self._stack.rest.get("/__sim/truth", **query))["rows"]
            return [{**row, "feed": feed, "edge": feed} for row in rows]
        query |= {"edge": checked.edge, "fields": checked.fields}
        if checked.edge == "insights":
            query["since"] = 0
        answer = await self._stack.graph.get("/__sim/truth", **query)
        rows = [{**row, "feed": feed} for row in answer["rows"]]
        if checked.edge == "insights":  # today's numbers still change
            today = int(answer["now"]) // DAY_SECONDS * DAY_SECONDS
            return [row | {"visible": row["visible"] and row["created"] < today} for row in rows]
        if checked.edge == "accounts":  # the truth lists pages under their user; the feed's scope is the page
            return [row | {"scope": row["id"], "edge": feed} for row in rows]
        return rows


def name_of(row: Row) -> Name:
    """Name an item."""
    return (row["feed"], str(row["user"]), str(row["scope"]), str(row["id"]))
