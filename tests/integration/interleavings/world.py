"""One world: a bus, an API with a known truth, a clock, workers whose steps a seeded scheduler chooses."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.bootstrap import Pipeline
from pipeline.bus.messages import Outgoing, Received
from pipeline.chains.protocol import Chain, Key, Lane
from pipeline.errors import BusUnavailable, RetryLater
from pipeline.miners.mine import Miner
from pipeline.miners.pressure import Pressure
from pipeline.operations.watchdog import Watchdog
from pipeline.processors.data_messages import encode
from pipeline.processors.read_items import read_page
from pipeline.sources.base import Fault, FaultKind, Page, PageRequest, ScopeRef, Token
from pipeline.storage import pages
from tests.fakes import MICROS, ManualClock, iso
from tests.integration.interleavings.configs import Config
from tests.integration.interleavings.oracle import Oracle
from tests.integration.interleavings.steps import HintCache, InlineDatabase, Violation, WorkerKilled, point, run_alone

UNIT = 60
START = 1_700_000_040  # a whole minute
QUEUES = ("entries-mining-queue-local", "replies-mining-queue-local")

WEIGHTS = {
    "step": 30, "deliver": 14, "time": 3, "tick": 5, "watchdog": 2, "relay": 2, "crash": 1.5, "lose_lock": 2,
    "expire": 4, "purge": 0.6, "new": 2, "late": 1, "delete": 1.5, "edit": 1.5, "throttle": 1, "flush_cache": 0.5,
    "unknown": 0.7, "refuse": 0.7, "lost_ack": 0.7, "reply": 3, "late_reply": 3, "early": 1, "cure": 0.3,
}  # fmt: skip


@dataclass
class Slot:
    """A message in a queue."""

    number: int
    entity: str
    message: Outgoing
    visible_at: int
    lock: int | None = None
    deliveries: int = 0


@dataclass
class Truth:
    """An item as it really is. `version` counts edits."""

    id: str
    scope: str
    time: int
    visible_at: int
    hidden: bool = False
    version: int = 0
    replies: int = 0
    deleted: bool = False
    need: tuple[str, int] | None = None
    """A reply: its parent, and the parent's version that counts it."""

    def raw(self) -> dict[str, Any]:
        """Give it as the API does."""
        return {"id": self.id, "created_time": iso(self.time), "v": self.version, "replies": self.replies}


@dataclass
class Worker:
    """A process that works on one thing."""

    work: Coroutine[Any, Any, Any] | None
    label: str
    slot: Slot | None = None
    token: int = 0
    failed: bool = False


