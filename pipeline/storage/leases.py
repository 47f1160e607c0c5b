"""Leases with fencing numbers, and small single-row facts: the queue's wait, ticks, the database's incarnation."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.chains.protocol import MICROS
from pipeline.storage.database import read_now
from pipeline.storage.dialect import LOCK_HINT, MSSQL
from pipeline.storage.tables import incarnation, leases, queues, ticks


def acquire(connection: Connection, name: str, holder: str, *, seconds: float) -> int | None:
    """
    Take or keep a lease; gives its fencing number, or None while another holds it.

    The number grows with each new holder. A lease whose time is over is taken from a holder that died.
    """
    now = read_now(connection)
    expires = now + int(seconds * MICROS)
    row = connection.execute(sa.select(leases).where(leases.c.name == name).with_hint(leases, LOCK_HINT, MSSQL)).first()
    if row is None:
        connection.execute(sa.insert(leases), {"name": name, "holder": holder, "token": 1, "expires_at": expires})
        return 1
    if row.holder != holder and row.expires_at > now:
        return None
    token = row.token if row.holder == holder and row.expires_at > now else row.token + 1
    connection.execute(
        sa.update(leases).where(leases.c.name == name).values(holder=holder, token=token, expires_at=expires)
    )
    return int(token)


def release(connection: Connection, name: str, holder: str, token: int) -> bool:
    """Give a lease back; False if it was lost meanwhile."""
    gone = connection.execute(
        sa.update(leases)
        .where(leases.c.name == name, leases.c.holder == holder, leases.c.token == token)
        .values(expires_at=0)
    )
    return gone.rowcount > 0


def holds(connection: Connection, name: str, holder: str, token: int) -> bool:
    """Tell, locked until the commit, whether a fencing number still is the newest: asked by every fenced write."""
    row = connection.execute(
        sa.select(leases.c.holder, leases.c.token).where(leases.c.name == name).with_hint(leases, LOCK_HINT, MSSQL)
    ).first()
    return row is not None and (row.holder, row.token) == (holder, token)


def note_wait(connection: Connection, queue: str, enqueued_at: int, *, at_most_every_seconds: int = 60) -> bool:
    """Note how long a message has waited on a queue by now; False if a note younger than a minute stands."""
    now = read_now(connection)
    values = {"wait": max(0, now - enqueued_at), "updated_at": now}
    done = connection.execute(
        sa.update(queues)
        .where(queues.c.name == queue, queues.c.updated_at <= now - at_most_every_seconds * MICROS)
        .values(**values)
    )
    if done.rowcount:
        return True
    if connection.execute(sa.select(queues.c.name).where(queues.c.name == queue)).first():
        return False
    connection.execute(sa.insert(queues), {"name": queue, **values})
    return True


def queue_waits(connection: Connection) -> dict[str, int]:
    """Give the wait last seen on each queue, microseconds."""
    return {row.name: row.wait for row in connection.execute(sa.select(queues.c.name, queues.c.wait))}


def start_tick(connection: Connection, feed: str, occurrence: int) -> bool:
    """Record that a tick's fan-out began; False if this occurrence was finished before."""
    row = connection.execute(
        sa.select(ticks.c.finished_at).where(ticks.c.feed == feed, ticks.c.occurrence == occurrence)
    ).first()
    if row is not None:
        return row.finished_at is None
    connection.execute(
        sa.insert(ticks),
        {"feed": feed, "occurrence": occurrence, "started_at": read_now(connection), "users": 0},
    )
    return True


def finish_tick(connection: Connection, feed: str, occurrence: int, users: int) -> None:
    """Record that all users of a tick got their message."""
    connection.execute(
        sa.update(ticks)
        .where(ticks.c.feed == feed, ticks.c.occurrence == occurrence)
        .values(finished_at=read_now(connection), users=users)
    )


def purge_ticks(connection: Connection, *, older_than_seconds: int = 30 * 86_400) -> int:
    """Drop records of ticks that nobody asks for any more; gives how many."""
    old = read_now(connection) - older_than_seconds * MICROS
    return connection.execute(sa.delete(ticks).where(ticks.c.occurrence < old)).rowcount


def read_incarnation(connection: Connection) -> str:
    """Read the database's incarnation; the first reader draws it."""
    value = connection.execute(sa.select(incarnation.c.value)).scalar_one_or_none()
    if value is None:
        value = secrets.token_hex(6)
        connection.execute(sa.insert(incarnation), {"id": 1, "value": value})
    return str(value)
