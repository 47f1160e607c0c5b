"""Ads of an ad account: a listing without promised order, swept whole; what is gone becomes a tombstone."""

from __future__ import annotations

from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from pipeline.feeds.base import Discovered, Feed, Item, Kind


class Creative(TypedDict):
    """What the ad shows."""

    id: str


class Ad(Item):
    """One ad."""

    name: str = ""
    account_id: str = ""
    campaign_id: str = ""
    adset_id: str = ""
    status: str = ""
    effective_status: str = ""
    creative: Creative | None = None
    created_time: str = ""
    updated_time: str | None = None


FEED = Feed(
    name="ads",
    source="graph",
    item=Ad,
    path="/{scope}/ads",
    fields="id,name,account_id,campaign_id,adset_id,status,effective_status,creative{id},created_time,updated_time",
    scope=Discovered(kind="ad-account"),
    kind=Kind.SNAPSHOT,
    newest_first=False,
    pages_by_time=False,
    schedule="0 0 */4 * * *",
    topic="ads-mining-topic",
)
