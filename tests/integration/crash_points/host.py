"""What the functions host does, timers and deliveries, with a pipeline in it that mines the simulator over HTTP."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import selectors
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from pydantic import SecretStr
from sqlalchemy.engine import Engine

from pipeline.bootstrap import Pipeline, bootstrap
from pipeline.bus.messages import Outgoing
from pipeline.chains.protocol import Chain, Key, Lane
from pipeline.failpoints import failpoint
from pipeline.feeds.posts import FEED as POSTS
from pipeline.processors.data_messages import encode
from pipeline.processors.read_items import read_page
from pipeline.settings import load
from pipeline.sources import build_source
from pipeline.sources.base import SourceOptions
from pipeline.storage import directory, migrate, pages
from pipeline.storage import tokens as token_rows
from pipeline.storage.budgets import SharedBudget
from pipeline.storage.database import Database
from tests.integration.crash_points.file_bus import MICROS, FileBus, SharedClock
from tests.integration.crash_points.simulated_graph import SimulatedGraph
from tests.integration.crash_points.workloads import CHANGED_AT, START, Workload

R = TypeVar("R")

API_MINUTE = 18
"""A block of the API's five minutes lasts 90 s, so that all parks end between two ticks."""

SETTINGS = {
    "ENVIRONMENT": "local",
    "TOKEN_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "FEEDS_ENABLED": POSTS.name,
    "REFRESH_EVERY_SECONDS": "600",
    "GRAPH_MINUTE_SECONDS": str(API_MINUTE),
}
SCHEDULE = "0 * * * * *"
LOCK = 61
HEALING_TURNS = 40
SPEED = 100
"""So many times faster than ours goes a worker's loop: it sleeps between two tries of a call."""


