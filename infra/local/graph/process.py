"""Starts a simulator as a process of its own, for tests with blocking clients and for benchmarks."""

from __future__ import annotations

import contextlib
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 30.0
STOP_SECONDS = 5.0
ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Spawned:
    """A running process and where it listens."""

    url: str
    process: subprocess.Popen[str]


@contextlib.contextmanager
def spawn(module: str, *arguments: str) -> Iterator[Spawned]:
    """Run `python -m module --port 0 …` until the block ends. Raises RuntimeError if it does not come up."""
    command = [sys.executable, "-u", "-m", module, "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield Spawned(_address(process), process)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()


def _address(process: subprocess.Popen[str]) -> str:
    """Read the start line, `name: http HOST:PORT`."""
    assert process.stdout is not None
    assert process.stderr is not None
    deadline = time.monotonic() + START_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if selector.select(max(0.0, deadline - time.monotonic())):
            line = process.stdout.readline().strip()
            if ": http " in line:
                return "http://" + line.partition(": http ")[2]
    process.kill()
    raise RuntimeError(f"the simulator did not start: {process.stderr.read()[-2000:]}")
