"""Take one message for a subscriber: the same for all of them, so that a subscriber's file holds its effect only."""

from __future__ import annotations

import logging

from pipeline import telemetry
from pipeline.bus.data import read_data
from pipeline.bus.messages import Received
from pipeline.errors import BadMessage, NewerMessage, RetryLater
from pipeline.subscribers.base import Services, Subscriber

log = logging.getLogger(__name__)

NEWER_SECONDS = 60
"""How long a message of a newer version is put off; a rolling deployment has long ended after 30 copies."""


async def receive(subscriber: Subscriber, services: Services, received: Received) -> None:
    """
    Let a subscriber take a message; returning completes it.

    What can never be read goes to quarantine. What cannot be taken now is put off by a scheduled copy of its own
    queue. Raises only for bugs, and when not even a copy can be sent.
    """
    try:
        message = read_data(received)
        new = await subscriber.handle(services, message)
    except BadMessage as error:
        await services.copies.quarantine(received, error)
        outcome, items = "quarantined", 0
    except NewerMessage as error:
        await services.copies.put_off(received, seconds=NEWER_SECONDS, why=str(error))
        outcome, items = "put_off", 0
    except RetryLater as error:
        await services.copies.put_off_growing(received, why=str(error))
        outcome, items = "put_off", 0
    else:
        outcome, items = ("taken" if new else "known"), len(message.items)
    telemetry.count("pipeline.messages", queue=subscriber.queue, outcome=outcome)
    telemetry.count("pipeline.subscriber.items", items, subscriber=subscriber.name, outcome=outcome)
