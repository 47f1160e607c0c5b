"""Locks, schedules, time to live, duplicates and forwarding, on a clock that a test moves."""

import pytest

from infra.local.servicebus import ManualClock, Properties
from infra.local.servicebus.entities import DESCRIPTION, REASON, Queue, Topic
from infra.local.servicebus.errors import LOCK_LOST, MESSAGE_NOT_FOUND, RESOURCE_LIMIT, AmqpError
from infra.local.servicebus.message import Message
from infra.local.servicebus.namespace import HOPS_EXCEEDED, Namespace
from infra.local.servicebus.requests import read_request
from tests.unit.servicebus.conftest import Taker, message


def application_properties(kept: Message) -> dict[str, object]:
    return read_request(kept.render(locked=False))[1]


def only(queue: Queue) -> Message:
    (kept,) = queue.dead_letters.messages.values()
    return kept


# ---- locks


def test_a_lock_that_expires_gives_the_message_to_the_next(work: Queue, clock: ManualClock) -> None:
    """A handler that died must not keep its message."""
    first, second = Taker(1), Taker(1)
    work.want(first)
    work.accept(message())
    lost = first.last_lock
    work.want(second)

    clock.advance(seconds=60)

    assert [m.delivery_count for m in second.got] == [1]
    with pytest.raises(AmqpError, match=LOCK_LOST):
        work.complete(lost)


def test_a_renewed_lock_lasts_from_the_renewal_on(work: Queue, clock: ManualClock) -> None:
    """Auto-renewal keeps a slow handler's message."""
    taker = Taker()
    work.want(taker)
    work.accept(message())

    clock.advance(seconds=50)
    until = work.renew(taker.last_lock)
    clock.advance(seconds=50)
    work.complete(taker.last_lock)

    assert until == clock.now() - 50_000 + 60_000
    assert work.counts()["active"] == 0


def test_a_message_delivered_too_often_is_dead_lettered_with_the_official_reason(work: Queue) -> None:
    """A poison message must not circle for ever."""
    taker = Taker()
    work.want(taker)
    work.accept(message())

    for _ in range(3):
        work.abandon(taker.last_lock)

    assert work.counts()["deadLetter"] == 1
    assert application_properties(only(work))[REASON] == "MaxDeliveryCountExceeded"


def test_releasing_does_not_count_as_a_delivery(work: Queue) -> None:
    """Clients release what they had prefetched when they close."""
    taker = Taker()
    work.want(taker)
    work.accept(message())

    for _ in range(5):
        work.release(taker.last_lock)

    assert taker.got[-1].delivery_count == 0


def test_abandoned_messages_come_back_in_their_order(work: Queue) -> None:
    """A queue stays first in, first out as far as it can."""
    taker = Taker(3)
    work.want(taker)
    for name in "abcd":
        work.accept(message(name))
    for kept in list(taker.got):
        assert kept.lock is not None
        work.abandon(kept.lock)

    again = Taker()
    work.want(again)

    assert [m.id for m in again.got] == ["a", "b", "c", "d"]


def test_receive_and_delete_keeps_nothing(work: Queue) -> None:
    """What was handed out for good counts no bytes and holds no lock."""
    taker = Taker(locks=False)
    work.want(taker)
    work.accept(message())

    assert (len(taker.got), work.size, work.counts()["locked"]) == (1, 0, 0)


def test_expiring_locks_on_demand_redelivers_at_once(work: Queue) -> None:
    """The fault that tests ask for looks like time passing."""
    taker = Taker()
    work.want(taker)
    work.accept(message())

    assert work.expire_locks() == 1
    assert [m.delivery_count for m in taker.got] == [1, 1]


# ---- deferring


def test_a_deferred_message_waits_for_its_number(work: Queue) -> None:
    """Nobody gets it by receiving, anybody by asking for it."""
    taker = Taker()
    work.want(taker)
    work.accept(message())
    work.defer(taker.last_lock)

    (found,) = work.take_deferred([1], lock=True)

    assert found.lock is not None
    work.complete(found.lock)
    assert work.counts()["deferred"] == 0
    with pytest.raises(AmqpError, match=MESSAGE_NOT_FOUND):
        work.take_deferred([1], lock=True)


def test_an_abandoned_deferred_message_stays_deferred(work: Queue, clock: ManualClock) -> None:
    """Only its number brings it back, before and after a lost lock."""
    taker = Taker()
    work.want(taker)
    work.accept(message())
    work.defer(taker.last_lock)
    work.take_deferred([1], lock=True)

    clock.advance(seconds=61)

    assert work.counts() | {"locked": 0} == work.counts()
    assert work.counts()["deferred"] == 1
    assert len(taker.got) == 1


