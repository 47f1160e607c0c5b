"""
The worlds: what is in them and which faults may come, how often.

One unit of world time is 60 s: the lock, `settle`, and the spacing of items. A budget says how often an event may come
in one run; what is not named never comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

FAULTS: Mapping[str, int] = {
    "new": 2, "late": 1, "delete": 1, "edit": 1, "crash": 2, "lose_lock": 2, "purge": 1, "throttle": 1, "tick": 4,
    "watchdog": 2, "flush_cache": 1, "time": 6, "relay": 2, "unknown": 1, "refuse": 1, "lost_ack": 1, "early": 0,
}  # fmt: skip


def only(**budget: int) -> Mapping[str, int]:
    """Give a budget of these events alone."""
    return budget


def faults(**changed: int) -> Mapping[str, int]:
    """Give the ordinary mixture with some budgets changed."""
    return {**FAULTS, **changed}


@dataclass(frozen=True, kw_only=True, eq=False)
class Config:
    """One world. Times are in units of 60 s."""

    users: int = 1
    workers: int = 2
    items: tuple[int, ...] = (1, 2, 2, 3, 5, 5)
    hidden: tuple[int, ...] = (2, 3)
    """Items that the API filters out of its pages: they leave short and empty pages with a `next`."""
    stored: int = 0
    """How many of the newest items a live event has stored before, with no coverage."""
    parents: tuple[int, ...] = ()
    """Items with replies."""
    poison: tuple[int, ...] = ()
    """Items whose page kills its worker until somebody cures it."""
    now: int = 6
    page: int = 2
    pages_per_message: int = 2
    max_deliveries: int = 3
    fresh: int = 3
    refresh_every: int = 10_000
    refresh_window: int = 1_000
    by_time: bool = True
    events: Mapping[str, int] = field(default_factory=lambda: FAULTS)
    cache: bool = True
    tick_every: int = 1
    """Ticks of the healing come this many units apart."""
    watchdog: bool = True
    """Whether the watchdog runs while healing; without it redelivery alone must do."""
    eager_watchdog: bool = True
    """Whether the watchdog of the faulty phase rings whatever was silent for a moment."""
    most_wasted: int | None = None
    """API calls beyond one per committed page that are allowed, besides one per copy."""
    most_calls: int | None = None
    most_reads: int | None = None
    """Items that may be read by id because a refresh did not meet them."""
    one_ring: bool = False
    """While healing, one re-ring per chain must do."""
    covered: bool = True
    """Whether the whole history must be covered in the end."""
    final_content: bool = False
    """Whether the last content must be the truth's: the refresh lane looks at everything again."""
    steps: tuple[int, int] = (30, 250)


