"""Reports: what each answer does to the stage in the chain's cursor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.base import Fault, FaultKind, Pending
from pipeline.sources.graph_client import Answered
from pipeline.sources.graph_reports import Stage, created, looked, read_stage, refused, time_range

WAITING = Stage(reading=False, run="120", created=1_000_000)
READING = Stage(reading=True, run="120", created=1_000_000, after="QVFI:x")
MINUTE = 60.0


@given(st.builds(Stage, st.booleans(), st.from_regex(r"[A-Za-z0-9_]{1,64}", fullmatch=True), st.integers(0, 10**11),
                 st.none() | st.text(min_size=1)))  # fmt: skip
def test_a_cursor_leads_back_to_its_stage(stage):
    """It is all that is remembered between two doorbells."""
    assert read_stage(stage.cursor()) == stage


@pytest.mark.parametrize("cursor", [None, "", "QVFI", "wait:", "wait:1", "wait:1:x", "read::1", "wait:a/b:1", "u1!x"])
def test_a_foreign_cursor_orders_a_report(cursor):
    """That is safe at any time: rows that come twice are dropped."""
    assert read_stage(cursor) is None


@pytest.mark.parametrize(
    ("window", "since", "until"),
    [
        ((1_767_225_600, 1_767_312_000), "2026-01-01", "2026-01-01"),
        ((1_767_225_600, 1_767_398_400), "2026-01-01", "2026-01-02"),
        ((1_767_225_600, 1_767_225_600), "2026-01-01", "2026-01-01"),
    ],
)
def test_a_half_open_window_becomes_days_with_both_ends_in(window, since, until):
    """One day too many would be claimed for today, whose numbers still grow."""
    assert time_range(window) == f'{{"since":"{since}","until":"{until}"}}'


@pytest.mark.parametrize("run", ["120000", 120000])
def test_an_order_gives_the_run_to_wait_for(run):
    """Its id may be a number or text."""
    found = created(Answered({"report_run_id": run}, 2), 1_000_000, MINUTE)

    assert found == Pending(cursor="wait:120000:1000000", wait=30.0, calls=2)


@pytest.mark.parametrize("body", [{}, [], None, {"report_run_id": "a/b"}, {"report_run_id": None}])
def test_an_order_without_a_run_halts(body):
    """There is nothing to wait for, and nobody knows why."""
    found = created(Answered(body, 1), 1_000_000, MINUTE)

    assert isinstance(found, Fault)
    assert found.kind is FaultKind.REFUSED


@pytest.mark.parametrize(
    ("status", "percent", "age_minutes", "cursor", "wait"),
    [
        ("Job Not Started", 0, 1, "wait:120:1000000", 30.0),
        ("Job Started", 0, 6, "wait:120:1000000", 30.0),
        ("Job Running", 50, 29, "wait:120:1000000", 30.0),
        ("Job Running", 100, 2, "wait:120:1000000", 30.0),
        ("Job Completed", 100, 2, "read:120:1000000", 0.0),
        ("Job Completed", 100, 99, "read:120:1000000", 0.0),
        ("Job Failed", 20, 2, None, 60.0),
        ("Job Skipped", 0, 2, None, 60.0),
        ("Job Not Started", 0, 6, None, 60.0),
        ("Job Running", 99, 31, None, 60.0),
        ("something new", 0, 1, None, 60.0),
        (None, 0, 1, None, 60.0),
    ],
)
def test_only_job_completed_is_done(status, percent, age_minutes, cursor, wait):
    """A report read too early is short, and nothing in it says so."""
    body = {"id": "120", "async_status": status, "async_percent_completion": percent}

    found = looked(Answered(body, 1), WAITING, 1_000_000 + age_minutes * 60_000, MINUTE)

    assert (found.cursor, found.wait) == (cursor, wait)


def test_a_failed_report_says_why():
    """The words end in the chain's row."""
    body = {"async_status": "Job Failed", "error_message": "too many rows, access_token=abc"}

    assert looked(Answered(body, 1), WAITING, 1_000_000, MINUTE).detail == "report failed: too many rows, ***"


@pytest.mark.parametrize(
    ("kind", "stage", "age_minutes", "expected"),
    [
        ("GONE", WAITING, 1, "wait:120:1000000"),
        ("GONE", WAITING, 6, None),
        ("GONE", READING, 1, None),
        ("INVALID_CURSOR", READING, 1, None),
        ("TRANSIENT", WAITING, 1, "fault"),
        ("TRANSIENT", READING, 29, "fault"),
        ("TRANSIENT", READING, 31, None),
        ("THROTTLED", READING, 99, "fault"),
        ("TOKEN_DEAD", WAITING, 99, "fault"),
        ("FORBIDDEN", WAITING, 99, "fault"),
    ],
)
def test_a_lost_report_is_not_a_lost_ad_account(kind, stage, age_minutes, expected):
    """'Does not exist' right after the order is a race, and later only the report's end, never the scope's."""
    fault = Fault(kind=FaultKind[kind], code="100/33", calls=3)

    found = refused(fault, stage, 1_000_000 + age_minutes * 60_000, MINUTE)

    assert ("fault" if isinstance(found, Fault) else found.cursor) == expected


def test_an_outage_of_our_own_making_loses_no_report():
    """A call that the budget or the breaker forbade says nothing about the report."""
    fault = Fault(kind=FaultKind.TRANSIENT, code="breaker-open", calls=0)

    assert refused(fault, READING, 10**9, MINUTE) is fault
