"""`kill -9` at every hit of every failpoint, and seeded runs with several kills: nothing lost, nothing twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.crash_points.workloads import WORKLOADS

ROOT = Path(__file__).parents[3]
SEEDS = int(os.environ.get("CRASH_SEEDS", "500"))

WANTED = {
    "store.page.before", "store.page.after", "store.open.before", "store.open.after", "store.apply.before",
    "store.apply.after", "store.outbox.before", "store.outbox.after", "store.tick.before", "store.tick.after",
    "store.scopes.before", "store.scopes.after", "store.budget.before", "store.budget.after", "store.verify.before",
    "store.verify.after", "store.relay.before", "store.relay.after", "store.queues.before",
    "store.queues.after", "bus.send.before", "bus.send.after", "fan_out.send.before", "fan_out.send.after",
    "source.call.before", "source.call.after", "host.complete.before", "host.complete.after",
}  # fmt: skip


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory where there is one: hundreds of runs each write two databases."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="crash-", dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run cases, each of which the checker judges, and give the summary."""
    command = [sys.executable, "-m", "tests.integration.crash_points.run", "--folder", str(folder), *arguments]
    again = "again: " + " ".join(["python", *command[1:]])
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600, check=False)
    assert done.returncode == 0, f"{done.stderr[-3000:]}\n{again} --only N"
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    bad = summary["bad"]
    assert not bad, f"{len(bad)} of {summary['cases']} cases: {bad[:3]}\n{again} --only N"
    assert len(list(folder.glob("*.received"))) == summary["cases"]
    return summary


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", WORKLOADS)
def test_a_kill_at_any_failpoint_loses_nothing_and_repeats_nothing(name: str, folder: Path) -> None:
    """The series' code loses half of a user's history at two of these points, for ever."""
    summary = run(folder, "--workload", name)
    assert summary["killed"] == summary["cases"] == summary["hits"] > 100


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", WORKLOADS)
def test_two_to_five_kills_in_one_history_lose_nothing(name: str, folder: Path) -> None:
    """Recovery is killed as well: that is when half-done repairs show."""
    count = max(1, SEEDS // len(WORKLOADS))
    first = list(WORKLOADS).index(name) * 1_000_000
    summary = run(folder, "--workload", name, "--seeds", str(count), "--first-seed", str(first))
    assert summary["killed"] > count


@pytest.mark.timeout(300)
def test_the_workloads_pass_every_kind_of_failpoint(folder: Path) -> None:
    """A boundary that no workload crosses is a boundary that no kill has tried."""
    names: set[str] = set()
    for name in ("history", "parks"):
        place = folder / name
        place.mkdir()
        names |= set(run(place, "--workload", name, "--part", "0/100000")["names"])
    assert names >= WANTED
