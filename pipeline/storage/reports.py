"""
Read models: what people ask of the store. Each function is one reading unit; nothing here changes a row.

Every one has a bound on the rows it gives; `first_scopes` also on the rows it reads, for it parses each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.chains.protocol import Chain, Lane, State
from pipeline.storage import chains as chain_rows
from pipeline.storage.chains import Covered, spans_of
from pipeline.storage.database import read_now
from pipeline.storage.tables import brakes, chains, coverage, discoveries, queues, scopes, ticks, tokens, users

UNFINISHED = (State.OPEN.value, State.PARKED.value, State.HALTED.value)
MAX_GROUPS = 500
MAX_OF_USER = 2000
"""Chains of one user that `why` reads; a user's comment scopes can be very many, unfinished ones come first."""


class UserToken(NamedTuple):
    """A user with one of its tokens; `token` is none, live or dead."""

    user_id: str
    state: str
    priority: int
    source: str
    token: str
    stored_at: int


def users_with_tokens(connection: Connection, *, limit: int, only: str | None = None) -> list[UserToken]:
    """Give users by id, one row for each token, or one without."""
    query = sa.select(
        users.c.user_id, users.c.state, users.c.priority, tokens.c.source, tokens.c.version, tokens.c.dead_version,
        tokens.c.stored_at,
    ).select_from(users.outerjoin(tokens, users.c.user_id == tokens.c.user_id))  # fmt: skip
    if only is not None:
        query = query.where(users.c.user_id == only)
    rows = connection.execute(query.order_by(users.c.user_id, tokens.c.source).limit(limit))
    return [
        UserToken(
            row.user_id,
            row.state,
            row.priority,
            row.source or "",
            "none" if row.source is None else "dead" if row.dead_version >= row.version else "live",
            row.stored_at or 0,
        )
        for row in rows
    ]


class UserCounts(NamedTuple):
    """How many users there are, and tokens that the API refused for good."""

    active: int
    disabled: int
    dead_tokens: int


def count_users(connection: Connection) -> UserCounts:
    """Count users and dead tokens of active ones."""
    states = {row[0]: row[1] for row in connection.execute(sa.select(users.c.state, sa.func.count()).group_by("state"))}
    dead = connection.execute(
        sa.select(sa.func.count())
        .select_from(tokens.join(users, users.c.user_id == tokens.c.user_id))
        .where(tokens.c.dead_version >= tokens.c.version, users.c.state == "active")
    ).scalar_one()
    return UserCounts(states.get("active", 0), states.get("disabled", 0), dead)


class ChainGroup(NamedTuple):
    """Chains of one feed in one state for one reason, with the totals of their lives."""

    feed: str
    state: str
    reason: str
    size: int
    next_at: int
    """The first `not_before` among them; means something for parked and halted ones."""
    committed_at: int
    """The last commit among them."""
    pages: int
    calls: int
    new: int
    changed: int
    duplicate: int
    quarantined: int


def chain_groups(connection: Connection) -> list[ChainGroup]:
    """Group all chains. One pass over the table: 0.3 s for 100,000 chains of SQLite."""
    columns = chains.c
    rows = connection.execute(
        sa.select(
            columns.feed,
            columns.state,
            columns.reason,
            sa.func.count(),
            sa.func.min(columns.not_before),
            sa.func.max(columns.committed_at),
            *(sa.func.sum(columns[f"total_{name}"]) for name in chain_rows.Counters._fields),
        )
        .group_by(columns.feed, columns.state, columns.reason)
        .order_by(columns.feed, columns.state, sa.func.count().desc())
        .limit(MAX_GROUPS)
    )
    return [ChainGroup(*row[:3], *(int(value or 0) for value in row[3:])) for row in rows]


class ErrorGroup(NamedTuple):
    """What APIs answered last to unfinished chains."""

    feed: str
    error: str
    size: int
    last_at: int


def last_errors(connection: Connection, *, limit: int = 20) -> list[ErrorGroup]:
    """Group the last errors of unfinished chains, the most frequent first."""
    count = sa.func.count()
    rows = connection.execute(
        sa.select(chains.c.feed, chains.c.last_error, count, sa.func.max(chains.c.rung_at))
        .where(chains.c.state.in_(UNFINISHED), chains.c.last_error != "")
        .group_by(chains.c.feed, chains.c.last_error)
        .order_by(count.desc(), chains.c.feed, chains.c.last_error)
        .limit(limit)
    )
    return [ErrorGroup(*row) for row in rows]


class Busy(NamedTuple):
    """A user with much unfinished work."""

    user_id: str
    chains: int
    halted: int


def busiest_users(connection: Connection, *, limit: int = 10) -> list[Busy]:
    """Give the users with most unfinished chains."""
    count = sa.func.count()
    halted = sa.func.sum(sa.case((chains.c.state == State.HALTED.value, 1), else_=0))
    rows = connection.execute(
        sa.select(chains.c.user_id, count, halted)
        .where(chains.c.state.in_(UNFINISHED))
        .group_by(chains.c.user_id)
        .order_by(count.desc(), chains.c.user_id)
        .limit(limit)
    )
    return [Busy(row[0], row[1], int(row[2])) for row in rows]


FIRST_RERINGS = 3


def silent_since(connection: Connection, *, before: int) -> int:
    """
    Count live chains whose doorbell rang, and whose wait ended, before an instant, and that the watchdog has not rung
    again at least three times since: it is not at work. One that was rung so often waits in a backlog.
    """
    return connection.execute(
        sa.select(sa.func.count()).where(
            chains.c.state.in_((State.OPEN.value, State.PARKED.value)),
            chains.c.rung_at < before,
            chains.c.not_before < before,
            chains.c.rerings < FIRST_RERINGS,
        )
    ).scalar_one()


