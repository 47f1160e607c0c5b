"""The namespace: every entity by its address, and the way from one to another."""

import re
from dataclasses import dataclass
from typing import Final

from infra.local.servicebus.clock import Clock
from infra.local.servicebus.config import Config, ConfigError, Properties
from infra.local.servicebus.config_file import check_name
from infra.local.servicebus.entities import MAX_HOPS, Entity, Intake, Queue, Subscription, Topic
from infra.local.servicebus.errors import NOT_FOUND, AmqpError
from infra.local.servicebus.faults import FaultBook
from infra.local.servicebus.message import ACTIVE, Message
from infra.local.servicebus.operations import Operations

_URI: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/]*", re.IGNORECASE)
_DEAD: Final = "/$deadletterqueue"
_TRANSFER_DEAD: Final = "/$transfer/$deadletterqueue"
_MANAGEMENT: Final = "/$management"
_SUBSCRIPTIONS: Final = "/subscriptions/"

HOPS_EXCEEDED: Final = "MaxTransferHopCountExceeded"


@dataclass(frozen=True, slots=True)
class Node:
    """What an address leads to."""

    entity: Entity
    management: bool


def path_of(address: str) -> str:
    """Return an address without scheme and host; clients send both forms."""
    return _URI.sub("", address, count=1).strip("/")


class Namespace:
    """All entities. Names do not differ by case."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self.clock = clock
        self.quota_bytes = config.quota_bytes
        self.operations = Operations()
        self.faults = FaultBook()
        self.queues: dict[str, Queue] = {}
        self.topics: dict[str, Topic] = {}
        for queue in config.queues:
            self._add_queue(queue.name, queue.properties)
        for topic in config.topics:
            self._add_topic(topic.name, topic.properties)
            for subscription in topic.subscriptions:
                self._add_subscription(topic.name, subscription.name, subscription.properties)

    # ---- addresses

    def resolve(self, address: str) -> Node:
        """
        Find the entity behind a link's address.

        Raises:
            AmqpError: there is none.
        """
        path = path_of(address).lower()
        management = path.endswith(_MANAGEMENT)
        entity = self._find(path.removesuffix(_MANAGEMENT))
        if entity is None:
            raise AmqpError(NOT_FOUND, f"The messaging entity '{path_of(address)}' could not be found.")
        return Node(entity, management)

    def _find(self, path: str) -> Entity | None:
        if path.endswith(_TRANSFER_DEAD):
            queue = self._find_queue(path.removesuffix(_TRANSFER_DEAD))
            return None if queue is None else queue.transfer_dead_letters
        if path.endswith(_DEAD):
            queue = self._find_queue(path.removesuffix(_DEAD))
            return None if queue is None else queue.dead_letters
        return self._find_queue(path) or self.topics.get(path)

    def _find_queue(self, path: str) -> Queue | None:
        topic, separator, subscription = path.rpartition(_SUBSCRIPTIONS)
        if separator and topic in self.topics:
            return self.topics[topic].subscriptions.get(subscription)
        return self.queues.get(path)

    # ---- from one to another

    def forward(self, message: Message, target: str) -> str | None:
        entity: Intake | None = self.queues.get(target.lower()) or self.topics.get(target.lower())
        if message.hops >= MAX_HOPS:
            return HOPS_EXCEEDED
        if entity is None:
            return "TransferDestinationNotFound"
        if entity.used_bytes() + message.size > self.quota_bytes:
            return "TransferDestinationQuotaExceeded"
        message.hops += 1
        message.origin_sequence = message.origin_sequence or message.sequence
        message.delivery_count = 0
        message.state = ACTIVE
        message.due = 0
        entity.take(message)
        return None

    def deliver_twice(self, entity: str) -> bool:
        faults = self.faults.find(entity)
        return faults is not None and faults.take("deliver_twice")

    # ---- changes while running

    def put_queue(self, name: str, properties: Properties) -> None:
        """Create a queue, or give an existing one new properties and keep its messages."""
        check_name(name)
        self._check_targets(name, properties)
        if name.lower() in self.topics:
            raise ConfigError([f"Name: {name!r} is a topic"])
        existing = self.queues.get(name.lower())
        if existing is None:
            self._add_queue(name, properties)
        else:
            existing.reconfigure(properties)

    def put_topic(self, name: str, properties: Properties) -> None:
        """Create a topic, or give an existing one new properties and keep its subscriptions."""
        check_name(name)
        if name.lower() in self.queues:
            raise ConfigError([f"Name: {name!r} is a queue"])
        existing = self.topics.get(name.lower())
        if existing is None:
            self._add_topic(name, properties)
        else:
            existing.reconfigure(properties)

    def put_subscription(self, topic: str, name: str, properties: Properties) -> None:
        """Create a subscription, or give an existing one new properties."""
        check_name(name)
        if topic.lower() not in self.topics:
            raise ConfigError([f"Topic: there is no topic {topic!r}"])
        self._check_targets(f"{topic}/Subscriptions/{name}", properties)
        existing = self.topics[topic.lower()].subscriptions.get(name.lower())
        if existing is None:
            self._add_subscription(topic, name, properties)
        else:
            existing.reconfigure(properties)

    def delete_queue(self, name: str) -> bool:
        return _gone(self.queues.pop(name.lower(), None))

    def delete_topic(self, name: str) -> bool:
        return _gone(self.topics.pop(name.lower(), None))

    def delete_subscription(self, topic: str, name: str) -> bool:
        owner = self.topics.get(topic.lower())
        return owner is not None and _gone(owner.subscriptions.pop(name.lower(), None))

    def used_bytes(self) -> int:
        """Return what all messages take together."""
        return sum(entity.used_bytes() for entity in (*self.queues.values(), *self.topics.values()))

    def close(self) -> None:
        for entity in (*self.queues.values(), *self.topics.values()):
            entity.close()

    def snapshot(self) -> dict[str, object]:
        """Return every entity's counts, JSON-ready."""
        return {
            "queues": {queue.name: queue.counts() for queue in self.queues.values()},
            "topics": {
                topic.name: {
                    "scheduled": topic.counts()["scheduled"],
                    "subscriptions": {
                        subscription.name.removeprefix(f"{topic.name}/Subscriptions/"): subscription.counts()
                        for subscription in topic.subscriptions.values()
                    },
                }
                for topic in self.topics.values()
            },
        }

    def _check_targets(self, name: str, properties: Properties) -> None:
        for key, target in (
            ("ForwardTo", properties.forward_to),
            ("ForwardDeadLetteredMessagesTo", properties.forward_dead_letters_to),
        ):
            if target and target.lower() not in self.queues and target.lower() not in self.topics:
                raise ConfigError([f"Properties.{key}: {target!r}: no such queue or topic"])
            if target and target.lower() == name.lower():
                raise ConfigError([f"Properties.{key}: {target!r}: an entity cannot forward to itself"])

    def _add_queue(self, name: str, properties: Properties) -> None:
        self.queues[name.lower()] = Queue(name, self.clock, properties, self.operations.of(name), self)

    def _add_topic(self, name: str, properties: Properties) -> None:
        self.topics[name.lower()] = Topic(name, self.clock, properties, self.operations.of(name), self)

    def _add_subscription(self, topic: str, name: str, properties: Properties) -> None:
        owner = self.topics[topic.lower()]
        path = f"{owner.name}/Subscriptions/{name}"
        owner.subscriptions[name.lower()] = Subscription(path, self.clock, properties, self.operations.of(path), self)


def _gone(entity: Intake | None) -> bool:
    if entity is None:
        return False
    entity.close()
    entity.detach_links()
    return True
