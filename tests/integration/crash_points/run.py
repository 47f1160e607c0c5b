"""
Runs one workload with kills, as a process of its own with one thread, so that it may fork.

For each case it puts empty files in place, forks a worker that is killed at its failpoint, lets locks expire, forks a
worker that heals, and writes what a subscriber got. The last line it prints is a JSON summary.
"""

from __future__ import annotations

import argparse
import base64
import gc
import json
import logging
import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from pipeline import failpoints
from pipeline.bootstrap import Pipeline, bootstrap
from pipeline.bus.messages import Outgoing
from pipeline.chains.protocol import Chain, Key, Lane
from pipeline.failpoints import failpoint
from pipeline.feeds.base import item_time
from pipeline.processors.data_messages import encode
from pipeline.processors.read_items import read_page
from pipeline.settings import load
from pipeline.storage import directory, migrate, pages
from pipeline.storage import tokens as token_rows
from tests.checker.judge import canonical_hash
from tests.fakes import MICROS, ListSource
from tests.integration.crash_points.file_bus import FileBus, SharedClock
from tests.integration.crash_points.workloads import (
    CHANGED_AT,
    START,
    WORKLOADS,
    Workload,
    first_truth,
    later_truth,
    truth,
)
from tests.integration.interleavings.steps import InlineDatabase, run_alone

SETTINGS = {
    "ENVIRONMENT": "local",
    "TOKEN_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "FEEDS_ENABLED": "posts",
    "REFRESH_EVERY_SECONDS": "600",
}
SCHEDULE = "0 * * * * *"
PAGE = 3
LOCK = 61
HEALING_TURNS = 40


class Host:
    """What the functions host does: timers and deliveries, one after the other."""

    def __init__(self, folder: Path, workload: Workload) -> None:
        self.folder = folder
        self.workload = workload
        self.clock = SharedClock(START * MICROS)
        self.bus = FileBus(folder / "bus.db", self.clock)
        self.source = ListSource(self.clock, limit=PAGE)  # type: ignore[arg-type]  # both clocks have `now`
        self.database = InlineDatabase(f"sqlite:///{folder}/pipeline.db", threads=1, clock=self.clock)
        first_truth(self.source)

    def prepare(self) -> None:
        """Make the files that every case begins with."""
        migrate.upgrade(self.database)
        self.bus.create()
        settings = load({**SETTINGS, "PAGES_PER_MESSAGE": str(self.workload.pages_per_message)})
        self.pipeline: Pipeline = run_alone(
            bootstrap(settings, bus=self.bus, sources={"graph": self.source}, database=self.database, clock=self.clock)
        )
        self.database.write_here("users", self._users)
        if self.workload.stored:
            self._store_newest()
        self.let_go()
        for name in ("bus", "pipeline"):
            shutil.copy(self.folder / f"{name}.db", self.folder / f"{name}.first")

    def let_go(self) -> None:
        """Close all files, so that a fork shares none."""
        self.database.engine.dispose()
        run_alone(self.bus.close())

    def begin(self) -> None:
        """Put the files of the beginning in place."""
        for name in ("bus", "pipeline"):
            for ending in (".db-wal", ".db-shm"):
                (self.folder / f"{name}{ending}").unlink(missing_ok=True)
            shutil.copy(self.folder / f"{name}.first", self.folder / f"{name}.db")
        self.clock.now = START * MICROS

    def _users(self, connection: Any) -> None:
        assert self.pipeline.keys
        for user in ("a", "b"):
            directory.put_user(connection, user)
            sealed = self.pipeline.keys.seal(user, "graph", SecretStr("token"))
            token_rows.store(connection, user, "graph", sealed)

    def _store_newest(self) -> None:
        """Store the newest items as a live event does: items and data messages, no coverage."""
        plan = self.pipeline.plans["posts"]
        dated = [raw for raw in self.source.items["page-a"] if item_time(raw["created_time"])]
        newest = sorted(dated, key=lambda raw: (item_time(raw["created_time"]), raw["id"]))[-self.workload.stored :]
        chain = Chain(key=Key("a", "posts", "page-a", Lane.MAIN))
        found = read_page(plan.feed, newest, observed=self.clock.now).candidates

        def encoded(accepted: Any, nonce: str) -> list[Outgoing]:
            return encode(plan.feed, plan.topic, chain, accepted, nonce, capture="live")

        unit = pages.commit_items
        held = self.database.write_here("live", unit, chain, plan.feed, found, [], self.clock.now, encoded)
        run_alone(self.pipeline.flusher.send(held))

    # ------------------------------------------------------------------------------------------------ what workers do

    def work(self) -> None:
        """The ordinary course: two ticks with a change between them."""
        self.source.faults = list(self.workload.faults)
        self.tick()
        self.drain(self.clock.now + 400 * MICROS)
        if self.workload.change:
            later_truth(self.source)
        self.clock.now = max(self.clock.now, (CHANGED_AT + 400) * MICROS)
        run_alone(self.pipeline.watchdog.run())
        run_alone(self.pipeline.relay())
        self.tick()
        self.drain(self.clock.now + 300 * MICROS)

    def heal(self) -> None:
        """No fault any more: locks expire, timers run, until all is quiet."""
        self.source.faults = []
        if self.workload.change:
            later_truth(self.source)
        self.clock.now = max(self.clock.now + LOCK * MICROS, (CHANGED_AT + 400) * MICROS)
        for turn in range(HEALING_TURNS):
            run_alone(self.pipeline.watchdog.run())
            run_alone(self.pipeline.relay())
            if turn % 4 in (0, 1):
                self.tick()
            self.drain(self.clock.now + 60 * MICROS)
            if turn > 1 and not self.stuck():
                return
            self.clock.advance(LOCK if turn else 700)  # the second tick comes when the refresh lane is due

    def tick(self) -> None:
        """Run the posts' timer."""
        run_alone(self.pipeline.fan_out.scheduled(self.pipeline.plans["posts"], SCHEDULE))

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
            run_alone(self.pipeline.miner.handle(locked.received))
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


