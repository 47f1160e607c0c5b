"""When schedules fall due next."""

from __future__ import annotations

from datetime import UTC, datetime

from croniter import croniter

from pipeline.chains.protocol import MICROS
from pipeline.errors import ConfigurationError


def next_due(schedule: str, now: int) -> int:
    """
    Give the instant at which a six-field NCRONTAB expression (UTC) falls due next, microseconds.

    Day of month and day of week must both match, as in NCRONTAB. Raises ConfigurationError.
    """
    try:
        turns = croniter(schedule, datetime.fromtimestamp(now // MICROS, UTC), second_at_beginning=True, day_or=False)
        due: datetime = turns.get_next(datetime)
    except (ValueError, KeyError) as error:
        raise ConfigurationError(f"{schedule!r} is not a six-field NCRONTAB expression") from error
    return int(due.timestamp()) * MICROS
