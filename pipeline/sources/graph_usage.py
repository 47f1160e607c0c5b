"""Read the Graph API's usage headers, and tell which budgets a call draws on. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from pipeline.sources.base import UsageNote
from pipeline.sources.budget import Draws

MAX_OBJECTS = 32
"""The API sends at most so many objects in one header; a longer one is not read to its end."""

_PERCENTAGES = ("call_count", "total_time", "total_cputime")


def draws(path: str, scope: str, user_id: str) -> Draws:
    """Tell from the edge and its object which budget a call draws on; a post counts against its page."""
    if scope.startswith("act_"):
        use_case = "ads_insights" if path.rstrip("/").endswith("insights") else "ads_management"
        return Draws(use_case, scope.removeprefix("act_"), user_id)
    return Draws("pages", scope.partition("_")[0], user_id)


def usage(source: str, headers: Mapping[str, str], drawn: Draws, *, minute_seconds: float = 60.0) -> list[UsageNote]:
    """
    Give what an answer's headers say about budgets; error answers carry them too, and count most.

    Headers are absent when nearly nothing is used. Junk in them is skipped: usage is advice, never a reason to fail.
    """
    app, own, _ = drawn.keys(source)
    notes = []
    for name, key in (("x-app-usage", app), ("x-page-usage", own)):
        if name in headers:
            notes.append(UsageNote(key, _highest(_object(headers[name]), _PERCENTAGES)))
    if "x-ad-account-usage" in headers:
        found = _object(headers["x-ad-account-usage"])
        percent = _number(found.get("acc_id_util_pct"))
        reset = _number(found.get("reset_time_duration")) * minute_seconds / 60.0
        notes.append(UsageNote(own, percent, reset if percent >= 100.0 else 0.0))
    if "x-fb-ads-insights-throttle" in headers:
        found = _object(headers["x-fb-ads-insights-throttle"])
        notes.append(UsageNote(app, _number(found.get("app_id_util_pct"))))
        notes.append(UsageNote(own, _number(found.get("acc_id_util_pct"))))
    if "x-business-use-case-usage" in headers:
        notes.extend(_use_cases(source, _object(headers["x-business-use-case-usage"]), minute_seconds))
    return notes


def _use_cases(source: str, found: Mapping[str, Any], minute_seconds: float) -> Iterator[UsageNote]:
    """Read every type of every object: an object has a list, and the fullest entry need not be the first."""
    for object_id, entries in list(found.items())[:MAX_OBJECTS]:
        for entry in entries if isinstance(entries, list) else [entries]:
            if isinstance(entry, dict) and isinstance(entry.get("type"), str):
                minutes = _number(entry.get("estimated_time_to_regain_access"))
                key = f"{source}:{entry['type'][:64]}:{object_id[:64]}"
                yield UsageNote(key, _highest(entry, _PERCENTAGES), minutes * minute_seconds)


def _object(text: str) -> Mapping[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _highest(found: Mapping[str, Any], names: tuple[str, ...]) -> float:
    return max(_number(found.get(name)) for name in names)


def _number(value: Any) -> float:
    """Read a percentage or a time that may be text or junk; what is no finite, positive number is 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return 0.0
    try:
        number = float(value)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0
