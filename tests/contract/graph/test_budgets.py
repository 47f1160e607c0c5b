"""Budgets: usage headers, throttling as HTTP 400, blocks that lengthen when called."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.contract.graph.conftest import Reader


async def test_without_a_budget_there_is_no_usage_header(reader: Reader):
    """Near zero the API leaves the headers out; a client must not need them."""
    answer = await reader.get("/1000/posts")

    assert not [name for name in answer.headers if "usage" in name or "throttle" in name]


@pytest.mark.parametrize(
    ("kind", "path", "code", "header"),
    [
        ("app", "/1000/posts", 4, "x-app-usage"),
        ("user", "/1000/posts", 17, ""),
        ("page", "/1000/posts", 32, "x-business-use-case-usage"),
        ("ad_account", "/act_500/ads", 80004, "x-ad-account-usage"),
        ("insights", "/act_500/insights", 80000, "x-fb-ads-insights-throttle"),
    ],
)
async def test_a_spent_budget_is_a_400_with_its_code_and_headers(
    reader: Reader, kind: str, path: str, code: int, header: str
):
    """The API throttles with 400 and a code and never says Retry-After."""
    await reader.control("POST", "budgets", {kind: 3})
    good = [await reader.get(path, limit=5) for _ in range(3)]

    bad = await reader.get(path, limit=5)

    assert [answer.status_code for answer in good] == [200, 200, 200]
    assert (bad.status_code, bad.json()["error"]["code"]) == (400, code)
    assert "retry-after" not in bad.headers
    assert not header or header in good[0].headers.keys() & bad.headers.keys()


async def test_a_page_token_is_throttled_by_its_use_case(reader: Reader):
    """With a page's token the same budget is code 80001, with minutes to wait."""
    await reader.control("POST", "budgets", {"page": 1})
    reader.token = "tok-0-page-1000"
    await reader.get("/1000/posts")

    bad = await reader.get("/1000/posts")

    (usage,) = json.loads(bad.headers["x-business-use-case-usage"])["1000"]
    assert bad.json()["error"]["code"] == 80001
    assert usage["type"] == "pages"
    assert usage["call_count"] > 100
    assert 59 <= usage["estimated_time_to_regain_access"] <= 61


async def test_calling_while_blocked_lengthens_the_block_and_is_counted(reader: Reader):
    """'When the limit has been reached, stop making API calls': the log proves who did not."""
    await reader.control("POST", "budgets", {"app": 1})
    for _ in range(2):
        await reader.get("/me")
    before = (await reader.control("GET", "budgets"))["budgets"][0]["blocked_for_seconds"]
    for _ in range(4):
        await reader.get("/1000/posts")

    after = (await reader.control("GET", "budgets"))["budgets"][0]["blocked_for_seconds"]

    calls = await reader.control("GET", "calls")
    assert after > before
    assert (calls["while_blocked"], calls["throttled"]) == (4, 5)


async def test_a_block_ends_when_its_hint_says(reader: Reader):
    """Waiting as told must be enough, or every client would look guilty."""
    await reader.control("POST", "budgets", {"page": 2})
    for _ in range(3):
        last = await reader.get("/1000/posts")
    minutes = json.loads(last.headers["x-business-use-case-usage"])["1000"][0]["estimated_time_to_regain_access"]

    await reader.control("POST", "clock", {"advance": minutes * 60})

    assert (await reader.get("/1000/posts")).status_code == 200
    assert (await reader.control("GET", "calls"))["while_blocked"] == 0


async def test_a_short_window_makes_short_blocks(reader: Reader):
    """Property tests must meet throttles and outlive them within a second."""
    await reader.control("POST", "budgets", {"user": 2, "window_seconds": 12})
    statuses = [(await reader.get("/me")).status_code for _ in range(3)]

    wait = (await reader.control("GET", "budgets"))["budgets"][0]["blocked_for_seconds"]
    await asyncio.sleep(wait + 0.01)

    assert statuses == [200, 200, 400]
    assert wait < 0.25
    assert (await reader.get("/me")).status_code == 200


async def test_prebuilt_pages_are_charged_too(reader: Reader):
    """The fast path may not be a free ride."""
    await reader.control("POST", "budgets", {"app": 50})
    answers = [await reader.get("/1000/posts", limit=2) for _ in range(51)]

    assert [answer.status_code for answer in answers] == [200] * 50 + [400]
    assert json.loads(answers[49].headers["x-app-usage"])["call_count"] == 100


async def test_ids_cost_a_call_each(reader: Reader):
    """`?ids=` saves round trips, not quota."""
    await reader.control("POST", "budgets", {"app": 3})
    await reader.get("/", ids="1000,act_500")

    assert (await reader.get("/", ids="1000,act_500")).status_code == 400
