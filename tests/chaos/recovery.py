"""From a kill to the next commit of each chain that was in motion; read from the chains' own rows."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from typing import Any

from tests.chaos.scene import Scene

POLL_SECONDS = 0.4
Chain = tuple[str, str, str, str]
MICROS = 1_000_000


class Recovery:
    """Watches while the block of the run lasts. A chain killed twice before it moves counts from the first kill."""

    def __init__(self, scene: Scene) -> None:
        self.seconds: dict[str, list[float]] = {"worker": [], "host": []}
        self._scene = scene
        self._waiting: dict[Chain, tuple[str, float]] = {}
        self._kills = 0

    async def watch(self) -> None:
        """Watch until cancelled."""
        while True:
            self._note_kills()
            now = await asyncio.to_thread(self._chains)
            self._note_commits(now)
            await asyncio.sleep(POLL_SECONDS)

    def _chains(self) -> dict[Chain, tuple[float, str]]:
        rows = self._scene.rows(
            "SELECT user_id, feed, scope, lane, committed_at, state FROM chains WHERE committed_at > 0"
        )
        return {(user, feed, scope, lane): (at / MICROS, state) for user, feed, scope, lane, at, state in rows}

    def _note_kills(self) -> None:
        kills = self._scene.kills
        for what, at, chains in kills[self._kills :]:
            for user, feed, scope, lane in chains:
                self._waiting.setdefault((user, feed, scope, lane), (what, at))
        self._kills = len(kills)

    def _note_commits(self, now: dict[Chain, tuple[float, str]]) -> None:
        for chain, (what, at) in list(self._waiting.items()):
            committed, state = now.get(chain, (0.0, "open"))
            if committed > at:
                self.seconds[what].append(committed - at)
                del self._waiting[chain]
            elif state in ("parked", "halted"):
                del self._waiting[chain]  # parked or halted by another fault: its wait is not a recovery

    def report(self) -> dict[str, Any]:
        """Give p50, p99 and the largest, in seconds, by what was killed."""
        return {what: _summary(values) for what, values in self.seconds.items()} | {"unfinished": len(self._waiting)}


def _summary(values: Sequence[float]) -> dict[str, float | int]:
    if not values:
        return {"chains": 0}
    ordered = sorted(values)
    return {
        "chains": len(ordered),
        "p50": round(statistics.median(ordered), 2),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 2),
        "max": round(ordered[-1], 2),
    }
