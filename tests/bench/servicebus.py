"""
How fast the local Service Bus is, and whether it keeps what is gone.

`measure()` takes about a minute; `python -m tests.bench.servicebus --minutes 10` runs a mixed
load and fails when memory grows.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import azure.servicebus
from azure.servicebus import ServiceBusMessage, ServiceBusReceiveMode
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver, ServiceBusSender

BODY = b"x" * 1024
BATCH = 150
#: Messages in the drain; the issue's number.
DRAINED = 100_000
#: Growth between two equal moments of a mixed load that is still called flat.
ALLOWED_GROWTH = 0.15
_START_SECONDS = 20
#: The client gets stuck at its 10,001st management request on one link; a round makes about thirty.
ROUNDS_PER_RECEIVER = 200
#: The emulator looks every two seconds whether it can give memory back.
_TRIM_SECONDS = 4


def measure(*, drained: int = DRAINED, timed: int = 9_000) -> dict[str, object]:
    """Start an emulator of our own and return its rates and memory, with machine and SDK version."""
    return asyncio.run(_measure(drained, timed))


async def _measure(drained: int, timed: int) -> dict[str, object]:
    async with _emulator() as (connection_string, pid):
        empty = _resident_bytes(pid)
        async with _client(connection_string) as client:
            sender = client.get_queue_sender("bench")
            await sender.send_messages(ServiceBusMessage(b"warm"))
            sent = await _rate(_send(sender, timed), timed)
            receiver = client.get_queue_receiver("bench", prefetch_count=200)
            received = await _rate(_complete(receiver, timed), timed)
            memory = await _memory(client, sender, pid, empty, drained)
    return _about() | {
        "batch_sends_per_second": round(sent),
        "receive_and_complete_per_second": round(received),
        "body_bytes": len(BODY),
        **memory,
    }


async def _memory(
    client: ServiceBusClient, sender: ServiceBusSender, pid: int, empty: int, count: int
) -> dict[str, object]:
    """Fill and drain twice: what the second round needs beyond the first was not given back."""
    await _send(sender, count)
    full = _resident_bytes(pid)
    await _drain(client, count)
    await asyncio.sleep(_TRIM_SECONDS)
    drained = _resident_bytes(pid)
    await _send(sender, count)
    full_again = _resident_bytes(pid)
    await _drain(client, count)
    return {
        "queued_messages": count,
        "bytes_per_queued_message": round((full - empty) / count),
        "resident_mib_empty_full_drained_full": [round(v / 2**20) for v in (empty, full, drained, full_again)],
        "flat_after_drain": full_again <= full * (1 + ALLOWED_GROWTH),
    }


async def mixed_load(minutes: float) -> dict[str, object]:
    """Send, complete, abandon, dead-letter, schedule and defer for a while; compare memory of its halves."""
    samples: list[int] = []
    handled = 0
    async with (
        _emulator() as (connection_string, pid),
        _client(connection_string) as client,
        client.get_queue_sender("bench") as sender,
    ):
        receiver = client.get_queue_receiver("bench", prefetch_count=100)
        dead = client.get_queue_receiver(
            "bench", sub_queue="deadletter", receive_mode=ServiceBusReceiveMode.RECEIVE_AND_DELETE
        )
        end = time.monotonic() + minutes * 60
        while time.monotonic() < end:
            await _send(sender, BATCH)
            settled = 0
            # Waiting for the very last takes a second: only now and then, so that nothing piles up.
            wanted = BATCH if len(samples) % 20 == 0 else BATCH - 8
            while settled < wanted and (some := await _settle_mixed(receiver)):
                settled += some
            handled += settled
            if len(samples) % ROUNDS_PER_RECEIVER == ROUNDS_PER_RECEIVER - 1:
                await receiver.close()
                receiver = client.get_queue_receiver("bench", prefetch_count=100)
            if len(samples) % 10 == 0:
                await dead.receive_messages(1000, max_wait_time=1)
            samples.append(_resident_bytes(pid))
    half = len(samples) // 2
    first, second = max(samples[len(samples) // 4 : half]), max(samples[half:])
    return _about() | {
        "minutes": minutes,
        "messages": handled,
        "resident_mib_first_and_second_half": [round(first / 2**20, 1), round(second / 2**20, 1)],
        "flat": second <= first * (1 + ALLOWED_GROWTH),
    }


async def _settle_mixed(receiver: ServiceBusReceiver) -> int:
    """Settle what comes, in every way; return how many messages left the queue by it."""
    gone = 0
    for message in await receiver.receive_messages(BATCH, max_wait_time=1):
        kind = (message.sequence_number or 0) % 10
        if kind == 0 and not message.delivery_count:
            await receiver.abandon_message(message)
            continue
        gone += 1
        if kind == 1:
            await receiver.dead_letter_message(message, reason="bench")
        elif kind == 2:
            await receiver.defer_message(message)
            deferred = await receiver.receive_deferred_messages([message.sequence_number or 0])
            await receiver.complete_message(deferred[0])
        else:
            await receiver.complete_message(message)
    return gone


def _client(connection_string: str) -> ServiceBusClient:
    return ServiceBusClient.from_connection_string(connection_string)


async def _rate(work: Any, count: int) -> float:
    start = time.perf_counter()
    await work
    return count / (time.perf_counter() - start)


async def _send(sender: ServiceBusSender, count: int) -> None:
    for start in range(0, count, BATCH):
        await sender.send_messages([ServiceBusMessage(BODY) for _ in range(min(BATCH, count - start))])


async def _complete(receiver: ServiceBusReceiver, count: int) -> None:
    done = 0
    while done < count:
        messages = await receiver.receive_messages(200, max_wait_time=5)
        if not messages:
            raise RuntimeError(f"only {done} of {count} messages arrived")
        await asyncio.gather(*(receiver.complete_message(message) for message in messages))
        done += len(messages)


async def _drain(client: ServiceBusClient, count: int) -> None:
    mode = ServiceBusReceiveMode.RECEIVE_AND_DELETE
    async with client.get_queue_receiver("bench", receive_mode=mode, prefetch_count=1000) as receiver:
        done = 0
        while done < count:
            messages = await receiver.receive_messages(1000, max_wait_time=2)
            if not messages:
                return
            done += len(messages)


@asynccontextmanager
async def _emulator() -> AsyncIterator[tuple[str, int]]:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "Config.json"
        queue = {"Name": "bench", "Properties": {"LockDuration": "PT1M", "MaxDeliveryCount": 10}}
        namespace = {"Name": "sbemulatorns", "Queues": [queue], "Topics": []}
        config.write_text(json.dumps({"UserConfig": {"Namespaces": [namespace], "Logging": {"Type": "Console"}}}))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "infra.local.servicebus", "--config", str(config)),
            *("--port", "0", "--http-port", "0", "--log-level", "warning"),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            line = (await asyncio.wait_for(process.stdout.readline(), _START_SECONDS)).decode()
            port = line.split()[2].rpartition(":")[2]
            yield (
                f"Endpoint=sb://localhost:{port};SharedAccessKeyName=RootManageSharedAccessKey;"
                "SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true;",
                process.pid,
            )
        finally:
            process.terminate()
            await process.wait()


def _resident_bytes(pid: int) -> int:
    """Return a process's resident memory; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def _about() -> dict[str, object]:
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "azure-servicebus": azure.servicebus.__version__,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the local Service Bus.")
    parser.add_argument("--minutes", type=float, help="run a mixed load for so long instead")
    minutes = parser.parse_args().minutes
    result = measure() if minutes is None else asyncio.run(mixed_load(minutes))
    print(json.dumps(result, indent=2))
    return 0 if result.get("flat", result.get("flat_after_drain")) else 1


if __name__ == "__main__":
    sys.exit(main())
