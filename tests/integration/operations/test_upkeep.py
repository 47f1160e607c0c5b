"""What the upkeep timer does."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.storage import samples
from pipeline.storage.tables import samples as table
from pipeline.storage.tables import ticks
from tests.desk import Desk


def _count(desk: Desk, counted: sa.Table) -> int:
    def read(connection: Connection, /) -> int:
        return int(connection.execute(sa.select(sa.func.count()).select_from(counted)).scalar_one())

    return desk.with_pipeline(lambda pipeline: pipeline.database.read(read))


def test_samples_are_bounded_in_number_and_age(desk: Desk):
    """Years of minutes would make the status slower every day."""
    for _ in range(3):
        desk.with_pipeline(lambda pipeline: pipeline.upkeep())
    once = _count(desk, table)
    desk.clock.advance(samples.KEEP_SECONDS + 60)

    desk.with_pipeline(lambda pipeline: pipeline.upkeep())

    assert once > 0
    assert _count(desk, table) == once


def test_records_of_old_ticks_go_and_young_ones_stay(desk: Desk):
    """Six timers every few minutes are a million rows a year."""
    desk.user("u1")
    for _ in range(2):
        desk.with_pipeline(lambda p: p.fan_out.scheduled(p.plans["posts"], p.plans["posts"].feed.schedule))
        desk.clock.advance(31 * 86_400)
    desk.with_pipeline(lambda p: p.fan_out.scheduled(p.plans["posts"], p.plans["posts"].feed.schedule))

    desk.with_pipeline(lambda pipeline: pipeline.upkeep())

    assert _count(desk, ticks) == 1
