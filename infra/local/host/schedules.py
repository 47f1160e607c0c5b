"""NCRONTAB: six fields, the day of the month AND the day of the week."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol

from croniter import CroniterError, croniter

from infra.local.host.settings import timespan

_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_DAYS = "sun mon tue wed thu fri sat".split()
# What NCrontab knows; croniter would also take L, W, #, ?, H, R and @daily, which Azure refuses.
_ITEM = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d+))?")
_FIELDS = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 6, _DAYS),
)


class Schedule(Protocol):
    """When a timer is due."""

    def after(self, moment: datetime) -> datetime:
        """Return the first occurrence later than `moment`."""


class Cron:
    """An NCRONTAB expression in a time zone; raises ValueError for what Azure would refuse."""

    def __init__(self, expression: str, zone: tzinfo = UTC) -> None:
        fields = expression.split()
        if len(fields) == 5:
            fields = ["0", *fields]
        if len(fields) != 6:
            raise ValueError(f"{expression!r} has {len(fields)} fields; NCRONTAB has six")
        for text, (name, low, high, names) in zip(fields, _FIELDS, strict=True):
            _check(text, name, low, high, names)
        self._expression = " ".join(fields)
        self._zone = zone
        try:
            self.after(datetime.now(UTC))
        except CroniterError as never:
            raise ValueError(f"{expression!r} is never due") from never

    def after(self, moment: datetime) -> datetime:
        due: datetime = croniter(
            self._expression, moment.astimezone(self._zone), second_at_beginning=True, day_or=False
        ).get_next(datetime)
        return due


class Interval:
    """A TimeSpan schedule, which Azure takes on dedicated plans only."""

    def __init__(self, span: timedelta) -> None:
        if span <= timedelta(0):
            raise ValueError("a TimeSpan schedule must be positive")
        self._span = span

    def after(self, moment: datetime) -> datetime:
        return moment + self._span


def parse(text: str, zone: tzinfo = UTC) -> Schedule:
    """Read a schedule; raises ValueError saying what is wrong with it."""
    if not text:
        raise ValueError("the schedule is empty")
    if ":" in text:
        return Interval(timespan(text))
    return Cron(text, zone)


def _check(text: str, name: str, low: int, high: int, names: Sequence[str]) -> None:
    for item in text.split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise ValueError(f"{text!r} is not an NCRONTAB {name}")
        for value in match.group(1, 2):
            if value is None or (value.isdigit() and low <= int(value) <= high):
                continue
            if value.casefold() not in names:
                raise ValueError(f"{value!r} is not a {name} ({low} to {high})")
        if match.group(3) == "0":
            raise ValueError(f"{text!r}: a step of 0 never moves")
