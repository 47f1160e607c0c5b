"""The processes a benchmark needs, each on free ports, and what they cost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pipeline.feeds import load_feeds
from pipeline.subscribers import load_subscribers
from pipeline.topology import emulator_config, schedules, topology

ROOT = Path(__file__).parents[2]
TICKS = os.sysconf("SC_CLK_TCK")
NEVER = "0 0 0 1 1 *"


@contextmanager
def started(
    command: list[str], says: str, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[re.Match[str]]:
    """Run a process until the block ends; gives the match of `says` in its output."""
    with log.open("w") as out:
        child = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env={**os.environ, **(environment or {})}, stdout=out, stderr=out
        )
        try:
            yield _wait_for(child, says, log)
        finally:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _wait_for(child: subprocess.Popen[bytes], says: str, log: Path) -> re.Match[str]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if match := re.search(says, log.read_text()):
            return match
        if child.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"did not start: {log.read_text()[-2000:]}")


@contextmanager
def graph(folder: Path, *arguments: str) -> Iterator[str]:
    """Run the Graph simulator without latency or budgets; gives its base URL."""
    command = ["-m", "infra.local.graph", "--port", "0", *arguments]
    with started(command, r"graph: http (\S+)", folder / "graph.log") as match:
        yield f"http://{match[1]}"


@contextmanager
def service_bus(folder: Path, *, subscribers: bool) -> Iterator[tuple[str, str]]:
    """Run the emulator; gives the connection string and the control URL."""
    wanted = topology(load_feeds(), load_subscribers() if subscribers else {})
    config = folder / "Config.json"
    config.write_text(json.dumps(emulator_config(wanted)))
    command = ["-m", "infra.local.servicebus", "--config", str(config), "--port", "0", "--http-port", "0"]
    command += ["--relaxed"]  # a topic without subscriptions is outside the official bounds
    with started(command, r"servicebus: amqp \S+?:(\d+) http \S+?:(\d+)", folder / "bus.log") as match:
        yield (
            f"Endpoint=sb://localhost:{match[1]};SharedAccessKeyName=RootManageSharedAccessKey;"
            "SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true;",
            f"http://127.0.0.1:{match[2]}",
        )


class Stack:
    """Simulator, emulator and host, with the app's environment."""

    def __init__(self, base: str, control: str, host: str, environment: dict[str, str], host_pid: int) -> None:
        self.base, self.control, self.host, self.environment = base, control, host, environment
        self.host_pid = host_pid

    def invoke(self, function: str) -> None:
        """Run a timer function now; the first call makes the worker import everything."""
        request = urllib.request.Request(
            f"{self.host}/admin/functions/{function}", b"{}", {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=30).close()

    def pipeline(self, *arguments: str) -> str:
        """Run a command of the product."""
        return _pipeline(self.environment, *arguments)

    def worker_cpu(self) -> float:
        """CPU seconds of the host's worker processes with their children."""
        return sum(cpu_of(pid) for pid in children_of(self.host_pid))

    def get(self, url: str) -> Any:
        """Read JSON of a simulator or the emulator."""
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)

    def post(self, url: str) -> None:
        """Post nothing to a control endpoint."""
        urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=10).close()


@contextmanager
def stack(
    folder: Path, base: str, *, subscribers: bool, feeds: str = "posts", functions: str = "", **extra: str
) -> Iterator[Stack]:
    """Run emulator and host against a running simulator, with a fresh database and all its users."""
    with ExitStack() as open_:
        bus, control = open_.enter_context(service_bus(folder, subscribers=subscribers))
        environment = {
            **os.environ,
            **schedules(load_feeds()),
            **{name: NEVER for name in schedules(load_feeds())},
            "ENVIRONMENT": "local",
            "MINER_AZURE_SERVICE_BUS": bus,
            "DATABASE_URL": f"sqlite:///{folder / 'pipeline.db'}",
            "LAKE_URL": f"file:{folder / 'lake'}",
            "GRAPH_BASE_URL": base,
            "FEEDS_ENABLED": feeds,
            "SETTLE_SECONDS": "2",
            **extra,
        }
        environment["TOKEN_KEY"] = _pipeline(environment, "new-key").strip()
        _pipeline(environment, "migrate")
        _import_users(folder, environment, base)
        command = [
            "-m",
            "infra.local.host",
            "--app",
            ".",
            "--port",
            "0",
            "--workers",
            "1",
            "--state",
            str(folder / "host"),
        ]
        if functions:
            command += ["--functions", functions]
        match = open_.enter_context(started(command, r"host: http (\S+)", folder / "host.log", environment))
        pid = next(pid for pid in children_of(os.getpid()) if "infra.local.host" in command_of(pid))
        yield Stack(base, control, f"http://{match[1]}", environment, pid)


def _pipeline(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode:
        raise RuntimeError(f"pipeline {arguments[0]}: {done.stderr[-2000:]}")
    return done.stdout


def _import_users(folder: Path, environment: dict[str, str], base: str) -> None:
    with urllib.request.urlopen(f"{base}/__sim/world", timeout=10) as answer:
        users = json.load(answer)["users"]
    file = folder / "users.csv"
    file.write_text("user_id,token,source\n" + "".join(f"{user['id']},{user['token']},graph\n" for user in users))
    _pipeline(environment, "users", "import", str(file))


def children_of(pid: int) -> list[int]:
    """Give the ids of a process's children."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


def command_of(pid: int) -> str:
    """Give a process's command line."""
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def cpu_of(pid: int) -> float:
    """Give user and system seconds of a process with its ended children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(fields[i]) for i in (11, 12, 13, 14)) / TICKS


def rss_mib(pid: int) -> float:
    """Give a process's resident memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
