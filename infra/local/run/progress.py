"""One picture of a run, gathered once a second from what the box itself tells."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx

from infra.local.run.compare import Verdict
from infra.local.run.delivered import Lake
from infra.local.run.stack import Stack
from infra.local.run.truth import Truth


class FeedLine(NamedTuple):
    """One feed: how many of the truth's items arrived in their latest form; 0 until those asked have answered."""

    feed: str
    expected: int
    arrived: int
    pages: int = 0
    new: int = 0
    changed: int = 0
    duplicate: int = 0
    quarantined: int = 0
    working: int = 0
    parked: int = 0
    halted: int = 0
    calls: int = 0


class Queue(NamedTuple):
    """One queue of the emulator."""

    name: str
    waiting: int
    locked: int
    scheduled: int
    dead: int


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Everything that the views show."""

    seconds: float = 0.0
    phase: str = ""
    feeds: Sequence[FeedLine] = ()
    queues: Sequence[Queue] = ()
    calls: int = 0
    throttled: int = 0
    faults: Mapping[str, int] = field(default_factory=dict)
    restarts: Mapping[str, int] = field(default_factory=dict)
    lake_files: int = 0
    notes: Sequence[str] = ()
    verdict: Verdict | None = None

    @property
    def dead_letters(self) -> int:
        """How many messages ended in a dead-letter queue."""
        return sum(queue.dead for queue in self.queues)


class Watch:
    """Gathers pictures. What does not answer keeps its last numbers: it may just have been killed."""

    def __init__(self, stack: Stack, truth: Truth, lake: Lake) -> None:
        self.notes: list[str] = []
        self.phase = "starting"
        self.verdict: Verdict | None = None
        self.first_page_seconds: float | None = None
        self._stack = stack
        self._truth = truth
        self._lake = lake
        self._started = time.monotonic()
        self._verdicts: Mapping[str, Verdict] = {}
        self._status: dict[str, Any] = {}
        self._queues: list[Queue] = []
        self._calls: dict[str, Any] = {}
        self._rest: dict[str, Any] = {}

    @property
    def seconds(self) -> float:
        """The time since the run began."""
        return time.monotonic() - self._started

    def note(self, text: str) -> None:
        """Remember what happened, with its time."""
        self.notes.append(f"{self.seconds:5.1f} s  {text}")

    def judged(self, verdicts: Mapping[str, Verdict]) -> Verdict:
        """Remember how each feed stands; gives them as one."""
        self._verdicts = verdicts
        self.verdict = Verdict.together(verdicts.values())
        return self.verdict

    async def look(self) -> Picture:
        """Take a picture."""
        with contextlib.suppress(httpx.HTTPError):
            self._queues = _queues(await self._stack.bus.get("/emulator/entities"))
        with contextlib.suppress(httpx.HTTPError):
            self._calls = await self._stack.graph.get("/__sim/calls")
        if self._stack.wanted.rest is not None:
            with contextlib.suppress(httpx.HTTPError):
                self._rest = await self._stack.rest.get("/__sim/calls")
        with contextlib.suppress(httpx.HTTPError, ValueError):
            self._status = await self._stack.status()
        self._lake.look()
        if self.first_page_seconds is None and self._lake.files:
            self.first_page_seconds = self.seconds
        return self._picture()

    def _picture(self) -> Picture:
        both = (self._calls, self._rest)
        faults: dict[str, int] = {}
        for calls in both:
            for names, count in calls.get("by_fault", {}).items():
                for name in names.split(","):
                    faults[name] = faults.get(name, 0) + count
        restarts = {name: each.starts - 1 for name, each in self._stack.processes.items() if each.starts > 1}
        return Picture(
            seconds=self.seconds,
            phase=self.phase,
            feeds=self._feeds(),
            queues=self._queues,
            calls=sum(calls.get("total", 0) for calls in both),
            throttled=sum(calls.get("throttled", 0) for calls in both),
            faults=faults,
            restarts=restarts,
            lake_files=self._lake.files,
            notes=self.notes,
            verdict=self.verdict,
        )

    def _feeds(self) -> list[FeedLine]:
        told = {row["feed"]: row for row in self._status.get("feeds", ())}
        names = [feed.feed for feed in self._truth.feeds] + self._truth.unchecked
        return [self._line(name, told.get(name, {})) for name in names]

    def _line(self, feed: str, told: Mapping[str, Any]) -> FeedLine:
        judged = self._verdicts.get(feed)
        return FeedLine(
            feed=feed,
            expected=judged.expected if judged else 0,
            arrived=judged.arrived if judged else self._lake.counts.get(feed, 0),
            pages=told.get("pages", 0),
            new=told.get("items", 0),
            changed=told.get("changed", 0),
            duplicate=told.get("duplicate", 0),
            quarantined=told.get("quarantined", 0),
            working=told.get("open", 0),
            parked=told.get("parked", 0),
            halted=told.get("halted", 0),
            calls=told.get("calls", 0),
        )


def _queues(entities: Mapping[str, Any]) -> list[Queue]:
    found = [
        Queue(
            name.removesuffix("-local"),
            counts["active"],
            counts["locked"],
            counts["scheduled"],
            counts["deadLetter"] + counts["transferDeadLetter"],
        )
        for name, counts in entities["queues"].items()
    ]
    dead = sum(
        each["deadLetter"] + each["transferDeadLetter"]
        for topic in entities["topics"].values()
        for each in topic["subscriptions"].values()
    )
    return [*found, Queue("subscriptions", 0, 0, 0, dead)] if dead else found
