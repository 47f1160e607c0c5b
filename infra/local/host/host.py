"""The host: an app's functions, joined to what triggers them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Awaitable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from infra.local.host import messages, report, tracing
from infra.local.host.batches import BatchListener
from infra.local.host.bus import Bus
from infra.local.host.execution import Executor
from infra.local.host.functions import Function, HttpTrigger, ServiceBusTrigger, TimerTrigger
from infra.local.host.keys import Keys, keys_in
from infra.local.host.listeners import Listener, Means, Options
from infra.local.host.plan import Plan, planned
from infra.local.host.pool import WorkerPool
from infra.local.host.processes import LoadFailed
from infra.local.host.settings import AppSettings, HostJson
from infra.local.host.single import SingleListener
from infra.local.host.timers import Timer
from infra.local.host.web import ANSWER_LIMIT_SECONDS, Web

log = logging.getLogger("host")

_MOST_WORKERS = 10
_VERSION = "4.local"


@dataclass(frozen=True)
class Choices:
    """What the command line decides."""

    app: Path
    state: Path
    port: int = 7071
    address: str = "127.0.0.1"
    only: frozenset[str] | None = None
    workers: int | None = None
    enforce_keys: bool = False
    answer_limit_seconds: float = ANSWER_LIMIT_SECONDS
    drain_seconds: float = 60.0


class Host:
    """Everything that runs; made, started once, stopped once."""

    def __init__(self, choices: Choices, environment: Mapping[str, str]) -> None:
        """Read the settings; raises ValueError for files that make no sense."""
        self._choices = choices
        self._settings = AppSettings.load(choices.app, environment)
        self._host_json = HostJson.load(choices.app, self._settings)
        self._options = Options.read(self._host_json, os.cpu_count() or 1)
        self._pool = WorkerPool(
            choices.app,
            self._settings.for_workers(),
            workers=_workers(choices, self._settings),
            function_timeout=self._host_json.span("functionTimeout", timedelta(minutes=30)),
        )
        self._bus = Bus()
        self._executor = Executor(self._pool, self._bus.send)
        self._plan = Plan()
        self._listeners: list[Listener] = []
        self._timers: dict[str, Timer] = {}
        self._web: Web | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._born = time.monotonic()

    async def start(self) -> str:
        """
        Load the app, start every trigger, and return the report.

        Raises LoadFailed when the app does not load or none of its functions
        can run, OSError when the port is taken.
        """
        described = await self._pool.start()
        self._plan = planned(described, settings=self._settings, host_json=self._host_json, only=self._choices.only)
        unknown = (self._choices.only or frozenset()) - {str(each["name"]) for each in described}
        if unknown:
            raise LoadFailed(f"--functions names {', '.join(sorted(unknown))}, which the app does not have")
        if not self._plan.functions and self._plan.stopped:
            raise LoadFailed("no function can run:\n  " + "\n  ".join(self._plan.stopped.values()))
        self._attach(self._plan)
        self._web = self._new_web()
        await self._web.start(self._choices.address, self._choices.port)
        self._tasks = [
            *(asyncio.create_task(each.run(), name=each.name) for each in self._listeners),
            *(asyncio.create_task(timer.run(), name=name) for name, timer in self._timers.items()),
        ]
        # One turn of the loop: a timer reads its status before the report tells its next run.
        await asyncio.sleep(0)
        return self._report()

    @property
    def address(self) -> str:
        assert self._web is not None
        return f"{self._choices.address}:{self._web.port}"

    async def broken(self) -> None:
        """Return never, unless a trigger ends by itself: then raise what ended it."""
        if not self._tasks:
            await asyncio.Event().wait()
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    async def stop(self) -> None:
        """Drain: take nothing new, let running functions end, give back what does not."""
        until = time.monotonic() + self._choices.drain_seconds
        for listening in self._listeners:
            listening.stop()
        for timer in self._timers.values():
            timer.stop()
        if self._executor.running:
            log.info("draining: %d running", self._executor.running)
        if self._web is not None:
            await self._web.stop(self._choices.drain_seconds)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=max(0.1, until - time.monotonic()))
            if late:
                log.warning("not drained in %.0f s; the rest is given back", self._choices.drain_seconds)
                await asyncio.gather(*(each.abandon_rest() for each in self._listeners))
                for task in late:
                    task.cancel()
                await asyncio.gather(*late, return_exceptions=True)
        await self._pool.stop()
        await self._bus.close()

    # What /admin asks for.

    def status(self) -> dict[str, Any]:
        return {
            "id": self._host_id(),
            "state": "Running" if self._pool.ready else "Error",
            "version": _VERSION,
            "processUptime": round((time.monotonic() - self._born) * 1000),
            "workers": self._pool.pids,
            "restarts": self._pool.restarts,
            "running": self._executor.running,
        }

    def functions(self) -> list[dict[str, Any]]:
        kinds = {HttpTrigger: "httpTrigger", TimerTrigger: "timerTrigger", ServiceBusTrigger: "serviceBusTrigger"}
        listed = [
            {"name": each.name, "trigger": kinds[type(each.trigger)], "isDisabled": False}
            for each in self._plan.functions.values()
        ]
        listed += [{"name": name, "isDisabled": True, "reason": why} for name, why in self._plan.disabled.items()]
        return listed + [{"name": name, "isDisabled": False, "error": why} for name, why in self._plan.stopped.items()]

    def manual(self, name: str, text: str) -> Awaitable[object] | None:
        function = self._plan.functions.get(name)
        if function is None:
            return None
        if isinstance(function.trigger, TimerTrigger):
            return self._timers[name].run_now()
        if isinstance(function.trigger, ServiceBusTrigger):
            return self._manual_message(function, function.trigger, text)
        return None

    def _manual_message(self, function: Function, trigger: ServiceBusTrigger, text: str) -> Coroutine[Any, Any, object]:
        data, metadata = messages.invented(text, many=trigger.many, binary=trigger.binary)
        return self._executor.run(function, data, metadata, trace=(tracing.continued(None), ""))

    # Putting it together.

    def _attach(self, plan: Plan) -> None:
        means = Means(self._bus, self._pool, self._executor, self._options)
        for function in plan.functions.values():
            trigger = function.trigger
            if isinstance(trigger, ServiceBusTrigger):
                if function.retry is not None:
                    log.warning("%s: @app.retry has no effect on a Service Bus trigger and is ignored", function.name)
                kind = BatchListener if trigger.many else SingleListener
                self._listeners.append(kind(function, trigger, means))
            elif isinstance(trigger, TimerTrigger):
                folder = self._state() / "timers" / function.name
                schedule = plan.schedules[function.name]
                self._timers[function.name] = Timer(function, trigger, schedule, folder=folder, run=self._executor)

    def _new_web(self) -> Web:
        return Web(
            self._plan.routes,
            run=self._executor,
            admin=self,
            keys=self._keys(),
            limit_seconds=self._choices.answer_limit_seconds,
            most_requests=self._host_json.whole("extensions.http.maxConcurrentRequests", 100),
        )

    def _report(self) -> str:
        assert self._web is not None
        now = datetime.now(UTC)
        lines = report.of_functions(
            self._plan.functions.values(),
            stopped=self._plan.stopped,
            disabled=self._plan.disabled,
            next_runs={name: timer.next_run() for name, timer in self._timers.items()},
            urls={route.function.name: f"http://{self.address}/{route.path}" for route in self._plan.routes},
            options=self._options,
            now=now,
        )
        workers = _workers(self._choices, self._settings)
        return f"host: {self._choices.app} with {workers} worker{'s' if workers > 1 else ''}\n{lines}"

    def _keys(self) -> Keys | None:
        if not self._choices.enforce_keys:
            return None
        log.info("keys are enforced; they are in %s", self._state() / "keys.json")
        return keys_in(self._state())

    def _host_id(self) -> str:
        """Name the app, so that two apps over one state folder do not take each other's timers."""
        given = self._settings.get("AzureFunctionsWebHost__hostid")
        digest = hashlib.sha256(str(self._choices.app).encode()).hexdigest()[:8]
        return given or f"{self._choices.app.name or 'app'}-{digest}"

    def _state(self) -> Path:
        return self._choices.state / self._host_id()


def _workers(choices: Choices, settings: AppSettings) -> int:
    given = choices.workers if choices.workers is not None else settings.get("FUNCTIONS_WORKER_PROCESS_COUNT") or 1
    try:
        return max(1, min(_MOST_WORKERS, int(given)))
    except ValueError as wrong:
        raise ValueError(f"FUNCTIONS_WORKER_PROCESS_COUNT is {given!r}, not a number") from wrong
