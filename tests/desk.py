"""A desk: the command line over real SQLite, with a bus in memory, a source over a list and a clock that stands."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pipeline.__main__ import main
from pipeline.bootstrap import Pipeline, bootstrap
from pipeline.bus.entities import Entities
from pipeline.commands.base import Context
from pipeline.settings import Settings, load
from tests.fakes import FakeBus, ListSource, ManualClock

R = TypeVar("R")
MICROS = 1_000_000
MAX_MESSAGES = 5_000


@dataclass
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The answer as data."""
        return json.loads(self.out)


@dataclass
class Desk:
    """Runs commands and works what they order. Every command and every `work` is a process of its own."""

    folder: Path
    clock: ManualClock = field(default_factory=ManualClock)
    overrides: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    entities: Entities | None = None
    check_schema: bool = True

    def __post_init__(self) -> None:
        self.bus = FakeBus(self.clock)
        self.source = ListSource(self.clock)
        self.rest = ListSource(self.clock, name="rest")
        assert self.run("migrate").code == 0

    @property
    def environment(self) -> dict[str, str]:
        """The app settings."""
        return {
            "ENVIRONMENT": "local",
            "MINER_AZURE_SERVICE_BUS": "Endpoint=sb://nowhere;UseDevelopmentEmulator=true;",
            "DATABASE_URL": f"sqlite:///{self.folder / 'pipeline.db'}",
            "LAKE_URL": f"file:{self.folder / 'lake'}",
            "TOKEN_KEY": base64.b64encode(bytes(32)).decode(),
            "FEEDS_ENABLED": "posts,comments",
            **self.overrides,
            **self.variables,
        }

    @property
    def settings(self) -> Settings:
        """The app settings as the app reads them."""
        return load(self.environment)

    async def build(self, settings: Settings) -> Pipeline:
        """Build the pipeline over the fakes."""
        sources: dict[str, Any] = {"graph": self.source, "rest": self.rest}
        return await bootstrap(
            settings,
            bus=self.bus,
            entities=self.entities,
            sources=sources,
            clock=self.clock,
            check_schema=self.check_schema,
        )

    def run(self, *arguments: str, stdin: str = "") -> Said:
        """Run one command line."""
        out, err = io.StringIO(), io.StringIO()
        context = Context(environment=self.environment, out=out, err=err, stdin=io.StringIO(stdin), build=self.build)
        try:
            code = main(list(arguments), context)
        except SystemExit as end:  # argparse's own way out
            code = int(end.code or 0)
        return Said(code, out.getvalue(), err.getvalue())

    def with_pipeline(self, work: Callable[[Pipeline], Awaitable[R]]) -> R:
        """Do something with a pipeline of its own."""

        async def go() -> R:
            pipeline = await self.build(self.settings)
            try:
                return await work(pipeline)
            finally:
                await pipeline.close()

        return asyncio.run(go())

    def work(self) -> int:
        """Hand every message that can be received to the miner, until none is left; gives how many."""
        return self.with_pipeline(self._work)

    async def _work(self, pipeline: Pipeline) -> int:
        done = 0
        while ready := [
            (entity, one) for entity in list(self.bus.queues) if "mining" in entity for one in self.bus.ready(entity)
        ]:
            for entity, one in ready:
                await pipeline.miner.handle(self.bus.receive(entity, one))
                self.bus.complete(entity, one)
                done += 1
                assert done < MAX_MESSAGES
        return done

    def user(self, user_id: str, *, posts: int = 0) -> None:
        """Add a user with a token, and posts on its one page, one a minute, the newest an hour old."""
        assert self.run("users", "add", user_id, "--token-stdin", stdin="secret-of-" + user_id).code == 0
        newest = self.clock.now // MICROS - 3600
        for number in range(posts):
            self.source.add(f"page-{user_id}", f"{user_id}_{number}", newest - 60 * number)
