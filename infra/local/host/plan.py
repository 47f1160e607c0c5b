"""Which functions run, which do not and why: decided once, before anything is started."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from infra.local.host import routes, schedules
from infra.local.host.functions import Function, HttpTrigger, Refused, TimerTrigger, understand
from infra.local.host.routes import Route
from infra.local.host.schedules import Schedule
from infra.local.host.settings import AppSettings, HostJson


@dataclass
class Plan:
    """What is to run; `stopped` and `disabled` map names to reasons."""

    functions: dict[str, Function] = field(default_factory=dict)
    schedules: dict[str, Schedule] = field(default_factory=dict)
    routes: list[Route] = field(default_factory=list)
    stopped: dict[str, str] = field(default_factory=dict)
    disabled: dict[str, str] = field(default_factory=dict)


def planned(
    described: Iterable[Mapping[str, Any]], *, settings: AppSettings, host_json: HostJson, only: frozenset[str] | None
) -> Plan:
    """Decide for each function; raises ValueError for a time zone that does not exist."""
    plan = Plan()
    zone = _zone(settings)
    prefix = host_json.get("extensions.http.routePrefix")
    for each in described:
        name = str(each["name"])
        if why := _left_out(name, settings, host_json, only):
            plan.disabled[name] = why
            continue
        try:
            _add(plan, understand(each, settings), zone, "api" if prefix is None else str(prefix))
        except Refused as refused:
            plan.stopped[name] = str(refused)
    return plan


def _left_out(name: str, settings: AppSettings, host_json: HostJson, only: frozenset[str] | None) -> str | None:
    if only is not None and name not in only:
        return "not among --functions"
    listed = host_json.get("functions")
    if isinstance(listed, list) and name not in listed:
        return "not among the functions of host.json"
    setting = settings.disabled_by(name)
    return f"by {setting}" if setting else None


def _add(plan: Plan, function: Function, zone: tzinfo, prefix: str) -> None:
    trigger = function.trigger
    at = f"{function.name}: binding {trigger.argument}"
    if isinstance(trigger, TimerTrigger):
        try:
            plan.schedules[function.name] = schedules.parse(trigger.schedule, zone)
        except ValueError as wrong:
            raise Refused(f"{at} (timerTrigger): schedule: {wrong}") from wrong
    elif isinstance(trigger, HttpTrigger):
        try:
            plan.routes.append(routes.compiled(function, trigger, prefix))
        except ValueError as wrong:
            raise Refused(f"{at} (httpTrigger): route: {wrong}") from wrong
    plan.functions[function.name] = function


def _zone(settings: AppSettings) -> tzinfo:
    name = settings.get("WEBSITE_TIME_ZONE") or settings.get("TZ")
    if not name:
        return UTC
    try:
        return ZoneInfo(name.removeprefix(":"))
    except (ZoneInfoNotFoundError, ValueError) as unknown:
        raise ValueError(f"time zone {name!r} (WEBSITE_TIME_ZONE or TZ) is not known here") from unknown