class ScopeCovered(NamedTuple):
    """A scope's coverage, with what its chain of lane main or sweep last said."""

    covered: Covered
    wanted: int
    swept_at: int
    """When the last whole listing began; 0 if the latest one is not finished."""


def first_scopes(connection: Connection, feed: str, lane: Lane, *, limit: int) -> list[ScopeCovered]:
    """Give the first scopes of a feed with their coverage, by user; `limit` bounds the rows read and parsed."""
    joined = coverage.outerjoin(
        chains,
        sa.and_(
            *(chains.c[name] == coverage.c[name] for name in ("user_id", "feed", "scope")),
            chains.c.lane == lane.value,
        ),
    )
    rows = connection.execute(
        sa.select(
            coverage.c.spans,
            coverage.c.history_start,
            coverage.c.first_opened_at,
            sa.func.coalesce(chains.c.wanted, 0).label("wanted"),
            sa.case((chains.c.state == State.DONE.value, chains.c.opened_at), else_=0).label("swept_at"),
        )
        .select_from(joined)
        .where(coverage.c.feed == feed)
        .limit(limit)
    )
    return [
        ScopeCovered(Covered(spans_of(row.spans), row.history_start, row.first_opened_at), row.wanted, row.swept_at)
        for row in rows
    ]


class Brake(NamedTuple):
    """A brake that a person or the cost guard has put on; the name is a feed or `*`."""

    name: str
    reason: str
    set_at: int


def brakes_on(connection: Connection) -> list[Brake]:
    """Give the brakes that stop feeds."""
    rows = connection.execute(
        sa.select(brakes.c.name, brakes.c.reason, brakes.c.set_at).where(brakes.c.level == "stop").limit(MAX_GROUPS)
    )
    return [Brake(*row) for row in rows]


class LastTick(NamedTuple):
    """The last tick of a feed's schedule; `finished_at` 0 while it fans out."""

    feed: str
    occurrence: int
    finished_at: int
    users: int


def last_ticks(connection: Connection) -> list[LastTick]:
    """Give the last tick of each feed."""
    newest = sa.select(ticks.c.feed, sa.func.max(ticks.c.occurrence).label("occurrence")).group_by(ticks.c.feed)
    last = newest.subquery()
    rows = connection.execute(
        sa.select(ticks).join(last, sa.and_(ticks.c.feed == last.c.feed, ticks.c.occurrence == last.c.occurrence))
    )
    return [LastTick(row.feed, row.occurrence, row.finished_at or 0, row.users) for row in rows]


class Wait(NamedTuple):
    """How long a message waited on a queue when it was last looked at."""

    queue: str
    wait: int
    updated_at: int


def waits(connection: Connection) -> list[Wait]:
    """Give the last wait seen on each queue."""
    return [Wait(*row) for row in connection.execute(sa.select(queues.c.name, queues.c.wait, queues.c.updated_at))]


# ------------------------------------------------------------------------------------------------------- one user


class ChainStory(NamedTuple):
    """A chain with what its row keeps for people."""

    chain: Chain
    last_error: str
    total_pages: int
    total_new: int


class UserStory(NamedTuple):
    """Everything that the store knows about one user and feed (or all feeds)."""

    now: int
    tokens: list[UserToken]
    """Empty if there is no such user."""
    discoveries: dict[str, int]
    """When each kind of scope was discovered last."""
    scopes: dict[str, dict[str, str]]
    """Names of the open scopes by kind and id."""
    chains: list[ChainStory]
    more_chains: bool
    covered: dict[tuple[str, str], Covered]
    brakes: dict[str, str]


def user_story(connection: Connection, user_id: str, feeds: Sequence[str]) -> UserStory:
    """Read one user's rows of some feeds, unfinished chains first."""
    rank = sa.case((chains.c.state == State.DONE.value, 1), else_=0)
    rows = (
        connection.execute(
            sa.select(chains)
            .where(chains.c.user_id == user_id, chains.c.feed.in_(feeds))
            .order_by(rank, chains.c.feed, chains.c.scope, chains.c.lane)
            .limit(MAX_OF_USER + 1)
        )
        .mappings()
        .all()
    )
    covered = connection.execute(
        sa.select(coverage).where(coverage.c.user_id == user_id, coverage.c.feed.in_(feeds)).limit(MAX_OF_USER)
    )
    return UserStory(
        now=read_now(connection),
        tokens=users_with_tokens(connection, limit=20, only=user_id),
        discoveries=_discoveries(connection, user_id),
        scopes=_scopes(connection, user_id),
        chains=[_story(row) for row in rows[:MAX_OF_USER]],
        more_chains=len(rows) > MAX_OF_USER,
        covered={
            (row.feed, row.scope): Covered(spans_of(row.spans), row.history_start, row.first_opened_at)
            for row in covered
        },
        brakes={brake.name: brake.reason for brake in brakes_on(connection)},
    )


def _story(row: Any) -> ChainStory:
    return ChainStory(chain_rows.from_row(row), row["last_error"], row["total_pages"], row["total_new"])


def _discoveries(connection: Connection, user_id: str) -> dict[str, int]:
    rows = connection.execute(
        sa.select(discoveries.c.kind, discoveries.c.done_at).where(discoveries.c.user_id == user_id)
    )
    return {row.kind: row.done_at for row in rows}


def _scopes(connection: Connection, user_id: str) -> dict[str, dict[str, str]]:
    rows = connection.execute(
        sa.select(scopes.c.kind, scopes.c.scope, scopes.c.name)
        .where(scopes.c.user_id == user_id, scopes.c.state == "open")
        .limit(MAX_OF_USER)
    )
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        found.setdefault(row.kind, {})[row.scope] = row.name
    return found
