"""Quarantine, dealt with: replay through the processor as it is now, or discard. Nothing is ever destroyed."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import NamedTuple

import orjson
from sqlalchemy.engine import Connection

from pipeline import telemetry
from pipeline.chains.protocol import Chain
from pipeline.miners.plan import Plan, Plans
from pipeline.processors.data_messages import encode
from pipeline.processors.read_items import read_item
from pipeline.storage import chains, latest, quarantine
from pipeline.storage.children import SKEW_SECONDS
from pipeline.storage.database import Database, read_now
from pipeline.storage.flush import Flusher
from pipeline.storage.quarantine import DISCARDED, Bad, Choice, Kept
from pipeline.storage.replays import ItemReplay, Replayed, replay_item, replay_message

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 100
MAX_ROWS = 10_000
"""Rows of one run; the next run goes on, for what was replayed does not wait any more."""


class Outcome(StrEnum):
    """What became of one row."""

    REPLAYED = "replayed"  # committed as a revision, or sent back to its queue
    OVERTAKEN = "overtaken"  # good now, but a later revision had come; the row is closed
    STILL_BAD = "still-bad"  # refused again; the row waits, with the new reason
    FEED_OFF = "feed-off"  # its feed is not enabled here; the row waits
    GONE = "gone"  # somebody else closed it first
    DISCARDED = "discarded"


class Done(NamedTuple):
    """One row and what became of it."""

    id: int
    outcome: Outcome
    detail: str = ""


class Quarantine:
    """Works on the rows that a choice names, one transaction each."""

    def __init__(self, database: Database, flusher: Flusher, plans: Plans) -> None:
        self._database = database
        self._flusher = flusher
        self._plans = plans

    async def find(self, choice: Choice, *, limit: int) -> list[Kept]:
        """Give rows by id."""
        return await self._database.read(quarantine.find, choice, limit=limit)

    async def replay(self, choice: Choice) -> list[Done]:
        """Replay the chosen rows that wait; running it again finds only what still waits."""
        done = []
        async for row in self._rows(choice):
            done.append(await self._replay(row))
            telemetry.count("pipeline.replayed", feed=row.key.feed, outcome=done[-1].outcome.value)
        return done

    async def discard(self, choice: Choice) -> list[Done]:
        """Close the chosen rows without using them. They stay in the table."""
        done = []
        async for row in self._rows(choice):
            closed = await self._database.write("quarantine", _discard, row.id)
            done.append(Done(row.id, Outcome.DISCARDED if closed else Outcome.GONE))
        return done

    async def _rows(self, choice: Choice) -> AsyncIterator[Kept]:
        seen = after = 0
        while seen < MAX_ROWS:
            rows = await self._database.read(quarantine.find, choice, limit=ROWS_AT_ONCE, after=after)
            for row in rows:
                yield row
            if len(rows) < ROWS_AT_ONCE:
                return
            seen, after = seen + len(rows), rows[-1].id

    async def _replay(self, row: Kept) -> Done:
        if row.kind == "message":
            return await self._sent(row, await self._database.write("replay", replay_message, row))
        plan = self._plans.get(row.key.feed)
        if plan is None:
            return Done(row.id, Outcome.FEED_OFF, row.key.feed)
        found = await self._database.read(_look, row, plan)
        outcome = read_item(plan.feed, _parsed(row.body), observed=row.observed, context=found.context)
        if isinstance(outcome, Bad):
            await self._database.write("quarantine", quarantine.note_attempt, row.id, outcome.reason, outcome.detail)
            return Done(row.id, Outcome.STILL_BAD, f"{outcome.reason}: {outcome.detail}")
        replay = ItemReplay(
            row=row,
            feed=plan.feed,
            candidate=outcome,
            encode=lambda accepted, nonce: encode(plan.feed, plan.topic, found.chain, accepted, nonce),
            children=plan.children,
            wants_children=plan.wants_children,
            skew_seconds=SKEW_SECONDS,
        )
        return await self._sent(row, await self._database.write("replay", replay_item, replay))

    async def _sent(self, row: Kept, replayed: Replayed | None) -> Done:
        if replayed is None:
            return Done(row.id, Outcome.GONE)
        await self._flusher.send(replayed.held)
        log.info("quarantine row %d replayed", row.id)
        return Done(row.id, Outcome.REPLAYED if replayed.new else Outcome.OVERTAKEN)


class _Found(NamedTuple):
    chain: Chain
    context: dict[str, dict[str, object]]


def _look(connection: Connection, row: Kept, plan: Plan) -> _Found:
    chain, _ = chains.read(connection, row.key)
    chain = chain or Chain(key=row.key, correlation_id=row.correlation_id)
    return _Found(chain, latest.context(connection, row.key, plan.feed.enrich_from) if plan.feed.enrich_from else {})


def _parsed(body: bytes) -> object:
    """Give what was kept as JSON; what is none stays text, which no feed accepts."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace")


def _discard(connection: Connection, row_id: int) -> bool:
    return quarantine.close(connection, row_id, DISCARDED, read_now(connection))
