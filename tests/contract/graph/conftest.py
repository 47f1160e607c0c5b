"""A small world on a free port, and a reader that knows only the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from infra.local.graph import GraphSimulator, Options, Shape, running

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MOST_PAGES = 200


@dataclass
class Reader:
    """Calls the simulator as one user."""

    client: httpx.AsyncClient
    graph: GraphSimulator
    token: str = "tok-0"

    async def get(self, path: str, **params: object) -> httpx.Response:
        """Call with the token in the header."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return await self.client.get(path, params={k: str(v) for k, v in params.items()}, headers=headers)

    async def walk(self, path: str, **params: object) -> list[Any]:
        """Collect an edge by its cursors until `next` is absent."""
        items: list[Any] = []
        for _ in range(MOST_PAGES):
            response = await self.get(path, **params)
            assert response.status_code == 200, response.text
            page = response.json()
            items += page["data"]
            if "next" not in page.get("paging", {}):
                return items
            params["after"] = page["paging"]["cursors"]["after"]
        raise AssertionError("the edge has no end")

    async def control(self, method: str, path: str, body: object = None, **query: object) -> Any:
        """Make a control call that must be accepted."""
        answer = await self.client.request(
            method, f"/__sim/{path}", json=body, params={k: str(v) for k, v in query.items()}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def fault(self, kind: str, **options: object) -> Any:
        """Put a fault in force."""
        return await self.control("POST", "faults", {"kind": kind, **options})

    async def expected(self, edge: str = "posts", **query: object) -> set[str]:
        """Ask the truth for the ids that a reader should have."""
        return set((await self.control("GET", "truth", edge=edge, user=0, **query))["expected"])


SMALL = Options(shape=Shape(users=2, posts=120, pages=1, ads=12, comments=2), now=NOW, time_scale=60)


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    async with running(SMALL) as graph, httpx.AsyncClient(base_url=graph.url) as client:
        yield Reader(client, graph)
