"""Where a run keeps its things, on which ports it listens, and the environment in which the app runs."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[3]
ADDRESS = "127.0.0.1"
API_VERSION = "v26.0"


class Ports(NamedTuple):
    """One for each thing that listens."""

    amqp: int
    control: int
    graph: int
    rest: int
    redis: int
    host: int


STANDARD_PORTS = Ports(amqp=5672, control=5300, graph=8080, rest=8081, redis=6379, host=7071)
"""What people and other tools expect."""


def free_ports() -> Ports:
    """Draw free ports. They are fixed for the run, for whoever is started again must be found where it was."""
    sockets = [socket.socket() for _ in Ports._fields]
    try:
        for each in sockets:
            each.bind((ADDRESS, 0))
        return Ports(*(each.getsockname()[1] for each in sockets))
    finally:
        for each in sockets:
            each.close()


def standard_ports() -> Ports:
    """Give the ports that people and other tools expect, and free ones in the place of those that are taken."""
    free = free_ports()._asdict()
    return Ports(**{name: free[name] if _taken(port) else port for name, port in STANDARD_PORTS._asdict().items()})


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return True
    return False


@dataclass(frozen=True)
class Places:
    """One run's folder and ports."""

    folder: Path
    ports: Ports

    @property
    def database(self) -> Path:
        """The pipeline's own tables; the analytics tables stand beside them."""
        return self.folder / "pipeline.db"

    @property
    def lake(self) -> Path:
        """The folder of raw data."""
        return self.folder / "lake"

    @property
    def settings(self) -> Path:
        """The app's settings, for a shell: what a person's own commands need to meet this box."""
        return self.folder / "app.env"

    def state(self, name: str) -> Path:
        """Give the file in which a simulator keeps what happens to its world."""
        return self.folder / f"{name}-state.jsonl"

    def log(self, name: str) -> Path:
        """Give a process's log file."""
        return self.folder / "logs" / f"{name}.log"

    @property
    def graph_url(self) -> str:
        """The Graph simulator."""
        return f"http://{ADDRESS}:{self.ports.graph}"

    @property
    def rest_url(self) -> str:
        """The REST simulator."""
        return f"http://{ADDRESS}:{self.ports.rest}"

    @property
    def control_url(self) -> str:
        """The emulator's control API."""
        return f"http://{ADDRESS}:{self.ports.control}"

    @property
    def host_url(self) -> str:
        """The functions host."""
        return f"http://{ADDRESS}:{self.ports.host}"

    @property
    def connection(self) -> str:
        """The connection string of the emulator."""
        return (
            f"Endpoint=sb://localhost:{self.ports.amqp};SharedAccessKeyName=RootManageSharedAccessKey;"
            "SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true;"
        )

    def app_environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        """
        Give the environment of the app and its commands: this process's, without what is set for another app.

        A setting of the shell must not lead a local run to a real bus or database; `settings` say all that counts.
        """
        kept = {name: value for name, value in os.environ.items() if not _belongs_to_an_app(name)}
        return kept | {
            "ENVIRONMENT": "local",
            "MINER_AZURE_SERVICE_BUS": self.connection,
            "SERVICEBUS_CONTROL_URL": self.control_url,
            "DATABASE_URL": f"sqlite:///{self.database}",
            "LAKE_URL": f"file:{self.lake}",
            "GRAPH_BASE_URL": self.graph_url,
            "GRAPH_API_VERSION": API_VERSION,
            "REST_BASE_URL": self.rest_url,
            "PYTHONUNBUFFERED": "1",
            **settings,
        }


_APP_PREFIXES = ("MINER_AZURE_SERVICE_BUS", "GRAPH_", "REST_", "WEBSITE_", "AzureWebJobs", "AzureFunctions", "FAIL")
_APP_NAMES = frozenset(
    {"SERVICEBUS_CONTROL_URL", "DATABASE_URL", "REDIS_URL", "LAKE_URL", "LAKE_CONNECTION", "TOKEN_KEY", "ENVIRONMENT"}
)


def _belongs_to_an_app(name: str) -> bool:
    return name in _APP_NAMES or name.startswith(_APP_PREFIXES) or name.endswith("_SCHEDULE_MINER")
