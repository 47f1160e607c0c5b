"""
Fan-out of 100,000 users against a bare batch-send loop of the same client in the same run.

Messages per second of both; goal: 0.8 or more. Each runs as a process of its own and reports its CPU.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient

from tests.bench.stack import ROOT, service_bus

USERS = 100_000
RUNS = 3
GOAL = 0.8
TICK = {
    "version": 1, "feed": "posts", "scope": "", "lane": "", "attempt": 0, "tick": 1_700_000_000_000_000, "epoch": 0,
    "seq": 0, "limit": 100, "consecutiveBatchRepeats": 0, "consecutiveBatchRepeatsLimit": 5,
    "correlationId": "t000000000000000", "miningType": "USER_POSTS",
}  # fmt: skip
"""The fields of a tick that both send."""
QUEUE = "posts-mining-queue-local"


def measure(*, users: int = USERS, runs: int = RUNS) -> dict[str, Any]:
    """Give messages per CPU second and per second of both, medians, and their ratios."""
    with tempfile.TemporaryDirectory() as folder, service_bus(Path(folder), subscribers=True) as (bus, control):
        bare, ours = [], []
        for run in range(runs):
            bare.append(_child("bare", bus, users, folder, run))
            _purge(control)
            ours.append(_child("ours", bus, users, folder, run))
            _purge(control)
    ratios = {
        what: statistics.median(b[what] for b in bare) / statistics.median(o[what] for o in ours)
        for what in ("cpu", "seconds")
    }
    return {
        "users": users,
        "ratio": round(ratios["seconds"], 3),
        "cpu_ratio": round(ratios["cpu"], 3),
        "goal": GOAL,
        "runs": {"bare": bare, "ours": ours},
    }


def _purge(control: str) -> None:
    properties = json.dumps({"RequiresDuplicateDetection": True}).encode()
    for method, body in (("DELETE", None), ("PUT", properties)):
        request = urllib.request.Request(f"{control}/emulator/queues/{QUEUE}", body, method=method)
        urllib.request.urlopen(request, timeout=10).close()


def _child(which: str, bus: str, users: int, folder: str, run: int) -> dict[str, float]:
    environment = {
        **os.environ,
        "MINER_AZURE_SERVICE_BUS": bus,
        "DATABASE_URL": f"sqlite:///{folder}/fan{run}.db",
        "GRAPH_BASE_URL": "http://127.0.0.1:9",
        "GRAPH_USER_ID": "1",
        "GRAPH_ACCESS_TOKEN": "none",
        "FEEDS_ENABLED": "posts",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.fan_out", which, str(users)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


async def _bare(users: int) -> dict[str, float]:
    connection = os.environ["MINER_AZURE_SERVICE_BUS"]
    async with ServiceBusClient.from_connection_string(connection) as client, client.get_queue_sender(QUEUE) as sender:
        await sender.send_messages(ServiceBusMessage(b"first", message_id="first"))
        started, cpu = time.perf_counter(), time.process_time()
        for page in range(0, users, 1000):
            batch = await sender.create_message_batch()
            for user in range(page, min(page + 1000, users)):
                body = json.dumps({**TICK, "userId": str(user), "doorbellId": f"t{user:032d}"})
                message = ServiceBusMessage(body, message_id=f"t{user:032d}", application_properties={"feed": "posts"})
                try:
                    batch.add_message(message)
                except ValueError:
                    await sender.send_messages(batch)
                    batch = await sender.create_message_batch()
                    batch.add_message(message)
            await sender.send_messages(batch)
        return {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}


async def _ours(users: int) -> dict[str, float]:
    from pipeline.bootstrap import bootstrap
    from pipeline.settings import load
    from pipeline.storage import migrate
    from pipeline.storage.database import Database

    settings = load()
    assert settings.database_url
    database = Database(settings.database_url.get_secret_value())
    migrate.upgrade(database)
    with database.engine.begin() as connection:
        connection.exec_driver_sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) INSERT INTO users "
            "(user_id, state, priority, created_at) SELECT printf('%08d', i), 'active', 0, 0 FROM n",
            (users,),
        )
    await database.close()
    pipeline = await bootstrap(settings)
    plan = pipeline.plans["posts"]
    await pipeline.fan_out.ordered(plan, only_user="00000001")  # opens the link, as the bare loop's first message
    started, cpu = time.perf_counter(), time.process_time()
    sent = await pipeline.fan_out.ordered(plan)
    result = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
    await pipeline.close()
    assert sent == users
    return result


if __name__ == "__main__":
    if len(sys.argv) > 2:
        runner = _bare if sys.argv[1] == "bare" else _ours
        sys.stdout.write(json.dumps(asyncio.run(runner(int(sys.argv[2])))) + "\n")
    else:
        sys.stdout.write(json.dumps(measure(), indent=2) + "\n")
