"""The HTTP answers, apart from HTTP: status (HTML or JSON from one model) and health."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol

import orjson
from sqlalchemy.exc import SQLAlchemyError

from pipeline.bus.entities import Entities
from pipeline.errors import PipelineError
from pipeline.miners.plan import Plans
from pipeline.operations.health import Check, Health, check_parts, judge
from pipeline.operations.status import Status, read_status
from pipeline.operations.status_page import render, render_problem
from pipeline.settings import Settings
from pipeline.storage.budgets import SharedBudget
from pipeline.storage.cache import Cache
from pipeline.storage.database import Database

HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",  # the address holds the function's key
    "X-Content-Type-Options": "nosniff",
}


class Parts(Protocol):
    """What of the pipeline these answers need."""

    @property
    def settings(self) -> Settings: ...
    @property
    def plans(self) -> Plans: ...
    @property
    def database(self) -> Database: ...
    @property
    def cache(self) -> Cache: ...
    @property
    def budget(self) -> SharedBudget: ...
    @property
    def entities(self) -> Entities: ...


class Answer(NamedTuple):
    """What goes back."""

    code: int
    body: str
    content_type: str


Build = Callable[[], Awaitable[Parts]]


def wants_html(format_parameter: str | None, accept: str | None) -> bool:
    """Decide the form: `?format=` first, then `Accept`; JSON for whoever asks for nothing."""
    if format_parameter:
        return format_parameter.lower() == "html"
    return "text/html" in (accept or "").lower()


async def status_answer(build: Build, *, html: bool) -> Answer:
    """Give the status, or why it cannot be given (503)."""
    try:
        parts = await build()
        status = await _status(parts)
    except (PipelineError, SQLAlchemyError) as error:
        title = "The pipeline cannot say how it is"
        if html:
            return Answer(503, render_problem(title, _why(error)), "text/html; charset=utf-8")
        return _json(503, {"level": "bad", "verdict": title, "error": _why(error)})
    return Answer(200, render(status), "text/html; charset=utf-8") if html else _json(200, status)


async def health_answer(build: Build) -> Answer:
    """Give the health: 200 while it can work, else 503. Settings at fault are named, never shown."""
    try:
        parts = await build()
    except (PipelineError, SQLAlchemyError) as error:
        return _health(Health(status="down", checks=[Check(name="start", ok=False, needed=True, detail=_why(error))]))
    checks = await check_parts(parts.database, parts.cache)
    try:
        alerts = (await _status(parts)).alerts if all(check.ok for check in checks if check.needed) else []
    except (PipelineError, SQLAlchemyError) as error:
        checks.append(Check(name="status", ok=False, needed=True, detail=_why(error)))
        alerts = []
    return _health(judge(checks, alerts))


def _why(error: Exception) -> str:
    """Our own errors are written for people; a driver's text may hold a server's name or a statement."""
    return str(error) if isinstance(error, PipelineError) else f"the database: {type(error).__name__}"


async def _status(parts: Parts) -> Status:
    return await read_status(parts.database, parts.plans, parts.entities, parts.budget, parts.settings)


def _health(health: Health) -> Answer:
    return _json(503 if health.status == "down" else 200, health)


def _json(code: int, value: Any) -> Answer:
    return Answer(code, orjson.dumps(value, option=orjson.OPT_UTC_Z).decode(), "application/json")
