"""The call budget shared by all instances: one SQL row per key. Redis may forget or be late: it has no part in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.chains.budget import (
    BLOCK_PERCENT,
    FREE,
    Block,
    Load,
    Said,
    blocked,
    hold,
    must_probe,
    passed,
    probing,
    slowed,
    worst,
)
from pipeline.chains.protocol import MICROS
from pipeline.storage.database import Database, read_now
from pipeline.storage.dialect import LOCK_HINT, MSSQL
from pipeline.storage.tables import budgets

LOOK_EVERY_SECONDS = 0.2
"""How long a block read from SQL is believed: about as long as a call is under way, during which a block by another
instance could not stop it either. What this process notes counts at once."""

FORGET_SECONDS = 60.0
"""What was learned longer ago is dropped; longer than any read takes, for a read must not undo a later write."""

MAX_PROBES = 10_000

MAX_HELD = 50

MAX_PERCENT = 1_000_000
"""What the column is for; headers may say anything."""


class Known(NamedTuple):
    """What this process knows of a key, by its own clock."""

    block: Block
    at: float
    """When the read began, or the write was done."""


UNKNOWN = Known(FREE, float("-inf"))


class Hold(NamedTuple):
    """A budget that lets no call through until an instant, microseconds."""

    name: str
    until: int


class SharedBudget:
    """
    Implements `sources.base.Budget`. `clock` gives seconds, and must not run faster or slower than the database's.

    The store is written when a block begins, and where the API told no end twice more: by the one call that goes to
    find out, and when it passed.
    """

    def __init__(
        self,
        database: Database,
        *,
        minute_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._minute = minute_seconds
        self._clock = clock
        self._known: dict[str, Known] = {}
        self._probes: set[str] = set()
        """The keys for which a call of this process is finding out."""

    async def wait(self, keys: Sequence[str]) -> float:
        """Seconds until a call under all these keys may be made; 0 when now, or when this call is to find out."""
        asked_at = self._clock()
        if any(asked_at - self._known.get(key, UNKNOWN).at >= LOOK_EVERY_SECONDS for key in keys):
            self._learn(await self._database.read(_blocks, keys), asked_at)
        now = self._clock()
        found = {key: self._known[key].block for key in keys}
        if wait := _longest(found, now):
            return wait
        guessed = [key for key, block in found.items() if must_probe(block, now, minute_seconds=self._minute)]
        if not guessed:
            return 0.0
        wait, mine = await self._database.write("budget", _probe, guessed, self._minute)
        self._forget(guessed)
        self._remember_probes(mine)
        return wait

    async def note(self, notes: Sequence[Said]) -> None:
        """Remember what an answer said; never lowers a block that is still running."""
        loads = {key: load for key, load in worst(notes).items() if hold(*load)}
        self._probes -= {key for key, load in loads.items() if load.percent >= BLOCK_PERCENT}
        news = {key: load for key, load in loads.items() if not self._slowed(key, load)}
        if news:
            blocks = await self._database.write("budget", _note, news, self._minute)
            self._forget(blocks)
            self._learn(blocks, self._clock())

    async def passed(self, keys: Sequence[str]) -> None:
        """Note that a call under these keys was answered; costs nothing unless this process was finding out."""
        found = [key for key in keys if key in self._probes]
        if not found:
            return
        self._probes.difference_update(found)
        await self._database.write("budget", _passed, found)
        self._forget(found)

    async def held(self) -> list[Hold]:
        """Give what is blocked now, the longest first, at most MAX_HELD; for people."""
        return await self._database.read(_held)

    def _learn(self, blocks: Mapping[str, Block], at: float) -> None:
        """Keep blocks, in seconds from now, that were read from `at` on, unless a write was done since."""
        now = self._clock()
        while self._known and now - self._known[oldest := next(iter(self._known))].at >= FORGET_SECONDS:
            del self._known[oldest]
        for key, block in blocks.items():
            if self._known.get(key, UNKNOWN).at < at:
                self._forget([key])  # so that the oldest stay first
                self._known[key] = Known(_later(block, now), at)

    def _forget(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._known.pop(key, None)

    def _slowed(self, key: str, load: Load) -> bool:
        block = self._known.get(key, UNKNOWN).block
        return slowed(block, self._clock(), load, within=LOOK_EVERY_SECONDS, minute_seconds=self._minute)

    def _remember_probes(self, keys: Iterable[str]) -> None:
        if len(self._probes) >= MAX_PROBES:
            self._probes.clear()  # of calls that never came back; their pauses are forgotten in time
        self._probes.update(keys)


def _longest(blocks: Mapping[str, Block], now: float) -> float:
    return max((block.until - now for block in blocks.values() if block.until > now), default=0.0)


def _later(block: Block, seconds: float) -> Block:
    return Block(block.until + seconds, block.since + seconds, block.pause)


def _held(connection: Connection) -> list[Hold]:
    rows = connection.execute(
        sa.select(budgets.c.name, budgets.c.not_before)
        .where(budgets.c.not_before > read_now(connection))
        .order_by(budgets.c.not_before.desc())
        .limit(MAX_HELD)
    )
    return [Hold(*row) for row in rows]


def _blocks(connection: Connection, keys: Sequence[str]) -> dict[str, Block]:
    """Give the keys' blocks, in seconds from now."""
    now = read_now(connection)
    rows = connection.execute(
        sa.select(budgets.c.name, budgets.c.not_before, budgets.c.updated_at, budgets.c.pause).where(
            budgets.c.name.in_(keys)
        )
    )
    return dict.fromkeys(keys, FREE) | {row.name: _block(row, now) for row in rows}


