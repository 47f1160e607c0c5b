"""Clicks and costs per ad and day, from reports that the API prepares; the last 28 days change and are read again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import model_validator

from pipeline.feeds.base import Discovered, Feed, Item, Kind


class AdClicks(Item):
    """One ad on one day. The API writes numbers as text and leaves out what is zero."""

    ad_id: str
    date_start: str
    account_id: str = ""
    campaign_id: str = ""
    adset_id: str = ""
    ad_name: str = ""
    impressions: int = 0
    clicks: int = 0
    spend: float = 0.0
    ctr: float = 0.0
    cpc: float = 0.0

    @model_validator(mode="before")
    @classmethod
    def _name_row(cls, raw: Any) -> Any:
        """A report's row has no id of its own: it is the ad and the day."""
        if isinstance(raw, dict) and isinstance(raw.get("ad_id"), str) and isinstance(raw.get("date_start"), str):
            return {**raw, "id": f"{raw['ad_id']}:{raw['date_start']}"}
        return raw


FEED = Feed(
    name="ads-clicks",
    source="graph",
    item=AdClicks,
    path="/{scope}/insights",
    fields="account_id,campaign_id,adset_id,ad_id,ad_name,date_start,date_stop,impressions,clicks,spend,ctr,cpc",
    params={"level": "ad", "time_increment": "1"},
    scope=Discovered(kind="ad-account"),
    kind=Kind.STAGED,
    newest_first=False,
    pages_by_time=False,
    daily=True,
    time_field="date_start",
    updated_field=None,
    max_history=timedelta(days=36 * 30),
    refresh_window=timedelta(days=28),
    schedule="0 15 */6 * * *",
    parser_queue="ads-clicks-parser-queue",
)
