"""A namespace on a clock that stands still."""

import pytest

from infra.local.servicebus import Config, ManualClock, Properties, QueueConfig, SubscriptionConfig, TopicConfig
from infra.local.servicebus.entities import Queue, Topic
from infra.local.servicebus.message import Message
from infra.local.servicebus.namespace import Namespace
from infra.local.servicebus.sections import parse_message

MINUTE = 60_000


class Taker:
    """A receiver with as much credit as a test gives it."""

    def __init__(self, credit: int = 1000, *, locks: bool = True) -> None:
        self.credit = credit
        self.locks = locks
        self.got: list[Message] = []

    def hungry(self) -> bool:
        return self.credit > 0

    def deliver(self, message: Message) -> None:
        self.credit -= 1
        self.got.append(message)

    @property
    def last_lock(self) -> bytes:
        lock = self.got[-1].lock
        assert lock is not None
        return lock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def namespace(clock: ManualClock) -> Namespace:
    queues = (
        QueueConfig("work", Properties(max_delivery_count=3)),
        QueueConfig("short", Properties(time_to_live=5 * MINUTE, dead_letter_on_expiry=True)),
        QueueConfig("once", Properties(duplicate_detection=True, duplicate_window=5 * MINUTE)),
        QueueConfig("sink"),
        *(QueueConfig(f"hop{n}", Properties(forward_to=f"hop{n + 1}")) for n in range(6)),
        QueueConfig("hop6"),
        QueueConfig("morgue", Properties(forward_dead_letters_to="sink", max_delivery_count=1)),
    )
    forwarding = SubscriptionConfig("forwarding", Properties(forward_to="sink"))
    topic = TopicConfig("news", Properties(), (SubscriptionConfig("all"), forwarding))
    return Namespace(Config(queues, (topic,), relaxed=True), clock)


@pytest.fixture
def work(namespace: Namespace) -> Queue:
    return namespace.queues["work"]


@pytest.fixture
def news(namespace: Namespace) -> Topic:
    return namespace.topics["news"]


def message(message_id: str = "m", *, body: bytes = b"body", ttl: int | None = None, due: int = 0) -> Message:
    """Make a message with an id and a body."""
    made = parse_message(b"\x00\x53\x75\xa0" + bytes((len(body),)) + body)
    made.id = message_id
    made.ttl = ttl
    made.due = due
    return made
