"""One run, from an empty folder to a verdict: start, seed, order, be troubled, heal, and wait for the truth."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
import shutil
import signal
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from infra.local.run import trouble, users
from infra.local.run.choices import ADS, SPREAD_DAYS, TRANSACTIONS, Choices
from infra.local.run.compare import Verdict, compare
from infra.local.run.delivered import Lake, Tables, differing
from infra.local.run.places import Places, free_ports
from infra.local.run.progress import Picture, Watch
from infra.local.run.stack import Stack, Wanted
from infra.local.run.truth import Truth, checked_feeds

LOOK_SECONDS = 1.0
REFRESH_SECONDS = 7 * 86_400
KILL_SECONDS = 4.0
HEAL_SECONDS = 12.0
"""When the dead token's user gives a new one, at the latest once everybody else is complete."""

AT_A_DESK = {
    "GRAPH_MINUTE_SECONDS": "1",
    "SETTLE_SECONDS": "2",
    "TOKEN_RECHECK_SECONDS": "5",
    "API_DOWN_SECONDS": "2",
    "BACKPRESSURE_SECONDS": "2",
    "REFRESH_EVERY_SECONDS": "5",
    "OUTBOX_RETENTION_SECONDS": "600",
    "WATCHDOG_SCHEDULE": "*/5 * * * * *",
    "RELAY_SCHEDULE": "*/5 * * * * *",
}
"""Minutes become seconds; the code that waits is the same."""


MARKER = ".local-run"


class NotOurs(Exception):
    """Name another folder; the text says why."""


class View(Protocol):
    """Shows pictures."""

    def start(self) -> None: ...
    def show(self, picture: Picture) -> None: ...
    def stop(self) -> None: ...


@dataclass
class Report:
    """What a run ended with."""

    verdict: Verdict | None = None
    picture: Picture = field(default_factory=Picture)
    first_page_seconds: float | None = None
    ready_seconds: float = 0.0
    tables_differ: int = 0
    operations: dict[str, Any] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    marts: Sequence[str] = ()
    lake_files: int = 0
    lake_bytes: int = 0
    paging_anew: int = 0
    """Calls that a reader without memory would have made for the same two looks at the world."""
    unchecked: Sequence[str] = ()
    cache: str = ""

    @property
    def matched(self) -> bool:
        """Whether both subscribers hold the truth."""
        return self.verdict is not None and self.verdict.matched and not self.tables_differ


