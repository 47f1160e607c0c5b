"""The worker processes: started, fed, restarted when they die or hang."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import sys
import time
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

from infra.local.host.processes import Invocation, LoadFailed, Pending, Result, WorkerLost, WorkerProcess, spawn

log = logging.getLogger("host")

# Production gives up on an import after two minutes.
LOAD_LIMIT_SECONDS = 120.0
_BACK_OFF_SECONDS = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)
# A worker that lived this long, or ran a function to its end, had no trouble starting: production replaces it at once.
_SETTLED_SECONDS = 60.0
_STOP_LIMIT_SECONDS = 5.0
# A worker whose channel closed is as good as dead.
_DEAD_LIMIT_SECONDS = 0.5
# How long an HTTP or timer invocation waits for a restart; listeners do not even receive meanwhile.
_NO_WORKER_SECONDS = 60.0


class WorkerPool:
    """A fixed number of workers; each invocation goes to the one with the least to do."""

    def __init__(
        self,
        app: Path,
        environment: Mapping[str, str],
        *,
        workers: int,
        function_timeout: timedelta | None,
        console: TextIO | None = None,
    ) -> None:
        self._app = app
        self._environment = {**environment, "PYTHONUNBUFFERED": "1"}
        self._count = workers
        self._console = console or sys.stdout
        self._timeout = function_timeout.total_seconds() if function_timeout else None
        self._workers: dict[int, WorkerProcess] = {}
        self._ready = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._readers: set[asyncio.Task[None]] = set()
        # A UUID in form, unique by its random head; counting is cheaper than random.
        head = os.urandom(10).hex()
        stem = f"{head[:8]}-{head[8:12]}-4{head[12:15]}-8{head[15:18]}"
        self._ids = (f"{stem}-{number:012x}" for number in itertools.count(1))
        self.restarts = 0

    async def start(self) -> list[dict[str, Any]]:
        """Load the app in the first worker and return its functions; raises LoadFailed."""
        first = await self._spawn(0)
        try:
            functions = await asyncio.wait_for(asyncio.shield(first.functions), LOAD_LIMIT_SECONDS)
        except (TimeoutError, LoadFailed) as failed:
            await self._reap(first)
            await self._readers_done()
            if isinstance(failed, LoadFailed):
                raise
            raise LoadFailed(f"the app was not imported within {LOAD_LIMIT_SECONDS:.0f} s") from None
        self._adopt(first)
        self._keep(self._supervise(0, first))
        for number in range(1, self._count):
            self._keep(self._supervise(number, None))
        if self._timeout is not None:
            self._keep(self._watch_the_clock(self._timeout))
        return functions

    async def invoke(self, invocation: Invocation, invocation_id: str) -> Result:
        """Run it and return its result; raises WorkerLost when its worker died or timed out."""
        if not self._workers:
            await self._until_one_is_ready()
        worker = min(self._workers.values(), key=lambda each: len(each.pending))
        if worker.channel is None:
            # It died this very moment, and its supervisor has not yet had its turn.
            raise WorkerLost(f"worker {worker.number} ended")
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        worker.pending[invocation_id] = Pending(answer, time.monotonic() + (self._timeout or 0.0))
        worker.channel.send(("invoke", invocation_id, *invocation))
        return await answer

    async def _until_one_is_ready(self) -> None:
        try:
            await asyncio.wait_for(self._ready.wait(), _NO_WORKER_SECONDS)
        except TimeoutError:
            raise WorkerLost(f"no worker for {_NO_WORKER_SECONDS:.0f} s") from None
        if not self._workers:
            raise WorkerLost("the worker ended as soon as it had started")

    def new_id(self) -> str:
        return next(self._ids)

    @property
    def ready(self) -> bool:
        return bool(self._workers)

    @property
    def pids(self) -> list[int]:
        return [worker.process.pid for worker in self._workers.values()]

    async def wait_until_ready(self) -> None:
        await self._ready.wait()

    async def stop(self) -> None:
        """Close the channels and wait for the processes, by force after a few seconds."""
        self._stopping = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # A supervisor that was cancelled before its first turn left its worker to us.
        await asyncio.gather(*(self._reap(worker) for worker in self._workers.values()))
        await self._readers_done()

    async def _readers_done(self) -> None:
        """Let the last lines of the workers reach the console."""
        if self._readers:
            await asyncio.wait(self._readers, timeout=_STOP_LIMIT_SECONDS)
        for reader in list(self._readers):
            reader.cancel()

    def _keep(self, work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]] | None = None) -> None:
        tasks = self._tasks if among is None else among
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def _adopt(self, worker: WorkerProcess) -> None:
        self._workers[worker.number] = worker
        self._ready.set()

    async def _supervise(self, number: int, worker: WorkerProcess | None) -> None:
        failures = 0
        try:
            while True:
                born = time.monotonic()
                if worker is None:
                    worker = await self._spawn(number)
                    if await self._loaded(worker):
                        self._adopt(worker)
                await worker.gone.wait()
                self._workers.pop(number, None)
                if not self._workers:
                    self._ready.clear()
                await self._reap(worker)
                settled = worker.worked or time.monotonic() - born > _SETTLED_SECONDS
                failures = 0 if settled else failures + 1
                pause = _BACK_OFF_SECONDS[min(max(failures, 1), len(_BACK_OFF_SECONDS)) - 1]
                log.warning(
                    "worker %d ended (%s); a new one starts in %.1f s",
                    number,
                    worker.how_it_ended(),
                    pause,
                )
                self.restarts += 1
                worker = None
                await asyncio.sleep(pause)
        finally:
            self._workers.pop(number, None)
            if worker is not None:
                await asyncio.shield(self._reap(worker))

    async def _loaded(self, worker: WorkerProcess) -> bool:
        try:
            await asyncio.wait_for(asyncio.shield(worker.functions), LOAD_LIMIT_SECONDS)
        except (TimeoutError, LoadFailed) as failed:
            log.error("worker %d: %s", worker.number, failed or "the app was not imported in time")  # noqa: TRY400 - the app's own trace is printed below
            if isinstance(failed, LoadFailed) and failed.trace:
                log.error("%s", failed.trace.rstrip())  # noqa: TRY400 - as above
            worker.kill()
            return False
        return True

    async def _reap(self, worker: WorkerProcess) -> None:
        await worker.end(_STOP_LIMIT_SECONDS if self._stopping else _DEAD_LIMIT_SECONDS)

    async def _spawn(self, number: int) -> WorkerProcess:
        worker = await spawn(number, self._app, self._environment)
        self._keep(worker.pass_on(self._console), self._readers)
        return worker

    async def _watch_the_clock(self, limit: float) -> None:
        """Kill a worker whose oldest invocation is over time: production cannot stop a function otherwise."""
        while True:
            await asyncio.sleep(min(1.0, limit / 10))
            now = time.monotonic()
            for worker in list(self._workers.values()):
                oldest = next(iter(worker.pending.values()), None)
                if oldest is not None and oldest.deadline < now:
                    log.error("functionTimeout of %.0f s is over: worker %d is restarted", limit, worker.number)
                    worker.kill()
