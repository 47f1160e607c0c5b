"""What coverage says about completeness, scope by scope and over a feed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pipeline.chains import coverage
from pipeline.chains.coverage import Spans
from pipeline.chains.protocol import MICROS, Lane, Rules
from pipeline.storage.chains import Covered
from pipeline.storage.reports import ScopeCovered


class ScopeCompleteness(NamedTuple):
    """Item times in whole seconds. Nothing below `covered_to` is missing; a gap is not proven yet."""

    covered_to: int
    """The end of what is complete from `history_start` on without a gap; 0 if nothing is."""
    newest: int
    """The end of the newest proven interval; 0 if nothing is proven."""
    gaps: Spans
    oldest_gap_at: int
    """Since when the oldest gap is open: its newest second had come, and the scope was known. 0 without gaps."""


def of_scope(covered: Covered, rules: Rules, *, wanted: int, now: int) -> ScopeCompleteness:
    """
    Say how complete a scope is. `now` is microseconds.

    What is younger than the newest proven second is not a gap: the next tick brings it. A child scope is open up to
    its `wanted`, for no tick comes for it.
    """
    start, spans = covered.history_start, covered.spans
    newest = spans[-1][1] if spans else 0
    edge = now // MICROS - rules.settle
    top = wanted if rules.child else (newest or edge)
    gaps = coverage.uncovered(spans, start, top)
    below = next((hi for lo, hi in spans if lo <= start < hi), 0)
    since = [max(min(hi, now // MICROS), covered.first_opened_at // MICROS) for _, hi in gaps]
    return ScopeCompleteness(newest if not gaps else below, newest, gaps, min(since, default=0))


class FeedCompleteness(NamedTuple):
    """A feed over its scopes; times as above, 0 where nothing can be said."""

    scopes: int
    complete: int
    covered_to: int
    """The least `covered_to` of the complete scopes: what every one of them has."""
    newest: int
    gaps: int
    oldest_gap_at: int


def of_feed(scopes: Sequence[ScopeCovered], rules: Rules, *, now: int) -> FeedCompleteness:
    """Add scopes up. A snapshot feed's scope is complete as of its last whole listing."""
    if rules.snapshot:
        swept = [scope.swept_at // MICROS for scope in scopes if scope.swept_at]
        open_since = [s.covered.first_opened_at // MICROS for s in scopes if not s.swept_at]
        return FeedCompleteness(
            scopes=len(scopes),
            complete=len(swept),
            covered_to=min(swept, default=0),
            newest=max(swept, default=0),
            gaps=len(open_since),
            oldest_gap_at=min(open_since, default=0),
        )
    found = [of_scope(scope.covered, rules, wanted=scope.wanted, now=now) for scope in scopes]
    complete = [one for one in found if not one.gaps]
    return FeedCompleteness(
        scopes=len(found),
        complete=len(complete),
        covered_to=min((one.covered_to for one in complete), default=0),
        newest=max((one.newest for one in found), default=0),
        gaps=sum(len(one.gaps) for one in found),
        oldest_gap_at=min((one.oldest_gap_at for one in found if one.gaps), default=0),
    )


def chief_lane(rules: Rules) -> Lane:
    """Give the lane whose chain tells a scope's freshest state."""
    return Lane.SWEEP if rules.snapshot else Lane.MAIN
