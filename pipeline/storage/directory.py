"""Who is mined, and the scopes each user has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.chains.protocol import MICROS
from pipeline.storage.database import read_now
from pipeline.storage.tables import discoveries, scopes, users


class User(NamedTuple):
    """One row of `users`."""

    user_id: str
    state: str
    priority: int


class ScopeRow(NamedTuple):
    """An object of a user that edges hang on."""

    scope: str
    name: str


ACTIVE, DISABLED = "active", "disabled"
OPEN, CLOSED = "open", "closed"


def put_user(connection: Connection, user_id: str, *, priority: int | None = None) -> bool:
    """Add a user or make a disabled one active again, by default with its old priority; False if nothing was new."""
    row = connection.execute(sa.select(users.c.state).where(users.c.user_id == user_id)).first()
    if row is None:
        connection.execute(
            sa.insert(users),
            {"user_id": user_id, "state": ACTIVE, "priority": priority or 0, "created_at": read_now(connection)},
        )
        return True
    values = {"state": ACTIVE} if priority is None else {"state": ACTIVE, "priority": priority}
    connection.execute(sa.update(users).where(users.c.user_id == user_id).values(**values))
    return bool(row.state != ACTIVE)


def disable_user(connection: Connection, user_id: str) -> bool:
    """Stop scheduling a user; False if there is no such user."""
    done = connection.execute(sa.update(users).where(users.c.user_id == user_id).values(state=DISABLED))
    return done.rowcount > 0


def page_of_users(
    connection: Connection, *, after: tuple[int, str] | None, limit: int, only: str | None = None
) -> list[User]:
    """Give the next active users, high priority first; `after` is (priority, user id) of the last one seen."""
    query = sa.select(users.c.user_id, users.c.state, users.c.priority).where(users.c.state == ACTIVE)
    if only is not None:
        query = query.where(users.c.user_id == only)
    if after is not None:
        priority, user_id = after
        query = query.where(
            sa.or_(users.c.priority < priority, sa.and_(users.c.priority == priority, users.c.user_id > user_id))
        )
    rows = connection.execute(query.order_by(users.c.priority.desc(), users.c.user_id).limit(limit))
    return [User(*row) for row in rows]


def read_scopes(connection: Connection, user_id: str, kind: str, *, max_age_seconds: int) -> list[ScopeRow] | None:
    """Give the open scopes of a kind, or None if they must be discovered (again)."""
    done = connection.execute(
        sa.select(discoveries.c.done_at).where(discoveries.c.user_id == user_id, discoveries.c.kind == kind)
    ).scalar_one_or_none()
    if done is None or read_now(connection) - done > max_age_seconds * MICROS:
        return None
    return open_scopes(connection, user_id, kind)


def open_scopes(connection: Connection, user_id: str, kind: str) -> list[ScopeRow]:
    """Give the open scopes of a kind, whatever their age."""
    rows = connection.execute(
        sa.select(scopes.c.scope, scopes.c.name)
        .where(scopes.c.user_id == user_id, scopes.c.kind == kind, scopes.c.state == OPEN)
        .order_by(scopes.c.scope)
    )
    return [ScopeRow(*row) for row in rows]


def put_scopes(connection: Connection, user_id: str, kind: str, found: Sequence[ScopeRow]) -> None:
    """Store what a discovery found; what it did not find any more is closed, and opened again when it comes back."""
    now = read_now(connection)
    mine = sa.and_(scopes.c.user_id == user_id, scopes.c.kind == kind)
    known = set(connection.execute(sa.select(scopes.c.scope).where(mine)).scalars())
    for scope, name in found:
        values = {"name": name[:200], "state": OPEN, "seen_at": now}
        if scope in known:
            connection.execute(sa.update(scopes).where(mine, scopes.c.scope == scope).values(**values))
        else:
            connection.execute(sa.insert(scopes), {"user_id": user_id, "kind": kind, "scope": scope, **values})
    for scope in known - {row.scope for row in found}:
        connection.execute(sa.update(scopes).where(mine, scopes.c.scope == scope).values(state=CLOSED))
    updated = connection.execute(
        sa.update(discoveries).where(discoveries.c.user_id == user_id, discoveries.c.kind == kind).values(done_at=now)
    )
    if not updated.rowcount:
        connection.execute(sa.insert(discoveries), {"user_id": user_id, "kind": kind, "done_at": now})


def close_scope(connection: Connection, user_id: str, kind: str, scope: str) -> None:
    """Close a scope that the API says is gone; the next discovery decides anew."""
    connection.execute(
        sa.update(scopes)
        .where(scopes.c.user_id == user_id, scopes.c.kind == kind, scopes.c.scope == scope)
        .values(state=CLOSED)
    )
