"""
Bus operations as Azure bills them, for the whole history of users with many posts and of users with few.

`dense` is a post a minute, `sparse` the same posts over a year: there the newest page reaches far beyond the fresh
window. These are counts, which do not depend on the machine, so a few users are enough.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.bench.heart import mined
from tests.bench.stack import graph

USERS, POSTS = 10, 1990
SPREADS = {"dense": f"{POSTS}m", "sparse": "365d"}
GOALS = {"without_subscribers": 20, "with_two_subscribers": 80}


def measure(*, users: int = USERS, posts: int = POSTS) -> dict[str, Any]:
    """Give operations per 1,000 items by kind, of both worlds."""
    found: dict[str, Any] = {"records": users * posts, "goals": GOALS}
    for world, spread in SPREADS.items():
        with tempfile.TemporaryDirectory() as folder:
            size = ("--users", str(users), "--posts", str(posts), "--post-bytes", "1024", "--spread", spread)
            with graph(Path(folder), *size) as base:
                found[world] = {
                    name: _counted(Path(folder) / name, base, users * posts, subscribers=name == "with_two_subscribers")
                    for name in GOALS
                }
    return found


def _counted(folder: Path, base: str, records: int, *, subscribers: bool) -> dict[str, float]:
    counts: dict[str, float] = mined(folder, base, records, subscribers=subscribers)["operations_per_1000_items"]
    return counts


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(), indent=2) + "\n")
