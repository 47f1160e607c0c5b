"""A pipeline over a real SQLite file, a lake folder and a bus in memory, and hands that carry its messages."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline import failpoints
from pipeline.bootstrap import Pipeline, bootstrap
from pipeline.bus.messages import Outgoing, Received
from pipeline.settings import load
from pipeline.storage import migrate
from pipeline.storage.database import Database
from pipeline.subscribers import load_subscribers
from pipeline.subscribers.receive import receive
from tests.fakes import FakeBus, ListSource, ManualClock


@dataclass
class Stage:
    """One pipeline, and what stands around it."""

    pipeline: Pipeline
    bus: FakeBus
    source: ListSource
    clock: ManualClock
    lake: Path

    async def give(self, subscriber: str, message: Outgoing, **properties: str | int) -> None:
        """Hand a message to a subscriber, as its trigger does."""
        declared = load_subscribers()[subscriber]
        entity = self.pipeline.settings.entity(declared.queue)
        every: Mapping[str, str | int] = {**message.properties, **properties}
        await receive(declared, self.pipeline, Received(entity, message.message_id, message.body, every))

    async def publish(self, *subscribers: str) -> int:
        """Hand all that stands in topics to subscribers, once; gives how many messages."""
        messages = [message for topic in self.bus.topics.values() for message in topic]
        for message in messages:
            for subscriber in subscribers:
                await self.give(subscriber, message)
        self.bus.topics.clear()
        return len(messages)

    async def rows(self, sql: str) -> list[dict[str, Any]]:
        """Read from the database."""

        def read(connection: Any) -> list[dict[str, Any]]:
            return [dict(row) for row in connection.exec_driver_sql(sql).mappings()]

        return await self.pipeline.database.read(read)

    def objects(self) -> list[Path]:
        """Give the lake's files."""
        return sorted(path for path in self.lake.rglob("*") if path.is_file())


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the newest schema and nothing in it; migrating takes longer than copying."""
    path = tmp_path_factory.mktemp("schema") / "empty.db"
    database = Database(f"sqlite:///{path}", threads=1)
    migrate.upgrade(database)
    database.engine.dispose()
    return path


@pytest.fixture
async def stage(tmp_path: Path, migrated: Path) -> AsyncIterator[Stage]:
    """A pipeline with nothing in it."""
    shutil.copy(migrated, tmp_path / "pipeline.db")
    clock = ManualClock()
    bus, source = FakeBus(clock), ListSource(clock)
    environment = {
        "DATABASE_URL": f"sqlite:///{tmp_path / 'pipeline.db'}",
        "LAKE_URL": f"file:{tmp_path / 'lake'}",
        "GRAPH_ACCESS_TOKEN": "token",
        "GRAPH_USER_ID": "user-1",
        "REST_BASE_URL": "http://127.0.0.1:1",
    }
    sources: dict[str, Any] = {"graph": source, "rest": ListSource(clock, name="rest")}
    pipeline = await bootstrap(load(environment), bus=bus, sources=sources, clock=clock)
    yield Stage(pipeline, bus, source, clock, tmp_path / "lake")
    await pipeline.close()


@pytest.fixture(autouse=True)
def no_failpoint() -> Iterator[None]:
    """Leave no failpoint behind."""
    yield
    failpoints.install(None)
