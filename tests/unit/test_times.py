"""Times from ready parts are the times that datetime reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.times import YEAR_10000, iso, item_time

SECONDS = st.integers(0, YEAR_10000 - 1)
ZONES = st.sampled_from(["+0000", "+00:00", "Z", "-0000", "", "+0530", "-08:00", ".000", ".999Z", "+00:00:01"])


def by_datetime(text: str) -> int | None:
    """Read it the slow way."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return int(seconds) if 0 <= seconds < YEAR_10000 else None


@given(st.datetimes(datetime(1900, 1, 1)), ZONES, st.sampled_from(["T", " ", "t"]))
def test_every_zone_and_separator_reads_as_datetime_does(moment: datetime, zone: str, separator: str) -> None:
    """A time one hour off files an item under a window that was already proven."""
    text = moment.replace(microsecond=0).isoformat(separator) + zone
    assert item_time(text) == by_datetime(text)


@given(st.text(max_size=30) | st.from_regex(r"\A[0-9W-]{8,11}[T ][0-9:]{6,9}(Z|[+-][0-9:]{4,6})?\Z"))
def test_text_that_only_looks_like_a_time_is_none(text: str) -> None:
    """The API's garbage goes to quarantine, and never raises."""
    assert item_time(text) == by_datetime(text)


@given(SECONDS)
def test_what_is_written_is_read_back(seconds: int) -> None:
    """Our own messages carry these times."""
    assert iso(seconds) == datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20)
    assert item_time(iso(seconds)) == seconds


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-21T13:56:27+0000", 1_795_269_387),
        ("2026-11-21T13:56:27.900+0000", 1_795_269_387),
        ("1969-12-31T23:59:59Z", None),
        ("1969-12-31T23:59:59-0100", 3599),
        ("1970-01-01T00:30:00+0100", None),
        ("9999-12-31T23:59:59Z", YEAR_10000 - 1),
        ("2026-02-30T00:00:00Z", None),
        ("2026-01-01T23:59:60Z", None),
        (1_795_269_387, 1_795_269_387),
        (1_795_269_387.9, 1_795_269_387),
        (YEAR_10000, None),
        (-1, None),
        (float("nan"), None),
        (True, None),
        (None, None),
        ({}, None),
    ],
)
def test_times_by_example(value: object, expected: int | None) -> None:
    """Cut to whole seconds; what cannot be a time is none."""
    assert item_time(value) == expected


def test_a_zone_of_its_own_is_reckoned() -> None:
    """Not every API answers in UTC."""
    moment = datetime(2026, 3, 29, 1, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert item_time(moment.isoformat()) == int(moment.timestamp())
