"""The REST source against a real server whose listing shifts between the calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from pipeline.errors import ConfigurationError
from pipeline.feeds.base import Feed, Item
from pipeline.sources.base import Fault, FaultKind, Page, PageRequest, Position, SourceOptions, Token
from pipeline.sources.rest import RestSource
from tests.fakes import MemoryBudget
from tests.unit.sources.servers import Server, answer, serving

FEED = Feed(
    name="payments", source="rest", item=Item, path="/users/{user}/payments", pages_by_time=False, page_limit=25
)
KEY = "canary-key-4711"
MAX_CALLS = 300


class Listing:
    """A listing, newest first, and what happens to it before each call."""

    def __init__(self, ids: Sequence[int], changes: Sequence[Callable[[list[int]], None]] = ()) -> None:
        self.ids = list(ids)
        self._changes = list(changes)
        self.asked: list[tuple[int, int]] = []

    async def handle(self, request: web.Request) -> web.Response:
        if self._changes:
            self._changes.pop(0)(self.ids)
        page, size = int(request.query["page"]), int(request.query["per_page"])
        self.asked.append((page, size))
        start = (page - 1) * size
        items = [{"id": number, "created_at": number} for number in self.ids[start : start + size]]
        return web.json_response({"data": items, "has_more": start + size < len(self.ids)})


@asynccontextmanager
async def source_over(listing: Listing) -> AsyncIterator[RestSource]:
    app = web.Application()
    app.router.add_get("/users/{user}/payments", listing.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    source = RestSource(SourceOptions(base_url=f"http://127.0.0.1:{runner.addresses[0][1]}"), MemoryBudget())
    try:
        yield source
    finally:
        await source.close()
        await runner.cleanup()


def first(**more: Any) -> PageRequest:
    token = Token(SecretStr(KEY), 1)
    values: dict[str, Any] = {"feed": FEED, "user_id": "u1", "scope": "u1", "token": token, "limit": 25, **more}
    return PageRequest(**values)


async def collect(source: RestSource, asked: PageRequest) -> list[int]:
    """Follow a listing as a miner does: re-seek once, then from the top."""
    collected: list[int] = []
    sought = False
    for _ in range(MAX_CALLS):
        page = await source.fetch(asked)
        if isinstance(page, Fault):
            assert page.kind is FaultKind.INVALID_CURSOR
            again = None if sought else source.reseek(asked)
            sought = True
            asked = again or replace(asked, cursor=None, after=None)
            continue
        sought = False
        collected += [item["id"] for item in page.items]
        if page.cursor is None:
            return collected
        last = Position(page.items[-1]["created_at"], str(page.items[-1]["id"])) if page.items else asked.after
        asked = replace(asked, cursor=page.cursor, after=last)
    raise AssertionError("the listing never ended")


async def test_a_quiet_listing_comes_once_and_in_order():
    """The overlap between pages is not handed on."""
    ids = list(range(200, 0, -1))
    async with source_over(Listing(ids)) as source:
        assert await collect(source, first()) == ids


def inserted(count: int) -> Callable[[list[int]], None]:
    return lambda ids: ids.__setitem__(slice(0, 0), [max(ids, default=10**6) + count - n for n in range(count)])


def deleted(place: int, count: int) -> Callable[[list[int]], None]:
    return lambda ids: ids.__delitem__(slice(place, place + count))


CHANGES = st.lists(
    st.one_of(
        st.builds(inserted, st.integers(0, 60)),
        st.builds(deleted, st.integers(0, 200), st.integers(0, 60)),
        st.just(lambda ids: None),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(CHANGES, st.integers(0, 200))
def test_what_was_there_all_the_time_is_collected_however_the_listing_shifts(changes, count):
    """Plain page numbers lose an item at each deletion between two calls, for ever and silently."""

    async def run() -> tuple[set[int], list[int]]:
        listing = Listing(range(count, 0, -1), changes)
        async with source_over(listing) as source:
            return {*listing.ids}, await collect(source, first())

    before, collected = asyncio.run(run())
    left, stayed = sorted(before, reverse=True), set(before)
    for change in changes:
        change(left)
        stayed &= set(left)

    assert stayed <= set(collected)


async def test_deletions_are_noticed_and_one_page_back_is_enough():
    """From the top would be right too, but costs all the pages read so far."""
    listing = Listing(range(100, 0, -1), [lambda ids: None, lambda ids: None, deleted(0, 10)])
    async with source_over(listing) as source:
        collected = await collect(source, first())

    assert set(range(1, 91)) <= set(collected)
    assert listing.asked.count((1, 25)) == 1


async def test_the_key_goes_in_its_header():
    """Never in the URL; the header's name differs between APIs."""
    async with serving(answer(200, '{"data": []}')) as server:
        for extra in ({}, {"key_header": "X-Other"}):
            source = rest(server, extra=extra)
            await source.fetch(first())
            await source.close()

    assert f"X-Api-Key: {KEY}" in server.requests[0]
    assert f"X-Other: {KEY}" in server.requests[1]
    assert KEY not in server.requests[0].splitlines()[0]


