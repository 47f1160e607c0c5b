"""One worker process as the host sees it: what it was sent, and what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from infra.local.host.worker import Channel, Plain

# A longer line is dropped, and said to be.
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
class Pending:
    answer: asyncio.Future[Result]
    deadline: float


@dataclass(eq=False)
class WorkerProcess:
    """
    One process; `pending` keeps the order of sending, so its first entry is the oldest.

    `worked` tells whether it ran a function to its end, well or not.
    """

    number: int
    process: asyncio.subprocess.Process
    lifeline: int
    channel: Channel | None = None
    functions: asyncio.Future[list[dict[str, Any]]] = field(default_factory=lambda: _future())
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    pending: dict[str, Pending] = field(default_factory=dict)
    worked: bool = False

    def received(self, message: tuple[Any, ...]) -> None:
        kind = message[0]
        if kind == "done":
            self.worked = True
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

    async def end(self, patience_seconds: float) -> None:
        """Close its channel, which ends it, and make sure."""
        if self.channel is not None:
            self.channel.close()
        try:
            await asyncio.wait_for(self.process.wait(), patience_seconds)
        except TimeoutError:
            self.kill()
            await self.process.wait()
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1

    def how_it_ended(self) -> str:
        code = self.process.returncode
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return signal.Signals(-code).name
        return f"exit code {code}"

    async def pass_on(self, console: TextIO) -> None:
        """Print what the worker prints, each line under its label, until it ends."""
        assert self.process.stdout is not None
        while True:
            try:
                line = await self.process.stdout.readline()
            except ValueError:
                line = b"(a line of more than 256 KiB was dropped)"
            if not line:
                return
            console.write(f"[worker {self.number}] {line.decode(errors='replace').rstrip()}\n")
            console.flush()


def _future() -> asyncio.Future[Any]:
    future = asyncio.get_running_loop().create_future()
    # A worker that fails while nobody asks is reported by its restart, not by the collector.
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


async def spawn(number: int, app: Path, environment: Mapping[str, str]) -> WorkerProcess:
    """Start a worker on the app in `app`; it says later whether it loaded."""
    ours, theirs = socket.socketpair()
    # The worker's standard input: it ends when this process does, however it dies.
    inherited, lifeline = os.pipe()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            str(Path(__file__).with_name("worker.py")),
            str(app),
            str(theirs.fileno()),
            stdin=inherited,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            pass_fds=[theirs.fileno()],
            limit=_LINE_LIMIT_BYTES,
            # A Ctrl-C at the terminal is for the host, which drains; workers follow it.
            start_new_session=True,
        )
    os.close(inherited)
    worker = WorkerProcess(number, process, lifeline)
    _, worker.channel = await asyncio.get_running_loop().create_connection(
        lambda: Channel(worker.received, worker.lost), sock=ours
    )
    return worker
