"""Times as people say them."""

from __future__ import annotations

from datetime import UTC, datetime

from pipeline.chains.protocol import MICROS

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def moment(micros: int) -> datetime | None:
    """Give an instant of the database's clock (microseconds) as a datetime; None for 0."""
    return datetime.fromtimestamp(micros / MICROS, UTC) if micros else None


def item_moment(seconds: int) -> datetime | None:
    """Give an item time (whole seconds) as a datetime; None for 0, which means 'from the beginning'."""
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def clock(when: datetime | None, *, nothing: str = "the beginning") -> str:
    """Write an instant to the second."""
    return when.strftime("%Y-%m-%d %H:%M:%S UTC") if when else nothing


def span(seconds: float) -> str:
    """Write a duration in its two greatest units: `3 d 4 h`, `2 min`, `under 1 s`."""
    left = int(seconds)
    if left < 1:
        return "under 1 s"
    parts: list[tuple[int, str]] = []
    for size, name in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append((count, name))
    return " ".join(f"{count} {name}" for count, name in parts[:2] if count)


def plural(count: int, noun: str) -> str:
    """Write a count with its noun: `1 chain`, `1,204 chains`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
