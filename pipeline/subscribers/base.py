"""What a subscriber is: a name, and what it does with a data message."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pipeline.bus.messages import Received
from pipeline.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class Subscriber:
    """
    One kind of reader of all data topics.

    `handle` takes the pipeline's services and a message; returning completes the message. It may be called again with
    the same message, and must then change nothing.
    """

    name: str
    handle: Callable[[Any, Received], Awaitable[None]]
    feeds: tuple[str, ...] | None = None
    """The feeds it reads; None means all."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", self.name):
            raise ConfigurationError(f"subscriber name {self.name!r} must be lower-case words joined by '-'")

    @property
    def queue(self) -> str:
        """The queue that its subscriptions forward to."""
        return f"{self.name}-queue"

    def reads(self, feed: str) -> bool:
        """Whether it has a subscription on a feed's topic."""
        return self.feeds is None or feed in self.feeds
