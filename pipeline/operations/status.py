"""
The status: completeness, chains, queues, rates, errors, quarantine, throttles, next runs, and what to do about it.

One model; the page, the JSON answer and the command line show it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from pipeline.bus.entities import Depth, Entities
from pipeline.chains.protocol import MICROS
from pipeline.errors import StoreUnavailable
from pipeline.feeds.base import ChildOf
from pipeline.miners.plan import Plan, Plans
from pipeline.operations import alerts, completeness
from pipeline.operations.alerts import Alert, Level
from pipeline.operations.schedules import next_due
from pipeline.operations.words import item_moment, moment
from pipeline.settings import Settings
from pipeline.storage import overview, samples
from pipeline.storage.budgets import Hold, SharedBudget
from pipeline.storage.database import Database
from pipeline.storage.overview import MAX_SCOPES, Overview
from pipeline.storage.reports import ChainGroup

SILENT_SECONDS = 15 * 60
SILENT_LOCKS = 10
"""A live chain that nobody rang for so long, though its time had come, has lost its watchdog: the first three of its
re-rings come within 2, 4 and 8 locks."""

TOTALS = ("pages", "calls", "new", "changed", "duplicate", "quarantined")


@dataclass(frozen=True, kw_only=True)
class FeedStatus:
    """How complete a feed is, and how fast it moves. Rates are per hour over `rates_over` seconds, None if unknown."""

    feed: str
    kind: str
    parent: str
    scopes: int
    more_scopes: bool
    """Whether there are more scopes than were looked at."""
    complete: int
    covered_to: datetime | None
    newest: datetime | None
    gaps: int
    oldest_gap_seconds: float | None
    open: int
    parked: int
    halted: int
    done: int
    pages: int
    items: int
    changed: int
    duplicate: int
    calls: int
    quarantined: int
    pages_per_hour: float | None
    items_per_hour: float | None
    last_page_at: datetime | None
    schedule: str
    next_run: datetime | None
    last_run: datetime | None
    last_run_users: int | None


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Chains that stand still for one reason."""

    feed: str
    state: str
    reason: str
    chains: int
    next_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class QueueStatus:
    """A queue; None is unknown. `per_minute` is how its active messages grow (or shrink)."""

    queue: str
    active: int | None
    scheduled: int | None
    dead_letters: int | None
    per_minute: float | None
    wait_seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What an API answered last to unfinished chains."""

    feed: str
    error: str
    chains: int
    last_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class InQuarantine:
    """What waits for a person."""

    feed: str
    reason: str
    kind: str
    rows: int
    oldest_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Throttle:
    """A call budget that is used up."""

    budget: str
    until: datetime | None


@dataclass(frozen=True, kw_only=True)
class BrakeOn:
    """A brake."""

    feed: str
    reason: str
    since: datetime | None


@dataclass(frozen=True, kw_only=True)
class BusyUser:
    """A user with much unfinished work."""

    user: str
    chains: int
    halted: int


@dataclass(frozen=True, kw_only=True)
class Timer:
    """One of our own timers."""

    timer: str
    schedule: str
    next_run: datetime | None


@dataclass(frozen=True, kw_only=True)
class Status:
    """Everything at one moment."""

    at: datetime | None
    environment: str
    level: Level
    verdict: str
    alerts: list[Alert]
    users_active: int
    users_disabled: int
    dead_tokens: int
    feeds: list[FeedStatus]
    waiting: list[Waiting]
    silent_chains: int
    queues: list[QueueStatus]
    queues_known: bool
    outbox_rows: int
    outbox_bytes: int
    outbox_oldest_seconds: float | None
    rates_over_seconds: float | None
    errors: list[Failure]
    quarantine: list[InQuarantine]
    throttles: list[Throttle]
    brakes: list[BrakeOn]
    busiest: list[BusyUser]
    timers: list[Timer]
    revision: str


async def read_status(
    database: Database, plans: Plans, entities: Entities, budget: SharedBudget, settings: Settings
) -> Status:
    """Read the model, and note a sample for the rates of later ones. Raises StoreUnavailable."""
    lanes = {name: completeness.chief_lane(plan.rules) for name, plan in plans.items()}
    silent = max(SILENT_SECONDS, int(SILENT_LOCKS * settings.lock_seconds))
    seen, depths, holds = await asyncio.gather(
        database.read(overview.read, lanes, silent_seconds=silent), entities.depths(), budget.held()
    )
    ours = _ours(depths, settings)
    with suppress(StoreUnavailable):  # then rates come from an older sample
        await database.write("samples", samples.take, _sample(plans, seen.groups, ours))
    return describe(seen, plans, ours, holds, settings)


def _ours(depths: dict[str, Depth] | None, settings: Settings) -> dict[str, Depth] | None:
    """Leave out queues of other environments in the same namespace."""
    if depths is None:
        return None
    return {name: depth for name, depth in depths.items() if name.lower().endswith(f"-{settings.environment}")}


def _sample(plans: Iterable[str], groups: Iterable[ChainGroup], depths: Mapping[str, Depth] | None) -> dict[str, int]:
    values = {f"{total}:{feed}": 0 for feed in plans for total in TOTALS}  # a feed's first item counts from here
    for group in groups:
        for total in TOTALS:
            name = f"{total}:{group.feed}"
            values[name] = values.get(name, 0) + getattr(group, total)
    values.update({f"queue:{name}": depth.active for name, depth in (depths or {}).items()})
    return values


def describe(
    seen: Overview, plans: Plans, depths: Mapping[str, Depth] | None, holds: Iterable[Hold], settings: Settings
) -> Status:
    """Put what was read into the model. Pure."""
    feeds = [_feed(seen, plan, settings) for plan in plans.values()]
    queues = _queues(seen, plans, depths)
    over = (seen.now - seen.hour_ago.taken_at) / MICROS if seen.hour_ago else 0.0
    found = alerts.find(seen, feeds, queues)
    level = alerts.worst(found)
    return Status(
        at=moment(seen.now),
        environment=settings.environment,
        level=level,
        verdict=alerts.verdict(level, feeds),
        alerts=found,
        users_active=seen.users.active,
        users_disabled=seen.users.disabled,
        dead_tokens=seen.users.dead_tokens,
        feeds=feeds,
        waiting=_waiting(seen),
        silent_chains=seen.silent,
        queues=queues,
        queues_known=depths is not None,
        outbox_rows=seen.backlog.rows,
        outbox_bytes=seen.backlog.bytes,
        outbox_oldest_seconds=(seen.now - seen.backlog.oldest_at) / MICROS if seen.backlog.oldest_at else None,
        rates_over_seconds=over or None,
        errors=[Failure(feed=e.feed, error=e.error, chains=e.size, last_at=moment(e.last_at)) for e in seen.errors],
        quarantine=[
            InQuarantine(feed=q.feed, reason=q.reason, kind=q.kind, rows=q.size, oldest_at=moment(q.oldest_at))
            for q in seen.quarantine
        ],
        throttles=[Throttle(budget=hold.name, until=moment(hold.until)) for hold in holds],
        brakes=[BrakeOn(feed=b.name, reason=b.reason, since=moment(b.set_at)) for b in seen.brakes],
        busiest=[BusyUser(user=b.user_id, chains=b.chains, halted=b.halted) for b in seen.busiest],
        timers=_timers(seen.now, settings),
        revision=seen.revision,
    )


def _feed(seen: Overview, plan: Plan, settings: Settings) -> FeedStatus:
    name = plan.feed.name
    scopes = seen.scopes.get(name, [])
    whole = completeness.of_feed(scopes[:MAX_SCOPES], plan.rules, now=seen.now)
    mine = [group for group in seen.groups if group.feed == name]
    states = {state: sum(g.size for g in mine if g.state == state) for state in ("open", "parked", "halted", "done")}
    totals = {total: sum(getattr(group, total) for group in mine) for total in TOTALS}
    schedule = settings.schedules.get(plan.feed.schedule_setting, plan.feed.schedule)
    tick = next((tick for tick in seen.ticks if tick.feed == name), None)
    return FeedStatus(
        feed=name,
        kind=plan.feed.kind.value,
        parent=plan.feed.scope.feed if isinstance(plan.feed.scope, ChildOf) else "",
        scopes=whole.scopes,
        more_scopes=len(scopes) > MAX_SCOPES,
        complete=whole.complete,
        covered_to=item_moment(whole.covered_to),
        newest=item_moment(whole.newest),
        gaps=whole.gaps,
        oldest_gap_seconds=seen.now / MICROS - whole.oldest_gap_at if whole.oldest_gap_at else None,
        **states,
        pages=totals["pages"],
        items=totals["new"],
        changed=totals["changed"],
        duplicate=totals["duplicate"],
        calls=totals["calls"],
        quarantined=sum(count.size for count in seen.quarantine if count.feed == name),
        pages_per_hour=_per_hour(seen, f"pages:{name}", totals["pages"]),
        items_per_hour=_per_hour(seen, f"new:{name}", totals["new"]),
        last_page_at=moment(max((group.committed_at for group in mine), default=0)),
        schedule=schedule,
        next_run=moment(next_due(schedule, seen.now)),
        last_run=moment(tick.occurrence) if tick else None,
        last_run_users=tick.users if tick and tick.finished_at else None,
    )


def _per_hour(seen: Overview, name: str, value: int) -> float | None:
    """Give a rate; a sample too young to tell anything gives None."""
    if seen.hour_ago is None or seen.now - seen.hour_ago.taken_at < samples.EVERY_SECONDS * MICROS // 4:
        return None
    seconds = (seen.now - seen.hour_ago.taken_at) / MICROS
    return max(0.0, (value - seen.hour_ago.get(name, 0)) / seconds * 3600)


def _waiting(seen: Overview) -> list[Waiting]:
    return [
        Waiting(
            feed=group.feed,
            state=group.state,
            reason=group.reason,
            chains=group.size,
            next_at=moment(group.next_at) if group.state != "open" else None,
        )
        for group in seen.groups
        if group.state in ("parked", "halted")
    ]


def _queues(seen: Overview, plans: Plans, depths: Mapping[str, Depth] | None) -> list[QueueStatus]:
    waits = {wait.queue: wait.wait / MICROS for wait in seen.waits}
    names = {queue for plan in plans.values() for queue in plan.queues} | set(depths or ()) | set(waits)
    return [_queue(seen, name, (depths or {}).get(name), waits.get(name)) for name in sorted(names)]


def _queue(seen: Overview, name: str, depth: Depth | None, wait: float | None) -> QueueStatus:
    before = seen.minute_ago.get(f"queue:{name}") if seen.minute_ago else None
    velocity = None
    if depth and before is not None and seen.minute_ago:
        velocity = (depth.active - before) / ((seen.now - seen.minute_ago.taken_at) / MICROS / 60)
    return QueueStatus(
        queue=name,
        active=depth.active if depth else None,
        scheduled=depth.scheduled if depth else None,
        dead_letters=depth.dead_letters if depth else None,
        per_minute=velocity,
        wait_seconds=wait,
    )


def _timers(now: int, settings: Settings) -> list[Timer]:
    own = {
        "watchdog": settings.watchdog_schedule,
        "relay": settings.relay_schedule,
        "upkeep": settings.upkeep_schedule,
    }
    return [Timer(timer=name, schedule=text, next_run=moment(next_due(text, now))) for name, text in own.items()]