async def test_too_many_requests_park_the_user_for_exactly_what_the_api_says():
    """And not another user, whose key has its own budget."""
    async with serving(answer(429, "{}", retry_after="7"), answer(200, '{"data": []}')) as server:
        source = rest(server)
        found = [await source.fetch(first()), await source.fetch(first()), await source.fetch(first(user_id="u2"))]
        await source.close()

    assert isinstance(found[0], Fault)
    assert isinstance(found[1], Fault)
    assert isinstance(found[2], Page)
    assert (found[0].calls, found[1].calls) == (1, 0)
    assert 6 < found[1].wait <= found[0].wait <= 7


async def test_a_page_behind_the_end_is_a_dead_cursor_and_not_a_dead_user():
    """Some APIs answer 404 there; taken for the scope's end, it would close it."""
    async with serving(answer(404, "{}")) as server:
        source = rest(server)
        found = [await source.fetch(first()), await source.fetch(first(cursor="50:7"))]
        await source.close()

    assert [fault.kind for fault in found if isinstance(fault, Fault)] == [FaultKind.GONE, FaultKind.INVALID_CURSOR]


async def test_an_api_that_serves_smaller_pages_than_asked_halts_loudly():
    """Its pages begin elsewhere than we compute; going on would skip items."""
    async with serving(answer(200, '{"data": [], "per_page": 10, "has_more": true}')) as server:
        source = rest(server)
        fault = await source.fetch(first())
        await source.close()

    assert isinstance(fault, Fault)
    assert (fault.kind, fault.code) == (FaultKind.REFUSED, "page-size")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"id": 7, "amount": 1}, {"id": 7, "amount": 1}),
        ({"data": {"id": "7"}}, {"id": "7"}),
        ({"id": 8}, FaultKind.REFUSED),
        ([], FaultKind.REFUSED),
    ],
)
async def test_an_item_is_read_below_its_listing(body, expected):
    """A tombstone needs proof about this item."""
    async with serving(answer(200, json.dumps(body))) as server:
        source = rest(server)
        found = await source.fetch_item(FEED, "u1", "u1", "7", first().token)
        await source.close()

    assert (found.kind if isinstance(found, Fault) else found) == expected
    assert server.requests[0].startswith("GET /users/u1/payments/7 ")


async def test_discovery_names_the_feeds_mistake():
    """Nothing can be discovered here; a feed that asks for it is wrong."""
    source = RestSource(SourceOptions(base_url="http://127.0.0.1:1"), MemoryBudget())

    with pytest.raises(ConfigurationError, match="FromUser"):
        await source.discover("page", "u1", first().token)


def rest(server: Server, **more: Any) -> RestSource:
    return RestSource(SourceOptions(base_url=f"http://127.0.0.1:{server.port}", **more), MemoryBudget())
