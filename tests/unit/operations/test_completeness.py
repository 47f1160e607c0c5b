"""Coverage as people read it."""

from pipeline.chains.protocol import MICROS, Rules
from pipeline.operations.completeness import of_feed, of_scope
from pipeline.storage.chains import Covered
from pipeline.storage.reports import ScopeCovered

NOW = 1_700_000_000
RULES = Rules(settle=300, fresh_window=172_800, refresh_every=86_400, refresh_window=604_800)


def _scope(*spans: tuple[int, int], start: int = 0, opened: int = NOW - 500) -> Covered:
    return Covered(spans, start, opened * MICROS)


def test_a_scope_covered_in_one_piece_has_no_gap_however_old_its_newest_second_is():
    """What the next tick brings is not missing yet."""
    found = of_scope(_scope((0, NOW - 9000)), RULES, wanted=0, now=NOW * MICROS)

    assert (found.covered_to, found.gaps) == (NOW - 9000, ())


def test_a_hole_below_the_newest_proven_second_is_a_gap_since_its_end_had_come():
    """An outage must be visible as the hole it left, with its age."""
    found = of_scope(
        _scope((0, NOW - 9000), (NOW - 4000, NOW - 300), opened=NOW - 90_000), RULES, wanted=0, now=NOW * MICROS
    )

    assert found.gaps == ((NOW - 9000, NOW - 4000),)
    assert (found.covered_to, found.oldest_gap_at) == (NOW - 9000, NOW - 4000)


def test_history_under_way_is_a_gap_since_the_scope_was_first_opened():
    """Its items are decades old; the gap is not."""
    found = of_scope(_scope((NOW - 4000, NOW - 300)), RULES, wanted=0, now=NOW * MICROS)

    assert (found.covered_to, found.oldest_gap_at) == (0, NOW - 500)


def test_a_child_is_open_up_to_what_its_parent_wants():
    """No tick comes for a child: what is wanted and not proven is missing."""
    found = of_scope(_scope((0, NOW - 900)), RULES._replace(child=True), wanted=NOW - 100, now=NOW * MICROS)

    assert found.gaps == ((NOW - 900, NOW - 100),)


def test_a_feed_promises_what_its_slowest_complete_scope_has():
    """The greatest of all scopes would claim more than is true."""
    scopes = [ScopeCovered(_scope((0, NOW - age)), 0, 0) for age in (9000, 400, 700)]

    whole = of_feed(scopes, RULES, now=NOW * MICROS)

    assert (whole.scopes, whole.complete, whole.covered_to, whole.gaps) == (3, 3, NOW - 9000, 0)


def test_a_snapshot_feed_is_complete_as_of_its_last_whole_listing():
    """It has no coverage; an unfinished sweep is its gap."""
    scopes = [ScopeCovered(_scope(), 0, (NOW - 60) * MICROS), ScopeCovered(_scope(), 0, 0)]

    whole = of_feed(scopes, RULES._replace(snapshot=True), now=NOW * MICROS)

    assert (whole.complete, whole.covered_to, whole.gaps, whole.oldest_gap_at) == (1, NOW - 60, 1, NOW - 500)
