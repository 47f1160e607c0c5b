"""Start the host as a person would, and watch what it prints."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_SECONDS = 30.0

HEAD = """
import asyncio, json, logging, os, time
from typing import List
import azure.functions as func

def note(**fields):
    with open(os.environ["EVIDENCE"], "a") as file:
        file.write(json.dumps(fields, default=str) + "\\n")

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
"""


def write_app(
    folder: Path, source: str, *, host_json: Mapping[str, Any] | None = None, values: Mapping[str, str] | None = None
) -> Path:
    """Write an app of HEAD and `source`, with its host.json and local.settings.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "function_app.py").write_text(HEAD + textwrap.dedent(source))
    (folder / "host.json").write_text(json.dumps({"version": "2.0", **(host_json or {})}))
    (folder / "local.settings.json").write_text(json.dumps({"IsEncrypted": False, "Values": dict(values or {})}))
    return folder


class Answer(NamedTuple):
    status: int
    headers: Any
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class RunningHost:
    """A host process; its lines, its port, and what its app noted down."""

    def __init__(self, app: Path, *options: str, settings: Mapping[str, str] | None = None) -> None:
        self.app = app
        self.evidence = app.parent / f"{app.name}.evidence"
        self.evidence.touch()
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "infra.local.host", "--app", str(app), "--port", "0"),
                *("--state", str(app.parent / "state"), *options),
            ],
            cwd=ROOT,
            env={**os.environ, "EVIDENCE": str(self.evidence), **(settings or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def until_up(self) -> RunningHost:
        until(lambda: any(line.startswith("host: http ") for line in self.lines) or self.process.poll() is not None)
        assert self.process.poll() is None, self.text
        return self

    @property
    def address(self) -> str:
        line = next(line for line in self.lines if line.startswith("host: http "))
        return f"http://{line.removeprefix('host: http ')}"

    def notes(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.evidence.read_text().splitlines()]

    def until_noted(self, count: int) -> list[dict[str, Any]]:
        until(lambda: len(self.notes()) >= count, self)
        return self.notes()

    def until_said(self, text: str, times: int = 1) -> None:
        """Wait until the host has printed it: its lines are read in a thread, and come later than its answers."""
        until(lambda: self.text.count(text) >= times, self)

    def call(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.address + path, data=body, method=method, headers=names)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as refused:
            with refused:
                return Answer(refused.code, refused.headers, refused.read())

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.call("/admin/host/status").json()
        return found

    def kill_workers(self) -> None:
        for pid in self.status()["workers"]:
            os.kill(pid, signal.SIGKILL)

    def ended(self) -> int:
        """Wait for the end and return the exit code; the output is complete then."""
        code = self.process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        return code

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def destroy(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_SECONDS)
        self._reader.join(PATIENCE_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def running(
    app: Path, *options: str, settings: Mapping[str, str] | None = None, verbose: bool = True
) -> Iterator[RunningHost]:
    """Run a host until the block ends; it must come up, and is stopped gently if it still runs."""
    host = RunningHost(app, *(("--verbose",) if verbose else ()), *options, settings=settings)
    try:
        yield host.until_up()
        if host.process.poll() is None:
            host.stop()
    finally:
        host.destroy()


@contextlib.contextmanager
def refused(app: Path, *options: str, settings: Mapping[str, str] | None = None) -> Iterator[RunningHost]:
    """Start a host that is expected to end by itself."""
    host = RunningHost(app, *options, settings=settings)
    try:
        host.ended()
        yield host
    finally:
        host.destroy()


def until(holds: Callable[[], bool], host: RunningHost | None = None, *, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until it holds; fails with what the host printed."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, host.text if host else "it never came to hold"
        time.sleep(0.02)