def _note(connection: Connection, loads: Mapping[str, Load], minute_seconds: float) -> dict[str, Block]:
    """Write what answers said; gives the blocks that are in force then, in seconds from now."""
    now = read_now(connection)
    blocks = {}
    for key, load in sorted(loads.items()):  # in one order, so that two processes cannot lock each other out
        known = _locked(connection, key, now)
        block = blocks[key] = blocked(known or FREE, 0.0, load, minute_seconds=minute_seconds)
        if block == known:
            continue
        values = {**_columns(block, now), "percent": min(int(load.percent), MAX_PERCENT)}
        if known is None:
            connection.execute(sa.insert(budgets), {"name": key, **values})
        else:
            connection.execute(sa.update(budgets).where(budgets.c.name == key).values(**values))
    return blocks


def _probe(connection: Connection, keys: Sequence[str], minute_seconds: float) -> tuple[float, list[str]]:
    """
    Take the right to find out whether blocks are over: of all keys or of none.

    Gives the seconds to wait for a call that has the right to one of them, and the keys taken.
    """
    now = read_now(connection)
    blocks = {key: _locked(connection, key, now) or FREE for key in sorted(keys)}
    if wait := _longest(blocks, 0.0):
        return wait, []
    mine = [key for key, block in blocks.items() if must_probe(block, 0.0, minute_seconds=minute_seconds)]
    for key in mine:
        values = _columns(probing(blocks[key], 0.0, minute_seconds=minute_seconds), now)
        connection.execute(sa.update(budgets).where(budgets.c.name == key).values(**values))
    return 0.0, mine


def _passed(connection: Connection, keys: Sequence[str]) -> None:
    now = read_now(connection)
    for key in sorted(keys):
        block = _locked(connection, key, now) or FREE
        if block != FREE and passed(block, 0.0) == FREE:
            values = _columns(FREE, now)
            connection.execute(sa.update(budgets).where(budgets.c.name == key).values(**values))


def _locked(connection: Connection, key: str, now: int) -> Block | None:
    row = connection.execute(
        sa.select(budgets.c.not_before, budgets.c.updated_at, budgets.c.pause)
        .where(budgets.c.name == key)
        .with_hint(budgets, LOCK_HINT, MSSQL)
    ).first()
    return None if row is None else _block(row, now)


def _block(row: Any, now: int) -> Block:
    """Read a row; seconds from now."""
    return Block((row.not_before - now) / MICROS, (row.updated_at - now) / MICROS, row.pause / MICROS)


def _columns(block: Block, now: int) -> dict[str, int]:
    return {
        "not_before": now + round(block.until * MICROS),
        "updated_at": now + round(block.since * MICROS),
        "pause": round(block.pause * MICROS),
    }
