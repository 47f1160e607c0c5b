"""
What the local host costs: CPU per invocation against a bare receive-and-complete loop.

Both read the same kind of messages from the same local Service Bus, sixteen at
a time, in one run. The bare loop settles its sixteen at once, as the host does;
one that settles them one by one is measured too. CPU is that of whole
processes, host and worker together.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from azure.servicebus import ServiceBusClient, ServiceBusMessage

from tests.contract.host.broker import Broker
from tests.contract.host.running import ROOT, RunningHost, running, until, write_app

MESSAGES = 10_000
MEMORY_INVOCATIONS = 100_000
AT_ONCE = 16
GOAL = 3.0
BODY = "x" * 1_000

APP = """
@app.service_bus_queue_trigger(arg_name="message", queue_name="%QUEUE%", connection="BUS")
async def worker(message: func.ServiceBusMessage) -> None:
    message.get_body()
"""

BARE = """
import asyncio, json, sys, time
from azure.servicebus.aio import ServiceBusClient

async def main(connection, queue, count, at_once, together):
    async with ServiceBusClient.from_connection_string(connection) as client:
        async with client.get_queue_receiver(queue) as receiver:
            done, cpu, began = 0, time.process_time(), time.perf_counter()
            while done < count:
                messages = await receiver.receive_messages(max_message_count=at_once, max_wait_time=5)
                if together:
                    await asyncio.gather(*(receiver.complete_message(message) for message in messages))
                else:
                    for message in messages:
                        await receiver.complete_message(message)
                done += len(messages)
            print(json.dumps({"cpu": time.process_time() - cpu, "seconds": time.perf_counter() - began}))

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "together"))
"""


def measure() -> dict[str, object]:
    """Return the ratio to the bare loop, and the memory after ten and a hundred thousand invocations."""
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder))
        try:
            return _measure(broker, Path(folder))
        finally:
            broker.close()


def _measure(broker: Broker, folder: Path) -> dict[str, object]:
    together = _bare(broker, "together")
    one_by_one = _bare(broker, "one by one")
    queue = broker.queue()
    app = write_app(folder / "app", APP, host_json={"extensions": {"serviceBus": {"maxConcurrentCalls": AT_ONCE}}})
    with running(app, settings={"BUS": broker.connection_string, "QUEUE": queue}, verbose=False) as host:
        (worker,) = host.status()["workers"]
        processes = (host.process.pid, worker)
        _run(broker, host, queue, 1_000)
        before = [_cpu(process) for process in processes]
        seconds = _run(broker, host, queue, MESSAGES)
        spent = [_cpu(process) - start for process, start in zip(processes, before, strict=True)]
        early = [_resident_mib(process) for process in processes]
        _run(broker, host, queue, MEMORY_INVOCATIONS - MESSAGES)
        late = [_resident_mib(process) for process in processes]
    total = sum(spent) / MESSAGES
    return {
        "ratio": round(total / together, 2),
        "goal": GOAL,
        "ratio_to_one_by_one": round(total / one_by_one, 2),
        "host_cpu_us": round(spent[0] / MESSAGES * 1e6, 1),
        "worker_cpu_us": round(spent[1] / MESSAGES * 1e6, 1),
        "bare_cpu_us": round(together * 1e6, 1),
        "bare_one_by_one_cpu_us": round(one_by_one * 1e6, 1),
        "invocations_per_second": round(MESSAGES / seconds),
        f"host_mib_after_{MESSAGES}": early[0],
        f"worker_mib_after_{MESSAGES}": early[1],
        f"host_mib_after_{MEMORY_INVOCATIONS}": late[0],
        f"worker_mib_after_{MEMORY_INVOCATIONS}": late[1],
    }


def _bare(broker: Broker, how: str) -> float:
    """Return the CPU seconds that a bare loop spends per message."""
    queue = broker.queue()
    _send(broker, queue, MESSAGES)
    command = [sys.executable, "-c", BARE, broker.connection_string, queue, str(MESSAGES), str(AT_ONCE), how]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    cpu: float = json.loads(answer.stdout)["cpu"]
    return cpu / MESSAGES


def _run(broker: Broker, host: RunningHost, queue: str, count: int) -> float:
    """Send, wait until all are done, and return the seconds it took."""
    began = time.perf_counter()
    _send(broker, queue, count)
    until(lambda: broker.left(queue) == 0, host, seconds=300)
    return time.perf_counter() - began


def _send(broker: Broker, queue: str, count: int) -> None:
    page = [ServiceBusMessage(BODY) for _ in range(100)]
    with (
        ServiceBusClient.from_connection_string(broker.connection_string) as client,
        client.get_queue_sender(queue) as sender,
    ):
        for start in range(0, count, len(page)):
            sender.send_messages(page[: count - start])


def _cpu(process: int) -> float:
    """Return the CPU seconds of another process, from the clock that Linux keeps for it."""
    return time.clock_gettime((~process << 3) | 2)


def _resident_mib(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return round(int(line.split()[1]) / 1024, 1)
