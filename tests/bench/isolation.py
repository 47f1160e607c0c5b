"""
What three users in trouble (throttled, poisoned, looping) cost everybody else.

Two arms, alternately: the others alone, and the others with the three. The ratio is the others' pages per second with
them to without them; the goal is 0.9. Calls are counted too, because they do not depend on the machine.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.end_to_end.box import Box, running_box

USERS, POSTS, RUNS = 33, 1200, 3
THROTTLED, POISONED, LOOPING = TROUBLED = tuple(str(10_000_000 + number) for number in (0, 11, 22))
SECONDS = 120
GOAL = 0.9
LATENCY_SECONDS = 0.1
"""Every call takes so long, as an API's do; without it a run would measure the simulator."""


class Arm(NamedTuple):
    """One run. `calls_of_others` and `calls_of_troubled` are up to the moment when the others were complete."""

    pages: int
    seconds: float
    calls_of_others: int
    calls_of_troubled: int
    troubled_complete: bool
    text: str


async def arm(folder: Path, *, troubled: bool, users: int = USERS, posts: int = POSTS) -> Arm:
    """Mine everything of the others, with or without the three, until the subscriber holds all of theirs."""
    graph = ["--users", str(users), "--posts", str(posts), "--seed", "7", "--time-scale", "60"]
    settings = {"FEEDS_ENABLED": "posts", "PAGES_PER_MESSAGE": "2"}
    async with running_box(folder, graph=graph, settings=settings) as box:
        everybody = [user["id"] for user in (await box.stack.graph.get("/__sim/world"))["users"]]
        others = [user for user in everybody if user not in TROUBLED]
        await box.faults({"kind": "slow", "seconds": LATENCY_SECONDS})
        if troubled:
            await _trouble(box)
        await box.import_users(*(everybody if troubled else others))
        started = time.monotonic()
        await box.stack.product.run("mine", "posts")
        verdict = await box.until_equal("posts", "posts", seconds=SECONDS, leave_out=TROUBLED)
        seconds = time.monotonic() - started
        calls = (await box.stack.graph.get("/__sim/calls"))["by_user"]
        done = troubled and (await box.verdict("posts", "posts", leave_out=others)).matched
        return Arm(
            pages=len(others) * -(-posts // 100) if verdict.matched else 0,
            seconds=seconds,
            calls_of_others=sum(calls.get(user, 0) for user in others),
            calls_of_troubled=sum(calls.get(user, 0) for user in TROUBLED),
            troubled_complete=done,
            text=verdict.text(),
        )


async def _trouble(box: Box) -> None:
    await box.faults(
        {"kind": "throttle", "user": THROTTLED, "edge": "published_posts", "code": 32, "minutes": 1},
        {"kind": "malformed_item", "user": POISONED, "share": 0.2, "how": "created_junk"},
        {"kind": "repeat_cursor", "user": LOOPING, "k": 1},
    )


def measure(*, runs: int = RUNS) -> dict[str, Any]:
    """Give the median ratio of the others' pages per second, with them to without them."""
    alone, beside = [], []
    for _ in range(runs):
        alone.append(_run(troubled=False))
        beside.append(_run(troubled=True))
    ratios = [with_them.pages / with_them.seconds / (one.pages / one.seconds)
              for one, with_them in zip(alone, beside, strict=True)]  # fmt: skip
    return {
        "ratio": round(statistics.median(ratios), 3),
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
        "goal": GOAL,
        "calls_of_others": [[one.calls_of_others for one in arms] for arms in (alone, beside)],
        "calls_of_troubled": [one.calls_of_troubled for one in beside],
        "seconds": [[round(one.seconds, 2) for one in arms] for arms in (alone, beside)],
    }


def _run(*, troubled: bool) -> Arm:
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(arm(Path(folder), troubled=troubled))
    if not found.pages:
        raise RuntimeError(f"the others were not complete within {SECONDS} s: {found.text}")
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(runs=int(sys.argv[1]) if len(sys.argv) > 1 else RUNS), indent=2) + "\n")
