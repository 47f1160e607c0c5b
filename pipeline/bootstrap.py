"""The composition root: chooses implementations, once per process, at the first invocation."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from azure.servicebus.aio import ServiceBusClient
from pydantic import SecretStr

from pipeline import redaction, telemetry
from pipeline.bus.entities import ControlledEntities, Entities, ManagedEntities, UnknownEntities
from pipeline.bus.service_bus import Bus, ServiceBus
from pipeline.errors import ConfigurationError
from pipeline.failpoints import install_from_environment
from pipeline.feeds import Feeds, load_feeds
from pipeline.miners.copies import Copies
from pipeline.miners.mine import Miner
from pipeline.miners.plan import Plans, make_plans
from pipeline.miners.pressure import Pressure
from pipeline.miners.scopes import Scopes
from pipeline.miners.tools import Tools
from pipeline.operations.dead_letters import DeadLetters
from pipeline.operations.status import read_status
from pipeline.operations.watchdog import Watchdog
from pipeline.schedulers.fan_out import FanOut
from pipeline.settings import Settings, load
from pipeline.sources import build_source
from pipeline.sources.base import Source, SourceOptions, Token
from pipeline.storage import cache as caches
from pipeline.storage import inbox, leases, migrate, outbox
from pipeline.storage.analytics import Analytics
from pipeline.storage.budgets import SharedBudget
from pipeline.storage.cache import Cache
from pipeline.storage.database import Database, system_clock
from pipeline.storage.flush import Flusher
from pipeline.storage.lake import FolderLake, Lake
from pipeline.storage.marts import load_marts
from pipeline.storage.tokens import SealedToken, SqlTokens, TokenKeys

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.servicebus.aio.management import ServiceBusAdministrationClient


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Everything that functions and commands use."""

    settings: Settings
    feeds: Feeds
    plans: Plans
    database: Database
    bus: Bus
    flusher: Flusher
    sources: dict[str, Source]
    tokens: SqlTokens
    keys: TokenKeys | None
    cache: Cache
    miner: Miner
    fan_out: FanOut
    watchdog: Watchdog
    copies: Copies
    dead_letters: DeadLetters
    budget: SharedBudget
    entities: Entities
    lake: Lake | None
    analytics: Analytics

    async def relay(self) -> int:
        """Send what a crash left in the outbox, and drop kept rows beyond their retention; gives what was sent."""
        sent = await self.flusher.relay()
        if self.settings.outbox_retention_seconds:
            age = int(self.settings.outbox_retention_seconds)
            await self.database.write("retention", outbox.purge_sent, older_than_seconds=age)
        return sent

    async def upkeep(self) -> None:
        """Note a sample for rates, though nobody looks at the status; drop records of old ticks and messages taken."""
        await read_status(self.database, self.plans, self.entities, self.budget, self.settings)
        await self.database.write("ticks", leases.purge_ticks)
        await inbox.purge_all(self.database, older_than_seconds=int(self.settings.inbox_retention_seconds))

    async def close(self) -> None:
        """Close all connections, senders first."""
        await self.bus.close()
        for source in self.sources.values():
            await source.close()
        if self.lake is not None:
            await self.lake.close()
        await self.cache.close()
        await self.database.close()


async def bootstrap(
    settings: Settings,
    *,
    bus: Bus | None = None,
    entities: Entities | None = None,
    sources: dict[str, Source] | None = None,
    database: Database | None = None,
    clock: Callable[[], int] = system_clock,
    check_schema: bool = True,
) -> Pipeline:
    """
    Build the pipeline. Production passes nothing but settings; tests pass the outside worlds, and a database of
    theirs to choose when its units run.

    Raises ConfigurationError naming every setting at fault, MigrateFirst if the database is older than the code.
    """
    if bus is None:
        settings.check()
    redaction.install()
    telemetry.quiet_libraries()
    install_from_environment(os.environ)
    if database is not None:
        return await _build(settings, bus, entities, sources, database, clock, check_schema=check_schema)
    url = _secret(settings.database_url, "DATABASE_URL")
    database = Database(url, threads=settings.sql_threads, clock=clock)
    try:
        return await _build(settings, bus, entities, sources, database, clock, check_schema=check_schema)
    except BaseException:
        await database.close()  # the next call tries again, and must not leave threads and connections behind
        raise


async def _build(
    settings: Settings,
    bus: Bus | None,
    entities: Entities | None,
    sources: dict[str, Source] | None,
    database: Database,
    clock: Callable[[], int],
    *,
    check_schema: bool,
) -> Pipeline:
    if check_schema:
        await database.read(migrate.require_current)
    feeds = enabled_feeds(settings)
    plans = make_plans(feeds, settings)
    bus = bus or ServiceBus(lambda: _client(settings), max_senders=settings.max_senders)
    cache = await _cache(settings, database)
    flusher = Flusher(database, bus, keep_sent=settings.outbox_retention_seconds > 0)
    keys = TokenKeys(settings.token_key) if settings.token_key else None
    tokens = SqlTokens(database)
    budget = SharedBudget(database, minute_seconds=settings.graph_minute_seconds)
    sources = sources or {name: build_source(name, options, budget) for name, options in _sources(settings, feeds)}
    secret = _secrets(settings, keys)
    copies = Copies(database, bus)
    scopes = Scopes(database, sources, tokens, secret, settings)
    tools = Tools(
        database=database,
        flusher=flusher,
        sources=sources,
        tokens=tokens,
        secret=secret,
        plans=plans,
        scopes=scopes,
        copies=Copies(database, bus, clock),
        cache=cache,
        pressure=Pressure(database, settings),
        settings=settings,
    )
    return Pipeline(
        settings=settings,
        feeds=feeds,
        plans=plans,
        database=database,
        bus=bus,
        flusher=flusher,
        sources=sources,
        tokens=tokens,
        keys=keys,
        cache=cache,
        miner=Miner(tools),
        fan_out=FanOut(database, bus, settings),
        watchdog=Watchdog(database, flusher, plans, settings),
        dead_letters=DeadLetters(database, flusher, settings),
        budget=budget,
        entities=entities or _entities(settings),
        copies=copies,
        lake=build_lake(settings),
        analytics=Analytics(database, feeds.values(), load_marts()),
    )


