"""What a person should know of, the gravest first, each with what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pipeline.chains.protocol import MICROS
from pipeline.operations.schedules import next_due
from pipeline.operations.words import plural, span
from pipeline.storage.overview import Overview

if TYPE_CHECKING:
    from pipeline.operations.status import FeedStatus, QueueStatus

OUTBOX_LATE_SECONDS = 180
"""The relay comes every 20 s for rows older than 30 s: ones this old are not being sent."""

GAP_LATE_SECONDS = 6 * 3600
TICK_GRACE_SECONDS = 120
RUN = "python -m pipeline"


class Level(StrEnum):
    """How much an alert matters; ordered by `_RANK`."""

    GOOD = "good"
    WARN = "warn"
    BAD = "bad"


_RANK = {Level.GOOD: 0, Level.WARN: 1, Level.BAD: 2}


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One thing to know, and what to do about it."""

    level: Level
    what: str
    action: str


def find(seen: Overview, feeds: Sequence[FeedStatus], queues: Sequence[QueueStatus]) -> list[Alert]:
    """Give all alerts, the gravest first."""
    found = [*_chains(seen, feeds), *_bus(seen, queues), *_people(seen), *_ticks(seen, feeds)]
    return sorted(found, key=lambda alert: -_RANK[alert.level])


def worst(alerts: Iterable[Alert]) -> Level:
    """Give the gravest level."""
    return max((alert.level for alert in alerts), key=_RANK.__getitem__, default=Level.GOOD)


def verdict(level: Level, feeds: Sequence[FeedStatus]) -> str:
    """Say in one line how things stand."""
    scopes, complete = sum(feed.scopes for feed in feeds), sum(feed.complete for feed in feeds)
    more = any(feed.more_scopes for feed in feeds)
    count = f"{complete:,} of {'the first ' if more else ''}{plural(scopes, 'scope')} complete"
    if not scopes:
        return "Nothing has been mined yet."
    if level is Level.BAD:
        return f"Something needs a person. {count}."
    if level is Level.WARN:
        return f"Running, with things to look at. {count}."
    if complete < scopes:
        return f"Catching up by itself. {count}."
    return f"Everything asked for is complete: {plural(scopes, 'scope')}."


def _chains(seen: Overview, feeds: Sequence[FeedStatus]) -> Iterable[Alert]:
    for feed in feeds:
        if feed.halted:
            yield Alert(
                level=Level.BAD,
                what=f"{plural(feed.halted, 'chain')} of {feed.feed} stopped; their range stays an open gap",
                action=f"{RUN} recover --dry-run",
            )
        if feed.gaps and (feed.oldest_gap_seconds or 0) > GAP_LATE_SECONDS:
            yield Alert(
                level=Level.WARN,
                what=f"the oldest of {plural(feed.gaps, 'gap')} in {feed.feed} is open for "
                f"{span(feed.oldest_gap_seconds or 0)}",
                action=f"{RUN} why USER {feed.feed}",
            )
    if seen.silent:
        yield Alert(
            level=Level.BAD,
            what=f"{plural(seen.silent, 'chain')} should have been rung again long ago: the watchdog is not at work",
            action="see that the function `watchdog` runs",
        )
    for brake in seen.brakes:
        feed_name = "all feeds" if brake.name == "*" else brake.name
        yield Alert(
            level=Level.WARN, what=f"the brake is on for {feed_name}: {brake.reason}", action="release the brake"
        )


def _bus(seen: Overview, queues: Sequence[QueueStatus]) -> Iterable[Alert]:
    age = (seen.now - seen.backlog.oldest_at) / MICROS if seen.backlog.oldest_at else 0
    if age > OUTBOX_LATE_SECONDS:
        yield Alert(
            level=Level.BAD,
            what=f"{plural(seen.backlog.rows, 'outbox row')} unsent, the oldest for {span(age)}: "
            "the bus is out of reach or the relay is not at work",
            action="see that the function `relay` runs and Service Bus answers",
        )
    for queue in queues:
        if queue.dead_letters:
            yield Alert(
                level=Level.WARN,
                what=f"{plural(queue.dead_letters, 'dead letter')} in {queue.queue}",
                action="see that its dead-letter function runs; it retries them or moves them to quarantine",
            )


def _people(seen: Overview) -> Iterable[Alert]:
    if seen.users.dead_tokens:
        yield Alert(
            level=Level.WARN,
            what=f"{plural(seen.users.dead_tokens, 'token')} refused by the API; only these users wait",
            action=f"{RUN} users add USER --token-stdin",
        )
    rows = sum(count.size for count in seen.quarantine)
    if rows:
        yield Alert(level=Level.WARN, what=f"{plural(rows, 'row')} in quarantine", action=f"{RUN} quarantine list")


def _ticks(seen: Overview, feeds: Sequence[FeedStatus]) -> Iterable[Alert]:
    if not seen.users.active:
        yield Alert(level=Level.WARN, what="there is no active user", action=f"{RUN} users add USER --token-stdin")
        return
    for feed in feeds:
        tick = next((tick for tick in seen.ticks if tick.feed == feed.feed), None)
        if tick is None:
            continue
        missed = next_due(feed.schedule, next_due(feed.schedule, tick.occurrence))
        if seen.now > missed + TICK_GRACE_SECONDS * MICROS:
            yield Alert(
                level=Level.BAD,
                what=f"no tick of {feed.feed} for two schedules",
                action=f"see that the function `{feed.feed.replace('-', '_')}_scheduler` runs",
            )
