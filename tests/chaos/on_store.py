"""Faults of the SQL store: somebody else holds the write lock, shortly or for longer than a statement may take."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from pathlib import Path

from tests.chaos.scene import Scene


async def slow(scene: Scene) -> bool:
    """Make writers wait."""
    return await asyncio.to_thread(_hold, scene.stack.places.database, scene.chance.uniform(0.5, 2.0))


async def locked(scene: Scene) -> bool:
    """Lock writers out for longer than a statement may take."""
    return await asyncio.to_thread(_hold, scene.stack.places.database, scene.chance.uniform(5.5, 8.0))


def _hold(database: Path, seconds: float) -> bool:
    with contextlib.closing(sqlite3.connect(database, timeout=3, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        time.sleep(seconds)
        connection.execute("ROLLBACK")
        return True
