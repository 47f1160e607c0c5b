"""One emulator process per module, and its control API."""

import http.client
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CONFIG = {
    "UserConfig": {
        "Namespaces": [
            {
                "Name": "sbemulatorns",
                "Queues": [
                    {"Name": "main", "Properties": {"MaxDeliveryCount": 3}},
                    {"Name": "sink", "Properties": {}},
                    {"Name": "once", "Properties": {"RequiresDuplicateDetection": True}},
                ],
                "Topics": [
                    {
                        "Name": "news",
                        "Properties": {},
                        "Subscriptions": [
                            {"Name": "first", "Properties": {}, "Rules": []},
                            {"Name": "forwarded", "Properties": {"ForwardTo": "sink"}},
                        ],
                    }
                ],
            }
        ],
        "Logging": {"Type": "Console"},
    }
}


@dataclass
class Emulator:
    """A running emulator, by its two ports."""

    port: int
    http_port: int
    pid: int
    log: Path

    @property
    def connection_string(self) -> str:
        return (
            f"Endpoint=sb://localhost:{self.port};SharedAccessKeyName=RootManageSharedAccessKey;"
            "SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true;"
        )

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Ask the control API; return status and decoded body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=10)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def queue(self, **properties: Any) -> str:
        """Make a queue of its own for a test; return its name."""
        name = f"q-{uuid.uuid4().hex[:12]}"
        status, answer = self.call("PUT", f"/emulator/queues/{name}", properties)
        assert status == 201, answer
        return name

    def counts(self, queue: str) -> dict[str, int]:
        counts: dict[str, int] = self.call("GET", "/emulator/entities")[1]["queues"][queue]
        return counts


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    folder = tmp_path_factory.mktemp("servicebus")
    config = folder / "Config.json"
    config.write_text("// the official file allows comments\n" + json.dumps(CONFIG))
    log = folder / "log.txt"
    command = [sys.executable, "-m", "infra.local.servicebus", "--config", str(config)]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*command, "--port", "0", "--http-port", "0", "--relaxed"],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
    try:
        assert process.stdout is not None
        words = process.stdout.readline().decode().split()
        assert words[0] == "servicebus:", log.read_text()
        yield Emulator(int(words[2].rpartition(":")[2]), int(words[4].rpartition(":")[2]), process.pid, log)
    finally:
        process.terminate()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()
    assert "Traceback" not in log.read_text()
