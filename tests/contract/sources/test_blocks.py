"""Every kind of budget, used up until the listing is read: who calls, and when (`blocks.py` says what is allowed)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from pipeline.feeds.ads import FEED as ADS
from pipeline.sources.base import FaultKind, PageRequest
from pipeline.sources.http import Answer
from tests.contract.sources import blocks, simulators
from tests.contract.sources.blocks import Heard
from tests.contract.sources.collecting import collect
from tests.contract.sources.simulators import Simulation
from tests.contract.sources.test_graph_reports import ordered

MINUTE = 0.004
SLOW_MINUTE = 0.1
"""The others wait a minute for the one that finds out: it has to be longer than a call on a busy machine."""


@dataclass(frozen=True)
class Case:
    """A budget, and a listing that needs more calls than it allows."""

    feed: str
    limit: tuple[str, Any] | None
    """What to send to which control endpoint; None: a few calls a minute, from the start."""


async def _posts(simulation: Simulation) -> PageRequest:
    return simulation.request()


async def _ads(simulation: Simulation) -> PageRequest:
    return simulation.request(feed=replace(ADS, page_limit=1), scope=await simulation.account(), limit=1)


async def _clicks(simulation: Simulation) -> PageRequest:
    request, _ = await ordered(simulation)
    return request


REQUESTS: dict[str, Callable[[Simulation], Awaitable[PageRequest]]] = {
    "posts": _posts, "ads": _ads, "ads_clicks": _clicks, "transactions": _posts,
}  # fmt: skip
TOLD = {
    "page": Case("posts", ("budgets", {"page": 3})),
    "ad_account": Case("ads", ("budgets", {"ad_account": 2})),
    "insights": Case("ads_clicks", ("budgets", {"insights": 3})),
    "calls a minute": Case("transactions", None),
    "retry-after": Case("transactions", ("faults", {"kind": "throttle", "retry_after": 1, "times": 1})),
}
GUESSED = {
    "app": Case("posts", ("budgets", {"app": 3})),
    "app, of ads": Case("ads", ("budgets", {"app": 2})),
    "user": Case("posts", ("budgets", {"user": 3})),
    "429 alone": Case("transactions", ("faults", {"kind": "throttle", "retry_after": 1, "silent": True, "times": 1})),
}


@asynccontextmanager
async def used_up(case: Case, minute: float = MINUTE) -> AsyncIterator[tuple[Simulation, PageRequest]]:
    """An API that allows too few calls for what is asked of it."""
    rest = partial(simulators.rest, limited=case.limit is None)
    make: Callable[..., AbstractAsyncContextManager[Simulation]] = (
        rest if case.feed == "transactions" else simulators.graph
    )
    async with make(minute=minute, read_timeout=1.0) as simulation:
        if case.limit:
            await simulation.control("POST", *case.limit)
        yield simulation, await REQUESTS[case.feed](simulation)


async def read(case: Case, minute: float = MINUTE) -> tuple[blocks.Findings, dict[str, Any]]:
    """Read all there is; gives what the oracle says and the API's own count."""
    async with used_up(case, minute) as (simulation, request):
        with blocks.wire() as heard:
            found = await collect(simulation.source, request)
        log = await simulation.calls()
    assert found.items
    assert any(fault.kind is FaultKind.THROTTLED for fault in found.faults)
    return blocks.judge(heard, blocks.DRAWS[case.feed], minute=simulation.minute), log


@pytest.mark.parametrize("kind", TOLD)
async def test_no_call_is_made_while_a_block_runs_whose_end_was_told(kind):
    """Each one would lengthen the block; and waiting as told is enough in the end."""
    findings, log = await read(TOLD[kind])

    assert findings.too_early == []
    assert log["while_blocked"] == 0


@pytest.mark.parametrize("kind", GUESSED)
async def test_a_block_whose_end_was_not_told_is_met_only_as_often_as_the_rule_allows(kind):
    """The app's hour says nothing of its end: three calls find out, not one every five minutes, nor each chain's."""
    findings, log = await read(GUESSED[kind])

    assert findings.too_early == []
    assert 0 < log["while_blocked"] <= sum(count for _, _, count in findings.met)
    for _, minutes, count in findings.met:
        assert count <= blocks.allowed(minutes)


async def test_an_outage_says_nothing_about_a_block():
    """
    The call that was to find out met something broken: the pauses go on growing, for the block may still run.

    Its quick retry comes within a quarter of a real second. It has to fall into the block, and into the hour for which
    a pause is remembered.
    """
    faults = [
        {"kind": "throttle", "retry_after": 1.0, "silent": True, "times": 1},
        {"kind": "error500", "times": 1, "after_calls": 1},
    ]
    findings, log = await read(Case("transactions", ("faults", faults)), minute=simulators.MINUTE_SECONDS)

    assert findings.too_early == []
    assert findings.in_vain == 1
    assert 0 < log["while_blocked"] <= findings.unknowable


def test_a_pause_is_remembered_for_an_hour_however_long_an_outage_keeps_a_call():
    """The oracle itself: what tells nothing of a budget must not keep its pause in mind."""
    refused = Answer(400, {}, b'{"error": {"code": 17}}')
    calls = [Heard(0, 0.1, refused), Heard(5.2, 250, None), Heard(290, 290.5, refused), Heard(296, 297, None)]

    def judged(heard: list[Heard]) -> list[str]:
        return blocks.judge(heard, frozenset({"user"}), minute=1.0).too_early

    assert judged(calls) == []
    assert judged([*calls[:3], Heard(294.5, 295, None)]) == ["user: 1.00 minutes before its block's end"]
    assert judged([calls[0], Heard(5.2, 6, refused), Heard(11.5, 12, None)]) == [
        "user: 4.50 minutes before its block's end"
    ]


def test_a_budget_that_is_said_to_be_used_but_not_up_is_no_longer_blocked():
    """The oracle itself: such a word counts, whichever budget refused the call."""
    full, used = {"x-app-usage": '{"call_count": 100}'}, {"x-app-usage": '{"call_count": 90}'}
    by_user = b'{"error": {"code": 17}}'
    calls = [Heard(0, 0.1, Answer(200, full, b"{}")), Heard(5.2, 5.3, Answer(400, used, by_user))]
    again = [Heard(10.5, 10.6, Answer(200, full, b"{}")), Heard(15.7, 15.8, None)]

    assert blocks.judge([*calls, *again], frozenset({"app", "user"}), minute=1.0).too_early == []


async def test_of_many_workers_one_finds_out_whether_a_block_is_over():
    """Sixty thousand chains wait for the app's budget; each of them would make its block longer."""
    workers = 8
    async with simulators.graph(minute=SLOW_MINUTE, read_timeout=1.0, limit=30) as simulation:
        await simulation.control("POST", "budgets", {"app": workers + 2, "window_seconds": 20 * 60})
        with blocks.wire() as heard:
            await asyncio.gather(*(collect(simulation.source, simulation.request()) for _ in range(workers)))
        log = await simulation.calls()
    findings = blocks.judge(heard, blocks.DRAWS["posts"], minute=simulation.minute)

    under_way = workers * len(findings.met)  # when a block began, nobody could know
    assert findings.too_early == []
    assert sum(count for _, _, count in findings.met) > 0
    assert log["while_blocked"] <= findings.unknowable + under_way
    assert log["total"] - log["throttled"] == 2 * workers
