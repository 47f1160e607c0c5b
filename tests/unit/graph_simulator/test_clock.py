"""The world's clock."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from infra.local.graph.clock import Clock, instant, iso


class Timer:
    """A hand-driven monotonic clock."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_the_world_runs_in_real_time_and_waits_are_scaled():
    """`--time-scale` shortens what callers wait for, never what they read as the time."""
    timer = Timer()
    clock = Clock(scale=60, wall=lambda: 1_000.0, timer=timer)

    timer.seconds += 2

    assert (clock.now(), clock.elapsed()) == (1_002.0, 120.0)


def test_a_fixed_clock_stands_but_blocks_still_end():
    """Tests fix the time for exact answers; they must not be throttled for ever."""
    timer = Timer()
    clock = Clock(fixed=datetime(2026, 1, 1, tzinfo=UTC), timer=timer)
    before = clock.now()

    timer.seconds += 5

    assert clock.now() == before
    assert clock.elapsed() == 5.0


def test_the_clock_can_be_moved_and_set():
    """Moving forward also moves windows and blocks."""
    timer = Timer()
    clock = Clock(fixed=datetime(2026, 1, 1, tzinfo=UTC), timer=timer)
    clock.advance(3_600)
    clock.set(2_000_000_000.0, fixed=False)
    timer.seconds += 1

    assert clock.now() == 2_000_000_001.0
    assert clock.elapsed() > 3_600


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2026-01-01T00:00:00+0000", 1_767_225_600),
        ("2026-01-01T01:00:00+01:00", 1_767_225_600),
        ("2026-01-01", 1_767_225_600),
        ("1767225600", 1_767_225_600),
        (1_767_225_600, 1_767_225_600),
        ("soon", None),
        (True, None),
        (None, None),
    ],
)
def test_instants_are_read_in_every_form_the_api_takes(value: object, seconds: int | None):
    """Unix time, dates and ISO text; everything else is no time."""
    assert instant(value) == seconds


def test_times_are_written_as_the_api_writes_them():
    """No colon in the offset, whole seconds."""
    assert iso(1_767_225_661.9) == "2026-01-01T00:01:01+0000"
