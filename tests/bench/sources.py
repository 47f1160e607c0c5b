"""
What a page costs: processor time per page of 100 items (fetch, parse, validate), beside bare loops in the same run.

`measure()` takes about ten seconds. The server is a process of its own that writes one prebuilt answer, so that it
bounds nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import httpx
import orjson
from pydantic import SecretStr
from yarl import URL

from pipeline.feeds.posts import FEED
from pipeline.sources import build_source
from pipeline.sources.base import Page, PageRequest, SourceOptions, Token
from tests.fakes import MemoryBudget

PAGES = 200
"""Pages per contestant and round."""
ROUNDS = 3
WORKERS = 16
"""As many as a Functions worker handles at a time."""
PATH = "/v26.0/1000/published_posts?limit=100&fields=id,created_time"
HEADERS = {"Authorization": "Bearer token"}

Call = Callable[[int], Awaitable[None]]


def measure(*, pages: int = PAGES, rounds: int = ROUNDS) -> dict[str, object]:
    """Give milliseconds of processor time per page for the source and for bare loops; the ratio is the benchmark."""
    with _server() as base:
        return asyncio.run(_measure(base, pages, rounds))


async def _measure(base: str, pages: int, rounds: int) -> dict[str, object]:
    options = SourceOptions(base_url=base, version="v26.0")
    source = build_source("graph", options, MemoryBudget())
    shards = _httpx_clients(10, 5)
    (alone,) = _httpx_clients(1, 8)
    bare = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=WORKERS))

    async def ours(worker: int) -> None:
        page = await source.fetch(_request(worker))
        assert isinstance(page, Page)
        _validate(page.items)

    async def by_httpx(worker: int) -> None:
        _validate((await alone.get(base + PATH, headers=HEADERS)).json()["data"])

    async def by_httpx_unread(worker: int) -> None:
        (await alone.get(base + PATH, headers=HEADERS)).json()

    async def by_shards(worker: int) -> None:
        _validate(orjson.loads((await shards[worker % 10].get(base + PATH, headers=HEADERS)).content)["data"])

    async def by_aiohttp(worker: int) -> None:
        async with bare.get(URL(base + PATH, encoded=True), headers=HEADERS) as answer:
            _validate(orjson.loads(await answer.read())["data"])

    contestants: dict[str, Call] = {
        "source": ours,
        "bare_httpx_pool_8": by_httpx,
        "bare_httpx_pool_8_without_validation": by_httpx_unread,
        "bare_httpx_10_pools_of_5": by_shards,
        "bare_aiohttp": by_aiohttp,
    }
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            taken[name].append(await _cost(call, pages))
    for client in (*shards, alone):
        await client.aclose()
    await bare.close()
    await source.close()
    median = {name: round(statistics.median(times), 3) for name, times in taken.items()}
    return {
        "cpu_ms_per_page": median,
        "source_to_bare_httpx": round(median["source"] / median["bare_httpx_pool_8"], 2),
        "items_per_page": 100,
        "body_bytes": len(_body()),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }


async def _cost(call: Call, pages: int) -> float:
    """Milliseconds of this process's time per call, with `WORKERS` calls at a time."""
    left = iter(range(pages))

    async def work(worker: int) -> None:
        for _ in left:
            await call(worker)

    await asyncio.gather(*(call(worker) for worker in range(WORKERS)))  # connections are opened before the clock runs
    started = time.process_time()
    await asyncio.gather(*(work(worker) for worker in range(WORKERS)))
    return (time.process_time() - started) / pages * 1000


def _request(worker: int) -> PageRequest:
    token = Token(SecretStr("token"), 1)
    return PageRequest(feed=FEED, user_id=str(worker), scope="1000", token=token, limit=100, cursor="QVFI")


def _validate(items: Any) -> None:
    for item in items:
        FEED.item.model_validate(item)


def _httpx_clients(count: int, size: int) -> list[httpx.AsyncClient]:
    context = ssl.create_default_context()
    limits = httpx.Limits(max_connections=size, max_keepalive_connections=size)
    return [httpx.AsyncClient(verify=context, limits=limits, timeout=30) for _ in range(count)]


@contextmanager
def _server() -> Iterator[str]:
    command = [sys.executable, "-m", "tests.bench.sources", "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


class _Prebuilt(asyncio.Protocol):
    """Writes the same answer to every request."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *asked, self._read = (self._read + data).split(b"\r\n\r\n")
        for _ in asked:
            self._transport.write(self._answer)


async def _serve() -> None:
    body = _body()
    head = (
        "HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=UTF-8\r\nfacebook-api-version: v26.0\r\n"
        'x-app-usage: {"call_count":28,"total_time":25,"total_cputime":25}\r\n'
        f"content-length: {len(body)}\r\n\r\n"
    )
    server = await asyncio.get_running_loop().create_server(lambda: _Prebuilt(head.encode() + body), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def _body() -> bytes:
    """A page of 100 posts of some 1.1 KB each."""
    text = "the quick brown fox jumps over the lazy dog, and again, "
    items = [
        {
            "id": f"1000_{number}",
            "created_time": "2026-01-01T00:00:00+0000",
            "updated_time": "2026-01-02T00:00:00+0000",
            "message": text * 12,
            "permalink_url": f"https://www.facebook.com/1000/posts/{number}",
            "status_type": "mobile_status_update",
            "from": {"id": "1000", "name": "Page 0"},
            "shares": {"count": number},
            "comments": {"data": [], "summary": {"order": "chronological", "total_count": 4, "can_comment": False}},
            "reactions": {"data": [], "summary": {"total_count": 11, "viewer_reaction": "NONE"}},
        }
        for number in range(100)
    ]
    paging = {"cursors": {"before": "QVFIa", "after": "QVFIb"}, "next": "https://graph.facebook.com/v26.0/1000/posts"}
    return orjson.dumps({"data": items, "paging": paging})


if __name__ == "__main__":
    if "--serve" in sys.argv:
        asyncio.run(_serve())
    else:
        print(json.dumps(measure(), indent=2))
