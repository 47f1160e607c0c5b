"""What the host prints at start: every function, what starts it, and why something does not run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from infra.local.host.functions import Function, HttpTrigger, ServiceBusTrigger, TimerTrigger
from infra.local.host.listeners import Options


def of_functions(
    running: Iterable[Function],
    *,
    stopped: Mapping[str, str],
    disabled: Mapping[str, str],
    next_runs: Mapping[str, datetime],
    urls: Mapping[str, str],
    options: Options,
    now: datetime,
) -> str:
    """Return one line per function, in columns."""
    rows = [_running(function, next_runs, urls, options, now) for function in running]
    rows += [(name, "disabled", why) for name, why in disabled.items()]
    rows += [(name, "STOPPED", why) for name, why in stopped.items()]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    return "\n".join(f"  {name:<{widths[0]}}  {kind:<{widths[1]}}  {what}" for name, kind, what in rows)


def in_words(due: datetime, now: datetime) -> str:
    """Say when: `in 4 minutes, at 12:35:00 UTC`."""
    zone = due.tzname() or ""
    day = "at" if due.date() == now.astimezone(due.tzinfo).date() else f"on {due:%A %d %B %Y} at"
    return f"in {_span((due - now).total_seconds())}, {day} {due:%H:%M:%S} {zone}".rstrip()


def _running(
    function: Function, next_runs: Mapping[str, datetime], urls: Mapping[str, str], options: Options, now: datetime
) -> tuple[str, str, str]:
    trigger = function.trigger
    if isinstance(trigger, TimerTrigger):
        return function.name, "timer", f"{trigger.schedule}  next run {in_words(next_runs[function.name], now)}"
    if isinstance(trigger, HttpTrigger):
        methods = ",".join(sorted(trigger.methods)) or "any method"
        return function.name, "http", f"{methods} {urls[function.name]}  ({trigger.auth_level})"
    assert isinstance(trigger, ServiceBusTrigger)
    kind = "queue" if trigger.entity.subscription is None else "subscription"
    how = f"batches of {options.max_batch}" if trigger.many else f"{options.max_concurrent_calls} at once"
    return function.name, kind, f"{trigger.entity}  ({how})"


def _span(seconds: float) -> str:
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        count = round(seconds / size)
        if count >= 1 and seconds >= size:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a second"
