"""Operating the whole box: what a person asks of it, through the functions host and the command line."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from infra.local.run.places import Places, free_ports
from infra.local.run.stack import Stack, Wanted
from pipeline.storage.tokens import new_key
from tests.end_to_end.box import AT_A_DESK, Box, until
from tests.end_to_end.browser import browser, chromium

USERS, POSTS = 4, 40


def _stack(folder: Path) -> Stack:
    places = Places(folder, free_ports())
    settings = {
        **AT_A_DESK,
        "FEEDS_ENABLED": "posts",
        "TOKEN_KEY": new_key(),
        "SERVICEBUS_CONTROL_URL": places.control_url,
    }
    graph = ["--users", str(USERS), "--posts", str(POSTS), "--seed", "3", "--time-scale", "60"]
    return Stack(places, Wanted(graph=graph, rest=None, settings=settings, lock_seconds=15))


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(120)
async def test_status_health_and_doctor_tell_the_truth_of_a_running_box(tmp_path: Path) -> None:
    """The page, the monitor and the command line must agree with what really happened, over real HTTP and AMQP."""
    chromium()
    stack = _stack(tmp_path)
    address = f"{stack.places.host_url}/api"
    try:
        await stack.start()
        await Box(stack).import_users()
        await stack.product.run("mine", "posts")

        async def mined() -> bool:
            posts = (await stack.status())["feeds"][0]
            return bool((posts["items"], posts["complete"]) == (USERS * POSTS, USERS))

        await until(mined, seconds=40, what="every post is counted and every scope complete")
        status = await stack.status()
        async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
            health = await client.get(f"{address}/health")
        doctor = json.loads(await stack.product.run("doctor", "--json", answer_codes=(0, 1)))
        async with browser() as chrome:
            await chrome.open(f"{address}/status")
            text = await chrome.ask("document.body.innerText")
    finally:
        await stack.stop()

    posts = status["feeds"][0]
    assert (posts["scopes"], posts["gaps"]) == (USERS, 0)
    assert status["queues_known"]
    assert "raw-storage-queue-local" in {queue["queue"] for queue in status["queues"]}
    assert health.status_code == 200, health.text
    assert doctor["ok"], doctor
    assert {one["what"]: one["state"] for one in doctor["findings"]}["bus"] == "ok"
    assert f"{USERS} of {USERS}" in text
    assert chrome.complaints == []
