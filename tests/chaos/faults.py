"""Every kind of fault by its numbers in the model, and those that are left out, with their reason."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import NamedTuple

from tests.chaos import on_bus, on_cache, on_processes, on_sources, on_store
from tests.chaos.failpoints import Failpoints
from tests.chaos.scene import Scene

Inject = Callable[[Scene, Failpoints], Awaitable[bool]]
"""Do it; False if there was nothing to do it to, and then it is not counted."""


class Kind(NamedTuple):
    """
    One kind; `share` is how often it stands in each round of the bag.

    Workers die seldom beside the rest: one that is killed while it starts has met no other fault.
    """

    name: str
    numbers: str
    inject: Inject
    share: int = 1


def _plain(inject: Callable[[Scene], Awaitable[bool]]) -> Inject:
    async def run(scene: Scene, points: Failpoints) -> bool:
        return await inject(scene)

    return run


KINDS = (
    Kind("kill worker", "F1", _plain(on_processes.kill_worker)),
    Kind("kill host", "F1", _plain(on_processes.kill_host)),
    Kind("kill at failpoint", "F1", on_processes.kill_at_failpoint, 18),
    Kind("end worker", "F2", _plain(on_processes.term_worker)),
    Kind("end host", "F2", _plain(on_processes.term_host)),
    Kind("end at failpoint", "F2", on_processes.term_at_failpoint, 18),
    Kind("stop worker", "F3", _plain(on_processes.stop_worker)),
    Kind("stop host beyond its locks", "F3 F6 F9", _plain(on_processes.stop_host)),
    Kind("stop at failpoint beyond its locks", "F3 F9", on_processes.stop_at_failpoint, 18),
    Kind("little memory", "F4", _plain(on_processes.starve_worker)),
    Kind("expire locks", "F6 F9", _plain(on_bus.expire_locks), 16),
    Kind("deliver twice", "F7", _plain(on_bus.deliver_twice), 20),
    Kind("hold sends back", "F8", _plain(on_bus.delay_sends), 14),
    Kind("lose acknowledgement of a send", "F10", _plain(on_bus.lose_send), 12),
    Kind("lose acknowledgement of a settlement", "F6 F10", _plain(on_bus.lose_settle), 14),
    Kind("drop connections", "F11", _plain(on_bus.drop_connections), 10),
    Kind("kill bus", "F11 F13", _plain(on_bus.kill_bus)),
    Kind("refuse sends", "F12 F16", _plain(on_bus.refuse_sends), 16),
    Kind("purge a queue", "F13", _plain(on_bus.purge), 5),
    Kind("use up message ids", "F14", _plain(on_bus.use_up_ids), 10),
    Kind("dead-letter", "F15", _plain(on_bus.dead_letter), 10),
    Kind("flush redis", "F17", _plain(on_cache.flush), 8),
    Kind("kill redis", "F18", _plain(on_cache.kill), 6),
    Kind("pause redis", "F19", _plain(on_cache.pause), 6),
    Kind("stale redis", "F20", _plain(on_cache.stale), 8),
    Kind("lock the store", "F21 F24", _plain(on_store.locked)),
    Kind("lose the store at a commit", "F22 F23", on_processes.fail_at_failpoint, 16),
    Kind("slow store", "F25", _plain(on_store.slow), 8),
    Kind("throttle", "F27", _plain(on_sources.throttle), 20),
    Kind("ask for less data", "F27", _plain(on_sources.reduce), 8),
    Kind("broken answers", "F28", _plain(on_sources.broken), 28),
    Kind("broken answers of the other source", "F27 F28", _plain(on_sources.rest), 14),
    Kind("reports that fail", "F28", _plain(on_sources.reports), 10),
    Kind("dead token", "F29", _plain(on_sources.token), 5),
    Kind("strange pages", "F30", _plain(on_sources.paging), 28),
    Kind("delete behind the cursor", "F31", _plain(on_sources.delete_behind_cursor), 14),
    Kind("malformed items", "F32", _plain(on_sources.malformed), 14),
)

LEFT_OUT = {
    "F5": "two versions at once: needs a second version of the product; tests/compat and the message tests hold it",
    "F26": "disk full: a quota that only the workers meet needs a file system of its own",
    "F33": "live capture is not there yet",
    "F34": "live capture is not there yet",
    "F35": "live capture is not there yet",
    "F36": "clock skew: needs libfaketime under every process; virtual clocks hold it in tests/integration",
}


def bag(chance: Random, count: int) -> list[Kind]:
    """Give so many faults in seeded order; each round holds every kind by its share, so that none is forgotten."""
    drawn: list[Kind] = []
    once = list(KINDS)
    chance.shuffle(once)
    while len(drawn) < count:
        drawn += once
        once = [kind for kind in KINDS for _ in range(kind.share)]
        chance.shuffle(once)
    return drawn[:count]