def enabled_feeds(settings: Settings) -> Feeds:
    """Give the feeds that this deployment runs: those named, or all whose source is configured."""
    return load_feeds(settings.feeds_package, enabled=settings.enabled_feeds, sources=settings.configured_sources)


COLLECT_AFTER = 50_000
"""New objects between two rounds of the garbage collector; some five pages."""

_lock = asyncio.Lock()
_pipeline: Pipeline | None = None


async def the_pipeline() -> Pipeline:
    """Give this process's pipeline, built at the first call. A failed build is tried again by the next call."""
    global _pipeline
    if _pipeline is None:
        async with _lock:
            if _pipeline is None:
                _pipeline = await bootstrap(load())
                _calm_collector()
    return _pipeline


def _calm_collector() -> None:
    """
    Keep what was imported out of the garbage collector's rounds, and let them come less often.

    A page makes some ten thousand short-lived objects and no cycles; with the default threshold the collector walked
    the client libraries' hundreds of thousands of objects several times a page.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 10, 10)


async def _cache(settings: Settings, database: Database) -> Cache:
    if settings.redis_url is None:
        return Cache(None, "")
    incarnation = await database.write("incarnation", leases.read_incarnation)
    return Cache(caches.connect(settings.redis_url.get_secret_value()), incarnation)


def _sources(settings: Settings, feeds: Feeds) -> list[tuple[str, SourceOptions]]:
    bases: Mapping[str, tuple[str, str]] = {
        "graph": (settings.graph_base_url, settings.graph_api_version),
        "rest": (settings.rest_base_url, ""),
    }
    wanted = sorted({feed.source for feed in feeds.values()})
    if unknown := [name for name in wanted if name not in bases]:
        raise ConfigurationError(f"no source named {', '.join(unknown)}")
    return [
        (
            name,
            SourceOptions(
                base_url=bases[name][0],
                version=bases[name][1],
                read_timeout=settings.api_read_seconds,
                total_timeout=settings.api_total_seconds,
                minute_seconds=settings.graph_minute_seconds,
                app_secret=settings.graph_app_secret if name == "graph" else None,
                proxy_url=settings.source_proxy_url,
            ),
        )
        for name in wanted
    ]


def _secrets(settings: Settings, keys: TokenKeys | None) -> Callable[[str, str, SealedToken | None], Token | None]:
    """
    Give what turns a user's row into a token: the table, or the environment's one user.

    The row is read for each doorbell, so a stored token counts at once; the environment's is this process's for life.
    """

    def secret(user_id: str, source: str, sealed: SealedToken | None) -> Token | None:
        if sealed is not None and not sealed.dead and keys is not None:
            return Token(keys.open(user_id, source, sealed.sealed), sealed.version)
        alone = settings.graph_access_token
        if sealed is None and alone is not None and (user_id, source) == (settings.graph_user_id, "graph"):
            return Token(alone, 1)  # below any stored version: its death is no other's
        return None

    return secret


def build_lake(settings: Settings) -> Lake | None:
    """Give the lake that LAKE_URL names; None without one, and then raw storage says so when it is met."""
    url = settings.lake_url
    if not url:
        return None
    if url.startswith("file:"):
        return FolderLake(Path(url.removeprefix("file://").removeprefix("file:")))
    from pipeline.storage.lake_blob import open_container  # 0.2 s to import, and a desk may do without

    if settings.lake_connection is not None:
        return open_container(url, settings.lake_connection.get_secret_value())
    return open_container(url, _credential())


def _entities(settings: Settings) -> Entities:
    if settings.servicebus_control_url:
        return ControlledEntities(settings.servicebus_control_url)
    connection = settings.miner_azure_service_bus
    if connection and "UseDevelopmentEmulator=true" in connection.get_secret_value():
        return UnknownEntities()
    return ManagedEntities(lambda: _administration(settings))


def _administration(settings: Settings) -> ServiceBusAdministrationClient:
    from azure.servicebus.aio.management import ServiceBusAdministrationClient

    if settings.miner_azure_service_bus:
        return ServiceBusAdministrationClient.from_connection_string(
            settings.miner_azure_service_bus.get_secret_value()
        )
    return ServiceBusAdministrationClient(settings.miner_azure_service_bus__fullyqualifiednamespace, _credential())


def _client(settings: Settings) -> ServiceBusClient:
    if settings.miner_azure_service_bus:
        return ServiceBusClient.from_connection_string(
            settings.miner_azure_service_bus.get_secret_value(), retry_total=2, retry_backoff_factor=0.2
        )
    return ServiceBusClient(settings.miner_azure_service_bus__fullyqualifiednamespace, _credential(), retry_total=2)


def _credential() -> AsyncTokenCredential:
    from azure.identity.aio import DefaultAzureCredential

    return DefaultAzureCredential()


def _secret(value: SecretStr | None, name: str) -> str:
    if value is None:
        raise ConfigurationError(f"{name} is missing")
    return value.get_secret_value()