# ---- schedules


def test_a_scheduled_message_becomes_active_under_a_new_number(work: Queue, clock: ManualClock) -> None:
    """The number given at scheduling is for cancelling only."""
    taker = Taker()
    work.want(taker)
    number = work.accept(message(due=clock.now() + 10_000))

    clock.advance(seconds=9.9)
    early = len(taker.got)
    clock.advance(seconds=0.1)

    assert early == 0
    assert taker.got[0].sequence > number


def test_a_cancelled_message_never_arrives(work: Queue, clock: ManualClock) -> None:
    """And cancelling it again says that it is not there."""
    number = work.accept(message(due=clock.now() + 10_000))

    work.cancel([number])
    clock.advance(seconds=20)

    assert work.counts()["active"] == 0
    with pytest.raises(AmqpError, match=MESSAGE_NOT_FOUND):
        work.cancel([number])


def test_a_topic_gives_out_scheduled_messages_when_they_are_due(news: Topic, clock: ManualClock) -> None:
    """Subscribers must not see them before."""
    news.accept(message(due=clock.now() + 10_000))
    before = news.subscriptions["all"].counts()["active"]

    clock.advance(seconds=10)

    assert before == 0
    assert news.subscriptions["all"].counts()["active"] == 1


# ---- time to live


def test_an_expired_message_is_dead_lettered_where_the_queue_says_so(namespace: Namespace, clock: ManualClock) -> None:
    """What nobody took in time is found with the official reason."""
    queue = namespace.queues["short"]
    queue.accept(message())

    clock.advance(seconds=300)

    assert application_properties(only(queue))[REASON] == "TTLExpiredException"


def test_an_expired_message_is_dropped_elsewhere(work: Queue, clock: ManualClock) -> None:
    """The message's own time to live counts where the entity has none."""
    work.accept(message(ttl=1000))

    clock.advance(seconds=1)

    assert (work.size, work.counts()["deadLetter"]) == (0, 0)


def test_the_entity_limits_the_time_to_live_of_a_message(namespace: Namespace, clock: ManualClock) -> None:
    """The shorter of the two counts, and the receiver is told."""
    queue = namespace.queues["short"]
    queue.accept(message(ttl=10**9))

    assert queue.peek(0, 1)[0].ttl == 300_000


def test_a_locked_message_outlives_its_time_until_the_lock_ends(namespace: Namespace, clock: ManualClock) -> None:
    """Whoever holds the lock may finish."""
    queue = namespace.queues["short"]
    taker = Taker()
    queue.want(taker)
    queue.accept(message(ttl=30_000))

    clock.advance(seconds=45)
    queue.renew(taker.last_lock)
    held = queue.counts()["locked"]
    clock.advance(seconds=60)

    assert held == 1
    assert queue.counts()["deadLetter"] == 1


def test_dead_letters_do_not_expire(namespace: Namespace, clock: ManualClock) -> None:
    """They wait for a person."""
    queue = namespace.queues["short"]
    queue.accept(message())

    clock.advance(seconds=10**8)

    assert queue.counts()["deadLetter"] == 1


# ---- duplicates


def test_a_repeated_id_is_dropped_within_the_window_even_after_completion(
    namespace: Namespace, clock: ManualClock
) -> None:
    """A sender that retries must not make work twice."""
    queue = namespace.queues["once"]
    taker = Taker()
    queue.want(taker)
    queue.accept(message("same"))
    queue.complete(taker.last_lock)

    queue.accept(message("same"))
    within = len(taker.got)
    clock.advance(seconds=300)
    queue.accept(message("same"))

    assert within == 1
    assert len(taker.got) == 2


def test_scheduled_messages_take_part_in_duplicate_detection(namespace: Namespace, clock: ManualClock) -> None:
    """Both ways: a scheduled one hides a later one and is hidden by an earlier one."""
    queue = namespace.queues["once"]

    queue.accept(message("a", due=clock.now() + 3_600_000))
    queue.accept(message("a"))
    queue.accept(message("b"))
    queue.accept(message("b", due=clock.now() + 3_600_000))

    assert (queue.counts()["active"], queue.counts()["scheduled"]) == (1, 1)