def fork(act: Callable[[], None]) -> int:
    """Run in a forked process; gives the signal that ended it, 0 if it came to its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    if os.WEXITSTATUS(status):
        raise SystemExit("a worker failed by an exception, see above")
    return 0


def killing(at: int) -> Callable[[str], None]:
    """Give a hook that kills this process at the hit of that number, from 0."""
    left = at

    def hook(name: str) -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    return hook


def case(host: Host, name: str, kills: Iterable[int]) -> int:
    """Run one case; gives how many workers were really killed."""
    host.begin()
    killed = 0
    act = host.work
    for at in kills:

        def doomed(act: Callable[[], None] = act, at: int = at) -> None:
            failpoints.install(killing(at))
            act()

        killed += fork(doomed) == signal.SIGKILL
        host.clock.advance(LOCK)
        act = host.heal

    def heal() -> None:
        host.heal()
        host.write_received(host.folder / f"{name}.received")

    fork(heal)
    return killed


def record(host: Host, act: Callable[[], None]) -> list[str]:
    """Give the names of all failpoints that a worker passes, in order."""
    reader, writer = os.pipe()

    def recorded() -> None:
        names: list[str] = []
        failpoints.install(names.append)
        act()
        with os.fdopen(writer, "w") as out:
            json.dump(names, out)

    host.begin()
    fork(recorded)
    os.close(writer)
    with os.fdopen(reader) as text:
        return list(json.load(text))


def main() -> int:
    """Run the cases of one part and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", choices=WORKLOADS, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--part", default="0/1", help="which of how many equal parts")
    parser.add_argument("--seeds", type=int, default=0, help="run this many seeded multi-kill cases instead")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="only this hit or seed")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    workload = WORKLOADS[chosen.workload]
    host = Host(chosen.folder, workload)
    host.prepare()
    (chosen.folder / "truth.json").write_text(json.dumps(truth(workload, canonical_hash)))
    # One run in this process fills the statement caches that every fork inherits.
    host.begin()
    host.work()
    host.let_go()
    gc.collect()
    gc.freeze()  # the collector of a forked worker would copy all that it looks at
    gc.disable()
    hits = record(host, host.work)
    part, parts = map(int, chosen.part.split("/"))
    killed = 0
    if chosen.seeds:
        cases = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
        for seed in cases if chosen.only is None else [chosen.only]:
            rng = random.Random(seed)
            kills = [rng.randrange(len(hits)) for _ in range(rng.randint(2, 5))]
            killed += case(host, f"seed-{seed}", kills)
    else:
        cases = range(part, len(hits), parts)
        for number in cases if chosen.only is None else [chosen.only]:
            killed += case(host, f"hit-{number}-{hits[number]}", [number])
    print(json.dumps({"cases": len(cases), "killed": killed, "hits": len(hits), "names": sorted(set(hits))}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
