"""Reads a whole listing through a source as a miner does, with its waits, and nothing else of a miner."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.sources.base import Fault, FaultKind, Page, PageRequest, Pending, Position, Source
from pipeline.times import item_time

MAX_STEPS = 2_000
"""No listing here needs more; a collector that goes on treads on the spot."""

PARKED = (FaultKind.THROTTLED, FaultKind.TRANSIENT)


@dataclass
class Collected:
    """What came, and what it took."""

    items: list[Any] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    calls: int = 0
    pages: int = 0

    def ids(self, id_field: str) -> set[str]:
        """The ids of the items that have one."""
        return {str(item[id_field]) for item in self.items if isinstance(item, dict) and item.get(id_field)}


async def nothing(step: int) -> None:
    """Let the world be."""


async def collect(
    source: Source, asked: PageRequest, *, before: Callable[[int], Awaitable[None]] = nothing
) -> Collected:
    """
    Follow a listing or a report to its end, calling `before` ahead of each fetch.

    A park is a sleep here: simulated minutes are short.
    """
    found = Collected()
    sought = False
    for step in range(MAX_STEPS):
        await before(step)
        answer = await source.fetch(asked)
        held_until = time.monotonic() + answer.wait if isinstance(answer, Fault) else 0.0
        found.calls += answer.calls
        if isinstance(answer, Page):
            found.pages += 1
            found.items += answer.items
            if answer.cursor is None:
                return found
            sought = False
            asked = replace(asked, cursor=answer.cursor, until=None, after=_position(asked, answer))
            continue
        if isinstance(answer, Pending):
            await asyncio.sleep(answer.wait)
            asked = replace(asked, cursor=answer.cursor, now=int(time.time() * 1_000_000))
            continue
        assert isinstance(answer, Fault)
        found.faults.append(answer)
        if answer.kind is FaultKind.THROTTLED and answer.calls and answer.code != "budget":
            assert answer.wait > 0, "a throttle without a wait is asked again at once"
            again = await source.fetch(asked)  # as another chain of the same user would, which knows of no wait
            assert (type(again), again.calls) == (Fault, 0) or time.monotonic() >= held_until
        if answer.kind in PARKED:
            await asyncio.sleep(answer.wait)
        elif answer.kind is FaultKind.INVALID_CURSOR:
            back = None if sought else source.reseek(asked)
            sought = True
            asked = back or replace(asked, cursor=None, until=None, after=None)
        else:
            raise AssertionError(f"a passing fault became {answer}")
    raise AssertionError(f"no end after {MAX_STEPS} steps; the last faults were {found.faults[-3:]}")


def _position(asked: PageRequest, page: Page) -> Position | None:
    """The lowest position so far: an item out of place must not raise it."""
    for item in reversed(page.items):
        moment = item_time(item.get(asked.feed.time_field)) if isinstance(item, dict) else None
        if moment is not None and item.get(asked.feed.id_field):
            here = Position(moment, str(item[asked.feed.id_field]))
            return here if asked.after is None or here.time <= asked.after.time else asked.after
    return asked.after
