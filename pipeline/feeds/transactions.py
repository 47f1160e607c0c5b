"""Transactions of a user, from the generic REST source: page numbers, integer ids, no time of change."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

from pipeline.feeds.base import Feed, Item

Text = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)]


class Transaction(Item):
    """One payment."""

    id: Text
    created_at: str
    amount: float
    currency: str
    fan_id: Text = ""
    type: str = ""


FEED = Feed(
    name="transactions",
    source="rest",
    item=Transaction,
    path="/users/{user}/transactions",
    pages_by_time=False,
    time_field="created_at",
    updated_field=None,
    page_limit=50,
    schedule="0 5 */4 * * *",
)
