"""Queues, topics, subscriptions and their dead letters: the policies over a store of messages."""

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, Protocol

from infra.local.servicebus import operations
from infra.local.servicebus.clock import Clock
from infra.local.servicebus.config import Properties
from infra.local.servicebus.deadlines import Deadlines
from infra.local.servicebus.errors import NOT_ALLOWED, RESOURCE_LIMIT, AmqpError
from infra.local.servicebus.message import ACTIVE, Message
from infra.local.servicebus.sections import with_application_properties
from infra.local.servicebus.store import Store

#: A message may pass through this many forwardings; the next one dead-letters it.
MAX_HOPS: Final = 4

REASON: Final = "DeadLetterReason"
DESCRIPTION: Final = "DeadLetterErrorDescription"
_MAX_DELIVERIES: Final = "MaxDeliveryCountExceeded"
_EXPIRED: Final = "TTLExpiredException"

#: Ids of a duplicate window are swept at most this often, so that an idle entity wakes rarely.
_SWEEP_MS: Final = 1000


class Router(Protocol):
    """Whoever knows the other entities."""

    quota_bytes: int

    def forward(self, message: Message, target: str) -> str | None:
        """Move a message on; return the reason if that failed."""
        ...

    def deliver_twice(self, entity: str) -> bool:
        """Say whether a test asked for the next message to arrive twice."""
        ...


class Attached(Protocol):
    """A link that must hear when its entity goes away."""

    def entity_deleted(self) -> None: ...


class DuplicateHistory:
    """Message ids seen within a window; an id is remembered after its message is gone."""

    def __init__(self, clock: Clock, window: int) -> None:
        self._clock = clock
        self.window = window
        self._ids: Deadlines[str] = Deadlines()

    def is_repeated(self, message_id: str, *, due: int = 0) -> bool:
        """Say whether an id was seen; remember it if not. A scheduled one is remembered past its due time."""
        now = self._clock.now()
        self.sweep(now)
        if message_id in self._ids:
            return True
        self._ids.set(message_id, max(now, due) + self.window)
        return False

    def sweep(self, now: int) -> None:
        for _ in self._ids.pop_due(now):
            pass

    def next(self) -> int | None:
        due = self._ids.next()
        return None if due is None else due + _SWEEP_MS


class Entity(Store):
    """What queues, topics, subscriptions and dead-letter queues share."""

    #: Whether links may send to it, and receive from it.
    accepts = False
    receivable = True

    def __init__(self, name: str, clock: Clock, properties: Properties, counter: "Counter[str]") -> None:
        super().__init__(name, clock, lock_duration=properties.lock_duration)
        self.properties = properties
        self.counter = counter
        #: Links on this entity, so that a deletion can detach them.
        self.links: set[Attached] = set()

    def on_delivered(self, message: Message) -> None:
        self.counter[operations.DELIVER] += message.units

    def dead_letter(self, message: Message, reason: str, description: str, more: dict[str, Any] | None = None) -> None:
        """Move a message aside with its reason; it need not be in the store any more."""
        raise AmqpError(NOT_ALLOWED, f"A message cannot be dead-lettered out of '{self.name}'.")

    def forwards(self) -> bool:
        """Whether everything that comes in goes on, so that nothing can be received."""
        return False

    def detach_links(self) -> None:
        for link in list(self.links):
            link.entity_deleted()
        self.links.clear()


class DeadLetters(Entity):
    """A dead-letter subqueue: nothing expires here, and no number of deliveries moves a message out."""


class Intake(Entity):
    """An entity that messages come into: duplicate detection, schedules, quota."""

    accepts = True

    def __init__(
        self,
        name: str,
        clock: Clock,
        properties: Properties,
        counter: "Counter[str]",
        router: Router,
        numbers: Iterator[int] | None = None,
    ) -> None:
        super().__init__(name, clock, properties, counter)
        self.router = router
        self.numbers = numbers or itertools.count(1)
        self._history = DuplicateHistory(clock, properties.duplicate_window)

    def reconfigure(self, properties: Properties) -> None:
        """Change the properties and keep the messages; ids already seen are kept for the old window."""
        self.properties = properties
        self.lock_duration = properties.lock_duration
        self._history.window = properties.duplicate_window

    def used_bytes(self) -> int:
        """What counts against the quota."""
        return self.size

    def accept(self, message: Message) -> int:
        """
        Take a message from a sender; return its sequence number.

        A duplicate is taken and dropped, as in Azure: its sender hears of success.

        Raises:
            AmqpError: the entity is full.
        """
        self.check_quota(message.size)
        self.counter[operations.SEND] += message.units
        return self.take(message)

    def check_quota(self, size: int) -> None:
        if self.used_bytes() + size > self.router.quota_bytes:
            raise AmqpError(
                RESOURCE_LIMIT,
                f"The entity '{self.name}' has reached its maximum size of {self.router.quota_bytes} bytes.",
            )

    def take(self, message: Message) -> int:
        """
        Take a message, sent or forwarded, past duplicate detection and schedule.

        A dropped duplicate gets number 0, which no message has: numbers have no gaps.
        """
        due = message.due
        if self.properties.duplicate_detection and self._history.is_repeated(message.id, due=due):
            return 0
        message.sequence = next(self.numbers)
        twin = message.copy() if self.router.deliver_twice(self.name) else None
        now = self.clock.now()
        if due > now:
            message.enqueued = now
            self.put_scheduled(message)
        else:
            message.due = 0
            self.enqueue(message)
        if twin is not None:
            twin.sequence = next(self.numbers)
            twin.origin_sequence = message.origin_sequence
            self.enqueue(twin)
        return message.sequence

    def enqueue(self, message: Message) -> None:
        """Let a numbered message become active here."""
        raise NotImplementedError

    def on_due(self, message: Message) -> None:
        # The number given when it was scheduled was only good for cancelling.
        message.sequence = next(self.numbers)
        self.enqueue(message)

    def other_deadline(self) -> int | None:
        return self._history.next()

    def on_wake(self, now: int) -> None:
        self._history.sweep(now)