CONFIGS: dict[str, Config] = {
    "faults": Config(),
    "two_users": Config(
        users=2, workers=4, items=(1, 3, 3, 5), hidden=(), events=faults(tick=6, crash=3, lose_lock=3, new=3, time=8)
    ),
    "ties": Config(items=(2, 2, 2, 2, 4), hidden=(1,), events=faults(delete=3, new=3, late=2)),
    "one_page": Config(pages_per_message=1),
    "four_pages": Config(pages_per_message=4, workers=4),
    # Many lost locks and nothing else: up to four deliveries of one doorbell at once. At most one call is wasted per
    # lost lock and per copy, and no watchdog may be needed.
    "twins": Config(
        watchdog=False, pages_per_message=4, workers=4, max_deliveries=30, items=tuple(range(1, 9)), now=9, hidden=(),
        fresh=20, most_wasted=4, events=only(tick=2, lose_lock=4, time=3),
    ),
    "twins_crash": Config(
        watchdog=False, pages_per_message=2, workers=4, max_deliveries=30, items=(1, 2, 3, 4), now=6, hidden=(),
        fresh=20, events=only(tick=2, lose_lock=3, crash=2, time=3), steps=(15, 120),
    ),
    # Windows of one and five units; chains parked for longer than the window.
    "narrow": Config(
        fresh=1, items=(1, 2, 2, 3, 5, 5, 6, 7), now=8, refresh_every=3, refresh_window=4,
        events=faults(tick=8, throttle=3, time=10, new=3),
    ),
    "wide": Config(
        fresh=5, items=(1, 2, 2, 3, 5, 5, 6, 7, 9, 9), now=11, refresh_every=3, refresh_window=3,
        events=faults(tick=8, throttle=3, time=14, new=3),
    ),
    # The fresh window is shorter than the ticks' interval: each tick leaves a new hole.
    "starve": Config(fresh=1, tick_every=3, events=faults(time=8)),
    # A source that cannot page by time: one lane, no jump, re-seek from the top.
    "no_time": Config(by_time=False, events=faults(delete=3, tick=5, throttle=2)),
    # Parked again and again at one page, early doorbells, no watchdog.
    "parks": Config(
        watchdog=False, max_deliveries=30, fresh=99,
        events=only(tick=3, throttle=5, lose_lock=2, crash=1, time=8, early=2),
    ),
    # Purged messages: after the faults ONE re-ring per chain must do.
    "one_ring": Config(
        one_ring=True, max_deliveries=3, pages_per_message=3, workers=3, fresh=99,
        events=only(tick=2, lose_lock=6, crash=3, purge=3, throttle=2, time=6, early=1),
    ),
    # A page that kills its worker until somebody cures it.
    "poison": Config(
        poison=(2,), hidden=(), fresh=4, events=faults(watchdog=8, crash=1, cure=1, tick=6, time=12),
    ),
    "children": Config(
        parents=(0, 4), hidden=(), items=(1, 2, 2, 3, 5), refresh_every=4, cache=False,
        events=faults(reply=4, late_reply=4, early=2, tick=6, watchdog=3, time=10, delete=0),
    ),
    "children_early": Config(
        parents=(0,), hidden=(), items=(1, 2), refresh_every=2, fresh=99, cache=False,
        events=only(reply=3, late_reply=5, early=6, tick=6, time=12),
    ),
    # The newest items are stored already, by a live event, and prove nothing.
    "live_first": Config(items=tuple(range(1, 9)), stored=5, now=10, hidden=(), fresh=99, events=faults(purge=2)),
    "live_first_page": Config(items=tuple(range(1, 9)), stored=2, now=10, hidden=(), fresh=4),
    "live_first_all_but_one": Config(items=tuple(range(1, 9)), stored=7, now=10, hidden=(), fresh=3),
    # No fault at all, several ticks, no watchdog: no call is wasted, and nothing needs the watchdog.
    "no_faults": Config(watchdog=False, most_wasted=0, workers=3, fresh=99, events=only(tick=5, new=2, time=6)),
    # One lost lock and one crash: redelivery alone must heal.
    "redeliver": Config(
        watchdog=False, max_deliveries=30, events=only(tick=3, crash=1, lose_lock=1, time=3, unknown=1, refuse=1)
    ),
    # Deletions only: calls stay near the pages, plus one per deletion and one per later tick.
    "deletes": Config(
        items=tuple(range(1, 25)), hidden=(), now=25, workers=1, fresh=99, covered=False, cache=False,
        events=only(tick=1, delete=3), most_calls=30,
    ),
    # The refresh lane meets everything again; what it has met it need not read by id.
    "refresh": Config(
        watchdog=False, workers=3, items=(1, 2, 3, 3, 5), hidden=(), fresh=2, refresh_every=2, most_reads=0,
        events=only(tick=6, new=2, time=8, edit=2), final_content=True,
    ),
    # Edits while pages are under way; the refresh lane sees everything again, so the last content must arrive.
    "edits": Config(
        items=(1, 2, 3, 4), hidden=(), refresh_every=2, events=faults(edit=6, delete=2, tick=6, time=8),
        final_content=True,
    ),
}  # fmt: skip
