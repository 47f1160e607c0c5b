"""What posts cost that are known already: nothing, until one of them changes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from infra.local.graph import GraphSimulator, Options, Shape, running
from pipeline.bootstrap import Pipeline, bootstrap
from pipeline.bus.messages import Outgoing, decode_mining
from pipeline.miners.ticks import SWEPT_PARENTS
from pipeline.settings import load
from pipeline.storage import migrate
from pipeline.storage.database import Database
from tests.fakes import MICROS, FakeBus, ManualClock

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = 86_400
SPREAD_SECONDS = 5 * DAY
"""All posts lie in the seven days that a refresh reads again, also after the days that pass here."""

CHANGED = 10
PAGE = 100
DONE = "SELECT count(*) FROM chains WHERE feed = 'comments' AND state = 'done'"
POSTS, COMMENTS = "published_posts", "comments"
BESIDE_THE_REFRESH = 2
"""Listing calls beside the refresh's full pages: one of the fresh end, and one if the last page has no `next` yet."""


@dataclass
class NotingBus(FakeBus):
    """The bus in memory, and what was sent, in order."""

    sent: list[Outgoing] = field(default_factory=list)

    async def send(self, entity: str, messages: Sequence[Outgoing]) -> None:
        """Note and send."""
        self.sent += messages
        await super().send(entity, messages)