@dataclass(eq=False)
class World:
    """Everything outside the handlers, and the scheduler."""

    config: Config
    pipeline: Pipeline
    database: InlineDatabase
    clock: ManualClock
    seed: int = 0
    trace: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        config = self.config
        self.rng = random.Random(self.seed)
        self.clock.now = (START + config.now * UNIT) * MICROS + 500_000
        self.left = dict(config.events)
        self.slots: list[Slot] = []
        self.seen: set[tuple[str, str]] = set()
        self.dead: list[Slot] = []
        self.numbers = itertools.count(1)
        self.workers: list[Worker | None] = [None] * config.workers
        self.calls = self.wasted = self.dropped = 0
        self.throttled = self.lost_ack = False
        self.poison = {f"i{number}" for number in config.poison}
        self.truth: dict[tuple[str, str], Truth] = {}
        self.cache = HintCache()
        self.quiet = False
        for user in range(config.users):
            for number, moment in enumerate(config.items):
                self._put(f"u{user}", START + moment * UNIT, 0, hidden=number in config.hidden)
        self.oracle = Oracle(self)
        self.database.after = self.oracle.after
        self.database.unknown = self.database.refuse = False
        self.pressure = Pressure(self.database, self.pipeline.settings, self._monotonic)
        self.pipeline.bus.world = self  # type: ignore[attr-defined]  # the bus of the tests stands for any world
        self.pipeline.sources["graph"].world = self  # type: ignore[attr-defined]
        tools = self.pipeline.miner.tools
        cache = self.cache if config.cache else tools.cache
        self.miner = Miner(replace(tools, clock=self._monotonic, pressure=self.pressure, cache=cache))
        hasty = self.pipeline.settings.model_copy(update={"lock_seconds": 0.0})
        self.hasty_watchdog = Watchdog(self.database, self.pipeline.flusher, self.pipeline.plans, hasty)
        for user in range(config.users):
            self._store_newest(f"u{user}")

    def _monotonic(self) -> float:
        return self.clock.now / MICROS

    # ---------------------------------------------------------------------------------------------------- the truth

    def _put(self, scope: str, moment: int, lag: int, *, hidden: bool = False, prefix: str = "i") -> Truth:
        number = sum(1 for one in self.truth.values() if one.scope == scope)
        item = Truth(f"{prefix}{number}", scope, moment, (moment + lag) * MICROS, hidden)
        if prefix == "i" and number in self.config.parents:
            item.replies = 0
        self.truth[(scope, item.id)] = item
        return item

    def _born(self, lag: int) -> None:
        item = self._put(f"u{self.rng.randrange(self.config.users)}", self.clock.now // MICROS, lag)
        item.visible_at = self.clock.now + lag * MICROS
        self.oracle.honest()

    def _reply(self, lag: int) -> None:
        parent = self.truth[("u0", f"i{self.rng.choice(self.config.parents)}")]
        reply = self._put(parent.id, self.clock.now // MICROS, lag, prefix="r")
        reply.visible_at = self.clock.now + lag * MICROS
        parent.replies += 1
        parent.version += 1
        reply.need = (parent.id, parent.version)
        self.oracle.honest()

    def _store_newest(self, user: str) -> None:
        """Store the newest items as a live event does: items and data messages, no coverage."""
        newest = sorted((one for one in self.truth.values() if one.scope == user), key=lambda one: -one.time)
        if not self.config.stored:
            return
        plan = self.pipeline.plans["entries"]
        chain = Chain(key=Key(user, "entries", user, Lane.MAIN))
        raws = [one.raw() for one in newest[: self.config.stored]]
        found = read_page(plan.feed, raws, observed=self.clock.now).candidates

        def encoded(accepted: Any, nonce: str) -> list[Outgoing]:
            return encode(plan.feed, plan.topic, chain, accepted, nonce, capture="live")

        unit = pages.commit_items
        held = self.database.write_here("live", unit, chain, plan.feed, found, [], self.clock.now, encoded)
        run_alone(self.pipeline.flusher.send(held))

    # ---------------------------------------------------------------------------------------------------- the API

    async def fetch(self, request: PageRequest) -> Page | Fault:
        """Give one page, newest first; a cursor names an item and dies with it; `until` is inclusive."""
        await point("fetch")
        self.calls += 1
        if self.throttled:
            self.throttled = False
            self.wasted += 1
            return Fault(kind=FaultKind.THROTTLED, wait=2 * UNIT, calls=1)
        listing = sorted(
            (
                one
                for one in self.truth.values()
                if one.scope == request.scope and not one.deleted and one.visible_at <= self.clock.now
            ),
            key=_order,
            reverse=True,
        )
        if request.cursor is not None:
            last = self.truth[(request.scope, request.cursor)]
            if last.deleted:
                self.wasted += 1
                return Fault(kind=FaultKind.INVALID_CURSOR, code="100", calls=1)
            listing = [one for one in listing if _order(one) < _order(last)]
        elif request.until is not None and self.config.by_time:
            listing = [one for one in listing if one.time <= request.until]
        page = listing[: self.config.page]
        cursor = page[-1].id if len(listing) > len(page) else None
        if any(one.id in self.poison for one in page):
            self.wasted += 1
            raise WorkerKilled
        shown = [one.raw() for one in page if not one.hidden]
        return Page(items=shown, cursor=cursor, limit=self.config.page)

    async def fetch_item(self, item_id: str, scope: str) -> Any | Fault:
        """Read one item by id."""
        await point("fetch")
        self.oracle.reads += 1
        item = self.truth[(scope, item_id)]
        return Fault(kind=FaultKind.GONE, code="100", calls=1) if item.deleted else item.raw()

    # ---------------------------------------------------------------------------------------------------- the bus

    async def send(self, entity: str, messages: Sequence[Outgoing]) -> None:
        """Take messages one by one: a crash may split a batch. Duplicate detection never forgets."""
        for message in messages:
            await point("send")
            self.accept(entity, message)
        if self.lost_ack:
            self.lost_ack = False
            raise BusUnavailable("the answer was lost")

    def accept(self, entity: str, message: Outgoing) -> None:
        """Put one message into its queue or topic."""
        if (entity, message.message_id) in self.seen:
            self.dropped += 1
            return
        self.seen.add((entity, message.message_id))
        if "-topic-" in entity:
            self.oracle.published(message)
        else:
            self.slots.append(Slot(next(self.numbers), entity, message, max(message.due, self.clock.now)))

    def unlock(self, slot: Slot) -> None:
        """Let a lock expire; too many deliveries end in the dead-letter queue."""
        slot.lock = None
        if slot.deliveries >= self.config.max_deliveries and not self.quiet:
            self.slots.remove(slot)
            self.dead.append(slot)

    # ---------------------------------------------------------------------------------------------------- workers

    def deliver(self, slot: Slot, place: int) -> None:
        """Lock a message and start a handler."""
        slot.deliveries += 1
        slot.lock = token = next(self.numbers)
        received = Received(
            slot.entity,
            slot.message.message_id,
            slot.message.body,
            slot.message.properties,
            slot.visible_at,
            slot.deliveries,
        )
        self.workers[place] = Worker(self.miner.handle(received), f"message {slot.number}", slot, token)

    def step(self, place: int) -> None:
        """Let one worker go on to its next choice point, or settle its message."""
        worker = self.workers[place]
        assert worker is not None
        if worker.work is None:
            self.workers[place] = None
            slot = worker.slot
            if slot is not None and slot in self.slots and slot.lock == worker.token:
                if worker.failed:
                    self.unlock(slot)
                else:
                    self.slots.remove(slot)
            return
        try:
            worker.work.send(None)
        except StopIteration:
            worker.work = None
        except WorkerKilled:
            self.workers[place] = None
        except Violation:
            raise
        except Exception as error:
            timer = worker.slot is None  # a timer may fail: its next run does the same work
            if not isinstance(error, RetryLater if timer else BusUnavailable):
                raise Violation(f"{worker.label} raised {type(error).__name__}: {error}") from error
            worker.work, worker.failed = None, True

    def crash(self, place: int) -> None:
        """Kill a worker: what it has committed and sent stays, nothing else."""
        worker = self.workers[place]
        assert worker is not None
        if worker.work is not None:
            worker.work.close()
        self.workers[place] = None

    def tick(self, user: str) -> None:
        """Fan out one tick for a user, as a schedule that fell due now does."""
        self.clock.now += 1
        with contextlib.suppress(BusUnavailable):  # the message was taken, its answer lost
            run_alone(self.pipeline.fan_out.ordered(self.pipeline.plans["entries"], only_user=user))

    # ---------------------------------------------------------------------------------------------------- choices

    def actions(self) -> list[tuple[float, str, Callable[[], None]]]:
        """Give what may happen now, with its weight."""
        found: list[tuple[float, str, Callable[[], None]]] = []

        def may(kind: str, label: str, act: Callable[[], None], *, budgeted: bool = True) -> None:
            if not budgeted or self.left.get(kind, 0) > 0:
                found.append((WEIGHTS[kind], f"{kind} {label}", act))

        free = next((place for place, worker in enumerate(self.workers) if worker is None), None)
        alive = {worker.token for worker in self.workers if worker is not None}
        for place, worker in enumerate(self.workers):
            if worker is not None:
                may("step", f"{place} {worker.label}", lambda place=place: self.step(place), budgeted=False)  # type: ignore[misc]
                may("crash", str(place), lambda place=place: self.crash(place))  # type: ignore[misc]
        for slot in self.slots:
            name = f"{slot.number}"
            if slot.lock is None:
                if free is not None and slot.visible_at <= self.clock.now:
                    may("deliver", name, lambda slot=slot: self.deliver(slot, free), budgeted=False)  # type: ignore[misc]
                if slot.visible_at > self.clock.now:
                    may("early", name, lambda slot=slot: setattr(slot, "visible_at", self.clock.now))  # type: ignore[misc]
                may("purge", name, lambda slot=slot: self.slots.remove(slot))  # type: ignore[misc]
            elif slot.lock not in alive:
                may("expire", name, lambda slot=slot: self.unlock(slot), budgeted=False)  # type: ignore[misc]
            else:
                may("lose_lock", name, lambda slot=slot: self.unlock(slot))  # type: ignore[misc]
        may("time", "", self._time)
        for user in range(self.config.users):
            may("tick", f"u{user}", lambda user=user: self.tick(f"u{user}"))  # type: ignore[misc]
        may("new", "", lambda: self._born(0))
        may("late", "", lambda: self._born(UNIT))
        if self.config.parents:
            may("reply", "", lambda: self._reply(0))
            may("late_reply", "", lambda: self._reply(UNIT))
        may("delete", "", self._delete)
        may("edit", "", self._edit)
        may("throttle", "", lambda: setattr(self, "throttled", True))
        may("unknown", "", lambda: setattr(self.database, "unknown", True))
        may("refuse", "", lambda: setattr(self.database, "refuse", True))
        may("lost_ack", "", lambda: setattr(self, "lost_ack", True))
        may("flush_cache", "", self.cache.ids.clear)
        if self.poison:
            may("cure", "", self.poison.clear)
        if free is not None:
            hasty = self.config.eager_watchdog
            watchdog = self.hasty_watchdog if hasty else self.pipeline.watchdog
            may("watchdog", "", lambda: self._start(free, watchdog.run(), "watchdog"))
            may("relay", "", lambda: self._start(free, self.pipeline.flusher.relay(), "relay"))
        return found

    def _start(self, place: int, work: Coroutine[Any, Any, Any], label: str) -> None:
        self.workers[place] = Worker(work, label)

    def _time(self) -> None:
        self.clock.advance(UNIT)

    def _delete(self) -> None:
        alive = [one for one in self.truth.values() if not one.deleted and one.need is None and not self._parent(one)]
        if alive:
            self.rng.choice(alive).deleted = True

    def _parent(self, item: Truth) -> bool:
        return item.id in {f"i{number}" for number in self.config.parents}

    def _edit(self) -> None:
        alive = [
            one
            for one in self.truth.values()
            if not one.deleted and not one.hidden and one.need is None and one.visible_at <= self.clock.now
        ]
        if alive:
            self.rng.choice(alive).version += 1

    # ---------------------------------------------------------------------------------------------------- running

    def run(self) -> None:
        """Run the faulty phase, then let the world heal, then check."""
        for _ in range(self.rng.randrange(*self.config.steps)):
            actions = self.actions()
            if not actions:
                break
            weights = [weight for weight, _, _ in actions]
            (_, label, act), *_ = self.rng.choices(actions, weights)
            kind = label.partition(" ")[0]
            if kind in self.left:
                self.left[kind] -= 1
            self.trace.append(label)
            self.clock.now += 1
            act()
        self.trace.append("--- faults stop")
        self.heal()
        self.oracle.final()

    def heal(self) -> None:
        """No more faults: workers end, locks expire, time passes, the watchdog, the relay and ticks run."""
        self.quiet = True
        self.throttled = self.lost_ack = self.database.unknown = self.database.refuse = False
        while any(self.workers):
            for place, worker in enumerate(self.workers):
                if worker is not None:
                    self.step(place)
        ticks = calm = 0
        for turn in range(60):
            self.clock.advance(self._pause())
            if turn == 8:
                self.poison.clear()
            for slot in self.slots:
                if slot.lock is not None:
                    self.unlock(slot)
            if self.config.watchdog:
                run_alone(self.pipeline.watchdog.run())
                self.oracle.after_watchdog()
            if self.database.scalar("SELECT count(*) FROM outbox WHERE sent_at IS NULL"):
                run_alone(self.pipeline.flusher.relay())
            if turn % self.config.tick_every == 0 and not self.poison and ticks < 12:
                for user in range(self.config.users):
                    self.tick(f"u{user}")
                ticks += 1
            self._drain()
            calm = calm + 1 if self.oracle.calm() else 0
            if calm >= 3 and ticks >= 6:
                return

    def _pause(self) -> float:
        """Give how long nothing of interest happens: a unit, or until a halted chain may be opened again."""
        if self.poison or self.slots:
            return UNIT
        until: int = self.database.scalar("SELECT coalesce(min(not_before), 0) FROM chains WHERE state = 'halted'") or 0
        return max(UNIT, (until - self.clock.now) / MICROS + 1)

    def _drain(self) -> None:
        for _ in range(2000):
            slot = next((one for one in self.slots if one.lock is None and one.visible_at <= self.clock.now), None)
            if slot is None:
                return
            self.deliver(slot, 0)
            while self.workers[0] is not None:
                self.step(0)
                self.clock.now += 1
        raise Violation("livelock: 2,000 messages and no end")


class WorldBus:
    """The bus that the pipeline is built with; hands on to the world of the moment."""

    world: World

    async def send(self, entity: str, messages: Sequence[Outgoing]) -> None:
        """Send into the world."""
        await self.world.send(entity, messages)

    async def close(self) -> None:
        """Nothing to close."""


class WorldSource:
    """The source that the pipeline is built with."""

    name = "graph"
    world: World

    async def fetch(self, request: PageRequest) -> Page | Fault:
        """Fetch from the world."""
        return await self.world.fetch(request)

    async def fetch_item(self, feed: Any, user_id: str, scope: str, item_id: str, token: Token) -> Any | Fault:
        """Read one item of the world."""
        return await self.world.fetch_item(item_id, scope)

    async def discover(self, kind: str, user_id: str, token: Token) -> list[ScopeRef] | Fault:
        """No feed here asks for it."""
        return []

    def reseek(self, request: PageRequest) -> PageRequest | None:
        """Page by time."""
        return replace(request, cursor=None) if request.until is not None else None

    async def close(self) -> None:
        """Nothing to close."""


def _order(item: Truth) -> tuple[int, int]:
    return item.time, int(item.id[1:])
