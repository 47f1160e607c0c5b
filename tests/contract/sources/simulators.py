"""The simulators, each in the running loop on a free port, with what a test needs to know about them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from pydantic import SecretStr

from infra.local.graph import simulator
from infra.local.graph.seeded import Shape
from pipeline.feeds.base import Feed
from pipeline.feeds.posts import FEED as POSTS
from pipeline.sources import build_source
from pipeline.sources.base import PageRequest, Source, SourceOptions, Token
from pipeline.sources.budget import MemoryBudget

MINUTE_SECONDS = 0.02
"""A block of five minutes lasts a tenth of a second."""


@dataclass
class Simulation:
    """One API with a known truth, and a source that calls it."""

    name: str
    base_url: str
    source: Source
    feed: Feed
    user_id: str
    scope: str
    token: Token
    session: aiohttp.ClientSession
    others: list[tuple[str, str, Token]]
    """Further users: id, scope, token."""

    def request(self, **more: Any) -> PageRequest:
        """The first page of the user's listing."""
        values: dict[str, Any] = {
            "feed": self.feed,
            "user_id": self.user_id,
            "scope": self.scope,
            "token": self.token,
            "limit": self.feed.page_limit,
            **more,
        }
        return PageRequest(**values)

    def other_user(self) -> PageRequest:
        """The first page of another user's listing."""
        user_id, scope, token = self.others[0]
        return self.request(user_id=user_id, scope=scope, token=token)

    async def control(self, method: str, what: str, body: Any = None) -> Any:
        """Call a control endpoint of the simulator."""
        async with self.session.request(method, f"{self.base_url}/__sim/{what}", json=body) as answer:
            found = await answer.json()
            assert answer.status == 200, found
            return found

    async def truth(self) -> set[str]:
        """The ids that the listing has now."""
        found = await self.control("GET", f"truth?user={self.user_id}")
        return {str(row["id"]) for row in found["rows"] if not row.get("deleted")}

    async def calls(self) -> dict[str, Any]:
        """The call log's counters, the log included."""
        found: dict[str, Any] = await self.control("GET", "calls?log=1")
        return found


@asynccontextmanager
async def graph(
    *, posts: int = 60, limit: int = 10, limited: bool = False, **options: Any
) -> AsyncIterator[Simulation]:
    """A Graph API with two users, a page each and some posts; `limited` to fewer calls than a listing takes."""
    simulated = simulator.Options(
        shape=Shape(users=2, posts=posts, pages=1, ads=3, comments=1), time_scale=60.0 / MINUTE_SECONDS
    )
    async with simulator.running(simulated) as graph_api, aiohttp.ClientSession() as session:
        base_url = graph_api.url
        async with session.get(f"{base_url}/__sim/world") as answer:
            user, other = (await answer.json())["users"]
        values = {"read_timeout": 0.2, "total_timeout": 3.0, "minute_seconds": MINUTE_SECONDS, **options}
        source = build_source(
            "graph",
            SourceOptions(base_url=base_url, version="v26.0", **values),
            MemoryBudget(minute_seconds=MINUTE_SECONDS),
        )
        try:
            simulation = Simulation(
                name="graph",
                base_url=base_url,
                source=source,
                feed=_smaller(POSTS, limit),
                user_id=user["id"],
                scope=user["pages"][0]["id"],
                token=Token(SecretStr(user["token"]), 1),
                session=session,
                others=[(other["id"], other["pages"][0]["id"], Token(SecretStr(other["token"]), 1))],
            )
            if limited:
                await simulation.control("POST", "budgets", {"page": 3})
            yield simulation
        finally:
            await source.close()


def _smaller(feed: Feed, limit: int) -> Feed:
    """A feed with small pages, so that few items make many calls."""
    values = {name: getattr(feed, name) for name in feed.__dataclass_fields__}
    return Feed(**{**values, "page_limit": limit})
