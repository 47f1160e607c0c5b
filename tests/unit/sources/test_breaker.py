"""The breaker: a host that is down is left alone, and found again by single probes."""

from __future__ import annotations

from pipeline.sources.breaker import FAILURES, MAX_BREAKERS, Breaker, Breakers


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def opened() -> tuple[Breaker, Clock]:
    clock = Clock()
    breaker = Breaker(clock=clock)
    for _ in range(FAILURES):
        breaker.failed()
    return breaker, clock


def test_it_opens_only_after_many_failures_in_a_row():
    """One user's poisoned request must not stop the others, whose successes stand in between."""
    breaker = Breaker(clock=Clock())
    for _ in range(FAILURES - 1):
        breaker.failed()
    breaker.succeeded()
    breaker.failed()

    assert breaker.wait(20) == 0


def test_open_means_no_call_for_a_pause():
    """A host that is down gets air, and our messages are parked instead of retried."""
    breaker, clock = opened()

    assert breaker.wait(20) == 30.0
    clock.now += 29
    assert breaker.wait(20) == 1.0


def test_half_open_lets_one_probe_through():
    """A thousand waiting chains must not fall upon a host that just came back."""
    breaker, clock = opened()
    clock.now += 30

    waits = [breaker.wait(20) for _ in range(3)]

    assert waits == [0.0, 20.0, 20.0]


def test_a_good_probe_closes_it():
    """Then everybody may call again."""
    breaker, clock = opened()
    clock.now += 30
    breaker.wait(20)

    breaker.succeeded()

    assert breaker.wait(20) == 0.0


def test_a_failed_probe_doubles_the_pause_up_to_a_limit():
    """A long outage costs few calls, and never hides a recovery for more than five minutes."""
    breaker, clock = opened()
    pauses = []
    for _ in range(6):
        clock.now += breaker.wait(20)
        assert breaker.wait(20) == 0.0
        breaker.failed()
        pauses.append(breaker.wait(20))

    assert pauses == [60.0, 120.0, 240.0, 300.0, 300.0, 300.0]


def test_a_probe_that_dies_does_not_hold_the_door_for_ever():
    """Its handler may be cancelled, or its process killed."""
    breaker, clock = opened()
    clock.now += 30
    breaker.wait(20)

    clock.now += 20

    assert breaker.wait(20) == 0.0


def test_a_cancelled_probe_gives_its_right_back():
    """Shutdown cancels handlers; the next one should not wait for nothing."""
    breaker, clock = opened()
    clock.now += 30
    breaker.wait(20)

    breaker.released()

    assert breaker.wait(20) == 0.0


def test_late_failures_of_calls_that_began_before_do_not_lengthen_the_pause():
    """Fifty calls in flight fail together when a host dies."""
    breaker, _ = opened()
    for _ in range(50):
        breaker.failed()

    assert breaker.wait(20) == 30.0


def test_each_use_case_has_its_own_and_they_are_bounded():
    """Insights being down must not stop posts; junk keys must not fill memory."""
    breakers = Breakers()
    first = breakers.of("host", "pages")

    for number in range(MAX_BREAKERS):
        assert breakers.of("host", f"other {number}") is not first

    assert breakers.of("host", "pages") is not first
