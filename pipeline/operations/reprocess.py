"""
`reprocess`: read the lake's raw items through the same processor again, after a feed or its model has changed.

SQL knows each item's latest revision; only the line of that revision is used, so an older one never overwrites a
newer one, and a second run finds nothing left to do.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

import orjson

from pipeline.chains.protocol import MICROS, Chain, Key, Lane
from pipeline.compression import Damaged, TooLarge, gunzip
from pipeline.errors import ConfigurationError, RetryLater
from pipeline.feeds.base import Feed
from pipeline.miners.plan import Plans
from pipeline.miners.pressure import Pressure
from pipeline.processors.data_messages import encode
from pipeline.processors.read_items import read_item
from pipeline.settings import Settings
from pipeline.storage import latest
from pipeline.storage.database import Database
from pipeline.storage.flush import Flusher
from pipeline.storage.items import Candidate
from pipeline.storage.lake import Lake
from pipeline.storage.reprocessing import Current, Redone, RedoneBad, is_latest, read_current, revise
from pipeline.times import item_time

log = logging.getLogger(__name__)

Line = dict[str, Any]


class Counts(NamedTuple):
    """What a run met and did. Counted in items, but for `objects` and `unreadable`, which are the lake's objects."""

    objects: int = 0
    unreadable: int = 0
    """Objects that are damaged or not ours; named in the log, and left as they are."""
    items: int = 0
    """Lines of the wanted time and user, tombstones left out."""
    revised: int = 0
    """Published anew, for the result differs."""
    rehashed: int = 0
    """The same is published; only the hash that recognises changes is another."""
    unchanged: int = 0
    older: int = 0
    """Lines that are not the item's latest revision, or whose item is deleted."""
    unknown: int = 0
    """Items that the database does not know: it was restored or emptied; mining brings them back."""
    quarantined: int = 0
    """Refused by the processor as it is now; the item keeps its revision."""

    def plus(self, other: Counts) -> Counts:
        """Add up."""
        return Counts(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


class Services(Protocol):
    """What a run uses; the composition root gives it."""

    @property
    def settings(self) -> Settings: ...
    @property
    def plans(self) -> Plans: ...
    @property
    def database(self) -> Database: ...
    @property
    def flusher(self) -> Flusher: ...
    @property
    def lake(self) -> Lake | None: ...


async def reprocess(pipeline: Services, feed: str, since: datetime, until: datetime, user: str | None = None) -> Counts:
    """
    Commit as new revisions what the processor makes differently today of the items from `since` to before `until`.

    Reads every object from the date of `since` on: an object is named by its newest item and may hold older ones.
    Raises ConfigurationError without a lake, RetryLater if the lake or the outbox cannot take more; what was done
    stays done, and the next run goes on.
    """
    if pipeline.lake is None:
        raise ConfigurationError("LAKE_URL is missing: there is no lake to read")
    if feed not in pipeline.plans:
        raise ConfigurationError(f"{feed!r} is not an enabled feed; enabled are {', '.join(sorted(pipeline.plans))}")
    work = _Work(pipeline, pipeline.lake, feed, int(since.timestamp()), int(until.timestamp()), user)
    total = Counts()
    async for name in pipeline.lake.names(feed, since_date=since.astimezone(UTC).strftime("%Y-%m-%d")):
        total = total.plus(await work.one_object(name))
    return total


class _Work:
    """One run."""

    def __init__(self, pipeline: Services, lake: Lake, feed: str, lo: int, hi: int, user: str | None) -> None:
        self._database, self._flusher, self._lake = pipeline.database, pipeline.flusher, lake
        self._plan = pipeline.plans[feed]
        self._pressure = Pressure(pipeline.database, pipeline.settings)
        self._lo, self._hi, self._user = lo, hi, user
        self._correlation = f"reprocess-{secrets.token_hex(6)}"

    async def one_object(self, name: str) -> Counts:
        """Work on one object; an object is one message, so its lines have one user and scope."""
        try:
            lines = _lines(await self._lake.read(name))
            chosen = [line for line in lines if self._wanted(line)]
            owners = sorted({(str(line["userId"]), str(line["scope"])) for line in chosen})
        except (OSError, Damaged, TooLarge, orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            log.warning("the lake's object %s cannot be read: %s", name, type(error).__name__)
            return Counts(objects=1, unreadable=1)
        counts = Counts(objects=1, items=len(chosen))
        for user_id, scope in owners:
            mine = [line for line in chosen if (line["userId"], line["scope"]) == (user_id, scope)]
            counts = counts.plus(await self._owner(Key(user_id, self._plan.feed.name, scope, Lane.BACKFILL), mine))
        return counts

    def _wanted(self, line: Line) -> bool:
        if line["op"] == "delete" or (self._user is not None and line["userId"] != self._user):
            return False
        moment = item_time(line["sourceTime"])
        return moment is not None and self._lo <= moment < self._hi

    async def _owner(self, key: Key, lines: list[Line]) -> Counts:
        feed = self._plan.feed
        wanted = [line["id"] for line in lines]
        current = await self._database.read(read_current, key, wanted)
        fresh = [line for line in lines if is_latest(current, line["id"], line["revision"])]
        unknown = sum(line["id"] not in current for line in lines)
        counts = Counts(unknown=unknown, older=len(lines) - len(fresh) - unknown)
        if not fresh:
            return counts
        context = await self._database.read(latest.context, key, feed.enrich_from) if feed.enrich_from else {}
        redone, bad = _redo(feed, fresh, context)
        differing = [one for one in redone if _differs(one, current)]
        if not differing and not bad:
            return counts._replace(unchanged=len(fresh))
        if reason := await self._pressure.reason():
            raise RetryLater(f"no further revisions now: {reason}; run it again later")
        chain = Chain(key=key, correlation_id=self._correlation)
        written = await self._database.write(
            "reprocess",
            revise,
            key,
            feed,
            differing,
            bad,
            lambda accepted, nonce: encode(feed, self._plan.topic, chain, accepted, nonce),
        )
        await self._flusher.send(written.held)
        done = written.revised + written.rehashed + written.quarantined
        overtaken = len(differing) + len(bad) - done
        return counts._replace(
            revised=written.revised,
            rehashed=written.rehashed,
            quarantined=written.quarantined,
            older=counts.older + overtaken,
            unchanged=len(fresh) - len(differing) - len(bad),
        )


def _redo(feed: Feed, lines: Sequence[Line], context: Mapping[str, Any]) -> tuple[list[Redone], list[RedoneBad]]:
    """Run the processor over lines. An item without a time of its own keeps the time that it was observed at."""
    redone: list[Redone] = []
    bad: list[RedoneBad] = []
    for line in lines:
        observed = (item_time(line["sourceTime"]) or 0) * MICROS
        outcome = read_item(feed, line["raw"], observed=observed, context=context)
        if isinstance(outcome, Candidate) and outcome.id == line["id"]:
            same = bool(orjson.loads(outcome.data) == line["data"])
            redone.append(Redone(line["revision"], outcome, same))
        elif isinstance(outcome, Candidate):
            log.warning("feed %s gives an item another id than before; it is left as it is", feed.name)
        else:
            bad.append(RedoneBad(line["revision"], line["id"], outcome))
    return redone, bad


def _differs(one: Redone, current: Mapping[str, Current]) -> bool:
    return not one.same_data or one.item.hash != current[one.item.id].hash


def _lines(body: bytes) -> list[Line]:
    return [orjson.loads(line) for line in gunzip(body).splitlines() if line]
