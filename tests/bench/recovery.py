"""
From `kill -9` to the next committed page of every chain that was being mined, with locks of five seconds.

Two arms. `worker`: the host's only worker process dies at a random moment; the host gives its messages back and starts
another. `host`: the host dies with its worker, nobody gives anything back, and every lock has to expire. A sample is
one chain and one kill, in database time: the moment of the kill to `committed_at` of its next page.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from random import Random
from sqlite3 import connect
from typing import Any

from infra.local.run import users as wards
from infra.local.run.places import Places, free_ports
from infra.local.run.stack import Stack, Wanted
from pipeline.storage.tokens import new_key
from tests.chaos.scales import AT_A_DESK

LOCK_SECONDS = 5
GOAL_SECONDS = 8.0
KILLS = {"worker": 100, "host": 20}
USERS, POSTS = 6, 6000
HISTORY = "400d"
LATENCY_SECONDS = 0.15
"""Every call takes so long, as an API's do: most kills meet a page on its way, as in production."""

UP_SECONDS = (0.2, 2.0)
"""How long chains are mined between a recovery and the next kill."""

POLL_SECONDS = 0.04
PATIENCE_SECONDS = 60.0
MICROS = 1_000_000
SEED = 8

Chain = tuple[str, str, str, str]


def measure(*, kills: dict[str, int] | None = None, seed: int = SEED) -> dict[str, Any]:
    """Give the percentiles of both arms, in seconds."""
    found: dict[str, Any] = {"lock_seconds": LOCK_SECONDS, "goal_p99": GOAL_SECONDS}
    for arm, count in (kills or KILLS).items():
        with tempfile.TemporaryDirectory() as folder:
            found[arm] = asyncio.run(_arm(Path(folder), arm, count, Random(f"{arm}/{seed}")))
    return found


async def _arm(folder: Path, arm: str, kills: int, chance: Random) -> dict[str, Any]:
    async with _running(folder) as stack:
        run = _Run(stack, chance)
        for _ in range(kills):
            await run.all_mining()
            await asyncio.sleep(chance.uniform(*UP_SECONDS))
            await (run.kill_worker() if arm == "worker" else run.kill_host())
        return {"kills": kills, **summary(run.seconds), "unfinished": run.unfinished}


@asynccontextmanager
async def _running(folder: Path) -> AsyncIterator[Stack]:
    graph = ["--seed", "8", "--users", str(USERS), "--posts", str(POSTS), "--spread", "60d", "--time-scale", "60"]
    settings = {**AT_A_DESK, "TOKEN_KEY": new_key(), "FEEDS_ENABLED": "posts"}
    wanted = Wanted(workers=1, graph=graph, rest=None, settings=settings, lock_seconds=LOCK_SECONDS)
    stack = Stack(Places(folder, free_ports()), wanted)
    try:
        await stack.start()
        await wards.import_all(stack)
        await stack.graph.send("POST", "/__sim/faults", {"kind": "slow", "seconds": LATENCY_SECONDS})
        yield stack
    finally:
        await stack.stop()


class _Run:
    """Kills, and what came of them. `unfinished` counts chains that did not move within the patience."""

    def __init__(self, stack: Stack, chance: Random) -> None:
        self.seconds: list[float] = []
        self.unfinished = 0
        self._stack = stack
        self._chance = chance

    async def all_mining(self) -> None:
        """Order everything anew when half of the users have nothing under way, and wait until they have."""
        end = time.monotonic() + PATIENCE_SECONDS
        while len({chain[0] for chain in self._open()}) <= USERS // 2:
            await self._stack.product.run("mine", "posts", "--since", HISTORY)
            await asyncio.sleep(1.0)
            if time.monotonic() > end:
                states = self._rows("SELECT lane, state, reason, last_error, count(*) FROM chains GROUP BY 1, 2, 3, 4")
                raise RuntimeError(f"nothing is mined: {states}")

    async def kill_worker(self) -> None:
        """Kill the worker, and wait for every chain that it had in hand."""
        (worker,) = await self._stack.workers()
        in_flight, at = self._open(), time.time()
        os.kill(worker, signal.SIGKILL)
        await self._recovered(in_flight, at)

    async def kill_host(self) -> None:
        """Kill the host, with which its worker ends, and start it again as a platform does."""
        in_flight, at = self._open(), time.time()
        await self._stack.processes["host"].kill()
        await asyncio.gather(self._stack.processes["host"].start(), self._recovered(in_flight, at))

    async def _recovered(self, waiting: set[Chain], at: float) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while waiting and time.monotonic() < end:
            moved = {chain: when for chain, when in self._commits(since=at).items() if chain in waiting}
            self.seconds += [when - at for when in moved.values()]
            waiting -= moved.keys()
            await asyncio.sleep(POLL_SECONDS)
        self.unfinished += len(waiting)

    def _open(self) -> set[Chain]:
        rows = self._rows("SELECT user_id, feed, scope, lane FROM chains WHERE state = 'open'")
        return {(user, feed, scope, lane) for user, feed, scope, lane in rows}

    def _commits(self, *, since: float) -> dict[Chain, float]:
        rows = self._rows(
            "SELECT user_id, feed, scope, lane, committed_at FROM chains WHERE committed_at > ?", int(since * MICROS)
        )
        return {(user, feed, scope, lane): at / MICROS for user, feed, scope, lane, at in rows}

    def _rows(self, statement: str, *values: object) -> list[Any]:
        with closing(connect(f"file:{self._stack.places.database}?mode=ro", uri=True, timeout=5)) as connection:
            return connection.execute(statement, values).fetchall()


def summary(values: Sequence[float]) -> dict[str, float | int]:
    """Give how many, the median, the 99th percentile (the nearest rank above) and the largest."""
    if not values:
        return {"chains": 0}
    ordered = sorted(values)
    return {
        "chains": len(ordered),
        "p50": round(statistics.median(ordered), 2),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 2),
        "max": round(ordered[-1], 2),
    }


if __name__ == "__main__":
    chosen = {arm: int(count) for arm, _, count in (argument.partition("=") for argument in sys.argv[1:])}
    sys.stdout.write(json.dumps(measure(kills=chosen or None), indent=2) + "\n")
