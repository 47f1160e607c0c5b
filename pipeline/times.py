"""
Times of items as text and as whole seconds since 1970 (UTC).

A page has hundreds of times on few days: putting them together from ready parts takes a fraction of what datetime does.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import lru_cache

DAY = 86_400
YEAR_10000 = 253_402_300_800
"""The first second that cannot be a time."""

_MINUTES = {f"T{minute // 60:02}:{minute % 60:02}:": minute * 60 for minute in range(1440)}
_SECONDS = {f"{second:02}{zone}": second for second in range(60) for zone in ("+0000", "+00:00", "Z")}

_MINUTE_TEXTS = list(_MINUTES)
_SECOND_TEXTS = [f"{second:02}Z" for second in range(60)]


def item_time(value: object) -> int | None:
    """Read an item's time, whole seconds since 1970, from ISO text or unix seconds; None if it cannot be a time."""
    if isinstance(value, str):
        try:
            return _midnight(value[:10]) + _MINUTES[value[10:17]] + _SECONDS[value[17:]]
        except (KeyError, ValueError):  # another zone, parts of a second, or no time at all
            return _any_iso(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _valid(value)
    return None


def iso(seconds: int) -> str:
    """Write whole seconds since 1970 as `2026-01-31T23:59:59Z`."""
    day, rest = divmod(seconds, DAY)
    minute, second = divmod(rest, 60)
    return _date(day) + _MINUTE_TEXTS[minute] + _SECOND_TEXTS[second]


def _any_iso(value: str) -> int | None:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return _valid((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _valid(seconds: float) -> int | None:
    return int(seconds) if 0 <= seconds < YEAR_10000 else None


@lru_cache(4096)
def _midnight(day: str) -> int:
    seconds = (date.fromisoformat(day) - date(1970, 1, 1)).days * DAY
    if seconds < 0:
        raise ValueError("before 1970")
    return seconds


@lru_cache(4096)
def _date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY, UTC).date().isoformat()
