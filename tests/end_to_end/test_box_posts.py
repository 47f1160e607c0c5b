"""Posts from tick to topic in the whole box, under crashes and a hostile API."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.box import Box, running_box

USERS, POSTS, KILLS = 50, 400, 6
DEAD_TOKEN, THROTTLED, POISONED, LOOPING = (str(10_000_000 + number) for number in (3, 5, 7, 9))
TROUBLED = (DEAD_TOKEN, THROTTLED, POISONED, LOOPING)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_posts_survive_killed_workers_and_a_hostile_api(tmp_path: Path) -> None:
    """
    What the project exists for: whatever dies or misbehaves, nothing is lost, nothing comes twice, nobody else waits.

    The troubled users stay troubled until everybody else is complete; then the API heals.
    """
    graph = ["--users", str(USERS), "--posts", str(POSTS), "--seed", "7", "--time-scale", "60"]
    async with running_box(tmp_path, graph=graph, settings={"FEEDS_ENABLED": "posts"}) as box:
        poison = await _make_trouble(box)
        await box.import_users()

        async with box.killing_workers(seed=7, times=KILLS, pause=(2.0, 4.0)):
            await box.stack.product.run("mine", "posts")
            others = await box.until_equal("posts", "posts", seconds=70, leave_out=TROUBLED)
        assert others.matched, others.text()
        calls_of_the_dead = await box.calls(DEAD_TOKEN)
        assert poison not in {key.item for key in box.delivered.latest}

        await _heal(box, poison)
        everyone = await box.until_equal("posts", "posts", seconds=40)

        assert everyone.matched, everyone.text()
        assert everyone.expected == USERS * POSTS
        code, said = await box.checked("posts", "posts")
        assert code == 0, said
        assert await box.calls(DEAD_TOKEN) > calls_of_the_dead
        assert box.kills >= KILLS // 2
        assert (await box.stack.graph.get("/__sim/calls"))["token_in_query"] == 0
        assert await box.dead_letters() == {}


async def _make_trouble(box: Box) -> str:
    """Put the faults in force; gives the id of the item that the API spoils."""
    truth = await box.stack.graph.get("/__sim/truth", user=POISONED, edge="posts")
    poison = str(truth["rows"][10]["id"])
    await box.faults(
        {"kind": "token_expires_after", "user": DEAD_TOKEN, "calls": 2},
        {"kind": "throttle", "user": THROTTLED, "edge": "published_posts", "code": 32, "minutes": 2, "times": 5},
        {"kind": "malformed_item", "user": POISONED, "ids": [poison], "how": "created_junk"},
        {"kind": "repeat_cursor", "user": LOOPING, "k": 1},
        {"kind": "html500", "rate": 0.03, "seed": 1},
        {"kind": "reset", "rate": 0.02, "seed": 2},
        {"kind": "slow", "seconds": 0.3},
    )
    return poison


async def _heal(box: Box, poison: str) -> None:
    """The API behaves again; the dead token's user gives a new one; a person orders the poisoned user's time anew."""
    await box.heal()
    await box.stack.graph.send("POST", f"/__sim/users/{DEAD_TOKEN}/token", {"action": "rotate"})
    await box.import_users(DEAD_TOKEN)
    await box.stack.product.run("mine", "posts", "--user", POISONED, "--since", "366d")
