"""The latest `data` of items of feeds that others are enriched from, e.g. profiles. Written with the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.chains.protocol import Key
from pipeline.storage.items import Accepted
from pipeline.storage.tables import latest

MAX_CONTEXT_ITEMS = 50
"""Items of one feed that a context holds; a scope has one profile."""


def keep(connection: Connection, key: Key, accepted: Sequence[Accepted]) -> None:
    """Replace the latest data of accepted items; a deleted one is dropped."""
    for one in accepted:
        mine = sa.and_(
            latest.c.user_id == key.user_id,
            latest.c.feed == key.feed,
            latest.c.scope == key.scope,
            latest.c.item_id == one.item.id,
        )
        connection.execute(sa.delete(latest).where(mine))
        if not one.item.deleted:
            values = {"item_id": one.item.id, "revision": one.revision, "data": one.item.data.decode()}
            connection.execute(
                sa.insert(latest), {"user_id": key.user_id, "feed": key.feed, "scope": key.scope, **values}
            )


def context(connection: Connection, key: Key, feeds: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read what enrichment steps may use: by feed, by item id. Empty when nothing was mined yet."""
    found: dict[str, dict[str, Any]] = {feed: {} for feed in feeds}
    if not feeds:
        return found
    rows = connection.execute(
        sa.select(latest.c.feed, latest.c.item_id, latest.c.data)
        .where(latest.c.user_id == key.user_id, latest.c.scope == key.scope, latest.c.feed.in_(list(feeds)))
        .limit(MAX_CONTEXT_ITEMS)
    )
    for row in rows:
        found[row.feed][row.item_id] = orjson.loads(row.data)
    return found
