"""The call budget shared by all instances: in Redis where there is one, else one SQL row per key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.chains.budget import hold
from pipeline.chains.protocol import MICROS
from pipeline.failpoints import failpoint
from pipeline.storage.cache import DEADLINE_SECONDS, Cache
from pipeline.storage.database import Database, read_now
from pipeline.storage.dialect import LOCK_HINT, MSSQL
from pipeline.storage.tables import budgets

if TYPE_CHECKING:
    from redis.asyncio import Redis

# Never lowers an instant that is still ahead: two answers of one moment may arrive in any order.
_RAISE = """
local held = tonumber(redis.call('GET', KEYS[1]) or '0')
local wanted = tonumber(ARGV[1])
if wanted > held then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return 0
"""


LOOK_EVERY_SECONDS = 0.2
"""How long blocks read from SQL are believed: about as long as a call is under way, during which a block by another
instance could not stop it either. What this process notes counts at once."""

MAX_BLOCKS = 10_000


class Note(Protocol):
    """What an answer said about a budget (`sources.base.UsageNote`)."""

    @property
    def key(self) -> str: ...
    @property
    def percent(self) -> float: ...
    @property
    def wait(self) -> float: ...


MAX_HELD = 50


class Hold(NamedTuple):
    """A budget that lets no call through until an instant, microseconds."""

    name: str
    until: int


class SharedBudget:
    """Implements `sources.base.Budget`. A Redis that fails falls back on SQL for that call."""

    def __init__(
        self,
        database: Database,
        cache: Cache,
        *,
        minute_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._cache = cache
        self._minute = minute_seconds
        self._clock = clock
        self._looked_at = float("-inf")
        self._until: dict[str, float] = {}
        """Blocks read from SQL, by this process's own clock."""

    async def wait(self, keys: Sequence[str]) -> float:
        """Seconds until a call under all these keys may be made; 0 when now."""
        client = self._cache.client
        if client is not None:
            try:
                return await self._wait_in_redis(client, keys)
            except Exception as error:  # noqa: BLE001 - a hint's store that fails is not the budget's end
                self._cache.fault(error)
        if self._clock() - self._looked_at >= LOOK_EVERY_SECONDS:
            self._looked_at = self._clock()
            waits = await self._database.read(_waits)
            self._until = {key: self._looked_at + wait for key, wait in waits.items()}
        latest = max((self._until.get(key, 0.0) for key in keys), default=0.0)
        return max(0.0, latest - self._clock())

    async def note(self, notes: Sequence[Note]) -> None:
        """Remember what an answer said; never lowers a block that is still running."""
        holds = {note.key: hold(note.percent, note.wait, minute_seconds=self._minute) for note in notes}
        held = {key: seconds for key, seconds in holds.items() if seconds > 0}
        if not held:
            return
        client = self._cache.client
        if client is not None:
            try:
                await self._note_in_redis(client, held)
            except Exception as error:  # noqa: BLE001 - as above
                self._cache.fault(error)
            else:
                return
        percents = {note.key: note.percent for note in notes}
        await self._database.write("budget", _note, held, percents)
        self._looked_at = float("-inf")

    async def held(self) -> list[Hold]:
        """Give what is blocked now, the longest first, at most MAX_HELD; for people."""
        found = await self._database.read(_held)
        client = self._cache.client
        if client is not None:
            try:
                found += await self._held_in_redis(client)
            except Exception as error:  # noqa: BLE001 - as above
                self._cache.fault(error)
        return sorted(found, key=lambda hold: -hold.until)[:MAX_HELD]

    async def _held_in_redis(self, client: Redis) -> list[Hold]:
        failpoint("cache.budget.before")
        async with asyncio.timeout(DEADLINE_SECONDS):
            names = []
            async for name in client.scan_iter(match=_name("*"), count=MAX_HELD):
                names.append(name.decode() if isinstance(name, bytes) else str(name))
                if len(names) >= MAX_HELD:
                    break
            values = await client.mget(names) if names else []
        holds = [
            Hold(name.removeprefix(_name("")), int(float(value) * MICROS))
            for name, value in zip(names, values, strict=True)
            if value
        ]
        return [hold for hold in holds if hold.until > time.time() * MICROS]

    async def _wait_in_redis(self, client: Redis, keys: Sequence[str]) -> float:
        failpoint("cache.budget.before")
        async with asyncio.timeout(DEADLINE_SECONDS):
            found = await client.mget([_name(key) for key in keys])
        latest = max((float(value) for value in found if value), default=0.0)
        return max(0.0, latest - time.time())

    async def _note_in_redis(self, client: Redis, held: dict[str, float]) -> None:
        failpoint("cache.budget.before")
        async with asyncio.timeout(DEADLINE_SECONDS):
            pipe = client.pipeline(transaction=False)
            for key, seconds in held.items():
                pipe.eval(_RAISE, 1, _name(key), f"{time.time() + seconds:.3f}", str(int(seconds * 1000) + 1000))
            await pipe.execute()


def _name(key: str) -> str:
    return f"budget:{key}"


def _held(connection: Connection) -> list[Hold]:
    rows = connection.execute(
        sa.select(budgets.c.name, budgets.c.not_before)
        .where(budgets.c.not_before > read_now(connection))
        .order_by(budgets.c.not_before.desc())
        .limit(MAX_HELD)
    )
    return [Hold(*row) for row in rows]


def _waits(connection: Connection) -> dict[str, float]:
    now = read_now(connection)
    rows = connection.execute(
        sa.select(budgets.c.name, budgets.c.not_before).where(budgets.c.not_before > now).limit(MAX_BLOCKS)
    )
    return {row.name: (row.not_before - now) / MICROS for row in rows}


def _note(connection: Connection, held: dict[str, float], percents: dict[str, float]) -> None:
    now = read_now(connection)
    for key, seconds in sorted(held.items()):  # in one order, so that two processes cannot lock each other out
        until = now + int(seconds * MICROS)
        row = connection.execute(
            sa.select(budgets.c.not_before).where(budgets.c.name == key).with_hint(budgets, LOCK_HINT, MSSQL)
        ).first()
        values = {"not_before": until, "percent": int(percents[key]), "updated_at": now}
        if row is None:
            connection.execute(sa.insert(budgets), {"name": key, **values})
        elif until > row.not_before:
            connection.execute(sa.update(budgets).where(budgets.c.name == key).values(**values))
