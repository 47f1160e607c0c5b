"""The whole box for tests: the local stack with a subscriber of the test's own, and what it must hold in the end."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import csv
import os
import random
import signal
import sys
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusClient

from infra.local.run.compare import Copy, Delivered, Key, Verdict, compare, digest, facts
from infra.local.run.places import ROOT, Places, free_ports
from infra.local.run.stack import Stack, Wanted
from pipeline.feeds import load_feeds
from pipeline.storage.tokens import new_key

QUEUE = "box-queue"
POLL_SECONDS = 0.25
CHECKER_SECONDS = 60.0

AT_A_DESK = {
    "GRAPH_MINUTE_SECONDS": "1",
    "SETTLE_SECONDS": "2",
    "TOKEN_RECHECK_SECONDS": "2",
    "API_DOWN_SECONDS": "1",
    "WATCHDOG_SCHEDULE": "*/2 * * * * *",
    "RELAY_SCHEDULE": "*/2 * * * * *",
}
"""Minutes as seconds, so that what waits for an hour in the cloud waits for a moment here."""


class Box:
    """A running stack whose topics also feed a queue that the test reads."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.delivered = Delivered()
        self.kills = 0
        self._feeds = load_feeds()
        self._received = stack.places.folder / "received.jsonl"

    async def import_users(self, *only: str) -> None:
        """Store the simulator's users with their present tokens, as a person would: from a CSV file."""
        world = await self.stack.graph.get("/__sim/world")
        users = [user for user in world["users"] if not only or user["id"] in only]
        path = self.stack.places.folder / "users.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("user_id", "token", "source"))
            writer.writerows((user["id"], user["token"], "graph") for user in users)
        await self.stack.product.run("users", "import", str(path))
        path.unlink()

    async def faults(self, *wanted: Mapping[str, Any]) -> None:
        """Put faults of the Graph simulator in force."""
        await self.stack.graph.send("POST", "/__sim/faults", list(wanted))

    async def heal(self) -> None:
        """Lift them all."""
        await self.stack.graph.send("DELETE", "/__sim/faults")

    async def calls(self, user: str) -> int:
        """Give how many calls the Graph simulator got with a user's tokens."""
        counted = await self.stack.graph.get("/__sim/calls")
        return int(counted["by_user"].get(user, 0))

    async def verdict(self, feed: str, edge: str, *, leave_out: Sequence[str] = ()) -> Verdict:
        """Compare what arrived of one feed with the truth; `leave_out` are users that need not be complete yet."""
        query = {"edge": edge, "fields": self._feeds[feed].fields}
        rows = (await self.stack.graph.get("/__sim/truth", **query))["rows"]
        truth = facts(feed, (row for row in rows if row["user"] not in leave_out))
        part = Delivered(
            latest={
                key: got for key, got in self.delivered.latest.items() if key.feed == feed and key.user not in leave_out
            },
            twice=self.delivered.twice,
        )
        return compare(truth, part)

    async def checked(self, feed: str, edge: str) -> tuple[int, str]:
        """Have the checker, a process of its own that shares no code with us, judge; gives its exit code and words."""
        answer = await self.stack.graph.get("/__sim/truth", edge=edge, fields=self._feeds[feed].fields)
        truth = self.stack.places.folder / "truth.json"
        truth.write_bytes(orjson.dumps(answer))
        checker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.checker", "--truth", str(truth), "--received", str(self._received),
            cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await asyncio.wait_for(checker.communicate(), CHECKER_SECONDS)
        assert checker.returncode is not None
        return checker.returncode, said.decode()

    async def until_equal(self, feed: str, edge: str, *, seconds: float, leave_out: Sequence[str] = ()) -> Verdict:
        """Wait until the subscriber holds the truth; gives the last verdict, matched or not."""
        end = time.monotonic() + seconds
        verdict = await self.verdict(feed, edge, leave_out=leave_out)
        while not verdict.matched and time.monotonic() < end:
            await asyncio.sleep(POLL_SECONDS)
            verdict = await self.verdict(feed, edge, leave_out=leave_out)
        return verdict

    async def dead_letters(self) -> dict[str, int]:
        """Give every entity that holds a dead letter."""
        entities = await self.stack.bus.get("/emulator/entities")
        counts = {**entities["queues"]}
        for topic, found in entities["topics"].items():
            counts |= {f"{topic}/{name}": each for name, each in found["subscriptions"].items()}
        return {
            name: each["deadLetter"] + each["transferDeadLetter"]
            for name, each in counts.items()
            if each["deadLetter"] + each["transferDeadLetter"]
        }

    @contextlib.asynccontextmanager
    async def killing_workers(self, *, seed: int, times: int, pause: tuple[float, float]) -> AsyncIterator[None]:
        """
        Kill a worker of the host at random moments (SIGKILL) while the block lasts.

        `times` is a bound: the host starts a worker that dies again and again only after a growing pause.
        """
        task = asyncio.create_task(self._kill_now_and_then(random.Random(seed), times, pause))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _kill_now_and_then(self, chance: random.Random, times: int, pause: tuple[float, float]) -> None:
        while self.kills < times:
            await asyncio.sleep(chance.uniform(*pause))
            workers = await self.stack.workers()
            if workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(workers), signal.SIGKILL)
                    self.kills += 1

    async def subscribe(self) -> None:
        """Read the test's queue for ever; completes a message only after it was noted."""
        async with (
            ServiceBusClient.from_connection_string(self.stack.places.connection) as client,
            client.get_queue_receiver(QUEUE) as receiver,
        ):
            while True:
                for message in await receiver.receive_messages(max_message_count=50, max_wait_time=1):
                    self._note(message)
                    await receiver.complete_message(message)

    def _note(self, message: ServiceBusReceivedMessage) -> None:
        for copy in copies(message):
            self.delivered.add(copy)
        body = base64.b64encode(b"".join(bytes(part) for part in message.body)).decode()
        line = {"messageId": str(message.message_id), "body": body, "contentEncoding": "zlib"}
        with self._received.open("ab") as file:
            file.write(orjson.dumps(line) + b"\n")


def copies(message: ServiceBusReceivedMessage) -> list[Copy]:
    """Read a data message as any subscriber would, from the public contract alone."""
    body = b"".join(bytes(part) for part in message.body)
    properties = message.application_properties or {}
    if properties.get(b"contentEncoding") in (b"zlib", "zlib"):
        body = zlib.decompress(body)
    content = orjson.loads(body)
    head = (content["feed"], content["userId"], content["scope"])
    return [
        Copy(Key(*head, item["id"]), item["revision"], item["op"], str(message.message_id), digest(item["raw"]))
        for item in content["jsonDataArray"]
    ]


@contextlib.asynccontextmanager
async def running_box(
    folder: Path, *, graph: Sequence[str], settings: Mapping[str, str], lock_seconds: int = 15
) -> AsyncIterator[Box]:
    """Run a box until the block ends; the logs stay in `folder/logs`."""
    wanted = Wanted(
        graph=graph,
        rest=None,
        settings={"TOKEN_KEY": new_key(), **AT_A_DESK, **settings},
        lock_seconds=lock_seconds,
        extra_queues={"box": QUEUE},
    )
    stack = Stack(Places(folder, free_ports()), wanted)
    box = Box(stack)
    try:
        await stack.start()
        reading = asyncio.create_task(box.subscribe())
        try:
            yield box
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
    finally:
        await stack.stop()


async def until(holds: Callable[[], Awaitable[bool]], *, seconds: float, what: str) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < end, f"{what} did not come to hold within {seconds:.0f} s"
        await asyncio.sleep(POLL_SECONDS)
