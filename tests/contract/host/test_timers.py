"""Timer functions: on schedule, past due, once, and in one host only."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.contract.host.running import RunningHost, running, until, write_app

EACH_SECOND = """
@app.timer_trigger(arg_name="timer", schedule="* * * * * *")
async def tick(timer: func.TimerRequest) -> None:
    note(at=time.time(), past_due=timer.past_due, status=timer.schedule_status)
"""

HOURLY = """
@app.timer_trigger(arg_name="timer", schedule="0 0 * * * *", run_on_startup={startup})
async def hourly(timer: func.TimerRequest) -> None:
    note(past_due=timer.past_due, status=timer.schedule_status)
"""


def status_of(host: RunningHost, function: str) -> dict[str, str]:
    (path,) = host.app.parent.glob(f"state/*/timers/{function}/status")
    status: dict[str, str] = json.loads(path.read_text())
    return status


def change_status(host: RunningHost, function: str, **changes: str) -> None:
    (path,) = host.app.parent.glob(f"state/*/timers/{function}/status")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_timer_runs_at_its_seconds(tmp_path):
    """Each run within the second it is due, none twice."""
    app = write_app(tmp_path / "app", EACH_SECOND)
    with running(app) as host:
        notes = host.until_noted(3)

        seconds = [int(note["at"]) for note in notes[:3]]
        assert seconds == sorted(set(seconds))
        assert min(note["at"] % 1 for note in notes[:3]) < 0.5
        assert not any(note["past_due"] for note in notes)


def test_a_run_missed_while_the_host_was_down_is_past_due_once(tmp_path):
    """However many were missed, Azure runs one and says so; apps count on both."""
    app = write_app(tmp_path / "app", HOURLY.format(startup=False))
    with running(app) as host:
        until(lambda: list(tmp_path.glob("state/*/timers/hourly/status")) != [], host)
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    last, due = hour - timedelta(hours=7), hour - timedelta(hours=6)
    change_status(host, "hourly", Last=last.isoformat(), Next=due.isoformat())

    with running(app) as host:
        (note,) = host.until_noted(1)

        assert note["past_due"] is True
        assert note["status"]["Next"] == due.isoformat()
        until(lambda: datetime.fromisoformat(status_of(host, "hourly")["Next"]) == hour + timedelta(hours=1), host)
    with running(app) as host:
        assert len(host.notes()) == 1


def test_a_changed_schedule_forgets_the_run_it_planned(tmp_path):
    """A deployment that moves a schedule must not fire the old one."""
    app = write_app(tmp_path / "app", HOURLY.format(startup=False))
    with running(app) as host:
        until(lambda: list(tmp_path.glob("state/*/timers/hourly/status")) != [], host)
    long_ago = datetime(2020, 1, 1, 0, 17, tzinfo=UTC)
    change_status(host, "hourly", Last=long_ago.isoformat(), Next=(long_ago + timedelta(minutes=5)).isoformat())

    with running(app) as host:
        until(lambda: datetime.fromisoformat(status_of(host, "hourly")["Next"]) > datetime.now(UTC), host)

        assert host.notes() == []


def test_run_on_startup_runs_at_each_start(tmp_path):
    """That is why it is to be kept out of production; here one wants to see it."""
    app = write_app(tmp_path / "app", HOURLY.format(startup=True))
    for count in (1, 2):
        with running(app) as host:
            host.until_noted(count)

    assert [note["past_due"] for note in host.notes()] == [False, False]


def test_runs_do_not_overlap(tmp_path):
    """A run longer than its schedule delays the next; the one it covered follows at once."""
    app = write_app(
        tmp_path / "app",
        """
        @app.timer_trigger(arg_name="timer", schedule="* * * * * *")
        async def slow(timer: func.TimerRequest) -> None:
            note(began=time.time())
            await asyncio.sleep(1.4)
            note(ended=time.time())
        """,
    )
    with running(app) as host:
        notes = host.until_noted(6)[:6]

        assert [next(iter(note)) for note in notes] == ["began", "ended"] * 3


def test_a_failing_run_does_not_stop_the_schedule(tmp_path):
    """Azure logs it and goes on."""
    app = write_app(
        tmp_path / "app",
        """
        @app.timer_trigger(arg_name="timer", schedule="* * * * * *")
        async def failing(timer: func.TimerRequest) -> None:
            note()
            raise RuntimeError("as always")
        """,
    )
    with running(app) as host:
        host.until_noted(2)

        host.until_said("failed in")


def test_a_retry_policy_is_honoured(tmp_path):
    """On timers retries are real, and the attempt is told to the function."""
    app = write_app(
        tmp_path / "app",
        """
        @app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *", run_on_startup=True)
        @app.retry(strategy="fixed_delay", max_retry_count="2", delay_interval="00:00:00")
        async def trying(timer: func.TimerRequest, context: func.Context) -> None:
            note(attempt=context.retry_context.retry_count, most=context.retry_context.max_retry_count)
            raise RuntimeError("never")
        """,
    )
    with running(app) as host:
        notes = host.until_noted(3)
        time.sleep(0.3)

        assert notes == [{"attempt": attempt, "most": 2} for attempt in range(3)]
        assert len(host.notes()) == 3


def test_a_second_host_waits_and_takes_over(tmp_path):
    """Two hosts over one state are two instances in Azure: a timer runs in one of them."""
    app = write_app(tmp_path / "app", EACH_SECOND)
    with running(app) as first:
        first.until_noted(1)
        with running(app) as second:
            until(lambda: "is run by another host" in second.text, second)
            assert not any("tick" in line and " ok " in line for line in second.lines)

            first.stop()

            until(lambda: any("tick" in line and " ok " in line for line in second.lines), second)


def test_a_timer_is_run_by_hand(tmp_path):
    """Nobody waits for midnight to try a nightly job."""
    app = write_app(tmp_path / "app", HOURLY.format(startup=False))
    with running(app) as host:
        answer = host.call("/admin/functions/hourly", "POST", b'{"input": ""}')

        assert answer.status == 202
        assert host.until_noted(1)[0]["past_due"] is False


@pytest.mark.parametrize("function", ["def", "async def"])
def test_sync_and_async_functions_both_run(tmp_path, function):
    """Sync ones go through the worker's thread pool."""
    app = write_app(tmp_path / "app", HOURLY.format(startup=True).replace("async def", function))
    with running(app) as host:
        assert len(host.until_noted(1)) == 1
