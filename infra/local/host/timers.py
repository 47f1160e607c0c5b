"""Timer triggers: one run at a time, remembered across restarts, in one host only."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, NamedTuple

from infra.local.host import tracing
from infra.local.host.execution import Executor
from infra.local.host.functions import Function, TimerTrigger
from infra.local.host.processes import Result
from infra.local.host.schedules import Schedule
from infra.local.host.worker import Plain

log = logging.getLogger("host")

# asyncio sleeps on a monotonic clock; waking now and then follows a wall clock that is set.
_LONGEST_SLEEP_SECONDS = 60.0
_LOCK_RETRY_SECONDS = 2.0
# Azure monitors only schedules at least this far apart, unless told otherwise.
_MONITORED = timedelta(minutes=1)
_NEVER = datetime(1, 1, 1, tzinfo=UTC)


class Status(NamedTuple):
    """What Azure keeps in a blob per timer, under the same three names."""

    last: datetime
    next: datetime
    updated: datetime

    def as_json(self) -> dict[str, str]:
        return {"Last": self.last.isoformat(), "Next": self.next.isoformat(), "LastUpdated": self.updated.isoformat()}


class Monitor:
    """The status file of a timer, and the lock that keeps a second host from running it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: IO[str] | None = None

    def try_lock(self) -> bool:
        """Take the lock for the life of this process; False while another host holds it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        handle = (self._folder / "lock").open("a+", encoding="utf-8")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            return False
        self._lock = handle
        return True

    def release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def read(self) -> Status | None:
        """Return the status; None when there is none, or when it was cut short by a crash."""
        try:
            stored = json.loads((self._folder / "status").read_text(encoding="utf-8"))
            return Status(*(datetime.fromisoformat(stored[name]) for name in ("Last", "Next", "LastUpdated")))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as broken:
            log.warning("timer status in %s is unreadable and begins anew: %s", self._folder, broken)
            return None

    def write(self, status: Status) -> None:
        temporary = self._folder / "status.new"
        temporary.write_text(json.dumps(status.as_json()), encoding="utf-8")
        os.replace(temporary, self._folder / "status")


class Timer:
    """Runs one timer function on its schedule until stopped."""

    def __init__(
        self,
        function: Function,
        trigger: TimerTrigger,
        schedule: Schedule,
        *,
        folder: Path,
        run: Executor,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.name = function.name
        self._function = function
        self._trigger = trigger
        self._schedule = schedule
        self._run = run
        self._now = now
        self._monitor = Monitor(folder)
        self.monitored = trigger.use_monitor if trigger.use_monitor is not None else _at_least_a_minute(schedule, now())
        self._stopping = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._status: Status | None = None

    def next_run(self) -> datetime:
        return self._status.next if self._status else self._schedule.after(self._now())

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        if not await self._locked():
            return
        try:
            await self._run_on_schedule()
        finally:
            self._monitor.release()

    async def run_now(self) -> Result:
        """Run once by hand; waits for a run in progress, and leaves the schedule alone."""
        async with self._one_at_a_time:
            return await self._invoke(past_due=False)

    async def _locked(self) -> bool:
        told = False
        while not self._stopping.is_set():
            if self._monitor.try_lock():
                return True
            if not told:
                log.warning("timer %s is run by another host; waiting for it to end", self.name)
                told = True
            await self._sleep(_LOCK_RETRY_SECONDS)
        return False

    async def _run_on_schedule(self) -> None:
        now = self._now()
        stored = self._checked(self._monitor.read()) if self.monitored else None
        self._status = stored or Status(_NEVER, self._schedule.after(now), now)
        if stored is not None and now > stored.next:
            log.info("timer %s is past due since %s", self.name, stored.next.isoformat(timespec="seconds"))
            await self._tick(past_due=True, due=None)
        elif self._trigger.run_on_startup:
            await self._tick(past_due=False, due=None)
        elif self.monitored and stored is None:
            # Remembered before the first run, so that a host that is down at that time finds it past due.
            self._monitor.write(self._status)
        while not self._stopping.is_set():
            due = self._status.next
            left = (due - self._now()).total_seconds()
            if left > 0:
                await self._sleep(min(left, _LONGEST_SLEEP_SECONDS))
                continue
            await self._tick(past_due=False, due=due)

    def _checked(self, stored: Status | None) -> Status | None:
        """Forget a next run that the schedule, changed since, no longer gives."""
        if stored is None:
            return None
        since = stored.last if stored.last != _NEVER else stored.updated
        return stored if self._schedule.after(since) == stored.next else None

    async def _tick(self, *, past_due: bool, due: datetime | None) -> None:
        async with self._one_at_a_time:
            began = self._now()
            await self._invoke(past_due=past_due)
            # An occurrence passed during the run is run once, right after it.
            began = max(began, due) if due is not None else began
            self._status = Status(began, self._schedule.after(began), began)
            if self.monitored:
                self._monitor.write(self._status)

    async def _invoke(self, *, past_due: bool) -> Result:
        policy = self._function.retry
        most = policy.most if policy else 0
        attempt = 0
        while True:
            result = await self._run.run(
                self._function,
                self._data(past_due=past_due),
                {},
                trace=(tracing.continued(None), ""),
                retry=attempt,
                max_retry=most,
            )
            if result.ok or policy is None or (most != -1 and attempt >= most):
                return result
            attempt += 1
            await self._sleep(policy.wait(attempt))
            if self._stopping.is_set():
                return result

    def _data(self, *, past_due: bool) -> Plain:
        status = self._status.as_json() if self.monitored and self._status else None
        return (
            "json",
            json.dumps({"Schedule": {"AdjustForDST": True}, "ScheduleStatus": status, "IsPastDue": past_due}),
        )

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


def _at_least_a_minute(schedule: Schedule, now: datetime) -> bool:
    first = schedule.after(now)
    return schedule.after(first) - first >= _MONITORED
