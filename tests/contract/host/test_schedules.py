"""NCRONTAB as Azure reads it, not as cron does."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from infra.local.host.report import in_words
from infra.local.host.schedules import parse

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("*/5 * * * * *", datetime(2026, 3, 4, 12, 0, 5, tzinfo=UTC)),
        ("0 */5 * * * *", datetime(2026, 3, 4, 12, 5, tzinfo=UTC)),
        ("30 9 * * *", datetime(2026, 3, 5, 9, 30, tzinfo=UTC)),
        ("0 30 9-17/4 * * 1-5", datetime(2026, 3, 4, 13, 30, tzinfo=UTC)),
        ("0 0 0 * Apr Sun", datetime(2026, 4, 5, tzinfo=UTC)),
        ("00:10:00", NOON + timedelta(minutes=10)),
    ],
)
def test_the_next_occurrence(expression, expected):
    """Six fields with seconds first, five without, names, ranges, steps, spans."""
    assert parse(expression).after(NOON) == expected


def test_day_of_month_and_day_of_week_must_both_hold():
    """Cron takes either; NCRONTAB takes both, so the first of January on a Monday is years away."""
    assert parse("0 0 0 1 1 Mon").after(NOON) == datetime(2029, 1, 1, tzinfo=UTC)


def test_a_schedule_follows_the_time_zone_of_the_app():
    """WEBSITE_TIME_ZONE moves 'at nine' to where the people are."""
    due = parse("0 0 9 * * *", ZoneInfo("Europe/Zurich")).after(NOON)

    assert due.astimezone(UTC) == datetime(2026, 3, 5, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "0 0 0 L * *",
        "0 0 0 ? * *",
        "@daily",
        "60 * * * * *",
        "0 0 0 * * 7",
        "0 */0 * * * *",
        "x",
        "0 0 0 31 2 *",
    ],
)
def test_what_azure_refuses_is_refused(expression):
    """A schedule that works at the desk only would stop the function in production."""
    with pytest.raises(ValueError, match=r"."):
        parse(expression)


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (timedelta(seconds=0.4), "in less than a second, at 12:00:00 UTC"),
        (timedelta(seconds=1), "in 1 second, at 12:00:01 UTC"),
        (timedelta(minutes=4), "in 4 minutes, at 12:04:00 UTC"),
        (timedelta(days=2), "in 2 days, on Friday 06 March 2026 at 12:00:00 UTC"),
    ],
)
def test_the_next_run_is_told_in_plain_words(after, words):
    """Six fields are easily misread; the sentence is what a person checks."""
    assert in_words(NOON + after, NOON) == words
