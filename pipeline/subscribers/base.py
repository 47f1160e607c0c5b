"""What a subscriber is: a name, and what it does with a data message."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pipeline.bus.data import DataMessage
from pipeline.errors import ConfigurationError

if TYPE_CHECKING:  # importing the app must not import SQLAlchemy or a client of Azure; the first invocation does
    from pipeline.feeds import Feeds
    from pipeline.miners.copies import Copies
    from pipeline.settings import Settings
    from pipeline.storage.analytics import Analytics
    from pipeline.storage.database import Database
    from pipeline.storage.lake import Lake


class Services(Protocol):
    """What a subscriber may use; the composition root gives it."""

    @property
    def settings(self) -> Settings: ...
    @property
    def feeds(self) -> Feeds: ...
    @property
    def database(self) -> Database: ...
    @property
    def copies(self) -> Copies: ...
    @property
    def lake(self) -> Lake | None: ...
    @property
    def analytics(self) -> Analytics: ...


Handle = Callable[[Services, DataMessage], Awaitable[bool]]


@dataclass(frozen=True, kw_only=True)
class Subscriber:
    """
    One kind of reader of all data topics.

    `handle` takes the services and a message, and gives whether the message was new to it; returning completes the
    message. It may be called again with the same message, at the same time or later, and must then change nothing:
    with `storage.inbox` in the transaction of its effect, or by an effect that is the same the second time.
    """

    name: str
    handle: Handle
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
