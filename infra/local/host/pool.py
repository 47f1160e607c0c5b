"""The worker processes: started, fed, restarted when they die or hang."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from infra.local.host.worker import Channel, Plain

log = logging.getLogger("host")

# Production gives up on an import after two minutes.
LOAD_LIMIT_SECONDS = 120.0
_BACK_OFF_SECONDS = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)
# A worker that lived this long had no trouble starting.
_SETTLED_SECONDS = 60.0
_STOP_LIMIT_SECONDS = 5.0
# How long an HTTP or timer invocation waits for a restart; listeners do not even receive meanwhile.
_NO_WORKER_SECONDS = 60.0
# A longer line is passed on in pieces.
_LINE_LIMIT_BYTES = 256 * 1024


class LoadFailed(Exception):
    """The app does not load; `trace` is what its import printed."""

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


class WorkerLost(Exception):
    """The worker went away with the invocation in it; whether it took effect is unknown."""


class Invocation(NamedTuple):
    """What a worker needs to run a function once."""

    function_id: str
    inputs: list[tuple[str, Plain]]
    metadata: dict[str, Plain]
    trace_parent: str
    trace_state: str = ""
    retry: int = 0
    max_retry: int = 0


class Result(NamedTuple):
    """What came back: data when `ok`, else an error with its traceback."""

    ok: bool
    returned: Plain | None
    outputs: list[tuple[str, Plain]]
    error: str | None
    trace: str | None


@dataclass
class _Pending:
    answer: asyncio.Future[Result]
    deadline: float


@dataclass(eq=False)
class _Worker:
    """One process; `pending` keeps the order of sending, so its first entry is the oldest."""

    number: int
    process: asyncio.subprocess.Process
    lifeline: int
    channel: Channel | None = None
    functions: asyncio.Future[list[dict[str, Any]]] = field(default_factory=lambda: _future())
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    pending: dict[str, _Pending] = field(default_factory=dict)

    def received(self, message: tuple[Any, ...]) -> None:
        kind = message[0]
        if kind == "done":
            pending = self.pending.pop(message[1], None)
            if pending is not None and not pending.answer.done():
                pending.answer.set_result(Result(*message[2:]))
        elif self.functions.done():
            return
        elif kind == "ready":
            self.functions.set_result(message[1])
        elif kind == "failed":
            self.functions.set_exception(LoadFailed(message[1], message[2]))

    def lost(self) -> None:
        self.channel = None
        self.gone.set()
        if not self.functions.done():
            self.functions.set_exception(LoadFailed("the worker ended while it loaded the app"))
        for pending in self.pending.values():
            if not pending.answer.done():
                pending.answer.set_exception(WorkerLost(f"worker {self.number} ended"))
        self.pending.clear()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()


def _future() -> asyncio.Future[Any]:
    future = asyncio.get_running_loop().create_future()
    # A worker that fails while nobody asks is reported by its restart, not by the collector.
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


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
        self._workers: dict[int, _Worker] = {}
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
        worker.pending[invocation_id] = _Pending(answer, time.monotonic() + (self._timeout or 0.0))
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

    def _adopt(self, worker: _Worker) -> None:
        self._workers[worker.number] = worker
        self._ready.set()

    async def _supervise(self, number: int, worker: _Worker | None) -> None:
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
                failures = 0 if time.monotonic() - born > _SETTLED_SECONDS else failures + 1
                pause = _BACK_OFF_SECONDS[min(max(failures, 1), len(_BACK_OFF_SECONDS)) - 1]
                log.warning(
                    "worker %d ended (%s); a new one starts in %.1f s",
                    number,
                    _how(worker.process.returncode),
                    pause,
                )
                self.restarts += 1
                worker = None
                await asyncio.sleep(pause)
        finally:
            self._workers.pop(number, None)
            if worker is not None:
                await asyncio.shield(self._reap(worker))

    async def _loaded(self, worker: _Worker) -> bool:
        try:
            await asyncio.wait_for(asyncio.shield(worker.functions), LOAD_LIMIT_SECONDS)
        except (TimeoutError, LoadFailed) as failed:
            log.error("worker %d: %s", worker.number, failed or "the app was not imported in time")  # noqa: TRY400 - the app's own trace is printed below
            if isinstance(failed, LoadFailed) and failed.trace:
                log.error("%s", failed.trace.rstrip())  # noqa: TRY400 - as above
            worker.kill()
            return False
        return True

    async def _reap(self, worker: _Worker) -> None:
        if worker.channel is not None:
            worker.channel.close()
        try:
            await asyncio.wait_for(worker.process.wait(), _STOP_LIMIT_SECONDS if self._stopping else 0.5)
        except TimeoutError:
            worker.kill()
            await worker.process.wait()
        os.close(worker.lifeline)

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

    async def _spawn(self, number: int) -> _Worker:
        ours, theirs = socket.socketpair()
        # The worker's standard input: it ends when this process does, however it dies.
        inherited, lifeline = os.pipe()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                str(Path(__file__).with_name("worker.py")),
                str(self._app),
                str(theirs.fileno()),
                stdin=inherited,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self._environment,
                pass_fds=[theirs.fileno()],
                limit=_LINE_LIMIT_BYTES,
                # A Ctrl-C at the terminal is for the host, which drains; workers follow it.
                start_new_session=True,
            )
        os.close(inherited)
        worker = _Worker(number, process, lifeline)
        _, worker.channel = await asyncio.get_running_loop().create_connection(
            lambda: Channel(worker.received, worker.lost), sock=ours
        )
        self._keep(_pass_on(number, process, self._console), self._readers)
        return worker


async def _pass_on(number: int, process: asyncio.subprocess.Process, console: TextIO) -> None:
    """Print what the worker prints, each line under its label."""
    assert process.stdout is not None
    while True:
        try:
            line = await process.stdout.readline()
        except ValueError:
            line = b"(a line of more than 256 KiB was dropped)\n"
        if not line:
            return
        console.write(f"[worker {number}] {line.decode(errors='replace').rstrip()}\n")
        console.flush()


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"
