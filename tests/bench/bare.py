"""
The bare loop that everything is measured against: no queue, no revisions, no recovery.

httpx with a pool of 8, 8 workers, orjson; per page one transaction with 100 raw rows and the cursor; SQLite with WAL
and synchronous NORMAL. Run as a process of its own: `python -m tests.bench.bare BASE_URL DATABASE`; prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sqlite3
import sys
import time
from typing import Any

import httpx
import orjson

WORKERS = 8
FIELDS = (
    "id,created_time,updated_time,message,story,permalink_url,status_type,from,shares,"
    "comments.limit(0).summary(true),reactions.limit(0).summary(true)"
)


async def mine(base: str, database: str) -> dict[str, Any]:
    """Page all posts of all users into one table; gives records, seconds and CPU seconds."""
    connection = sqlite3.connect(database, isolation_level=None)
    for statement in (
        "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=NORMAL",
        "CREATE TABLE items (id TEXT PRIMARY KEY, raw BLOB)",
        "CREATE TABLE cursors (scope TEXT PRIMARY KEY, after TEXT)",
    ):
        connection.execute(statement)
    limits = httpx.Limits(max_connections=WORKERS, max_keepalive_connections=WORKERS)
    async with httpx.AsyncClient(base_url=base, limits=limits, timeout=30) as client:
        world = (await client.get("/__sim/world")).json()
        pages = [(page["id"], user["token"]) for user in world["users"] for page in user["pages"]]
        queue = asyncio.Queue[tuple[str, str]]()
        for page in pages:
            queue.put_nowait(page)
        started, cpu = time.perf_counter(), _cpu()
        counts = await asyncio.gather(*(_worker(client, connection, queue) for _ in range(WORKERS)))
        seconds, cpu = time.perf_counter() - started, _cpu() - cpu
    return {"records": sum(counts), "seconds": seconds, "cpu": cpu}


async def _worker(client: httpx.AsyncClient, connection: sqlite3.Connection, queue: asyncio.Queue[Any]) -> int:
    count = 0
    while not queue.empty():
        scope, token = queue.get_nowait()
        after: str | None = None
        while True:
            parameters = {"limit": "100", "fields": FIELDS} | ({"after": after} if after else {})
            answer = await client.get(
                f"/v26.0/{scope}/published_posts",
                params=parameters,
                headers={"Authorization": f"Bearer {token}"},
            )
            page = orjson.loads(answer.content)
            items = page["data"]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT OR IGNORE INTO items VALUES (?, ?)", [(item["id"], orjson.dumps(item)) for item in items]
            )
            after = page["paging"]["cursors"]["after"] if "next" in page.get("paging", {}) else None
            connection.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (scope, after))
            connection.execute("COMMIT")
            count += len(items)
            if after is None:
                break
    return count


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(mine(sys.argv[1], sys.argv[2]))) + "\n")