class Session:
    """Runs once."""

    def __init__(self, choices: Choices, view: View) -> None:
        self.choices = choices
        self.stack = Stack(Places(empty(choices.folder), free_ports()), wanted(choices))
        self._view = view
        self._lake = Lake(self.stack.places.lake)
        self._tables = Tables(self.stack.places.database)
        self._report = Report(cache=self.stack.cache.what)
        self._users: list[str] = []
        self._order: list[str] = []
        self._truth = Truth(self.stack, refresh_seconds=REFRESH_SECONDS)
        self._watch = Watch(self.stack, self._truth, self._lake)

    async def run(self) -> Report:
        """Do it; raises DidNotStart or CommandFailed when the box itself does not work."""
        self._view.start()
        drawing = asyncio.create_task(self._draw())
        try:
            listed, _ = await asyncio.gather(self.stack.product.run("feeds", "--json"), self.stack.start_backing())
            feeds = checked_feeds(listed)
            self._truth.use(feeds)
            self._order = sorted((feed.feed for feed in feeds if not feed.child), key=lambda feed: feed != "posts")
            cast, _ = await asyncio.gather(self._seed(), self.stack.start_host())
            self._report.ready_seconds = self._watch.seconds
            await self._mine(cast)
            await self._finish()
        finally:
            drawing.cancel()
            await asyncio.gather(drawing, return_exceptions=True)
            self._view.stop()
            await self.stack.stop()
        return self._report

    async def _seed(self) -> trouble.Cast | None:
        """Bring in users and trouble, and order the first feed; the messages wait for the host."""
        self._watch.phase = "seeding users and tokens"
        self._users = await users.import_all(self.stack)
        cast = await self._trouble()
        await self.stack.product.run("mine", self._order[0])
        return cast

    async def _mine(self, cast: trouble.Cast | None) -> None:
        watch, end = self._watch, time.monotonic() + self.choices.seconds - self._watch.seconds
        watch.phase = "mining everything"
        await asyncio.gather(
            self.stack.product.run("mine", *self._order[1:]), self._truth.read(), self._kill_a_worker()
        )
        watch.note(f"{len(self._users)} users, {sum(map(len, self._truth.facts.values())):,} items in the world")
        healed = cast is None
        while time.monotonic() < end:
            await asyncio.sleep(LOOK_SECONDS / 2)
            verdict = watch.judged(judge(self._truth, self._lake))
            if not healed and cast and self._time_to_heal(verdict, cast):
                await self._heal(cast)
                healed = True
            elif healed and verdict.matched:
                await self._truth.read()
                verdict = watch.judged(judge(self._truth, self._lake))
                if verdict.matched and self._tables_agree():
                    break
        watch.phase = "comparing"

    async def _trouble(self) -> trouble.Cast | None:
        cast = trouble.choose(self._users) if self.choices.faults else None
        if cast is None:
            return None
        rows = (await self.stack.graph.get("/__sim/truth", user=cast.poisoned, edge="posts"))["rows"]
        if not rows:
            return None
        cast = cast._replace(poison=str(rows[-1]["id"]))
        await self.stack.graph.send("POST", "/__sim/faults", trouble.graph_faults(cast))
        if self.stack.wanted.rest is not None:
            await self.stack.rest.send("POST", "/__sim/faults", trouble.rest_faults())
        return cast

    async def _kill_a_worker(self) -> None:
        """Do to one worker what a host that moves it does, in the middle of its work."""
        if not self.choices.faults:
            return
        await asyncio.sleep(KILL_SECONDS)
        workers = await self.stack.workers()
        if len(workers) > 1:
            with contextlib.suppress(ProcessLookupError):
                os.kill(workers[0], signal.SIGKILL)
            self._watch.note(f"worker {workers[0]} was killed (-9); what it held is delivered again")

    def _time_to_heal(self, verdict: Verdict, cast: trouble.Cast) -> bool:
        others = [key for keys in verdict.faults().values() for key in keys if key.user != cast.dead_token]
        return not others or self._watch.seconds > self._report.ready_seconds + HEAL_SECONDS

    async def _heal(self, cast: trouble.Cast) -> None:
        """A new token for the user whose token died; people change things; then everything is ordered once more."""
        watch = self._watch
        watch.phase = "healing, and changing the world"
        lifted = [{"kind": "token_expires_after", "user": cast.dead_token}]
        for rule in (await self.stack.graph.get("/__sim/faults"))["faults"]:
            if any(rule["kind"] == one["kind"] for one in lifted):
                await self.stack.graph.send("DELETE", f"/__sim/faults?id={rule['id']}")
        await users.renew(self.stack, cast.dead_token)
        watch.note(f"user {cast.dead_token} has a new token: its chains go on where they stood")
        world = (await self.stack.graph.get("/__sim/world"))["users"]
        pages = [page["id"] for user in world for page in user["pages"]]
        made = trouble.changes([user for user in self._users if user != cast.poisoned], pages)
        await self.stack.graph.send("POST", "/__sim/mutate", made)
        if self.stack.wanted.rest is not None:
            await self.stack.rest.send("POST", "/__sim/mutate", trouble.rest_changes(self._users))
        watch.note("people write, edit and delete meanwhile: every feed is ordered once more")
        await self._truth.read()
        await asyncio.sleep(float(AT_A_DESK["SETTLE_SECONDS"]) + 1)
        await self.stack.product.run("mine", *self._order)
        watch.phase = "mining what changed"

    def _tables_agree(self) -> bool:
        names = [feed.feed for feed in self._truth.feeds]
        differ = sum(len(differing(self._tables.rows(name), self._lake.delivered, name)) for name in names)
        self._report.tables_differ = differ
        return not differ

    async def _finish(self) -> None:
        report = self._report
        await self._truth.read()
        report.picture = await self._watch.look()
        report.verdict = self._watch.judged(judge(self._truth, self._lake))
        self._tables_agree()
        report.unchecked = self._truth.unchecked
        report.operations = await self.stack.bus.get("/emulator/operations")
        report.status = await self.stack.status()
        report.marts = self._tables.views()
        report.first_page_seconds = self._watch.first_page_seconds
        report.lake_files, report.lake_bytes = self._lake.files, self._lake.bytes
        report.paging_anew = self._paging_anew()
        self._watch.phase = "done"
        self._view.show(await self._watch.look())

    def _paging_anew(self) -> int:
        """Count the calls of a reader that pages every listing again at each order, comments of every post included."""
        sizes: dict[tuple[str, str], int] = {}
        for feed in self._truth.feeds:
            for key in self._truth.facts[feed.feed]:
                sizes[feed.feed, key.scope] = sizes.get((feed.feed, key.scope), 0) + 1
        looks = 2 if self.choices.faults else 1
        posts = len(self._truth.facts.get("posts", ())) if "comments" in self._truth.facts else 0
        with_comments = sum(feed == "comments" for feed, _ in sizes)
        return looks * (sum(math.ceil(size / 100) for size in sizes.values()) + posts - with_comments)

    async def _draw(self) -> None:
        while True:
            if self._truth.facts:
                self._watch.judged(judge(self._truth, self._lake))
            self._view.show(await self._watch.look())
            await asyncio.sleep(LOOK_SECONDS)


def empty(folder: Path) -> Path:
    """
    Give a run's folder, with nothing of an earlier run in it.

    Raises NotOurs for a folder that holds anything else: a slip in `--folder` must not cost anybody's files.
    """
    folder = folder.resolve()
    if folder.exists():
        if any(folder.iterdir()) and not (folder / MARKER).exists():
            raise NotOurs(f"--folder: {folder} holds something that is not an earlier run's; name another")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()
    return folder


def judge(truth: Truth, lake: Lake) -> dict[str, Verdict]:
    """Compare what the lake holds with the truth as last read, feed by feed."""
    return {
        feed.feed: compare(
            truth.facts.get(feed.feed, {}),
            lake.delivered.of(feed.feed),
            deletions_since=truth.deletions_since(feed),
        )
        for feed in truth.feeds
    }


def wanted(choices: Choices) -> Wanted:
    """Give the box for these choices."""
    key = b64encode(secrets.token_bytes(32)).decode()
    scale = ["--time-scale", "60", "--seed", str(choices.seed)]
    if choices.world is not None:
        graph, rest = [*scale, "--world", str(choices.world)], None
    else:
        common = [*scale, "--users", str(choices.users), "--spread", f"{SPREAD_DAYS}d"]
        graph = [*common, "--posts", str(choices.posts), "--ads", str(ADS)]
        rest = [*common, "--transactions", str(TRANSACTIONS)]
    settings = {"TOKEN_KEY": key, **AT_A_DESK}
    return Wanted(workers=choices.workers, graph=graph, rest=rest, settings=settings, lock_seconds=15)
