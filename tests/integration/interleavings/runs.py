"""Build worlds over one database of this process, run seeds, and say how to run a failing one again."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from pipeline.bootstrap import Pipeline, bootstrap
from pipeline.settings import Settings, load
from pipeline.storage import directory, migrate, tokens
from pipeline.storage.tables import metadata
from pipeline.storage.tokens import TokenKeys
from tests.fakes import ManualClock
from tests.integration.interleavings.configs import CONFIGS, Config
from tests.integration.interleavings.steps import InlineDatabase, Violation, run_alone
from tests.integration.interleavings.world import UNIT, World, WorldBus, WorldSource

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


@functools.cache
def _database() -> tuple[InlineDatabase, ManualClock]:
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="interleavings-", dir=memory if memory.is_dir() else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    clock = ManualClock()
    database = InlineDatabase(f"sqlite:///{folder}/worlds.db", threads=2, clock=clock)
    migrate.upgrade(database)
    return database, clock


@functools.cache
def _sealed(user: str) -> bytes:
    return TokenKeys(SecretStr(KEY)).seal(user, "graph", SecretStr("token"))


def settings_of(config: Config) -> Settings:
    """Give the app settings of a world."""
    return load(
        {
            "ENVIRONMENT": "local",
            "TOKEN_KEY": KEY,
            "FEEDS_PACKAGE": "tests.integration.interleavings.feeds",
            "FEEDS_ENABLED": "entries,replies",
            "LOCK_SECONDS": str(UNIT),
            "PAGES_PER_MESSAGE": str(config.pages_per_message),
            "FRESH_WINDOW_SECONDS": str(config.fresh * UNIT),
            "REFRESH_EVERY_SECONDS": str(config.refresh_every * UNIT),
            "REFRESH_WINDOW_SECONDS": str(config.refresh_window * UNIT),
        }
    )


def make(config: Config, seed: int) -> World:
    """Build a world: an emptied database and a pipeline over it."""
    database, clock = _database()
    database.after = lambda unit, result: None
    database.unknown = database.refuse = False
    clock.now = 1
    database.write_here("reset", _reset, config.users)
    pipeline = _pipeline(config)
    return World(config, pipeline, database, clock, seed)


@functools.cache
def _pipeline(config: Config) -> Pipeline:
    database, clock = _database()
    sources: Any = {"graph": WorldSource()}
    pipeline = run_alone(
        bootstrap(settings_of(config), bus=WorldBus(), sources=sources, database=database, clock=clock)
    )
    for name, plan in pipeline.plans.items():
        if not config.by_time:
            pipeline.plans[name] = plan._replace(rules=plan.rules._replace(by_time=False))  # type: ignore[index]
    return pipeline


def _reset(connection: Any, users: int) -> None:
    for table in metadata.tables:
        connection.exec_driver_sql(f"DELETE FROM {table}")
    for user in range(users):
        directory.put_user(connection, f"u{user}")
        tokens.store(connection, f"u{user}", "graph", _sealed(f"u{user}"))


def run_seeds(name: str, first: int, count: int) -> None:
    """Run `count` seeds of a world; a failing one prints itself and how to run it again."""
    for seed in range(first, first + count):
        world = make(CONFIGS[name], seed)
        try:
            world.run()
        except Violation as error:
            if os.environ.get("TRACE"):
                print("\n".join(world.trace))
            raise AssertionError(
                f"{name}, seed {seed}: {error}\n"
                f"again: SEED={seed} TRACE=1 python -m pytest tests/integration/interleavings -k {name!r}"
            ) from error
