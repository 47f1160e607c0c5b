"""What a dead letter's reason decides."""

import pytest

from pipeline.operations.dead_letters import MAX_CYCLES, Reason, classify, retry_after


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("MaxDeliveryCountExceeded", Reason.DELIVERIES),
        ("TTLExpiredException", Reason.EXPIRED),
        ("HeaderSizeExceeded", Reason.TOO_LARGE),
        ("MaxTransferHopCountExceeded", Reason.FORWARDING),
        ("rejected by the reader", Reason.APPLICATION),
        ("", Reason.UNKNOWN),
    ],
)
def test_the_brokers_words_become_a_class(told, reason):
    """Counts by class tell a bug from an outage."""
    assert classify({"DeadLetterReason": told}) is reason


def test_each_further_cycle_waits_longer_and_the_last_one_ends():
    """A permanent poison must not go round for ever, each time for money."""
    waits = [retry_after(cycle, Reason.DELIVERIES, 300) for cycle in range(MAX_CYCLES + 1)]

    assert waits == [300, 1800, 10_800, None]


def test_what_is_too_large_is_not_tried_again():
    """It will be as large the next time."""
    assert retry_after(0, Reason.TOO_LARGE, 300) is None
