"""Is everything in place? Each finding is ok, worth a look, failed, or skipped with the reason it cannot be checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.bus.entities import Described, Entities, duration
from pipeline.errors import ConfigurationError, PipelineError
from pipeline.feeds import load_feeds
from pipeline.operations.schedules import next_due
from pipeline.operations.words import plural
from pipeline.settings import Settings
from pipeline.storage import migrate, outbox, reports
from pipeline.storage.budgets import SharedBudget
from pipeline.storage.cache import Cache
from pipeline.storage.database import Database
from pipeline.storage.lake import SUFFIX, Lake
from pipeline.storage.tables import tokens
from pipeline.storage.tokens import TokenKeys

PROBE = f"doctor/probe{SUFFIX}"
"""Written once and left: the lake is write-once, so the second run finds it there, which is as good."""

MAX_TOKENS = 1_000
OLD_OUTBOX_SECONDS = 180


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at. `state` is ok, warn, fail or skip."""

    what: str
    state: str
    detail: str = ""

    @property
    def failed(self) -> bool:
        """Whether the pipeline cannot work like this."""
        return self.state == "fail"


class Expected(NamedTuple):
    """What the topology asks for, by names in this environment; subscriptions with the queue they forward to."""

    queues: tuple[str, ...]
    topics: Mapping[str, Mapping[str, str]]
    properties: Mapping[str, Any]


def ok(what: str, detail: str = "") -> Finding:
    """Give a good finding."""
    return Finding(what=what, state="ok", detail=detail)


def warn(what: str, detail: str) -> Finding:
    """Give a finding worth a look."""
    return Finding(what=what, state="warn", detail=detail)


def fail(what: str, detail: str) -> Finding:
    """Give a finding with which the pipeline cannot work."""
    return Finding(what=what, state="fail", detail=detail)


def skip(what: str, why: str) -> Finding:
    """Say what could not be looked at, and why."""
    return Finding(what=what, state="skip", detail=why)


def examine_settings(settings: Settings, environment: Mapping[str, str]) -> list[Finding]:
    """Check settings together, the feeds they name, and every timer's schedule."""
    found = []
    try:
        settings.check()
        found.append(ok("settings"))
    except ConfigurationError as error:
        found += [fail("settings", problem) for problem in str(error).split("; ")]
    try:
        feeds = load_feeds(settings.feeds_package, enabled=settings.enabled_feeds, sources=settings.configured_sources)
    except ConfigurationError as error:
        return [*found, fail("feeds", str(error))]
    found.append(
        ok("feeds", ", ".join(feeds)) if feeds else fail("feeds", "no feed is enabled: GRAPH_BASE_URL is empty")
    )
    schedules = {feed.schedule_setting: settings.schedules.get(feed.schedule_setting, "") for feed in feeds.values()}
    own = ("WATCHDOG_SCHEDULE", "RELAY_SCHEDULE", "UPKEEP_SCHEDULE")
    schedules |= {name: environment.get(name, "") for name in own}
    missing = [name for name, text in schedules.items() if not text]
    if missing:  # the host cannot resolve %NAME% and rejects the function
        found.append(warn("schedules", f"not set, the functions host needs them: {', '.join(missing)}"))
    for name, text in schedules.items():
        try:
            next_due(text or "0 * * * * *", 0)
        except ConfigurationError as error:
            found.append(fail("schedules", f"{name}: {error}"))
    return found


async def examine_database(database: Database) -> list[Finding]:
    """Check the schema's level, and that the outbox is being emptied."""
    revision = await database.read(migrate.current)
    backlog, now = await database.read(outbox.backlog), await database.now()
    age = (now - backlog.oldest_at) / 1_000_000 if backlog.oldest_at else 0.0
    newer = "" if revision == migrate.newest() else f", newer than the code's {migrate.newest()}"
    found = [ok("database", f"{database.dialect}, revision {revision}{newer}")]
    if age > OLD_OUTBOX_SECONDS:
        found.append(warn("outbox", f"{plural(backlog.rows, 'row')} unsent, the oldest for {age:.0f} s"))
    return found


async def examine_bus(entities: Entities, expected: Expected) -> list[Finding]:
    """Compare what exists on the bus with the topology."""
    described = await entities.describe()
    if described is None:
        return [skip("bus", "its entities cannot be read from here (SERVICEBUS_CONTROL_URL, or the right to manage)")]
    return compare(described, expected)