class Queue(Intake):
    """A queue, or the queue behind a subscription."""

    def __init__(
        self, name: str, clock: Clock, properties: Properties, counter: "Counter[str]", router: Router
    ) -> None:
        super().__init__(name, clock, properties, counter, router)
        self.dead_letters = DeadLetters(f"{name}/$DeadLetterQueue", clock, properties, counter)
        self.transfer_dead_letters = DeadLetters(f"{name}/$Transfer/$DeadLetterQueue", clock, properties, counter)

    def reconfigure(self, properties: Properties) -> None:
        super().reconfigure(properties)
        self.dead_letters.lock_duration = properties.lock_duration
        if properties.forward_to:
            for message in self.take_ready():
                self.enqueue(message)

    def used_bytes(self) -> int:
        return self.size + self.dead_letters.size

    def forwards(self) -> bool:
        return bool(self.properties.forward_to)

    def counts(self) -> dict[str, int]:
        return super().counts() | {
            "deadLetter": len(self.dead_letters.messages),
            "transferDeadLetter": len(self.transfer_dead_letters.messages),
        }

    def enqueue(self, message: Message) -> None:
        now = self.clock.now()
        message.enqueued = now
        if self.properties.forward_to:
            failure = self._forward(message, self.properties.forward_to)
            if failure is not None:
                self.dead_letter(message, failure, f"Forwarding to '{self.properties.forward_to}' failed.")
            return
        self._limit_time_to_live(message, now)
        self.put(message)
        self.pump()

    def _limit_time_to_live(self, message: Message, now: int) -> None:
        limit = self.properties.time_to_live
        if message.ttl is None:
            if self.properties.time_to_live_given:
                message.ttl = limit
            lives = limit
        else:
            lives = message.ttl = message.ttl if limit is None else min(message.ttl, limit)
        message.expires = None if lives is None else now + lives

    def _forward(self, message: Message, target: str) -> str | None:
        units = message.units
        failure = self.router.forward(message, target)
        if failure is None:
            self.counter[operations.FORWARD] += units
        return failure

    def on_failed_delivery(self, message: Message) -> bool:
        limit = self.properties.max_delivery_count
        if message.delivery_count < limit:
            return False
        text = f"Message could not be consumed after {message.delivery_count} delivery attempts."
        self.dead_letter(message, _MAX_DELIVERIES, text)
        return True

    def on_expired(self, message: Message) -> None:
        if self.properties.dead_letter_on_expiry:
            self.dead_letter(message, _EXPIRED, "The message expired and was dead lettered.")

    def dead_letter(self, message: Message, reason: str, description: str, more: dict[str, Any] | None = None) -> None:
        self.remove(message)
        told = {REASON: reason, DESCRIPTION: description}
        updates = {key: value for key, value in told.items() if value} | (more or {})
        if updates:
            message.bare = with_application_properties(message.bare, updates)
        message.state = ACTIVE
        message.expires = None
        target = self.properties.forward_dead_letters_to
        if target:
            message.dead_letter_source = self.name
            if self._forward(message, target) is None:
                return
        self.dead_letters.put(message)
        self.dead_letters.pump()

    def close(self) -> None:
        super().close()
        self.dead_letters.close()
        self.transfer_dead_letters.close()

    def detach_links(self) -> None:
        super().detach_links()
        self.dead_letters.detach_links()
        self.transfer_dead_letters.detach_links()


class Subscription(Queue):
    """A subscription: filled by its topic only."""

    accepts = False


class Topic(Intake):
    """A topic: it keeps scheduled messages itself and gives every subscription its copy of the others."""

    receivable = False

    def __init__(
        self, name: str, clock: Clock, properties: Properties, counter: "Counter[str]", router: Router
    ) -> None:
        super().__init__(name, clock, properties, counter, router)
        self.subscriptions: dict[str, Subscription] = {}

    def used_bytes(self) -> int:
        return self.size + sum(subscription.used_bytes() for subscription in self.subscriptions.values())

    def enqueue(self, message: Message) -> None:
        limit = self.properties.time_to_live
        if message.ttl is not None and limit is not None:
            message.ttl = min(message.ttl, limit)
        elif self.properties.time_to_live_given:
            message.ttl = limit
        for subscription in list(self.subscriptions.values()):
            copy = message.copy()
            copy.sequence = next(subscription.numbers)
            subscription.enqueue(copy)

    def close(self) -> None:
        super().close()
        for subscription in self.subscriptions.values():
            subscription.close()

    def detach_links(self) -> None:
        super().detach_links()
        for subscription in self.subscriptions.values():
            subscription.detach_links()
