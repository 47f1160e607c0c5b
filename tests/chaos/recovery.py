"""From a kill to the next commit of each chain that was in motion; read from the chains' own rows."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, NamedTuple

from tests.bench.recovery import summary
from tests.chaos.scene import Scene

POLL_SECONDS = 0.4
Chain = tuple[str, str, str, str]
MICROS = 1_000_000
SLOWEST = 5


class Seen(NamedTuple):
    """A chain as it stands."""

    committed_at: float
    state: str
    rerings: int


class Found(NamedTuple):
    """A chain that moved again; `rerings` is how often the watchdog had rung it since the kill."""

    what: str
    chain: Chain
    seconds: float
    rerings: int


class Recovery:
    """Watches while the block of the run lasts. A chain killed twice before it moves counts from the first kill."""

    def __init__(self, scene: Scene) -> None:
        self.found: list[Found] = []
        self._scene = scene
        self._waiting: dict[Chain, tuple[str, float]] = {}
        self._rerings: Counter[Chain] = Counter()
        self._kills = 0

    async def watch(self) -> None:
        """Watch until cancelled."""
        while True:
            self._note_kills()
            now = await asyncio.to_thread(self._chains)
            self._note_commits(now)
            await asyncio.sleep(POLL_SECONDS)

    def _chains(self) -> dict[Chain, Seen]:
        rows = self._scene.rows("SELECT user_id, feed, scope, lane, committed_at, state, rerings FROM chains")
        return {(row[0], row[1], row[2], row[3]): Seen(row[4] / MICROS, row[5], row[6]) for row in rows}

    def _note_kills(self) -> None:
        kills = self._scene.kills
        for what, at, chains in kills[self._kills :]:
            for user, feed, scope, lane in chains:
                self._waiting.setdefault((user, feed, scope, lane), (what, at))
        self._kills = len(kills)

    def _note_commits(self, now: dict[Chain, Seen]) -> None:
        for chain, (what, at) in list(self._waiting.items()):
            seen = now.get(chain, Seen(0.0, "open", 0))
            if seen.committed_at > at:
                self.found.append(Found(what, chain, seen.committed_at - at, self._rerings.pop(chain, 0)))
                del self._waiting[chain]
            elif seen.state in ("parked", "halted"):
                del self._waiting[chain]  # parked or halted by another fault: its wait is not a recovery
                self._rerings.pop(chain, None)
            else:
                self._rerings[chain] = max(self._rerings[chain], seen.rerings)

    def report(self) -> dict[str, Any]:
        """
        Give p50, p99 and the largest, in seconds, by what was killed, and by how often the watchdog had to ring.

        Never: redelivery was enough, after whatever the queue made it wait. Once: its doorbell was lost. More often: so
        was the re-ring, and rule 9 waits twice as long each time.
        """
        slowest = sorted(self.found, key=lambda one: -one.seconds)[:SLOWEST]
        return {
            **{what: summary([one.seconds for one in self.found if one.what == what]) for what in ("worker", "host")},
            "by_rerings": {
                str(count): summary([one.seconds for one in self.found if one.rerings == count])
                for count in sorted({one.rerings for one in self.found})
            },
            "slowest": [[*one.chain, round(one.seconds), one.rerings] for one in slowest],
            "unfinished": len(self._waiting),
        }
