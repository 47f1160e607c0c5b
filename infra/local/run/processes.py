"""Child processes: started with a log file, watched, killed, started again, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

Ready = Callable[[], Awaitable[bool]]

START_SECONDS = 30.0
"""A first start on a slow machine compiles every module."""

STOP_SECONDS = 10.0
POLL_SECONDS = 0.05
TAIL_LINES = 15
_PR_SET_PDEATHSIG = 1


class DidNotStart(Exception):
    """A process ended, or was not ready in time; the text holds the end of its log."""


class Process:
    """
    One child process. `ready` tells whether it can be used.

    It has a session of its own: Ctrl-C in the terminal reaches only the runner, which then stops things in order.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
        ready: Ready,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        self.name = name
        self.log = log
        self.starts = 0
        self._command = list(command)
        self._environment = dict(environment)
        self._folder = folder
        self._ready = ready
        self._stop_seconds = stop_seconds
        self._child: asyncio.subprocess.Process | None = None
        self._wanted = False

    @property
    def pid(self) -> int:
        """The process id; 0 if it does not run."""
        return self._child.pid if self.runs and self._child else 0

    @property
    def runs(self) -> bool:
        """Whether the process is there."""
        return self._child is not None and self._child.returncode is None

    @property
    def lost(self) -> bool:
        """Whether it should run and does not."""
        return self._wanted and not self.runs

    async def start(self) -> None:
        """Start it and wait until it is ready; raises DidNotStart."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            self._child = await asyncio.create_subprocess_exec(
                *self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=_fileno(out),
                stderr=_fileno(out),
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        self._wanted = True
        self.starts += 1
        await self._until_ready()

    async def stop(self) -> None:
        """Ask it to end, and end it when it takes too long."""
        self._wanted = False
        if not self.runs or self._child is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._child.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._child.wait(), self._stop_seconds)
        except TimeoutError:
            await self._end()

    async def kill(self) -> None:
        """End it at once, as a crash would; it counts as lost until it is started again."""
        await self._end()

    async def _end(self) -> None:
        if self._child is None or not self.runs:
            return
        with contextlib.suppress(ProcessLookupError):
            self._child.kill()
        await self._child.wait()

    async def _until_ready(self) -> None:
        end = time.monotonic() + START_SECONDS
        while not await self._ready():
            if not self.runs:
                raise DidNotStart(f"{self.name} ended at its start; {self.log}:\n{self.tail()}")
            if time.monotonic() > end:
                raise DidNotStart(f"{self.name} was not ready within {START_SECONDS:.0f} s; {self.log}:\n{self.tail()}")
            await asyncio.sleep(POLL_SECONDS)

    def tail(self) -> str:
        """Give the last lines of its log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:])


def _fileno(file: IO[bytes]) -> int:
    return file.fileno()


def _die_with_parent() -> None:
    """Linux only: a runner that was killed leaves nothing behind that keeps its ports."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:
        os._exit(1)
