"""Small fakes of the outside: a bus with Service Bus's rules in memory, a source over a list, a budget, a clock."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr

from pipeline.bus.messages import Outgoing, Received
from pipeline.chains.budget import FREE, Block, blocked, must_probe, passed, probing, worst
from pipeline.errors import BusUnavailable
from pipeline.failpoints import failpoint
from pipeline.feeds.base import Feed
from pipeline.sources.base import Fault, FaultKind, Page, PageRequest, ScopeRef, Token, UsageNote
from pipeline.times import item_time

MICROS = 1_000_000


class MemoryBudget:
    """A `Budget` of one process, without a store; the budgets' tests hold it to what the shared one does."""

    def __init__(self, *, minute_seconds: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._minute = minute_seconds
        self._clock = clock
        self._blocks: dict[str, Block] = {}

    async def wait(self, keys: Sequence[str]) -> float:
        """Seconds until a call under all these keys may be made; 0 when now, or when this call is to find out."""
        now = self._clock()
        found = [(key, self._blocks[key]) for key in keys if key in self._blocks]
        latest = max((block.until for _, block in found), default=now)
        if latest > now:
            return latest - now
        for key, block in found:
            if must_probe(block, now, minute_seconds=self._minute):
                self._blocks[key] = probing(block, now, minute_seconds=self._minute)
        return 0.0

    async def note(self, notes: Sequence[UsageNote]) -> None:
        """Remember what an answer said; never lowers a block that is still running."""
        now = self._clock()
        for key, load in worst(notes).items():
            known = self._blocks.get(key, FREE)
            block = blocked(known, now, load, minute_seconds=self._minute)
            if block != known:
                self._blocks[key] = block

    async def passed(self, keys: Sequence[str]) -> None:
        """Note that a call under these keys was answered, and that nothing is used up."""
        for key in keys:
            if key in self._blocks and passed(self._blocks[key], self._clock()) == FREE:
                del self._blocks[key]


class ManualClock:
    """A clock that stands still; call it for microseconds since 1970."""

    def __init__(self, now: int = 1_700_000_000 * MICROS) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move on."""
        self.now += int(seconds * MICROS)


@dataclass
class Queued:
    """A message in a queue of the fake bus."""

    message: Outgoing
    visible_at: int
    enqueued_at: int
    locked: bool = False
    deliveries: int = 0


@dataclass
class FakeBus:
    """Queues and topics in memory: schedules, duplicate detection by MessageId without end, peek-lock by hand."""

    clock: ManualClock
    queues: dict[str, list[Queued]] = field(default_factory=dict)
    topics: dict[str, list[Outgoing]] = field(default_factory=dict)
    seen: set[tuple[str, str]] = field(default_factory=set)
    down: bool = False
    away: set[str] = field(default_factory=set)
    tried: list[str] = field(default_factory=list)
    sends: int = 0

    async def send(self, entity: str, messages: Sequence[Outgoing]) -> None:
        """Take messages; what has a MessageId that was seen is dropped."""
        failpoint("bus.send.before")
        self.tried.append(entity)
        if self.down or entity in self.away:
            raise BusUnavailable(f"sending to {entity}: the fake is down")
        for message in messages:
            self.sends += 1
            if (entity, message.message_id) in self.seen:
                continue
            self.seen.add((entity, message.message_id))
            if "-topic-" in entity:
                self.topics.setdefault(entity, []).append(message)
            else:
                queued = Queued(message, message.due or self.clock.now, self.clock.now)
                self.queues.setdefault(entity, []).append(queued)
        failpoint("bus.send.after")

    async def close(self) -> None:
        """Nothing to close."""

    def ready(self, entity: str) -> list[Queued]:
        """Give what could be received now, in order."""
        return [one for one in self.queues.get(entity, []) if not one.locked and one.visible_at <= self.clock.now]

    def receive(self, entity: str, queued: Queued) -> Received:
        """Lock a message and hand it over."""
        queued.locked = True
        queued.deliveries += 1
        message = queued.message
        return Received(
            entity, message.message_id, message.body, message.properties, queued.visible_at, queued.deliveries
        )

    def complete(self, entity: str, queued: Queued) -> None:
        """Settle a message; a lost lock makes it a no-op."""
        if queued in self.queues.get(entity, []):
            self.queues[entity].remove(queued)

    def next_due(self) -> int | None:
        """Give the next instant at which a scheduled message can be seen."""
        later = [one.visible_at for one in itertools.chain(*self.queues.values()) if one.visible_at > self.clock.now]
        return min(later, default=None)


TOKEN = Token(SecretStr("token"), 1)


@dataclass
class ListSource:
    """A newest-first listing over a list of raw items, with keyset cursors that die with their item."""

    clock: ManualClock
    name: str = "graph"
    items: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Items by scope, any order."""
    faults: list[Fault] = field(default_factory=list)
    calls: int = 0
    limit: int | None = None
    scopes: dict[str, list[str]] = field(default_factory=dict)

    def add(self, scope: str, item_id: str, created: int, **fields: Any) -> dict[str, Any]:
        """Add or replace an item."""
        self.remove(scope, item_id)
        item = {"id": item_id, "created_time": iso(created), "message": f"post {item_id}", **fields}
        self.items.setdefault(scope, []).append(item)
        return item

    def remove(self, scope: str, item_id: str) -> None:
        """Delete an item."""
        self.items[scope] = [item for item in self.items.get(scope, []) if item["id"] != item_id]

    async def fetch(self, request: PageRequest) -> Page | Fault:
        """Give one page."""
        failpoint("source.call.before")
        if self.faults:
            fault = self.faults.pop(0)
            self.calls += fault.calls
            return fault
        self.calls += 1
        listing = sorted(
            (item for item in self.items.get(request.scope, []) if item.get("visible_at", 0) <= self.clock.now),
            key=_order,
            reverse=True,
        )
        if request.cursor is not None:
            moment, _, item_id = request.cursor.partition("|")
            if not any(item["id"] == item_id for item in listing):
                return Fault(kind=FaultKind.INVALID_CURSOR, code="100", calls=1)
            listing = [item for item in listing if _order(item) < (int(moment), item_id)]
        elif request.until is not None:
            listing = [item for item in listing if _order(item)[0] <= request.until]
        limit = self.limit or request.limit
        page = listing[:limit]
        cursor = "{}|{}".format(*_order(page[-1])) if len(listing) > limit else None
        failpoint("source.call.after")
        return Page(items=[dict(item) for item in page], cursor=cursor, limit=limit)

    async def fetch_item(self, feed: Feed, user_id: str, scope: str, item_id: str, token: Token) -> Any | Fault:
        """Read one item."""
        self.calls += 1
        found = [item for item in self.items.get(scope, []) if item["id"] == item_id]
        return dict(found[0]) if found else Fault(kind=FaultKind.GONE, code="100", calls=1)

    async def discover(self, kind: str, user_id: str, token: Token) -> list[ScopeRef] | Fault:
        """Give the user's scopes; by default one page named after the user."""
        return [ScopeRef(scope) for scope in self.scopes.get(user_id, [f"page-{user_id}"])]

    def reseek(self, request: PageRequest) -> PageRequest | None:
        """Page by time."""
        return replace(request, cursor=None) if request.until is not None else None

    async def close(self) -> None:
        """Nothing to close."""


def iso(seconds: int) -> str:
    """Write an item time as the Graph API does."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")


def _order(item: dict[str, Any]) -> tuple[int, str]:
    return item_time(item["created_time"]) or 0, item["id"]
