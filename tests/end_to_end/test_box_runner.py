"""The command that newcomers run, and the one that keeps everything up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.local.run.choices import Choices
from infra.local.run.delivered import Lake, Tables, differing
from infra.local.run.places import ROOT, free_ports
from infra.local.run.progress import Picture
from infra.local.run.session import REFRESH_SECONDS, judge
from infra.local.run.stack import Stack
from infra.local.run.truth import Truth, checked_feeds
from infra.local.run.up import Up
from tests.end_to_end.box import until

RUN_SECONDS, STOP_SECONDS = 85, 20
BETWEEN_ORDERS_SECONDS = 8.0
MATCHED, BROKEN = 0, 2


async def _run(*options: str) -> tuple[int, str]:
    """Run the command without a terminal; gives its exit code and all it said."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra.local.run", "--seconds", str(RUN_SECONDS), *options,
        cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        out, _ = await asyncio.wait_for(child.communicate(), RUN_SECONDS + STOP_SECONDS)
    except BaseException:
        child.kill()
        await child.wait()
        raise
    assert child.returncode is not None
    return child.returncode, out.decode()


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_every_feed_of_a_troubled_world_ends_with_the_truth(tmp_path: Path) -> None:
    """Both sources, all kinds of feeds, faults, a killed worker, a dead token, edits and deletions: nothing differs."""
    code, said = await _run("--users", "16", "--posts", "12", "--folder", str(tmp_path / "run"))

    assert code == MATCHED, said
    assert "lost 0   twice 0   outdated 0" in said
    assert "was killed (-9)" in said
    assert "has a new token" in said
    assert "analytics tables and lake agree   in quarantine 1 (the API spoils 1)   dead letters 0" in said


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_world_file_of_own_data_ends_with_the_truth(tmp_path: Path) -> None:
    """Whoever has real data sees it come through unchanged before they trust the pipeline with more."""
    world = tmp_path / "world.jsonl"
    world.write_text("".join(json.dumps(line) + "\n" for line in _own_world()))

    code, said = await _run("--world", str(world), "--folder", str(tmp_path / "run"))

    assert code == MATCHED, said
    assert "lost 0   twice 0   outdated 0" in said


async def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    """The run's folder is emptied first: a slip in the argument must not cost anybody's files."""
    (tmp_path / "thesis.txt").write_text("ten years of work")

    code, said = await _run("--folder", str(tmp_path))

    assert code == BROKEN
    assert "holds something" in said
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_killing_every_process_loses_nothing(tmp_path: Path) -> None:
    """
    What the emulator held is sent again, and subscribers drop what they have; the simulators still know what people
    changed in them, or the truth that subscribers are held against would not be what they were given.
    """
    async with _up(Choices(up=True, users=8, posts=30, folder=tmp_path / "up", plain=True)) as up:
        await until(lambda: _equal(up), seconds=90, what="the first truth")
        changed = await _change_by_hand(up.stack)
        told = await _told(up.stack, changed)
        await up.stack.product.run("mine", "posts", "transactions")
        for process in up.stack.processes.values():
            await process.kill()
        await until(lambda: _noted(up, "messages sent again"), seconds=60, what="republishing")
        await until(lambda: _all_run(up), seconds=60, what="every process")
        assert await _told(up.stack, changed) == told, "the world is as it was when its process was killed"

        found = await _hold_the_truth(up, seconds=180)

        await until(lambda: _equal(up), seconds=30, what="the runner's own verdict")
        assert changed <= found, "and what people changed has reached the subscribers"
        assert all(process.starts > 1 for process in up.stack.processes.values())


async def _change_by_hand(stack: Stack) -> set[str]:
    """Write, edit and delete through the control endpoints, as a person at a desk would; gives what was touched."""
    users = [user["id"] for user in (await stack.graph.get("/__sim/world"))["users"]]
    posts: list[dict[str, object]] = [{"do": "create", "edge": "posts", "user": user} for user in users[:4]]
    posts += [{"do": "edit", "edge": "posts", "user": user, "pick": "newest"} for user in users[:6]]
    posts += [{"do": "delete", "edge": "posts", "user": user, "pick": "newest"} for user in users[6:]]
    posts += [{"do": "create", "edge": "comments", "user": user} for user in users[4:6]]
    rows = (await stack.graph.send("POST", "/__sim/mutate", posts))["rows"]
    made: list[dict[str, object]] = [{"do": "create", "user": user, "count": 2} for user in users[:3]]
    rows += (await stack.rest.send("POST", "/__sim/mutate", made))["rows"]
    return {str(row["id"]) for row in rows}


async def _told(stack: Stack, ids: set[str]) -> list[dict[str, object]]:
    """Give what both simulators say of these items."""
    rows = (await stack.graph.get("/__sim/truth", edge="posts,comments"))["rows"]
    rows += (await stack.rest.get("/__sim/truth"))["rows"]
    return [row for row in rows if str(row["id"]) in ids]


async def _hold_the_truth(up: Up, *, seconds: float) -> set[str]:
    """Order every feed until lake and tables hold the truth, asked for anew at each look; gives what they hold."""
    truth, lake = Truth(up.stack, refresh_seconds=REFRESH_SECONDS), Lake(up.stack.places.lake)
    tables = Tables(up.stack.places.database)
    truth.use(checked_feeds(await up.stack.product.run("feeds", "--json")))
    names = [feed.feed for feed in truth.feeds if not feed.child]

    async def equal() -> bool:
        await up.stack.product.run("mine", *names)
        await asyncio.sleep(BETWEEN_ORDERS_SECONDS)
        await truth.read()
        while lake.look():
            pass
        differ = [key for feed in truth.feeds for key in differing(tables.rows(feed.feed), lake.delivered, feed.feed)]
        return not differ and all(verdict.matched for verdict in judge(truth, lake).values())

    await until(equal, seconds=seconds, what="the truth")
    return {str(key.item) for key in lake.delivered.latest}


async def _equal(up: Up) -> bool:
    return up.equal


async def _all_run(up: Up) -> bool:
    graph, rest = await up.stack.graph.answers("/__sim/calls"), await up.stack.rest.answers("/__sim/calls")
    return graph and rest and all(process.runs for process in up.stack.processes.values())


class _NoView:
    """Draws nothing."""

    def start(self) -> None:
        """Nothing to prepare."""

    def show(self, picture: Picture) -> None:
        """Nothing to draw."""

    def stop(self) -> None:
        """Nothing to give back."""


@contextlib.asynccontextmanager
async def _up(choices: Choices) -> AsyncIterator[Up]:
    up = Up(choices, _NoView(), ports=free_ports())
    running = asyncio.create_task(up.run())
    try:
        yield up
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def _noted(up: Up, text: str) -> bool:
    return any(text in note for note in up.notes)


def _own_world() -> list[dict[str, object]]:
    """Give posts of three users, with a comment on some of them."""
    start = datetime.now(UTC) - timedelta(days=30)
    lines: list[dict[str, object]] = []
    for user in ("501", "502", "503"):
        for number in range(25):
            post = f"9{user}_{number + 1}"
            moment = (start + timedelta(hours=7 * number)).strftime("%Y-%m-%dT%H:%M:%S+0000")
            item = {"id": post, "created_time": moment, "message": f"Ñandú {number} 🎉", "odd_field": [1, {"a": None}]}
            lines.append({"user": user, "scope": f"9{user}", "edge": "posts", "item": item})
            if number % 5 == 0:
                comment = {"id": f"{number + 1}_{user}1", "created_time": moment, "message": "yes"}
                lines.append({"user": user, "scope": post, "edge": "comments", "item": comment})
    return lines
