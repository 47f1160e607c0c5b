"""Times as people say them."""

import pytest

from pipeline.operations.words import plural, span


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "under 1 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h"), (90_061, "1 d 1 h"), (86_460, "1 d")],
)
def test_a_duration_is_said_in_its_two_greatest_units(seconds, words):
    """'93,784 s' tells an operator nothing at three in the morning."""
    assert span(seconds) == words


def test_one_is_not_plural():
    """Small texts are read most."""
    assert [plural(1, "chain"), plural(1204, "chain")] == ["1 chain", "1,204 chains"]
