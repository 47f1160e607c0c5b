"""One run: start, be troubled (safety), be left alone (liveness), be judged."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import httpx
from azure.servicebus.exceptions import ServiceBusError
from redis.exceptions import RedisError

from infra.local.run import users as wards
from infra.local.run.delivered import Lake
from infra.local.run.places import ROOT, Places, free_ports
from infra.local.run.product import CommandFailed
from infra.local.run.stack import Stack, Wanted
from infra.local.run.truth import checked_feeds
from pipeline.failpoints import VARIABLE
from tests.chaos import verdict
from tests.chaos.canaries import Canaries
from tests.chaos.failpoints import Failpoints
from tests.chaos.faults import KINDS, LEFT_OUT, Kind, bag
from tests.chaos.people import People
from tests.chaos.provoke import provoke
from tests.chaos.recovery import Recovery
from tests.chaos.scales import AT_A_DESK, LOCK_SECONDS, SCALES, Scale
from tests.chaos.scene import Scene

POISONED = 3
"""The user with one item that is spoiled for good: it must never arrive."""

RENEW_SECONDS = 5.0
INJECT_TRIES = 3
ORDER_AGAIN_SECONDS = 60.0
LOOK_SECONDS = 1.5
HISTORY = "400d"
REACHABLE = (httpx.HTTPError, RedisError, ServiceBusError, OSError, CommandFailed)
"""What an injector may meet because of another one; such a fault is not counted."""

Say = Callable[[str], None]


class Chaos:
    """Runs once; `folder` keeps state and logs."""

    def __init__(self, seed: int, scale: str, folder: Path, say: Say = print) -> None:
        self.seed, self.scale_name = seed, scale
        self.scale: Scale = SCALES[scale]
        self._chance = Random(f"chaos/{seed}")
        self._say = say
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        orders = folder / "failpoint"
        self.canaries = Canaries()
        places = Places(folder, free_ports())
        self.stack = Stack(places, _wanted(self.scale, seed, orders, self.canaries, places))
        self.scene = Scene(self.stack, self._chance)
        self.points = Failpoints(orders, self._chance, partial(provoke, self.scene))
        self.recovery = Recovery(self.scene)
        self.done: Counter[str] = Counter()
        self.not_done: Counter[str] = Counter()
        self._lake = Lake(self.stack.places.lake)
        self._feeds: list[Any] = []
        self._seconds: dict[str, float] = {}
        self._started = time.monotonic()

    async def run(self) -> dict[str, Any]:
        """Do it; gives what `--json` writes. Raises DidNotStart when the box itself does not work."""
        try:
            people = await self._timed("start", self._start())
            watching = asyncio.create_task(self.recovery.watch())
            try:
                await self._timed("safety", self._safety(people))
                matched = await self._timed("liveness", self._liveness(people))
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
            result: dict[str, Any] = await self._timed("judgement", self._judge(people, matched=matched))
            await self._timed("harvest", self.canaries.harvest(self.stack))
        finally:
            await self.stack.stop()
        places = self.stack.places
        told = await self._timed("grep", self.canaries.judge(places.folder, places.database))
        quiet = told["found"] == 0 and told["control"] == "red"
        seconds = {**self._seconds, "all": round(self._age(), 1)}
        return result | {"valid": result["valid"] and quiet, "canaries": told, "seconds": seconds}

    async def _timed(self, name: str, work: Coroutine[Any, Any, Any]) -> Any:
        started = time.monotonic()
        try:
            return await work
        finally:
            self._seconds[name] = round(time.monotonic() - started, 1)

    async def _start(self) -> People:
        listed, _ = await asyncio.gather(self.stack.product.run("feeds", "--json"), self.stack.start_backing())
        self._feeds = checked_feeds(listed)
        people = People(self.stack, self._feeds, Random(f"people/{self.seed}"))
        self.scene.users = people.users = await self.canaries.plant_tokens(self.stack)
        await asyncio.gather(people.remember_all(), self._poison(), self.stack.start_host())
        await self.stack.product.run("mine", "posts")
        self._say(f"started: {len(people.users)} users, feeds {', '.join(feed.feed for feed in self._feeds)}")
        return people

    async def _poison(self) -> None:
        user = self.scene.users[POISONED]
        rows = (await self.stack.graph.get("/__sim/truth", user=user, edge="posts"))["rows"]
        rule = {"kind": "malformed_item", "user": user, "ids": [rows[len(rows) // 2]["id"]], "how": "created_junk"}
        await self.stack.graph.send("POST", "/__sim/faults", rule)

    # ---------------------------------------------------------------------------------------------------- safety

    async def _safety(self, people: People) -> None:
        beside = [
            asyncio.create_task(self._again(people.do_something, self.scale.people_seconds)),
            asyncio.create_task(self._again(self._renew, RENEW_SECONDS)),
            asyncio.create_task(self._again(self._order, self.scale.order_seconds)),
            asyncio.create_task(self._report()),
        ]
        gate = asyncio.Semaphore(self.scale.together)
        running: set[asyncio.Task[None]] = set()
        end = time.monotonic() + self.scale.safety_seconds
        try:
            for kind in bag(self._chance, self.scale.faults):
                await gate.acquire()
                if time.monotonic() > end:
                    break
                task = asyncio.create_task(self._inject(kind, gate))
                running.add(task)
                task.add_done_callback(running.discard)
                await asyncio.sleep(self._chance.expovariate(1 / self.scale.pause_seconds))
            await asyncio.gather(*running)
            await self.points.settle()
        finally:
            for each in beside:
                each.cancel()
            await asyncio.gather(*beside, *running, return_exceptions=True)

    async def _inject(self, kind: Kind, gate: asyncio.Semaphore) -> None:
        try:
            for _ in range(INJECT_TRIES):
                if await self._done(kind):
                    self.done[kind.name] += 1
                    return
                await asyncio.sleep(1)
            self.not_done[kind.name] += 1
        finally:
            gate.release()

    async def _done(self, kind: Kind) -> bool:
        try:
            return await kind.inject(self.scene, self.points)
        except REACHABLE as error:
            self.scene.notes.append(f"{kind.name}: {type(error).__name__}")
            return False

    async def _again(self, work: Callable[[], Awaitable[None]], seconds: float) -> None:
        while True:
            await asyncio.sleep(self._chance.uniform(0.5, 1.5) * seconds)
            with contextlib.suppress(httpx.HTTPError):
                await work()

    async def _renew(self) -> None:
        """Users whose token died give new ones."""
        if self.scene.renewals:
            self.scene.renewals.clear()
            await self._import()

    async def _import(self) -> None:
        for user in (await self.stack.graph.get("/__sim/world"))["users"]:
            if not user["token_valid"]:
                await self.stack.graph.send("POST", f"/__sim/users/{user['id']}/token", {"action": "rotate"})
        for _ in range(3):
            with contextlib.suppress(CommandFailed):
                await wards.import_all(self.stack)
                return

    async def _order(self) -> None:
        await self.scene.command("mine", "posts", "--since", HISTORY)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(15)
            self._say(f"{self._age():4.0f} s  {sum(self.done.values())} of {self.scale.faults} faults")

    def _age(self) -> float:
        return time.monotonic() - self._started

    # -------------------------------------------------------------------------------------------------- liveness

    async def _liveness(self, people: People) -> bool:
        """Lift everything, do what a person would do after such a day, and wait for the truth."""
        self._say(f"{self._age():4.0f} s  faults end after {sum(self.done.values())}")
        await self._lift()
        await self._import()
        if self.scene.forgetful:
            await self.scene.command("republish")
        await self.scene.command("recover")
        end, missing, ordered = time.monotonic() + self.scale.liveness_seconds, "", float("-inf")
        while time.monotonic() < end:
            if time.monotonic() - ordered > ORDER_AGAIN_SECONDS:
                # An order that meets one which still runs adds nothing to it: what was bad when it passed stays away.
                await self._order()
                ordered = time.monotonic()
            while await asyncio.to_thread(self._lake.look):
                pass
            rows, now = await people.truth()
            judged = verdict.progress(rows, self._lake.delivered, now)
            if judged.matched and not self._tables() and not self._unsent():
                return True
            if judged.text() != missing:
                missing = judged.text()
                self._say(f"{self._age():4.0f} s  {missing}; {self._unsent()} unsent")
            await asyncio.sleep(LOOK_SECONDS)
        self._say(f"{self._age():4.0f} s  not the truth in time: {judged.text()}")
        return False

    async def _lift(self) -> None:
        poison = [rule for rule in (await self.stack.graph.get("/__sim/faults"))["faults"] if "ids" in rule]
        await self.stack.graph.send("DELETE", "/__sim/faults")
        await self.stack.graph.send("DELETE", "/__sim/mutate")
        for rule in poison:
            kept = {name: rule[name] for name in ("kind", "user", "ids", "how")}
            await self.stack.graph.send("POST", "/__sim/faults", kept)
        await self.stack.rest.send("DELETE", "/__sim/faults")
        await self.stack.bus.send("DELETE", "/emulator/faults")
        for name, process in self.stack.processes.items():
            if process.lost:
                self.scene.notes.append(f"{name} had ended by itself")
                await self.scene.restart(name)

    def _tables(self) -> dict[str, int]:
        names = [feed.feed for feed in self._feeds if feed.edge]
        return verdict.tables_that_differ(self.stack.places.database, self._lake.delivered, names)

    def _unsent(self) -> int:
        rows = self.scene.rows("SELECT count(*) FROM outbox WHERE sent_at IS NULL")
        return int(rows[0][0]) if rows else -1

    # ------------------------------------------------------------------------------------------------- judgement

    async def _judge(self, people: People, *, matched: bool) -> dict[str, Any]:
        rows, now = await people.truth()
        judged = await verdict.ask_checker(rows, self.stack.places.lake, self._folder, seed=self.seed, now=now)
        calls = await self.stack.graph.get("/__sim/calls")
        quarantine = self.scene.rows("SELECT kind, reason, count(*) FROM quarantine GROUP BY kind, reason")
        chains = self.scene.rows("SELECT state, count(*) FROM chains GROUP BY state")
        differ = self._tables()
        valid = bool(judged["valid"]) and judged["exit_code"] == 0 and matched and not differ
        return {
            "valid": valid,
            "seed": self.seed,
            "scale": self.scale_name,
            "commit": _commit(),
            "repeat": f"make chaos SEED={self.seed} SCALE={self.scale_name}",
            "items": len(rows),
            "lost": judged["lost"],
            "twice": judged["duplicated"],
            "checker": judged,
            "tables_that_differ": differ,
            "liveness_in_time": matched,
            "faults": sum(self.done.values()),
            "faults_by_kind": self._by_kind(),
            "left_out": LEFT_OUT,
            "deeds_of_people": people.deeds,
            "failpoints": self.points.report(),
            "recovery_seconds": self.recovery.report(),
            "api": {name: calls[name] for name in ("total", "throttled", "token_in_query", "cross_user")},
            "api_faults_met": _each(calls["by_fault"]),
            "quarantine": {f"{kind}: {reason}": count for kind, reason, count in quarantine},
            "chains": dict(chains),
            "starts": {name: process.starts for name, process in self.stack.processes.items()},
            "notes": Counter(self.scene.notes),
        }

    def _by_kind(self) -> list[dict[str, Any]]:
        return [
            {"kind": kind.name, "model": kind.numbers, "done": self.done[kind.name], "void": self.not_done[kind.name]}
            for kind in KINDS
        ]


def _wanted(scale: Scale, seed: int, orders: Path, canaries: Canaries, places: Places) -> Wanted:
    common = ["--seed", str(seed), "--time-scale", "60", "--users", str(scale.users)]
    common += ["--spread", f"{scale.spread_days}d"]
    graph = [*common, "--posts", str(scale.posts), "--ads", str(scale.ads), "--comments", "0"]
    settings = {**canaries.settings(places), VARIABLE: f"@{orders}", **AT_A_DESK, **scale.settings}
    rest = [*common, "--transactions", str(scale.transactions)]
    return Wanted(
        graph=graph,
        rest=rest,
        settings=settings,
        lock_seconds=LOCK_SECONDS,
        redis_secret=canaries.redis_secret,
    )


def _each(by_fault: Mapping[str, int]) -> dict[str, int]:
    """Count each kind for itself; a call may meet several."""
    found: Counter[str] = Counter()
    for names, count in by_fault.items():
        for name in set(names.split(",")):
            found[name] += count
    return dict(found.most_common())


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, timeout=10, check=False
    )
    return done.stdout.strip() or "unknown"