class Host:
    """One worker after the other: each is a `start` with nothing but the files that the last one left."""

    def __init__(self, folder: Path, workload: Workload, url: str) -> None:
        self.folder = folder
        self.workload = workload
        self.clock = SharedClock(START * MICROS)
        self.bus = FileBus(folder / "bus.db", self.clock)
        self.graph = SimulatedGraph(url, POSTS.fields)
        self.settings = load({**SETTINGS, "PAGES_PER_MESSAGE": str(workload.pages_per_message)})
        self.database = InlineDatabase(f"sqlite:///{folder}/pipeline.db", threads=1, clock=self.clock)
        self.pipeline: Pipeline
        self._loop: asyncio.AbstractEventLoop | None = None

    def prepare(self) -> None:
        """Make the files that every case begins with."""
        migrate.upgrade(self.database)
        self.bus.create()
        self.start()
        self.graph.begin(self.workload)
        self.database.write_here("users", self._users)
        if self.workload.stored:
            self._store_newest()
        self.let_go()
        for name in ("bus", "pipeline"):
            shutil.copy(self.folder / f"{name}.db", self.folder / f"{name}.first")

    def start(self) -> None:
        """Build the pipeline as a worker that starts does: it has a loop of its own, and remembers nothing."""
        options = SourceOptions(
            base_url=self.graph.url,
            version=self.settings.graph_api_version,
            connect_timeout=20.0 * SPEED,
            read_timeout=20.0 * SPEED,
            total_timeout=60.0 * SPEED,
            minute_seconds=API_MINUTE,
        )
        budget = SharedBudget(self.database, minute_seconds=API_MINUTE, clock=lambda: self.clock.now / MICROS)
        sources = {"graph": build_source("graph", options, budget)}
        self.pipeline = self.run(
            bootstrap(self.settings, bus=self.bus, sources=sources, database=self.database, clock=self.clock)
        )

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine in this process's loop."""
        if self._loop is None:
            self._loop = QuickLoop(QuickSelector())
        return self._loop.run_until_complete(work)

    def let_go(self) -> None:
        """End a worker: close all files and connections, so that a fork shares none."""
        for source in self.pipeline.sources.values():
            self.run(source.close())
        self.run(self.bus.close())
        self.database.engine.dispose()
        if self._loop is not None:
            self._loop.close()
            self._loop = None

    def begin(self) -> None:
        """Put the files and the world of the beginning in place."""
        for name in ("bus", "pipeline"):
            for ending in (".db-wal", ".db-shm"):
                (self.folder / f"{name}{ending}").unlink(missing_ok=True)
            shutil.copy(self.folder / f"{name}.first", self.folder / f"{name}.db")
        self.clock.now = START * MICROS
        self.graph.begin(self.workload)

    def _users(self, connection: Any) -> None:
        assert self.pipeline.keys
        for user, token in self.graph.tokens().items():
            directory.put_user(connection, user)
            token_rows.store(connection, user, "graph", self.pipeline.keys.seal(user, "graph", SecretStr(token)))

    def _store_newest(self) -> None:
        """Store the newest items as a live event does: items and data messages, no coverage."""
        plan = self.pipeline.plans[POSTS.name]
        newest = list(itertools.islice(self.graph.posts("page-a"), self.workload.stored))
        chain = Chain(key=Key("a", POSTS.name, "page-a", Lane.MAIN))
        found = read_page(plan.feed, newest, observed=self.clock.now).candidates

        def encoded(accepted: Any, nonce: str) -> list[Outgoing]:
            return encode(plan.feed, plan.topic, chain, accepted, nonce, capture="live")

        unit = pages.commit_items
        held = self.database.write_here("live", unit, chain, plan.feed, found, [], self.clock.now, encoded)
        self.run(self.pipeline.flusher.send(held))

    # ------------------------------------------------------------------------------------------------ what workers do

    def work(self) -> None:
        """The ordinary course: two ticks with a change between them."""
        self.tick()
        self.drain(self.clock.now + 400 * MICROS)
        if self.workload.change:
            self.graph.change()
        self.clock.now = max(self.clock.now, (CHANGED_AT + 400) * MICROS)
        self.run(self.pipeline.watchdog.run())
        self.run(self.pipeline.relay())
        self.tick()
        self.drain(self.clock.now + 300 * MICROS)

    def heal(self) -> None:
        """No fault any more: locks expire, timers run, until all is quiet."""
        self.graph.heal()
        if self.workload.change:
            self.graph.change()
        self.clock.now = max(self.clock.now + LOCK * MICROS, (CHANGED_AT + 400) * MICROS)
        for turn in range(HEALING_TURNS):
            self.run(self.pipeline.watchdog.run())
            self.run(self.pipeline.relay())
            if turn % 4 in (0, 1):
                self.tick()
            self.drain(self.clock.now + 60 * MICROS)
            if turn > 1 and not self.stuck():
                return
            self.clock.advance(LOCK if turn else 700)  # the second tick comes when the refresh lane is due

    def tick(self) -> None:
        """Run the posts' timer."""
        self.run(self.pipeline.fan_out.scheduled(self.pipeline.plans[POSTS.name], SCHEDULE))

    def drain(self, until: int) -> None:
        """Deliver what may be seen up to an instant; time goes on to the next message."""
        for _ in range(500):
            locked = self.bus.receive()
            if locked is None:
                moment = self.bus.next_visible()
                if moment is None or moment > until:
                    return
                self.clock.now = max(self.clock.now, moment + 1)
                continue
            again = self.workload.twice and locked.received.delivery_count == 1
            self.run(self.pipeline.miner.handle(locked.received))
            failpoint("host.complete.before")
            if again:
                self.bus.give_back(locked)
            else:
                self.bus.complete(locked)
            failpoint("host.complete.after")
        raise AssertionError("livelock: 500 messages and no end")

    # ------------------------------------------------------------------------------------------------------ the end

    def stuck(self) -> list[str]:
        """Say what is not at rest."""
        found = [str(row) for row in self._rows("SELECT scope, lane, state, reason FROM chains WHERE state <> 'done'")]
        found += [f"unsent {row}" for row in self._rows("SELECT message_id FROM outbox WHERE sent_at IS NULL")]
        found += [f"queued {row}" for row in self.bus.rows("SELECT id FROM queue")]
        return found + [f"dead {row}" for row in self.bus.rows("SELECT id FROM dead")]

    def _rows(self, sql: str) -> list[Any]:
        return self.database.read_here(lambda connection: list(connection.exec_driver_sql(sql)))

    def write_received(self, path: Path) -> None:
        """Write what a subscriber got."""
        with path.open("w") as lines:
            for message_id, body, properties in self.bus.rows("SELECT id, body, properties FROM topic ORDER BY number"):
                encoding = json.loads(str(properties))["contentEncoding"]
                text = base64.b64encode(body).decode()  # type: ignore[arg-type]  # the column holds bytes
                lines.write(json.dumps({"messageId": message_id, "body": text, "contentEncoding": encoding}) + "\n")
        problems = self.stuck()
        quarantined = self._rows("SELECT count(*) FROM quarantine")[0][0]
        if quarantined != 1:
            problems.append(f"{quarantined} items in quarantine")
        path.with_suffix(".state").write_text(json.dumps(problems))


class InlineDatabase(Database):
    """Runs each unit in the calling thread: a process that forks may have no other."""

    async def _run(self, at_once: Callable[[Engine], R], patiently: Callable[[], R], *, now: bool) -> R:
        return patiently()


class QuickSelector(selectors.DefaultSelector):
    """Waits as long as the loop asks by its own time, which is `SPEED` times ours."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for files or the end of the time."""
        return super().select(timeout / SPEED if timeout else timeout)


class QuickLoop(asyncio.SelectorEventLoop):
    """A loop whose time is `SPEED` times ours."""

    def time(self) -> float:
        """Give the loop's seconds."""
        return super().time() * SPEED
