"""Fan out one message per active user, streamed through in bounded batches."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

import orjson
from croniter import croniter

from pipeline import telemetry
from pipeline.bus.messages import MiningMessage, Outgoing
from pipeline.bus.service_bus import Bus
from pipeline.chains import ids
from pipeline.chains.coverage import Span
from pipeline.chains.protocol import MICROS
from pipeline.errors import ConfigurationError
from pipeline.failpoints import failpoint
from pipeline.miners.plan import Plan
from pipeline.settings import Settings
from pipeline.storage import directory, leases
from pipeline.storage.database import Database
from pipeline.storage.directory import User

log = logging.getLogger(__name__)

PAGE_OF_USERS = 1000
"""Users read and sent at a time: 100,000 users never stand in memory at once."""


class Order(NamedTuple):
    """What to fan out. `occurrence` is an instant, microseconds; only a greater one opens chains anew."""

    occurrence: int
    only_user: str | None = None
    window: Span | None = None
    """Item time that a person ordered; opens the lane backfill."""


class FanOut:
    """Sends ticks."""

    def __init__(self, database: Database, bus: Bus, settings: Settings) -> None:
        self._database = database
        self._bus = bus
        self._settings = settings

    async def scheduled(self, plan: Plan, schedule: str) -> int:
        """
        Run the tick whose schedule fell due last; gives the users sent to, 0 if it had finished before.

        A run that died half-way is done again from the start: the MessageIds are the same, so nobody is rung twice.
        """
        occurrence = last_due(schedule, await self._database.now())
        if not await self._database.write("tick", leases.start_tick, plan.feed.name, occurrence):
            return 0
        users = await self.run(plan, Order(occurrence))
        await self._database.write("tick", leases.finish_tick, plan.feed.name, occurrence, users)
        return users

    async def ordered(self, plan: Plan, *, only_user: str | None = None, window: Span | None = None) -> int:
        """Fan out at once by a person's order; the occurrence is the database's time."""
        return await self.run(plan, Order(await self._database.now(), only_user, window))

    async def run(self, plan: Plan, order: Order) -> int:
        """Send one message to each active user, high priority first; gives how many."""
        total, after = 0, None
        while True:
            users = await self._database.read(
                directory.page_of_users, after=after, limit=PAGE_OF_USERS, only=order.only_user
            )
            if not users:
                break
            after = (users[-1].priority, users[-1].user_id)
            chosen = self._allowed(users)
            failpoint("fan_out.send.before")
            await self._bus.send(plan.queue, _messages(plan, order, chosen))
            failpoint("fan_out.send.after")
            total += len(chosen)
        if not total:
            log.warning("the directory has no active user for %s", plan.feed.name)
        telemetry.count("pipeline.ticks", total, feed=plan.feed.name)
        return total

    def _allowed(self, users: Iterable[User]) -> list[User]:
        allow = self._settings.allowlist
        return [user for user in users if not allow or user.user_id in allow]


def last_due(schedule: str, now: int) -> int:
    """
    Give the instant at which a six-field NCRONTAB expression (UTC) fell due last, microseconds.

    Day of month and day of week must both match, as in NCRONTAB. Raises ConfigurationError.
    """
    moment = datetime.fromtimestamp(now // MICROS + 1, UTC)
    try:
        due: datetime = croniter(schedule, moment, second_at_beginning=True, day_or=False).get_prev(datetime)
    except (ValueError, KeyError) as error:
        raise ConfigurationError(f"{schedule!r} is not a six-field NCRONTAB expression") from error
    return int(due.timestamp()) * MICROS


def _messages(plan: Plan, order: Order, users: Iterable[User]) -> list[Outgoing]:
    """Give one tick per user. The body is a MiningMessage's; what all have in common is encoded once."""
    window = order.window or (None, None)
    common = MiningMessage(
        user_id="-",
        feed=plan.feed.name,
        doorbell_id="-",
        tick=order.occurrence,
        limit=plan.feed.page_limit,
        mining_type=plan.feed.raw_data_type,
        start_date=window[0],
        end_date=window[1],
    )
    fields = orjson.loads(common.encode())
    properties = {"feed": plan.feed.name}
    messages = []
    for user in users:
        tick = ids.tick_id(plan.feed.name, user.user_id, order.occurrence)
        own = {"userId": user.user_id, "doorbellId": tick, "correlationId": tick[:16]}
        messages.append(Outgoing(plan.queue, tick, orjson.dumps(fields | own), properties))
    return messages
