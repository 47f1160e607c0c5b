"""Messages of one entity: who may have which next, what is locked, what falls due."""

import heapq
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice
from typing import Any, Protocol

from infra.local.servicebus.clock import Clock, Timer
from infra.local.servicebus.deadlines import Deadlines
from infra.local.servicebus.errors import LOCK_LOST, MESSAGE_NOT_FOUND, AmqpError
from infra.local.servicebus.message import ACTIVE, DEFERRED, SCHEDULED, Message, new_lock
from infra.local.servicebus.sections import with_application_properties

#: The order list is rebuilt once it holds this many numbers more than twice the live ones.
_SLACK = 64


class Consumer(Protocol):
    """A receiver that has asked for messages."""

    @property
    def locks(self) -> bool:
        """False: what it gets is gone at once (receive and delete)."""
        ...

    def hungry(self) -> bool:
        """Whether it can take one more message right now."""
        ...

    def deliver(self, message: Message) -> None: ...


class Store:
    """
    The mechanics of one entity's messages; policies are in the subclasses' hooks.

    A lock belongs to the message and not to the link it went out on, so that any link
    may settle it and none loses it by closing.
    """

    def __init__(self, name: str, clock: Clock, *, lock_duration: int) -> None:
        self.name = name
        self.clock = clock
        self.lock_duration = lock_duration
        self.size = 0
        self.messages: dict[int, Message] = {}
        self._order: list[int] = []
        self._fresh: OrderedDict[int, Message] = OrderedDict()
        self._returned: dict[int, Message] = {}
        self._returned_heap: list[int] = []
        self._locked: dict[bytes, Message] = {}
        self._lock_due: Deadlines[bytes] = Deadlines()
        self._expiry: Deadlines[int] = Deadlines()
        self._schedule: Deadlines[int] = Deadlines()
        self._hungry: OrderedDict[Consumer, None] = OrderedDict()
        self._deferred = 0
        self._timer: Timer | None = None
        self._timer_at = 0

    # ---- what the subclasses decide

    def on_failed_delivery(self, message: Message) -> bool:
        """Return true when the message has been moved away instead of becoming available again."""
        return False

    def on_expired(self, message: Message) -> None:
        """Take a message whose time to live has passed; it is already out of the store."""

    def on_due(self, message: Message) -> None:
        """Take a scheduled message whose time has come; it is already out of the store."""

    def on_delivered(self, message: Message) -> None:
        """Count a delivery."""

    def other_deadline(self) -> int | None:
        """Return a further time at which `on_wake` must run."""
        return None

    def on_wake(self, now: int) -> None:
        """Do what else falls due."""

    # ---- counts

    def counts(self) -> dict[str, int]:
        scheduled = len(self._schedule)
        return {
            "active": len(self.messages) - scheduled - self._deferred,
            "locked": len(self._locked),
            "scheduled": scheduled,
            "deferred": self._deferred,
        }

    # ---- in and out

    def put(self, message: Message) -> None:
        """Keep an active message under the sequence number it has."""
        self._insert(message)
        if message.expires is not None:
            self._expiry.set(message.sequence, message.expires)
        self._make_ready(message)

    def put_scheduled(self, message: Message) -> None:
        message.state = SCHEDULED
        self._insert(message)
        self._schedule.set(message.sequence, message.due)
        self.arm()

    def remove(self, message: Message) -> None:
        """Forget a message, whatever state it is in."""
        sequence = message.sequence
        if self.messages.pop(sequence, None) is None:
            return
        self.size -= message.size
        if message.state == DEFERRED:
            self._deferred -= 1
        elif message.state == SCHEDULED:
            self._schedule.discard(sequence)
        if message.lock is not None:
            self._unlock(message)
        else:
            self._fresh.pop(sequence, None)
            self._returned.pop(sequence, None)
        if message.expires is not None:
            self._expiry.discard(sequence)
        self._trim_order()

    def _insert(self, message: Message) -> None:
        self.messages[message.sequence] = message
        self.size += message.size
        if self._order and message.sequence < self._order[-1]:
            insort(self._order, message.sequence)
        else:
            self._order.append(message.sequence)

    def _trim_order(self) -> None:
        if len(self._order) > 2 * len(self.messages) + _SLACK:
            self._order = [sequence for sequence in self._order if sequence in self.messages]

    def _make_ready(self, message: Message) -> None:
        if self._fresh and message.sequence < next(reversed(self._fresh)):
            self._returned[message.sequence] = message
            heapq.heappush(self._returned_heap, message.sequence)
        else:
            self._fresh[message.sequence] = message

    def _pop_ready(self) -> Message | None:
        while self._returned_heap and self._returned_heap[0] not in self._returned:
            heapq.heappop(self._returned_heap)
        if self._returned_heap and (not self._fresh or self._returned_heap[0] < next(iter(self._fresh))):
            return self._returned.pop(heapq.heappop(self._returned_heap))
        if self._fresh:
            return self._fresh.popitem(last=False)[1]
        return None

    # ---- delivering

    def want(self, consumer: Consumer) -> None:
        """Remember that a consumer can take messages, and give it what there is."""
        self._hungry[consumer] = None
        self.pump()

    def leave(self, consumer: Consumer) -> None:
        self._hungry.pop(consumer, None)

    def pump(self) -> None:
        """Hand ready messages to hungry consumers in turn."""
        while self._hungry and (self._fresh or self._returned):
            consumer, _ = self._hungry.popitem(last=False)
            if not consumer.hungry():
                continue
            message = self._next_live()
            if message is None:
                self._hungry[consumer] = None
                break
            if consumer.locks:
                self._lock(message)
            else:
                message.lock = new_lock()
                self._drop(message)
            self.on_delivered(message)
            consumer.deliver(message)
            self._hungry[consumer] = None
        self.arm()

    def _next_live(self) -> Message | None:
        now = self.clock.now()
        while (message := self._pop_ready()) is not None:
            if message.expires is None or message.expires > now:
                return message
            self._expire(message)
        return None

    def _drop(self, message: Message) -> None:
        """Forget a ready message that was handed out for good; its lock field is only its delivery tag."""
        del self.messages[message.sequence]
        self.size -= message.size
        if message.expires is not None:
            self._expiry.discard(message.sequence)
        self._trim_order()

    def _lock(self, message: Message) -> None:
        lock = new_lock()
        message.lock = lock
        message.locked_until = self.clock.now() + self.lock_duration
        self._locked[lock] = message
        self._lock_due.set(lock, message.locked_until)

    def _unlock(self, message: Message) -> None:
        if message.lock is not None:
            self._locked.pop(message.lock, None)
            self._lock_due.discard(message.lock)
            message.lock = None

    # ---- settling

    def is_locked(self, lock: bytes) -> bool:
        return lock in self._locked

    def ready_count(self) -> int:
        """How many messages could be handed out now."""
        return len(self._fresh) + len(self._returned)

    def locked(self, lock: bytes) -> Message:
        """
        Return the message a lock is on.

        Raises:
            AmqpError: the lock has expired or never was.
        """
        message = self._locked.get(lock)
        if message is None or message.locked_until <= self.clock.now():
            raise AmqpError(LOCK_LOST, "The lock supplied is invalid: it has expired, or the message was settled.")
        return message

    def complete(self, lock: bytes) -> None:
        self.remove(self.locked(lock))

    def abandon(self, lock: bytes, properties: dict[str, Any] | None = None) -> None:
        """Count a failed delivery; `properties` are merged into the message's application properties."""
        message = self._rewritten(lock, properties)
        self._unlock(message)
        self._fail(message)
        self.pump()

    def release(self, lock: bytes) -> None:
        """Give a message back as if it had never been delivered."""
        message = self.locked(lock)
        self._unlock(message)
        self._back(message)
        self.pump()

    def _rewritten(self, lock: bytes, properties: dict[str, Any] | None) -> Message:
        message = self.locked(lock)
        if properties:
            before = message.size
            message.bare = with_application_properties(message.bare, properties)
            self.size += message.size - before
        return message

    def defer(self, lock: bytes, properties: dict[str, Any] | None = None) -> None:
        """Set a message aside until somebody asks for its sequence number."""
        message = self._rewritten(lock, properties)
        self._unlock(message)
        if message.state != DEFERRED:
            message.state = DEFERRED
            self._deferred += 1
        # A deferred message is nobody's until asked for by number, and its time to live does not remove it.
        self._expiry.discard(message.sequence)

    def renew(self, lock: bytes) -> int:
        message = self.locked(lock)
        message.locked_until = self.clock.now() + self.lock_duration
        self._lock_due.set(lock, message.locked_until)
        self.arm()
        return message.locked_until

    def expire_locks(self, sequence: int | None = None) -> int:
        """End locks now, one or all, as if their time had passed; return how many."""
        ended = [m for m in self._locked.values() if sequence is None or m.sequence == sequence]
        for message in ended:
            self._unlock(message)
            self._fail(message)
        self.pump()
        return len(ended)

    def _fail(self, message: Message) -> None:
        message.delivery_count += 1
        if not self.on_failed_delivery(message):
            self._back(message)

    def _back(self, message: Message) -> None:
        if message.state == DEFERRED:
            return
        if message.expires is not None and message.expires <= self.clock.now():
            self._expire(message)
        else:
            self._make_ready(message)

    def _expire(self, message: Message) -> None:
        self.remove(message)
        self.on_expired(message)

    # ---- by sequence number

    def peek(self, start: int, count: int) -> list[Message]:
        """Return up to `count` messages from a sequence number on, locked, deferred and scheduled ones too."""
        now = self.clock.now()
        first = bisect_left(self._order, start)
        live = (self.messages.get(self._order[index]) for index in range(first, len(self._order)))
        wanted = (m for m in live if m is not None and not self._is_expired(m, now))
        return list(islice(wanted, max(0, count)))

    def _is_expired(self, message: Message, now: int) -> bool:
        return (
            message.state == ACTIVE and message.lock is None and message.expires is not None and message.expires <= now
        )

    def take_deferred(self, sequences: Iterable[int], *, lock: bool) -> list[Message]:
        """
        Hand out deferred messages, all or none.

        Raises:
            AmqpError: one of them is not there, not deferred, or held by somebody.
        """
        found = []
        for sequence in sequences:
            message = self.messages.get(sequence)
            if message is None or message.state != DEFERRED or message.lock is not None:
                raise AmqpError(MESSAGE_NOT_FOUND, f"No deferred message has the sequence number {sequence}.")
            found.append(message)
        for message in found:
            if lock:
                self._lock(message)
            else:
                self.remove(message)
            self.on_delivered(message)
        self.arm()
        return found

    def cancel(self, sequences: Iterable[int]) -> int:
        """
        Call off scheduled messages, all or none; return how many.

        Raises:
            AmqpError: one of them is not there or not scheduled any more.
        """
        found = []
        for sequence in sequences:
            message = self.messages.get(sequence)
            if message is None or message.state != SCHEDULED:
                raise AmqpError(MESSAGE_NOT_FOUND, f"No scheduled message has the sequence number {sequence}.")
            found.append(message)
        for message in found:
            self.remove(message)
        return len(found)

    def take_ready(self) -> list[Message]:
        """Remove and return every message that nobody has, in order."""
        ready = sorted((*self._fresh.values(), *self._returned.values()), key=lambda message: message.sequence)
        for message in ready:
            self.remove(message)
        return ready

    def purge(self, count: int, before: int) -> int:
        """Delete up to `count` active, unlocked messages enqueued before a time; return how many."""
        ready = (*self._fresh.values(), *self._returned.values())
        chosen = [m for m in sorted(ready, key=lambda m: m.sequence) if m.enqueued < before][:count]
        for message in chosen:
            self.remove(message)
        return len(chosen)

    # ---- time

    def arm(self) -> None:
        """Ask the clock to wake this entity at its next deadline."""
        due = min(
            (
                when
                for when in (self._lock_due.next(), self._expiry.next(), self._schedule.next(), self.other_deadline())
                if when is not None
            ),
            default=None,
        )
        if due is None or (self._timer is not None and self._timer_at <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self.clock.call_at(due, self._wake)

    def _wake(self) -> None:
        self._timer = None
        now = self.clock.now()
        for lock in self._lock_due.pop_due(now):
            message = self._locked.pop(lock)
            message.lock = None
            self._fail(message)
        for sequence in self._schedule.pop_due(now):
            self._activate(self.messages[sequence])
        for sequence in self._expiry.pop_due(now):
            expired = self.messages[sequence]
            # Whoever holds a lock may finish; the message expires when the lock ends.
            if expired.lock is None and expired.state == ACTIVE:
                self._expire(expired)
        self.on_wake(now)
        self.pump()

    def _activate(self, message: Message) -> None:
        self.remove(message)
        message.state = ACTIVE
        message.due = 0
        self.on_due(message)

    def close(self) -> None:
        """Stop waking; the entity is going away."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
