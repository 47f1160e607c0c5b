"""Reports, ordered from the simulator and read to the last row."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from pipeline.feeds.ads_clicks import FEED
from pipeline.sources.base import Fault, Page, PageRequest, Pending
from tests.contract.sources.simulators import Simulation, graph

DAY = 86_400
MAX_STEPS = 400


async def report(simulation: Simulation, asked: PageRequest) -> tuple[list[Any], int]:
    """Follow a report to its last row as a miner does; gives the rows and how many runs it took."""
    rows: list[Any] = []
    runs: set[str] = set()
    for _ in range(MAX_STEPS):
        answer = await simulation.source.fetch(replace(asked, now=int(time.time() * 1_000_000)))
        if isinstance(answer, Page):
            rows += answer.items
            if answer.cursor is None:
                return rows, len(runs)
        elif isinstance(answer, Pending):
            if answer.cursor is None:
                rows = []
            else:
                runs.add(answer.cursor.split(":")[1])
        await asyncio.sleep(0 if isinstance(answer, Page) else answer.wait)
        if not isinstance(answer, Fault):
            asked = replace(asked, cursor=answer.cursor)
    raise AssertionError("the report never ended")


async def ordered(simulation: Simulation) -> tuple[PageRequest, set[tuple[str, str]]]:
    """A request for ten days of an ad account, and the truth about them."""
    account = await simulation.account()
    hi = int(time.time()) // DAY * DAY
    lo = hi - 10 * DAY
    truth = await simulation.control("GET", f"truth?edge=insights&scope={account}&since={lo}&until={hi - 1}&items=1")
    expected = {(row["item"]["ad_id"], row["item"]["date_start"]) for row in truth["rows"]}
    request = simulation.request(feed=replace(FEED, page_limit=5), scope=account, limit=5, window=(lo, hi))
    return request, expected


@pytest.mark.parametrize(
    ("faults", "runs"),
    [
        ([], 1),
        ([{"kind": "job_not_ready", "times": 1}], 1),
        ([{"kind": "job_100_running", "polls": 3, "times": 1}], 1),
        ([{"kind": "job_fail", "times": 1}], 2),
        ([{"kind": "job_stuck", "times": 1}], 2),
        ([{"kind": "result_error", "times": 4}], 1),
        ([{"kind": "html500", "times": 2}, {"kind": "throttle", "code": 80000, "times": 1}], 1),
        ([{"kind": "invalid_cursor", "times": 1}], 2),
    ],
)
async def test_a_report_is_read_to_its_last_row_whatever_happens_to_it(faults, runs):
    """Clicks are money; a report read too early or only in part looks like a good one."""
    # on a busy machine answers come late, and a report that seems to hang is made anew: quick retries alone take 0.75 s
    async with graph(read_timeout=2.0, minute=0.1) as simulation:
        asked, expected = await ordered(simulation)
        await simulation.control("POST", "faults", faults)
        rows, taken = await report(simulation, asked)

    assert len(expected) > 5
    assert {(row["ad_id"], row["date_start"]) for row in rows} == expected
    assert taken == runs
