"""The local Service Bus in a process of its own, with queues made as tests need them."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from azure.servicebus import ServiceBusClient, ServiceBusMessage

from tests.contract.host.running import PATIENCE_SECONDS, ROOT

_EMPTY = {
    "UserConfig": {
        "Namespaces": [{"Name": "sbemulatorns", "Queues": [], "Topics": []}],
        "Logging": {"Type": "Console"},
    }
}


class Broker:
    """A running emulator; every test has entities of its own."""

    def __init__(self, folder: Path) -> None:
        config = folder / "Config.json"
        config.write_text(json.dumps(_EMPTY))
        command = [sys.executable, "-m", "infra.local.servicebus", "--config", str(config), "--relaxed"]
        command += ["--port", "0", "--http-port", "0", "--log-level", "error"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        words = self._process.stdout.readline().split()
        assert words, "the emulator did not start"
        self._http = f"http://{words[4]}"
        port = words[2].rpartition(":")[2]
        self.connection_string = (
            f"Endpoint=sb://localhost:{port};SharedAccessKeyName=RootManageSharedAccessKey;"
            "SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true;"
        )
        self._numbers = itertools.count(1)
        self._client = ServiceBusClient.from_connection_string(self.connection_string)

    def queue(self, **properties: Any) -> str:
        name = f"queue-{next(self._numbers)}"
        self._request("PUT", f"/emulator/queues/{name}", properties)
        return name

    def topic(self, *subscriptions: str) -> str:
        name = f"topic-{next(self._numbers)}"
        self._request("PUT", f"/emulator/topics/{name}", {})
        for subscription in subscriptions:
            self._request("PUT", f"/emulator/topics/{name}/subscriptions/{subscription}", {})
        return name

    def send(self, entity: str, messages: Sequence[ServiceBusMessage | str]) -> None:
        with self._client.get_queue_sender(entity) as sender:
            sender.send_messages([ServiceBusMessage(each) if isinstance(each, str) else each for each in messages])

    def bodies(self, entity: str, count: int) -> list[str]:
        """Receive and complete `count` messages."""
        found: list[str] = []
        with self._client.get_queue_receiver(entity, max_wait_time=PATIENCE_SECONDS) as receiver:
            while len(found) < count:
                received = receiver.receive_messages(max_message_count=count - len(found))
                assert received, f"{len(found)} of {count} messages in {entity}"
                for message in received:
                    found.append(str(message))
                    receiver.complete_message(message)
        return found

    def counts(self, queue: str) -> dict[str, int]:
        found: dict[str, int] = self._request("GET", "/emulator/entities")["queues"][queue]
        return found

    def left(self, queue: str) -> int:
        """Count what is still to be done: waiting, locked, or planned."""
        counts = self.counts(queue)
        return counts["active"] + counts["locked"] + counts["scheduled"]

    def fault(self, kind: str, **body: Any) -> None:
        self._request("POST", f"/emulator/faults/{kind}", body)

    def _request(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._http + path, data=data, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return json.loads(answer.read())

    def close(self) -> None:
        self._client.close()
        self._process.terminate()
        self._process.wait(PATIENCE_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()
