"""The simulators, each in the running loop on a free port, with what a test needs to know about them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
from pydantic import SecretStr

from infra.local.graph import simulator
from infra.local.graph.seeded import Shape
from infra.local.rest import simulator as rest_simulator
from pipeline.feeds.base import Feed
from pipeline.feeds.posts import FEED as POSTS
from pipeline.feeds.transactions import FEED as TRANSACTIONS
from pipeline.sources import build_source
from pipeline.sources.base import Budget, PageRequest, Source, SourceOptions, Token
from tests.fakes import MemoryBudget

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
    minute: float = MINUTE_SECONDS
    """How long the API's minute lasts."""

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

    async def rotate(self) -> tuple[Token, Token]:
        """Give a token that is dead now and one that lives."""
        if self.name == "rest":
            return Token(SecretStr("key-of-nobody"), 1), self.token
        found = await self.control("POST", f"users/{self.user_id}/token", {"action": "rotate"})
        return self.token, Token(SecretStr(found["token"]), 2)

    async def change(self, what: str) -> None:
        """Create an item, or delete the newest, oldest or middle one."""
        if what == "create":
            await self.control("POST", "mutate", {"do": "create", "user": self.user_id})
            return
        rows = (await self.control("GET", f"truth?user={self.user_id}"))["rows"]
        left = sorted((row["created"], row["id"]) for row in rows if not row["deleted"])
        if left:
            place = {"delete newest": -1, "delete oldest": 0, "delete middle": len(left) // 2}[what]
            await self.control("POST", "mutate", {"do": "delete", "user": self.user_id, "id": left[place][1]})

    async def account(self) -> str:
        """The user's first ad account."""
        world = await self.control("GET", f"world?user={self.user_id}")
        return str(world["users"][0]["ad_accounts"][0]["id"])

    async def calls(self) -> dict[str, Any]:
        """The call log's counters, the log included."""
        found: dict[str, Any] = await self.control("GET", "calls?log=1")
        return found


@asynccontextmanager
async def graph(
    *,
    posts: int = 60,
    limit: int = 10,
    proof: bool = False,
    minute: float = MINUTE_SECONDS,
    budget: Budget | None = None,
    **options: Any,
) -> AsyncIterator[Simulation]:
    """A Graph API with two users, a page each and some posts."""
    simulated = simulator.Options(
        shape=Shape(users=2, posts=posts, pages=1, ads=3, comments=1),
        time_scale=60.0 / minute,
        proof_required=proof,
    )
    async with simulator.running(simulated) as graph_api, aiohttp.ClientSession() as session:
        base_url = graph_api.url
        async with session.get(f"{base_url}/__sim/world") as answer:
            user, other = (await answer.json())["users"]
        values = {"read_timeout": 0.2, "total_timeout": 3.0, "minute_seconds": minute, **options}
        source = build_source(
            "graph",
            SourceOptions(base_url=base_url, version="v26.0", **values),
            budget or MemoryBudget(minute_seconds=minute),
        )
        try:
            simulation = Simulation(
                name="graph",
                base_url=base_url,
                source=source,
                feed=replace(POSTS, page_limit=limit),
                user_id=user["id"],
                scope=user["pages"][0]["id"],
                token=Token(SecretStr(user["token"]), 1),
                session=session,
                others=[(other["id"], other["pages"][0]["id"], Token(SecretStr(other["token"]), 1))],
                minute=minute,
            )
            yield simulation
        finally:
            await source.close()


@asynccontextmanager
async def rest(
    *,
    items: int = 120,
    limit: int = 25,
    limited: bool = False,
    minute: float = MINUTE_SECONDS,
    budget: Budget | None = None,
    **options: Any,
) -> AsyncIterator[Simulation]:
    """A REST API with two users; `limited` to fewer calls a minute than a listing takes."""
    simulated = rest_simulator.Options(
        users=2, transactions=items, calls_per_minute=3 if limited else 0, time_scale=600.0 if limited else 1.0
    )
    async with rest_simulator.running(simulated) as rest_api, aiohttp.ClientSession() as session:
        async with session.get(f"{rest_api.url}/__sim/world") as answer:
            user, other = (await answer.json())["users"]
        values = {"read_timeout": 0.2, "total_timeout": 3.0, "minute_seconds": minute, **options}
        source = build_source(
            "rest", SourceOptions(base_url=rest_api.url, **values), budget or MemoryBudget(minute_seconds=minute)
        )
        try:
            yield Simulation(
                name="rest",
                base_url=rest_api.url,
                source=source,
                feed=replace(TRANSACTIONS, page_limit=limit),
                user_id=user["id"],
                scope=user["id"],
                token=Token(SecretStr(user["key"]), 1),
                session=session,
                others=[(other["id"], other["id"], Token(SecretStr(other["key"]), 1))],
                minute=minute,
            )
        finally:
            await source.close()
