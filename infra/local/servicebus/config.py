"""What to serve: queues, topics and subscriptions with their properties."""

from dataclasses import dataclass, field
from typing import Final

STANDARD_QUOTA_BYTES: Final = 1024 * 1024 * 1024
OFFICIAL_QUOTA_BYTES: Final = 100 * 1024 * 1024
STANDARD_CONNECTIONS: Final = 5000
OFFICIAL_CONNECTIONS: Final = 10
#: Message and batch limit of the Standard tier and of the official emulator.
MAX_MESSAGE_BYTES: Final = 256 * 1024


class ConfigError(ValueError):
    """The configuration asks for what is not served; the message names every place and value."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Properties:
    """
    The properties of an entity; times in milliseconds.

    A queue has all of them, a topic only time to live and duplicate detection, a
    subscription all but duplicate detection.
    """

    dead_letter_on_expiry: bool = False
    #: None: the entity adds no time to live of its own.
    time_to_live: int | None = None
    #: The value was given and not defaulted: only then a receiver sees it on messages that had none.
    time_to_live_given: bool = False
    duplicate_window: int = 20_000
    forward_dead_letters_to: str = ""
    forward_to: str = ""
    lock_duration: int = 60_000
    max_delivery_count: int = 3
    duplicate_detection: bool = False


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """One queue."""

    name: str
    properties: Properties = field(default_factory=Properties)


@dataclass(frozen=True, slots=True)
class SubscriptionConfig:
    """One subscription; it takes every message of its topic."""

    name: str
    properties: Properties = field(default_factory=Properties)


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """One topic with its subscriptions."""

    name: str
    properties: Properties = field(default_factory=Properties)
    subscriptions: tuple[SubscriptionConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """Everything the emulator serves at its start, and the limits it keeps."""

    queues: tuple[QueueConfig, ...] = ()
    topics: tuple[TopicConfig, ...] = ()
    #: Locks, windows and times to live outside the official bounds are allowed.
    relaxed: bool = False
    quota_bytes: int = STANDARD_QUOTA_BYTES
    max_connections: int = STANDARD_CONNECTIONS
    max_message_bytes: int = MAX_MESSAGE_BYTES
    #: With a key, tokens signed by any other are refused; without one every token is taken.
    key: str | None = None
    key_name: str = "RootManageSharedAccessKey"
    idle_timeout_seconds: float = 240.0
