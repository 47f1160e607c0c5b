"""The running box, and what injectors need of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import httpx
from azure.servicebus.aio import ServiceBusClient

from infra.local.run.processes import DidNotStart
from infra.local.run.product import CommandFailed
from infra.local.run.stack import Stack

MOST_DEATHS = 20
"""Workers that may die before the host itself is started anew: it lets those that die at their start wait longer."""

START_TRIES = 3

IN_MOTION_SECONDS = 2.0
"""A chain that committed or was rung so shortly before a kill was being worked on, or next in the queue."""


class Kill(NamedTuple):
    """What was killed (worker or host), when, and the chains that were in motion then."""

    what: str
    at: float
    chains: list[tuple[Any, ...]]


@dataclass
class Scene:
    """One run's box. `users` are ids; `host_lock` keeps those apart who stop and start the host."""

    stack: Stack
    chance: Random
    users: Sequence[str] = ()
    orders: Path = field(default=Path())
    deaths: int = 0
    host_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    bus_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    redis_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    dump: dict[bytes, bytes] = field(default_factory=dict)
    """Redis as it was once."""
    renewals: set[str] = field(default_factory=set)
    """Users whose token died and who give a new one later."""
    kills: list[Kill] = field(default_factory=list)
    forgetful: bool = False
    """Whether the bus lost its memory and nobody could republish yet."""
    notes: list[str] = field(default_factory=list)
    """What went wrong beside the faults; an unexpected end of a process, a command that failed."""

    @property
    def mining_queues(self) -> list[str]:
        """Give the queues of doorbells."""
        return [name for name in self._queues() if "mining" in name or "parser" in name]

    @property
    def data_queues(self) -> list[str]:
        """Give the subscribers' queues."""
        return [name for name in self._queues() if name not in self.mining_queues]

    @property
    def topics(self) -> list[str]:
        """Give the topics."""
        return [topic["Name"] for topic in self._namespace()["Topics"]]

    def properties_of(self, queue: str) -> dict[str, Any]:
        """Give the properties with which a queue was made."""
        found = next(one for one in self._namespace()["Queues"] if one["Name"] == queue)
        return dict(found["Properties"])

    def _queues(self) -> list[str]:
        return [queue["Name"] for queue in self._namespace()["Queues"]]

    def _namespace(self) -> Any:
        config = json.loads((self.stack.places.folder / "Config.json").read_text())
        return config["UserConfig"]["Namespaces"][0]

    async def worker(self) -> int:
        """Give the process id of a worker that runs, or 0."""
        with contextlib.suppress(httpx.HTTPError):
            workers = await self.stack.workers()
            if workers:
                return int(self.chance.choice(workers))
        return 0

    def killed(self, what: str) -> None:
        """Note a death, and the chains that it may have stopped."""
        now = time.time()
        since = int((now - IN_MOTION_SECONDS) * 1_000_000)
        chains = self.rows(
            "SELECT user_id, feed, scope, lane FROM chains WHERE state = 'open' AND max(committed_at, rung_at) > ?",
            since,
        )
        self.kills.append(Kill(what, now, chains))
        self.deaths += 1

    async def restart(self, name: str) -> None:
        """Start a process that was ended; a machine with much to do may need a second try."""
        process = self.stack.processes[name]
        for left in reversed(range(START_TRIES)):
            try:
                await process.start()
            except DidNotStart:
                await process.kill()
                if not left:
                    raise
            else:
                break
        if name == "host":
            self.deaths = 0

    async def command(self, *arguments: str) -> bool:
        """Run a command of the product, as a person would; one that meets a fault is tried again."""
        for _ in range(START_TRIES):
            try:
                await self.stack.product.run(*arguments)
            except CommandFailed as error:
                self.notes.append(f"command: {str(error)[:200]}")
            else:
                return True
        return False

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Read the pipeline's own tables; empty while they are locked."""
        path = self.stack.places.database
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2)) as connection:
            try:
                return connection.execute(statement, values).fetchall()
            except sqlite3.OperationalError:
                return []

    def client(self) -> ServiceBusClient:
        """Open a client of the bus."""
        return ServiceBusClient.from_connection_string(self.stack.places.connection, retry_total=1)


def send_signal(pid: int, number: signal.Signals) -> bool:
    """Send a signal; False if the process is gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