def test_the_window_forgets_what_has_passed(namespace: Namespace, clock: ManualClock) -> None:
    """An idle entity must not keep its ids for ever."""
    queue = namespace.queues["once"]
    queue.accept(message("a"))

    clock.advance(seconds=400)

    assert queue.other_deadline() is None


# ---- forwarding


def test_a_subscription_that_forwards_fills_its_queue(news: Topic, namespace: Namespace) -> None:
    """The series' topics end in one queue per subscriber."""
    news.accept(message("x"))

    (arrived,) = namespace.queues["sink"].peek(0, 10)
    assert (arrived.id, arrived.origin_sequence) == ("x", 1)
    assert news.subscriptions["forwarding"].counts()["active"] == 0


def test_the_fifth_forwarding_ends_in_the_dead_letters(namespace: Namespace) -> None:
    """A ring of entities would forward for ever."""
    namespace.queues["hop0"].accept(message())

    assert application_properties(only(namespace.queues["hop4"]))[REASON] == HOPS_EXCEEDED


def test_dead_letters_can_be_forwarded_and_say_where_they_died(namespace: Namespace) -> None:
    """One queue for all dead letters is watched more easily than many."""
    queue = namespace.queues["morgue"]
    taker = Taker(1)
    queue.want(taker)
    queue.accept(message())

    queue.dead_letter(queue.locked(taker.last_lock), "why", "because", {"more": "told"})

    (arrived,) = namespace.queues["sink"].peek(0, 1)
    told = application_properties(arrived)
    assert (told[REASON], told[DESCRIPTION], told["more"]) == ("why", "because", "told")
    assert arrived.dead_letter_source == "morgue"


def test_a_queue_that_begins_to_forward_passes_on_what_it_holds(namespace: Namespace, work: Queue) -> None:
    """Nobody could receive it there any more."""
    for name in "ab":
        work.accept(message(name))

    namespace.put_queue("work", Properties(forward_to="sink"))

    assert [kept.id for kept in namespace.queues["sink"].peek(0, 10)] == ["a", "b"]
    assert work.size == 0


def test_a_missing_target_dead_letters_instead_of_losing(namespace: Namespace) -> None:
    """Deleting a forwarded-to queue is a mistake that must not cost messages."""
    namespace.delete_queue("hop6")
    namespace.put_queue("last", Properties(forward_to="sink"))
    namespace.delete_queue("sink")

    namespace.queues["last"].accept(message())

    assert namespace.queues["last"].counts()["deadLetter"] == 1


# ---- limits and counts


def test_a_full_entity_refuses_and_recovers(namespace: Namespace, work: Queue) -> None:
    """The quota is a limit on what waits, not on what passes."""
    namespace.quota_bytes = 3 * message().size
    for name in "abc":
        work.accept(message(name))
    with pytest.raises(AmqpError, match=RESOURCE_LIMIT):
        work.accept(message("d"))

    work.want(Taker(1, locks=False))

    assert work.accept(message("d")) == 4


def test_peek_shows_every_state_from_a_number_on(work: Queue, clock: ManualClock) -> None:
    """Locked, deferred and scheduled messages are there, only not to be had."""
    taker = Taker(2)
    work.want(taker)
    for name in "abc":
        work.accept(message(name))
    work.defer(taker.last_lock)
    work.accept(message("later", due=clock.now() + 10_000))

    assert [(m.sequence, m.state) for m in work.peek(1, 10)] == [(1, 0), (2, 1), (3, 0), (4, 2)]
    assert [m.sequence for m in work.peek(3, 1)] == [3]


def test_operations_are_counted_as_azure_bills_them(namespace: Namespace, news: Topic) -> None:
    """Every started 64 KiB is one operation; forwarding is one more."""
    news.accept(message("big", body=b"x" * 200))
    big = message("bigger")
    big.bare += b"\x00" * 70_000

    news.accept(big)

    counts = namespace.operations.snapshot()["entities"]
    assert counts == {"news": {"send": 3}, "news/Subscriptions/forwarding": {"forward": 3}}


def test_memory_follows_what_is_live(work: Queue, clock: ManualClock) -> None:
    """Deadlines of settled messages must not pile up until their time comes."""
    taker = Taker(10**6)
    work.want(taker)
    for _ in range(2000):
        work.accept(message(ttl=3_600_000))
        work.complete(taker.last_lock)
        taker.got.clear()

    assert len(work._expiry._heap) < 200
    assert len(work._lock_due._heap) < 200
    assert len(work._order) < 200
