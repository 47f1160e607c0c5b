"""The Graph simulator as a run sees it: its control endpoints, and the world that every case begins with."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from tests.integration.crash_points.workloads import (
    CHANGED_AT,
    START,
    TIMELESS,
    Workload,
    changes,
    first_posts,
)

TIMEOUT_SECONDS = 20
PAGE = 3
STANDING: tuple[dict[str, Any], ...] = (
    {"kind": "short_page", "edge": "posts", "items": PAGE},
    {"kind": "malformed_item", "edge": "posts", "how": "created_junk", "ids": [TIMELESS]},
)
"""In force in all cases, to their end: the API serves small pages, and one post without a time."""


def write_world(path: Path) -> None:
    """Write the file from which the simulator makes its world."""
    with path.open("w") as lines:
        for user, scope, post in first_posts():
            lines.write(json.dumps({"user": user, "scope": scope, "edge": "posts", "item": post}) + "\n")


class SimulatedGraph:
    """Opens a connection for each control call, so that a fork shares none."""

    def __init__(self, url: str, fields: str) -> None:
        self.url = url
        self.truth_url = f"{url}/__sim/truth?edge=posts&fields={quote(fields)}"
        """What the checker asks: every post as those fields show it."""

    def begin(self, workload: Workload) -> None:
        """Make the world of the beginning, with the workload's faults."""
        self._control("POST", "clock", {"now": START, "fixed": True})
        self._control("POST", "reset")
        self._control("POST", "faults", [*STANDING, *workload.faults])

    def change(self) -> None:
        """Let time come to the change, and make it, unless a worker that was killed since did so."""
        if self._control("GET", "clock")["now"] < CHANGED_AT:
            self._control("POST", "clock", {"now": CHANGED_AT, "fixed": True})
            self._control("POST", "mutate", list(changes()))

    def heal(self) -> None:
        """Lift the workload's faults."""
        self._control("DELETE", "faults")
        self._control("POST", "faults", list(STANDING))

    def tokens(self) -> dict[str, str]:
        """Give each user's token."""
        return {user["id"]: user["token"] for user in self._control("GET", "world")["users"]}

    def posts(self, scope: str) -> Iterator[dict[str, Any]]:
        """Give the posts that can be seen, as the API shows them, the newest first."""
        rows = self._ask("GET", f"{self.truth_url}&scope={scope}&items=1")["rows"]
        for row in sorted(rows, key=lambda row: (row["created"], row["id"]), reverse=True):
            if row["visible"] and not row["malformed"]:
                yield row["item"]

    def _control(self, method: str, what: str, body: Any = None) -> Any:
        return self._ask(method, f"{self.url}/__sim/{what}", body)

    def _ask(self, method: str, url: str, body: Any = None) -> Any:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_SECONDS)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, url.removeprefix(f"http://{parts.netloc}"), text)
            answer = connection.getresponse()
            found = json.loads(answer.read())
            assert answer.status == 200, found
            return found
        finally:
            connection.close()
