"""
Posts from doorbell to topic, as a share of the bare loop in the same run.

CPU is that of the worker processes; host, emulator and simulator are printed apart. Three alternating runs, medians;
void if the bare loop is below 20,000 records per CPU second.
"""

from __future__ import annotations

import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench import stack as stacks
from tests.bench.bare import FIELDS
from tests.bench.stack import ROOT, Stack, cpu_of, graph, rss_mib, stack

USERS, POSTS = 50, 2000
RUNS = 3
BARE_FLOOR = 20_000
DEADLINE_SECONDS = 180


def measure(*, users: int = USERS, posts: int = POSTS, runs: int = RUNS) -> dict[str, Any]:
    """Give records per CPU second of both, their ratio, API calls per needed page and bus operations."""
    with tempfile.TemporaryDirectory() as folder:
        world = (
            "--users",
            str(users),
            "--posts",
            str(posts),
            "--post-bytes",
            "1024",
            "--spread",
            f"{posts}m",
            "--prebuild",
            FIELDS,
        )

        with graph(Path(folder), *world) as base:
            bare, ours, both = [], [], []
            for run in range(runs):
                bare.append(_bare(Path(folder), base, run))
                ours.append(mined(Path(folder) / f"ours{run}", base, users * posts, subscribers=False))
                both.append(mined(Path(folder) / f"both{run}", base, users * posts, subscribers=True))
    rate = statistics.median(one["records"] / one["cpu"] for one in bare)
    return {
        "records": users * posts,
        "bare_records_per_cpu_second": round(rate),
        "void": rate < BARE_FLOOR,
        "doorbell_to_topic": _against(ours, rate, goal=0.6, floor=0.45),
        "with_two_subscribers": _against(both, rate, goal=0.3, floor=0.2),
        "runs": {"bare": bare, "ours": ours, "with_subscribers": both},
    }


def _against(runs: list[dict[str, Any]], bare: float, *, goal: float, floor: float) -> dict[str, Any]:
    shares = [one["records"] / one["worker_cpu"] / bare for one in runs]
    return {
        "share_of_bare": round(statistics.median(shares), 3),
        "spread": [round(min(shares), 3), round(max(shares), 3)],
        "goal": goal,
        "floor": floor,
        "calls_per_needed_page": round(statistics.median(one["calls_per_page"] for one in runs), 3),
        "bus_operations_per_1000_items": runs[-1]["operations_per_1000_items"],
    }


def _bare(folder: Path, base: str, run: int) -> dict[str, Any]:
    database = folder / f"bare{run}.db"
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.bare", base, str(database)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def mined(folder: Path, base: str, records: int, *, subscribers: bool) -> dict[str, Any]:
    folder.mkdir()
    functions = "" if subscribers else "posts_miner,relay,watchdog"
    with stack(folder, base, subscribers=subscribers, functions=functions) as box:
        _until_warm(box)
        box.post(f"{base}/__sim/reset?what=calls")
        before = _costs(box, folder)
        started = time.perf_counter()
        box.pipeline("mine", "posts")
        _until_done(folder, box, records, subscribers=subscribers)
        seconds = time.perf_counter() - started
        after = _costs(box, folder)
        calls = box.get(f"{base}/__sim/calls")
        operations = box.get(f"{box.control}/emulator/operations")
        memory = [rss_mib(pid) for pid in stacks.children_of(box.host_pid)]
    return {
        "records": records,
        "seconds": round(seconds, 2),
        "worker_cpu": after["worker"] - before["worker"],
        "host_cpu": after["host"] - before["host"],
        "worker_mib": [round(one) for one in memory],
        "calls_per_page": _listing_calls(calls) / (records / 100),
        "operations_per_1000_items": _per_kind(operations, records),
    }


def _costs(box: Stack, folder: Path) -> dict[str, float]:
    return {"worker": box.worker_cpu(), "host": cpu_of(box.host_pid)}


def _until_warm(box: Stack) -> None:
    time.sleep(2.0)  # the host opens its links
    box.invoke("relay")  # the worker imports: the start's cost, not a page's
    time.sleep(2.0)


def _until_done(folder: Path, box: Stack, records: int, *, subscribers: bool) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if _items_in(folder / "pipeline.db") >= records and _idle(box):
            return
        time.sleep(0.2)
    raise RuntimeError(f"not done after {DEADLINE_SECONDS} s: {_items_in(folder / 'pipeline.db')} of {records}")


def _items_in(database: Path) -> int:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        items = connection.execute("SELECT coalesce(sum(total_new), 0) FROM chains").fetchone()[0]
        unsent = connection.execute("SELECT count(*) FROM outbox WHERE sent_at IS NULL").fetchone()[0]
        running = connection.execute("SELECT count(*) FROM chains WHERE state IN ('open', 'parked')").fetchone()[0]
    return 0 if unsent or running else int(items)


def _idle(box: Stack) -> bool:
    entities = box.get(f"{box.control}/emulator/entities")
    return not any(one["active"] or one["locked"] for one in entities["queues"].values())


def _listing_calls(calls: dict[str, Any]) -> int:
    return int(sum(count for edge, count in calls["by_edge"].items() if edge in ("posts", "published_posts")))


def _per_kind(operations: dict[str, Any], records: int) -> dict[str, float]:
    kinds = operations.get("kinds", operations)
    counts = {kind: count for kind, count in kinds.items() if isinstance(count, int)}
    return {kind: round(count / records * 1000, 2) for kind, count in counts.items()} | {
        "total": round(sum(counts.values()) / records * 1000, 2)
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(runs=int(sys.argv[1]) if len(sys.argv) > 1 else RUNS), indent=2) + "\n")
