"""Two instances that share a budget, in SQL or in one process's own memory, under a clock of the test's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.chains.protocol import MICROS
from pipeline.sources.base import Budget
from pipeline.storage import migrate
from pipeline.storage.budgets import SharedBudget
from pipeline.storage.database import Database
from tests.fakes import ManualClock, MemoryBudget

MINUTE = 60.0


@dataclass
class Instances:
    """Two budgets over one store (the same one twice where it is a process's own)."""

    one: Budget
    other: Budget
    clock: ManualClock

    def rest(self, minutes: float) -> None:
        """Let time pass."""
        self.clock.advance(minutes * MINUTE)


@pytest.fixture(params=["memory", "sql"])
async def instances(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Instances]:
    clock = ManualClock()
    if request.param == "memory":
        budget = MemoryBudget(clock=lambda: clock.now / MICROS)
        yield Instances(budget, budget, clock)
        return
    databases = [Database(f"sqlite:///{tmp_path / 'shared.db'}", threads=2, clock=clock) for _ in range(2)]
    migrate.upgrade(databases[0])
    one, other = (SharedBudget(database, clock=lambda: clock.now / MICROS) for database in databases)
    yield Instances(one, other, clock)
    for database in databases:
        await database.close()
