"""How large a run is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LOCK_SECONDS = 5

AT_A_DESK = {
    "GRAPH_MINUTE_SECONDS": "1",
    "SETTLE_SECONDS": "2",
    "TOKEN_RECHECK_SECONDS": "3",
    "API_DOWN_SECONDS": "1",
    "API_READ_SECONDS": "3",
    "API_TOTAL_SECONDS": "6",
    "BACKPRESSURE_SECONDS": "1",
    "PAGES_PER_MESSAGE": "2",
    "DEAD_LETTER_RETRY_SECONDS": "2",
    "OUTBOX_RETENTION_SECONDS": "600",
    "WATCHDOG_SCHEDULE": "*/2 * * * * *",
    "RELAY_SCHEDULE": "*/2 * * * * *",
    "SCOPES_MAX_AGE_SECONDS": "20",
    "SWEEP_EVERY_SECONDS": "20",
}
"""Minutes as seconds; the code that waits is the same."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The world, how many faults meet it, and how long it may take to recover."""

    users: int
    posts: int
    ads: int
    transactions: int
    spread_days: int = 60
    faults: int
    pause_seconds: float
    """The mean time between the beginnings of two faults."""
    together: int
    """So many faults may last at the same time."""
    people_seconds: float
    """The mean time between two things that people do."""
    order_seconds: float
    """How often somebody orders all posts anew, so that there is always something to page."""
    safety_seconds: float
    """No fault begins after so long; a slow machine gets through fewer of them."""
    liveness_seconds: float
    """When everything must be there, counted from the end of the faults."""
    settings: Mapping[str, str] = field(default_factory=dict)


SCALES = {
    "small": Scale(
        users=16, posts=300, ads=3, transactions=40,
        faults=70, pause_seconds=0.35, together=4, people_seconds=0.7, order_seconds=10,
        safety_seconds=32, liveness_seconds=120,
        settings={
            "POSTS_SCHEDULE_MINER": "*/5 * * * * *",
            "ADS_SCHEDULE_MINER": "*/10 * * * * *",
            "PROFILE_SCHEDULE_MINER": "*/10 * * * * *",
            "TRANSACTIONS_SCHEDULE_MINER": "*/10 * * * * *",
            "ADS_CLICKS_SCHEDULE_MINER": "*/15 * * * * *",
            "REFRESH_EVERY_SECONDS": "5",
        },
    ),
    "medium": Scale(
        users=40, posts=400, ads=4, transactions=60,
        faults=1500, pause_seconds=0.2, together=8, people_seconds=0.7, order_seconds=60,
        safety_seconds=420, liveness_seconds=300,
        settings={
            "POSTS_SCHEDULE_MINER": "*/15 * * * * *",
            "ADS_SCHEDULE_MINER": "*/30 * * * * *",
            "PROFILE_SCHEDULE_MINER": "*/30 * * * * *",
            "TRANSACTIONS_SCHEDULE_MINER": "*/30 * * * * *",
            "ADS_CLICKS_SCHEDULE_MINER": "0 * * * * *",
            "REFRESH_EVERY_SECONDS": "20",
        },
    ),
    "large": Scale(
        users=200, posts=800, ads=5, transactions=80,
        faults=2400, pause_seconds=0.2, together=8, people_seconds=0.7, order_seconds=120,
        safety_seconds=960, liveness_seconds=600,
        settings={
            "POSTS_SCHEDULE_MINER": "*/30 * * * * *",
            "ADS_SCHEDULE_MINER": "0 * * * * *",
            "PROFILE_SCHEDULE_MINER": "20 * * * * *",
            "TRANSACTIONS_SCHEDULE_MINER": "40 * * * * *",
            "ADS_CLICKS_SCHEDULE_MINER": "50 */2 * * * *",
            "REFRESH_EVERY_SECONDS": "60",
        },
    ),
}  # fmt: skip
