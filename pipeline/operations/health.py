"""Is it healthy? A few cheap checks and the status's alerts, for monitors and load balancers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from pipeline.errors import MigrateFirst, PipelineError
from pipeline.operations.alerts import Alert, Level
from pipeline.storage import migrate
from pipeline.storage.cache import Cache
from pipeline.storage.database import Database

CHECK_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was tried. A part that the pipeline can do without is not `needed`."""

    name: str
    ok: bool
    needed: bool
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Health:
    """The answer: healthy, degraded (it works, but look), down (it cannot work)."""

    status: str
    checks: list[Check] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)


def judge(checks: list[Check], alerts: list[Alert]) -> Health:
    """Say what the checks and alerts come to. Pure."""
    if any(check.needed and not check.ok for check in checks):
        status = "down"
    elif any(not check.ok for check in checks) or any(alert.level is Level.BAD for alert in alerts):
        status = "degraded"
    else:
        status = "healthy"
    return Health(status=status, checks=checks, alerts=alerts)


async def check_parts(database: Database, cache: Cache) -> list[Check]:
    """Try the database and the cache."""
    return [
        await _try("database", database.read(migrate.require_current), needed=True),
        await _redis(cache),
    ]


async def _try(name: str, work: Awaitable[object], *, needed: bool) -> Check:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await work
    except MigrateFirst as error:
        return Check(name=name, ok=False, needed=needed, detail=str(error))
    except (PipelineError, SQLAlchemyError, TimeoutError) as error:
        return Check(name=name, ok=False, needed=needed, detail=type(error).__name__)
    return Check(name=name, ok=True, needed=needed)


async def _redis(cache: Cache) -> Check:
    """Without Redis everything is slower and right all the same."""
    if not cache.configured:
        return Check(name="redis", ok=True, needed=False, detail="not configured")
    return Check(name="redis", ok=await cache.answers(), needed=False)
