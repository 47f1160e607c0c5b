"""Everything that the status page asks of SQL, in one reading transaction: one moment, no half-moved counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy.engine import Connection

from pipeline.chains.protocol import MICROS, Lane
from pipeline.storage import migrate, outbox, quarantine, reports, samples
from pipeline.storage.database import read_now
from pipeline.storage.reports import ScopeCovered

MAX_SCOPES = 5_000
"""Scopes of one feed whose coverage is read and parsed: a tenth of a second; beyond, the page says so."""

RATE_SECONDS = 3600
VELOCITY_SECONDS, VELOCITY_WITHIN = 30, 600


class Overview(NamedTuple):
    """One moment of the store."""

    now: int
    revision: str
    users: reports.UserCounts
    groups: list[reports.ChainGroup]
    errors: list[reports.ErrorGroup]
    busiest: list[reports.Busy]
    silent: int
    scopes: dict[str, list[ScopeCovered]]
    brakes: list[reports.Brake]
    ticks: list[reports.LastTick]
    waits: list[reports.Wait]
    quarantine: list[quarantine.Count]
    backlog: outbox.Backlog
    hour_ago: samples.Sample | None
    """The oldest sample of the last hour."""
    minute_ago: samples.Sample | None


def read(connection: Connection, lanes: Mapping[str, Lane], *, silent_seconds: int) -> Overview:
    """Read everything. `lanes` names for each feed the lane whose chain tells a scope's freshest state."""
    now, waits = read_now(connection), reports.waits(connection)
    longest = max((wait.wait for wait in waits), default=0)  # the watchdog allows for twice the wait of the queue
    return Overview(
        now=now,
        revision=migrate.current(connection),
        users=reports.count_users(connection),
        groups=reports.chain_groups(connection),
        errors=reports.last_errors(connection),
        busiest=reports.busiest_users(connection),
        silent=reports.silent_since(connection, before=now - silent_seconds * MICROS - 2 * longest),
        scopes={
            feed: reports.first_scopes(connection, feed, lane, limit=MAX_SCOPES + 1) for feed, lane in lanes.items()
        },
        brakes=reports.brakes_on(connection),
        ticks=reports.last_ticks(connection),
        waits=waits,
        quarantine=quarantine.counts(connection),
        backlog=outbox.backlog(connection),
        hour_ago=samples.oldest_within(connection, seconds=RATE_SECONDS),
        minute_ago=samples.newest_before(connection, seconds=VELOCITY_SECONDS, within=VELOCITY_WITHIN),
    )
