"""What a feed is: a declaration of one kind of data. The engine reads these fields and names no feed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.errors import ConfigurationError

Raw = dict[str, Any]
"""One item as the API gave it, parsed from JSON."""


class Item(BaseModel):
    """
    The fields of an item that we promise to our readers. Unknown fields are kept in `raw`, not here.

    A feed's model declares what is validated, hashed (unless `volatile`) and published as `data`.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, strict=False, coerce_numbers_to_str=False)

    id: str


class Kind(StrEnum):
    """How a feed is traversed."""

    TIMELINE = "timeline"  # newest first by time; coverage tells what is proven
    SNAPSHOT = "snapshot"  # the whole listing each time; a finished sweep yields tombstones
    STAGED = "staged"  # create a report, wait for it, read it


class Partition(StrEnum):
    """How a page's items are split into data messages."""

    PAGE = "page"
    HOUR = "hour"
    DAY = "day"


@dataclass(frozen=True, kw_only=True)
class FromUser:
    """The scope is the user itself; its id is the user id."""


@dataclass(frozen=True, kw_only=True)
class Discovered:
    """Scopes come from a discovery call of the source: `kind` is what to discover, e.g. `page`."""

    kind: str


@dataclass(frozen=True, kw_only=True)
class ChildOf:
    """Each item of the parent feed is a scope; it is wanted anew when the parent item is new or changed."""

    feed: str


Enrich = Callable[[Raw, Mapping[str, Any]], Mapping[str, Any]]
"""A pure step: (raw item, what earlier steps and the store offer) -> fields to add to the published `data`."""


def every(*, minutes: int = 0, hours: int = 0, seconds: int = 0) -> str:
    """Give the six-field NCRONTAB expression (UTC) for a plain interval that divides its unit."""
    for value, unit in ((seconds, 60), (minutes, 60), (hours, 24)):
        if value and unit % value:
            raise ConfigurationError(f"an interval of {value} does not divide {unit}; write the NCRONTAB expression")
    if seconds:
        return f"*/{seconds} * * * * *"
    if minutes:
        return f"0 */{minutes} * * * *"
    if hours:
        return f"0 0 */{hours} * * *"
    raise ConfigurationError("every() needs an interval")


@dataclass(frozen=True, kw_only=True)
class Feed:
    """
    One kind of data.

    Times of items are whole seconds since 1970 (UTC), cut, not rounded: ties are normal. `settle` is how long an
    item may take to become visible plus clock skew; nothing younger is ever claimed as complete.
    """

    name: str
    source: str
    item: type[Item]
    path: str
    """The edge, with `{scope}` (and `{user}`) as placeholders."""
    fields: str = ""
    """What to ask the API for, in the source's own notation."""
    params: Mapping[str, str] = field(default_factory=dict)
    """Further fixed query parameters of the edge."""
    scope: FromUser | Discovered | ChildOf = field(default_factory=FromUser)
    kind: Kind = Kind.TIMELINE
    newest_first: bool = True
    pages_by_time: bool = True
    """Whether the source can list `until` an instant; without it there is one lane and no jump."""
    id_field: str = "id"
    time_field: str = "created_time"
    updated_field: str | None = "updated_time"
    volatile: tuple[str, ...] = ()
    """Declared fields that change without meaning (signed links): published, but not hashed."""
    schedule: str = "0 */15 * * * *"
    page_limit: int = 100
    settle: timedelta = timedelta(minutes=5)
    fresh_window: timedelta = timedelta(days=2)
    refresh_every: timedelta = timedelta(hours=24)
    refresh_window: timedelta = timedelta(days=7)
    sweep_every: timedelta = timedelta(0)
    """Snapshot feeds: the least time between two sweeps of one scope; zero means every tick."""
    history_start: datetime | None = None
    """Nothing older is mined; None means all. Written to the coverage row at the first opening, then never moved."""
    max_history: timedelta | None = None
    """The API keeps no older items: `history_start` is not before the first opening minus this."""
    daily: bool = False
    """Item times are whole days; windows are too."""
    partition: Partition = Partition.PAGE
    enrich: tuple[Enrich, ...] = ()
    enrich_from: tuple[str, ...] = ()
    """Feeds whose latest items of the same user and scope stand in the enrichment steps' context, by feed and id."""
    keep_latest: bool = False
    """Keep each item's latest `data` in SQL, for the enrichment of other feeds."""
    raw_data_type: str = ""
    version: int = 1
    queue: str = ""
    topic: str = ""
    parser_queue: str | None = None
    """Staged feeds: the queue that reads finished reports."""
    child_marker: tuple[str, ...] = ()
    """Raw fields whose change makes the item's own children wanted anew; empty means any change."""
    simulator_only: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,40}", self.name):
            raise ConfigurationError(f"feed name {self.name!r} must be lower-case words joined by '-'")
        defaults = {
            "queue": f"{self.name}-mining-queue",
            "topic": f"{self.name}-data-topic",
            "raw_data_type": f"USER_{self.name.upper().replace('-', '_')}",
        }
        for name, value in defaults.items():
            if not getattr(self, name):
                object.__setattr__(self, name, value)

    @property
    def schedule_setting(self) -> str:
        """The app setting that holds the schedule, e.g. `POSTS_SCHEDULE_MINER`."""
        return f"{self.name.upper().replace('-', '_')}_SCHEDULE_MINER"

    def first_history(self, now: int) -> int:
        """Give the start of history for a scope that is first opened at `now` (microseconds), as item time."""
        start = int(self.history_start.timestamp()) if self.history_start else 0
        if self.max_history is not None:
            start = max(start, now // 1_000_000 - int(self.max_history.total_seconds()))
        return start - start % 86_400 if self.daily else start
