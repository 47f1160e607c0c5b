"""Analytics: the latest revision of each item in a typed SQL table per feed, under the views of `storage/marts`."""

from __future__ import annotations

from pipeline.bus.data import DataMessage
from pipeline.errors import RetryLater
from pipeline.subscribers.base import Services, Subscriber

NAME = "analytics"


async def handle(services: Services, message: DataMessage) -> bool:
    """Take the message's items into the feed's table, once."""
    if not services.analytics.knows(message.feed):
        raise RetryLater(f"feed {message.feed} is not enabled here, so its columns are not known")
    return await services.analytics.take(NAME, message)


SUBSCRIBER = Subscriber(name=NAME, handle=handle)
