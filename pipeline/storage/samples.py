"""Samples of numbers that only grow, or go up and down: the difference of two tells a rate. Kept for two hours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.chains.protocol import MICROS
from pipeline.storage.database import read_now
from pipeline.storage.tables import samples

EVERY_SECONDS = 60
KEEP_SECONDS = 2 * 3600
MAX_NAMES = 500


def take(connection: Connection, values: Mapping[str, int]) -> bool:
    """Note values now; False (and nothing is written) if a note younger than a minute stands."""
    now = read_now(connection)
    last = connection.execute(sa.select(sa.func.max(samples.c.taken_at))).scalar_one_or_none()
    if last is not None and now - last < EVERY_SECONDS * MICROS:
        return False
    rows = [{"name": name, "taken_at": now, "value": value} for name, value in list(values.items())[:MAX_NAMES]]
    if rows:
        connection.execute(sa.insert(samples), rows)
    connection.execute(sa.delete(samples).where(samples.c.taken_at < now - KEEP_SECONDS * MICROS))
    return True


class Sample(dict[str, int]):
    """Values by name, with the instant they were taken at."""

    def __init__(self, values: Mapping[str, int], taken_at: int) -> None:
        super().__init__(values)
        self.taken_at = taken_at


def oldest_within(connection: Connection, *, seconds: int) -> Sample | None:
    """Give the oldest note of the last `seconds`."""
    return _at(connection, sa.select(sa.func.min(samples.c.taken_at)), newer=seconds, older=0)


def newest_before(connection: Connection, *, seconds: int, within: int) -> Sample | None:
    """Give the newest note that is at least `seconds` old, but not older than `within`."""
    return _at(connection, sa.select(sa.func.max(samples.c.taken_at)), newer=within, older=seconds)


def _at(connection: Connection, query: sa.Select[Any], *, newer: int, older: int) -> Sample | None:
    now = read_now(connection)
    found = connection.execute(
        query.where(samples.c.taken_at >= now - newer * MICROS, samples.c.taken_at <= now - older * MICROS)
    ).scalar_one_or_none()
    if found is None:
        return None
    rows = connection.execute(sa.select(samples.c.name, samples.c.value).where(samples.c.taken_at == found))
    return Sample({row.name: row.value for row in rows}, found)