@dataclass
class Scene:
    """One user with one page, and the pipeline that mines it."""

    graph: GraphSimulator
    pipeline: Pipeline
    bus: NotingBus
    clock: ManualClock

    def posts(self) -> list[str]:
        """Give the ids of the page's posts."""
        world = self.graph.app.world
        (user,) = world.users.values()
        return [post.id for page in user.pages.items for post in world.edge(page, "posts").items]

    def pass_time(self, seconds: float) -> None:
        """Move all clocks on."""
        self.clock.advance(seconds)
        self.graph.app.clock.advance(seconds)

    async def tick(self, feed: str) -> None:
        """Order a feed, and work until no message is left, not even one that is due later."""
        await self.pipeline.fan_out.ordered(self.pipeline.plans[feed])
        while True:
            for queue in list(self.bus.queues):
                while ready := self.bus.ready(queue):
                    for one in ready:
                        await self.pipeline.miner.handle(self.bus.receive(queue, one))
                        self.bus.complete(queue, one)
            due = self.bus.next_due()
            if due is None and not any(self.bus.queues.values()):
                return
            self.pass_time(max(0, (due or 0) - self.clock.now) / MICROS)

    async def visit_all(self) -> None:
        """Sweep until no post is left whose comments nobody has looked at: those that said they had none."""
        for _ in range(len(self.posts()) // SWEPT_PARENTS + 1):
            before = len(self.bus.sent)
            await self.tick("comments")
            if len(self.bus.sent) == before + 1:
                return
        raise AssertionError("the sweeps have no end")

    def look_away(self) -> None:
        """Forget every call and every message."""
        self.graph.app.calls.clear()
        self.bus.sent.clear()

    def change(self, scopes: Sequence[str]) -> None:
        """Let people comment on every second post, and edit the others."""
        for number, scope in enumerate(scopes):
            new = {"do": "create", "edge": "comments", "scope": scope}
            self.graph.app.script.plan(new if number % 2 else {"do": "edit", "id": scope})

    def calls(self) -> Counter[tuple[str, str]]:
        """Count calls by edge and scope, in the API's own log."""
        return Counter((call["edge"], call["scope"]) for call in self._log())

    def listed(self, edge: str) -> int:
        """Give how many items the API listed."""
        return sum(call["items"] for call in self._log() if call["edge"] == edge)

    def rung(self, feed: str) -> list[str]:
        """Give the scopes of a feed's doorbells, in the order in which they were sent."""
        plan = self.pipeline.plans[feed]
        found = [decode_mining(message.body) for message in self.bus.sent if message.entity == plan.queue]
        return [message.scope for message in found if not message.is_tick]

    def published(self, feed: str) -> int:
        """Count a feed's data messages."""
        return sum(message.entity == self.pipeline.plans[feed].topic for message in self.bus.sent)

    async def count(self, sql: str, *values: object) -> int:
        """Ask the database for a number."""
        return await self.pipeline.database.read(lambda c: int(c.exec_driver_sql(sql, values).scalar_one()))

    def _log(self) -> list[dict[str, Any]]:
        view = self.graph.app.calls.view(log=True, limit=1_000_000)
        assert view["total"] == len(view["log"])
        return view["log"]  # type: ignore[no-any-return]  # a list of calls


@asynccontextmanager
async def scene(folder: Path, posts: int) -> AsyncIterator[Scene]:
    """Mine a page of so many posts with their comments for the first time."""
    shape = Shape(users=1, posts=posts, pages=1, ads=0, comments=1, spread=SPREAD_SECONDS)
    async with running(Options(shape=shape, now=START)) as graph:
        (user,) = graph.app.world.users.values()
        settings = load(
            {
                "ENVIRONMENT": "local",
                "DATABASE_URL": f"sqlite:///{folder / 'pipeline.db'}",
                "FEEDS_ENABLED": "posts,comments",
                "GRAPH_BASE_URL": graph.url,
                "GRAPH_USER_ID": user.id,
                "GRAPH_ACCESS_TOKEN": graph.app.tokens.of_user(user).token,
                "SCOPES_MAX_AGE_SECONDS": str(365 * DAY),
            }
        )
        clock = ManualClock(int(START.timestamp()) * MICROS)
        bus = NotingBus(clock)
        database = Database(f"sqlite:///{folder / 'pipeline.db'}", threads=1, clock=clock)
        migrate.upgrade(database)
        pipeline = await bootstrap(settings, bus=bus, database=database, clock=clock)
        add_user = "INSERT INTO users (user_id, state, priority, created_at) VALUES (?, 'active', 0, 0)"
        await database.write("test", lambda connection: connection.exec_driver_sql(add_user, (user.id,)))
        try:
            made = Scene(graph, pipeline, bus, clock)
            await made.tick("posts")
            yield made
        finally:
            await pipeline.close()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("known", [300, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_known_posts_cost_no_call_until_they_change(tmp_path: Path, known: int) -> None:
    """Reading every post's comments again at each look would cost a thousand times the calls that the API allows."""
    async with scene(tmp_path, known) as stage:
        posts = stage.posts()
        changed = set(random.Random(known).sample(posts, CHANGED))
        visited = set(stage.rung("comments"))
        assert await stage.count("SELECT count(*) FROM items WHERE feed = 'posts'") == len(posts) == known
        assert await stage.count(DONE) == len(visited) > known / 2, "the others have no comment, says the API"
        stage.pass_time(DAY + 3600)
        stage.change(sorted(changed))
        stage.look_away()

        await stage.tick("posts")

        calls = stage.calls()
        listings = sum(count for (edge, _), count in calls.items() if edge == POSTS)
        assert stage.listed(POSTS) >= known, "the refresh has looked at every post again"
        assert listings <= known // PAGE + BESIDE_THE_REFRESH
        assert calls.total() - listings <= CHANGED
        assert {key for key in calls if key[0] != POSTS} == {(COMMENTS, scope) for scope in changed}
        assert sorted(stage.rung("comments")) == sorted(changed)
        assert stage.published("comments") == CHANGED // 2, "one message for each new comment, none for the edits"
        assert await stage.count(DONE) == len(visited | changed)

        stage.look_away()
        await stage.tick("comments")

        assert not set(stage.rung("comments")) & (visited | changed), "the sweep begins with those never looked at"
        assert len(stage.rung("comments")) == stage.calls().total() <= SWEPT_PARENTS


async def test_a_sweep_visits_again_only_whom_nobody_visited_for_its_own_period(tmp_path: Path) -> None:
    """The sweep is for what no count tells; whoever was looked at this week is not its business."""
    async with scene(tmp_path, 300) as stage:
        opened = "SELECT opened_at FROM chains WHERE feed = 'comments' AND scope = ?"
        await stage.visit_all()
        assert await stage.count(DONE) == len(stage.posts())
        stage.pass_time(6.5 * DAY)
        stage.look_away()
        await stage.tick("comments")
        assert not stage.calls()
        assert not stage.rung("comments")
        changed = stage.posts()[-CHANGED:]  # young enough for the refresh to look at
        stage.change(changed)
        await stage.tick("posts")
        stage.pass_time(DAY)
        waiting = {scope: await stage.count(opened, scope) for scope in stage.posts() if scope not in changed}
        stage.look_away()

        await stage.tick("comments")

        swept = stage.rung("comments")
        assert len(swept) == len(set(swept)) == SWEPT_PARENTS
        assert not set(swept) & set(changed)
        left = [at for scope, at in waiting.items() if scope not in swept]
        assert max(waiting[scope] for scope in swept) <= min(left), "longest ago first"
        assert stage.calls() == {(COMMENTS, scope): 1 for scope in swept}