def compare(described: Described, expected: Expected) -> list[Finding]:
    """Say what is missing or differs. Names are compared as Service Bus does: without case. Pure."""
    queues = {name.lower(): properties for name, properties in described.queues.items()}
    topics = {name.lower(): subscriptions for name, subscriptions in described.topics.items()}
    found = [fail("bus", f"queue {name} is missing") for name in expected.queues if name.lower() not in queues]
    for topic, subscriptions in expected.topics.items():
        existing = topics.get(topic.lower())
        if existing is None:
            found.append(fail("bus", f"topic {topic} is missing"))
            continue
        targets = {name.lower(): target for name, target in existing.items()}
        for name, queue in subscriptions.items():
            if name.lower() not in targets:
                found.append(fail("bus", f"subscription {name} of {topic} is missing"))
            elif (target := targets[name.lower()]) is not None and target.lower() != queue.lower():
                found.append(fail("bus", f"subscription {name} of {topic} forwards to {target}, not to {queue}"))
    if not found:
        found.append(ok("bus", f"{plural(len(expected.queues), 'queue')}, {plural(len(expected.topics), 'topic')}"))
    known = {name: queues.get(name.lower()) for name in expected.queues}
    readable = {name: properties for name, properties in known.items() if properties is not None}
    if not readable:
        return [*found, skip("bus properties", "this bus does not tell them")]
    differing = [
        fail("bus properties", f"{queue}: {name} is {properties.get(name)}, not {wanted}")
        for queue, properties in readable.items()
        for name, wanted in expected.properties.items()
        if not _same(properties.get(name), wanted)
    ]
    return found + (differing or [ok("bus properties")])


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, str):
        given = found if isinstance(found, timedelta) else duration(str(found)) if found else None
        return given == duration(wanted)
    return bool(found == wanted)


async def examine_redis(cache: Cache) -> Finding:
    """Ask Redis for a sign of life; the pipeline is right without it, only slower."""
    if not cache.configured:
        return skip("redis", "REDIS_URL is not set; SQL decides alone")
    return ok("redis") if await cache.answers() else warn("redis", "REDIS_URL does not answer; SQL decides alone")


async def examine_lake(lake: Lake | None) -> Finding:
    """Write a small object."""
    if lake is None:
        return warn("lake", "LAKE_URL is not set: raw data is not kept")
    try:
        await lake.write(PROBE, b"")
    except (PipelineError, OSError) as error:
        return fail("lake", f"LAKE_URL cannot be written: {error}")
    return ok("lake")


async def examine_users(database: Database, keys: TokenKeys | None, settings: Settings) -> list[Finding]:
    """Check that there is somebody to mine, that tokens open, and how many the API has refused."""
    counts = await database.read(reports.count_users)
    rows = await database.read(_sealed)
    found = []
    if counts.active:
        found.append(ok("users", f"{counts.active:,} active"))
    else:
        found.append(warn("users", "none is active: python -m pipeline users add USER --token-stdin"))
    if counts.dead_tokens:
        found.append(
            warn("tokens", f"{plural(counts.dead_tokens, 'token')} refused by the API: `users list` names them")
        )
    if rows and keys is None:
        return [*found, fail("tokens", "TOKEN_KEY is missing, but tokens are stored")]
    closed = [user_id for user_id, source, sealed in rows if keys and not _opens(keys, user_id, source, sealed)]
    if closed:
        few = ", ".join(closed[:5])
        found.append(fail("tokens", f"TOKEN_KEY does not open {plural(len(closed), 'token')} of {len(rows)}: {few}"))
    elif rows:
        of = f"the first {len(rows):,}" if len(rows) == MAX_TOKENS else f"{len(rows):,}"
        found.append(ok("tokens", f"{of} open with TOKEN_KEY"))
    elif not settings.graph_access_token:
        found.append(warn("tokens", "none is stored"))
    return found


def _sealed(connection: Connection) -> list[tuple[str, str, bytes]]:
    rows = connection.execute(sa.select(tokens.c.user_id, tokens.c.source, tokens.c.sealed).limit(MAX_TOKENS))
    return [(row.user_id, row.source, bytes(row.sealed)) for row in rows]


def _opens(keys: TokenKeys, user_id: str, source: str, sealed: bytes) -> bool:
    try:
        keys.open(user_id, source, sealed)
    except ConfigurationError:
        return False
    return True


async def examine_budgets(budget: SharedBudget) -> list[Finding]:
    """Name call budgets that are used up now."""
    holds = await budget.held()
    if not holds:
        return [ok("budgets", "no call budget is used up")]
    few = ", ".join(hold.name for hold in holds[:5])
    return [warn("budgets", f"{plural(len(holds), 'call budget')} used up: {few}")]
