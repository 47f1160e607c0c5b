"""
The event-by-state table and the rules, as tests that can be read beside it.

Columns: a chain that has no row or is done, one that is halted, open, or parked.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.chains import protocol as p
from pipeline.chains.coverage import Spans
from pipeline.chains.protocol import MICROS, Chain, Change, Key, Lane, Look, PageFacts, Position, Rules, State, Watch

KEY = Key("user", "posts", "page", Lane.MAIN)
RULES = Rules(settle=10, fresh_window=100, refresh_every=1000, refresh_window=200)
NOW = 1_000 * MICROS
LOCK = 60 * MICROS

OPEN = Chain(
    key=KEY, epoch=3, seq=2, doorbell_id="b1", state=State.OPEN, opener=5, lo=100, hi=900, cursor="c",
    position=Position(700, "x"), rung_at=NOW, committed_at=NOW,
)  # fmt: skip
PARKED = replace(OPEN, state=State.PARKED, not_before=NOW + 5 * MICROS, reason="throttled")
DONE = replace(OPEN, state=State.DONE, doorbell_id="", cursor=None)
HALTED = replace(DONE, state=State.HALTED, not_before=NOW + 5 * MICROS, reason="no-progress", halts=1)
RESTED = replace(HALTED, not_before=NOW - 1)


def tick(
    row: Chain | None, *, occurrence: int = 6, spans: Spans = (), rules: Rules = RULES, key: Key = KEY,
    start: int = 0, first: int = 1, now: int = NOW,
) -> Change | None:  # fmt: skip
    """Let a tick meet a chain."""
    return p.open_by_tick(
        row, key, occurrence=occurrence, now=now, spans=spans, start=start, first_opened_at=first, rules=rules,
        doorbell_id="tick",
    )  # fmt: skip


def page(chain: Chain, last: Position | None, cursor: str | None, *, spans: Spans = (), rules: Rules = RULES,
         yielding: bool = False, restarted: bool = False, new_keys: int = 0) -> Change:  # fmt: skip
    """Let a page be committed."""
    facts = PageFacts(last, cursor, new_keys=new_keys, restarted=restarted)
    return p.advance(chain, facts, spans, rules, now=NOW + 1, nonce="n", yielding=yielding)


# ------------------------------------------------------------------------------------------------------ row 'tick'


@pytest.mark.parametrize("row", [None, DONE, RESTED])
def test_tick_opens_what_has_no_row_is_done_or_has_rested(row: Chain | None) -> None:
    """Otherwise nothing is ever mined again."""
    change = tick(row)
    assert change
    opened = change.chain
    assert (opened.state, opened.epoch, opened.seq) == (State.OPEN, (row.epoch if row else 0) + 1, 0)
    assert (opened.doorbell_id, opened.attempt, opened.opener) == ("tick", 0, 6)
    assert (opened.cursor, opened.position) == (None, None)
    assert opened.hi == NOW // MICROS - RULES.settle
    assert change.ring is None


@pytest.mark.parametrize("row", [OPEN, PARKED, HALTED])
def test_tick_leaves_open_parked_and_freshly_halted_chains(row: Chain) -> None:
    """A tick that took over would throw away the place in the history."""
    assert tick(row) is None


@pytest.mark.parametrize("occurrence", [4, 5])
@pytest.mark.parametrize("row", [DONE, RESTED])
def test_tick_that_is_not_greater_than_the_opener_opens_nothing(row: Chain, occurrence: int) -> None:
    """A redelivered or late tick would open the same chain again (rule 8)."""
    assert tick(row, occurrence=occurrence) is None


def test_tick_with_nothing_uncovered_opens_nothing_and_makes_a_halted_chain_done() -> None:
    """A chain without work is a call for nothing; one that others have proven needs nobody any more."""
    proven = ((0, 2000),)
    assert tick(None, spans=proven) is None
    assert tick(DONE, spans=proven) is None
    change = tick(RESTED, spans=proven)
    assert change
    assert change.chain.state is State.DONE


def test_first_opening_is_an_ordinary_one_without_any_row() -> None:
    """The first tick of a user has neither chain nor coverage."""
    change = tick(None, first=0)
    assert change
    assert (change.chain.lo, change.chain.hi) == (890, 990)


# -------------------------------------------------------------------------------------- rules 4 and 5: the windows


def test_the_upper_edge_is_fixed_a_settle_before_now() -> None:
    """An item that becomes visible late must not lie under a claim (rule 4)."""
    assert p.upper_edge(NOW, RULES) == 990
    change = page(replace(OPEN, hi=900), Position(500, "y"), "c2")
    assert change.chain.hi == 900


def test_main_takes_the_fresh_end_and_gap_everything_below() -> None:
    """One lane for both would make yesterday's posts wait for ten years of history."""
    assert p.window(Lane.MAIN, (), 990, 0, RULES) == (890, 990)
    assert p.window(Lane.GAP, (), 990, 0, RULES) == (0, 890)
    assert p.window(Lane.REFRESH, ((0, 990),), 990, 0, RULES) == (790, 990)


def test_a_window_goes_from_the_lowest_to_the_highest_hole() -> None:
    """Only the newest or only the oldest hole starves the others as soon as each tick leaves a new one (rule 5)."""
    assert p.window(Lane.GAP, ((10, 20), (30, 800)), 990, 0, RULES) == (0, 890)
    assert p.window(Lane.GAP, ((0, 20), (30, 890)), 990, 0, RULES) == (20, 30)
    assert p.window(Lane.GAP, ((0, 890),), 990, 0, RULES) is None
    assert p.window(Lane.MAIN, ((0, 900),), 990, 0, RULES) == (900, 990)


def test_nothing_before_the_start_of_history_is_wanted() -> None:
    """The coverage row says where history begins, and it never moves."""
    assert p.window(Lane.GAP, (), 990, 500, RULES) == (500, 890)
    assert p.window(Lane.MAIN, (), 990, 950, RULES) == (950, 990)
    assert p.window(Lane.GAP, (), 990, 950, RULES) is None


def test_a_source_without_time_paging_and_a_child_have_one_lane() -> None:
    """Two lanes that cannot start below each other would page the same items twice."""
    assert RULES.lanes == (Lane.MAIN, Lane.GAP, Lane.REFRESH)
    assert RULES._replace(child=True).lanes == (Lane.MAIN,)
    for rules in (RULES._replace(by_time=False), RULES._replace(newest_first=False)):
        assert Lane.GAP not in rules.lanes
        assert p.window(Lane.MAIN, (), 990, 0, rules) == (0, 990)


def test_refresh_opens_one_period_after_the_first_opening_and_then_every_period() -> None:
    """Each tick would page a week again."""
    key = KEY._replace(lane=Lane.REFRESH)
    late = 3000 * MICROS
    assert tick(None, key=key, first=0, now=late) is None
    assert tick(None, key=key, first=late - 999 * MICROS, now=late) is None
    assert tick(None, key=key, first=late - 1000 * MICROS, now=late)
    again = replace(DONE, key=key, opened_at=late - 500 * MICROS)
    assert tick(again, key=key, first=1, now=late) is None
    assert tick(replace(again, opened_at=late - 1000 * MICROS), key=key, first=1, now=late)


# -------------------------------------------------------------------------------------------------- row 'doorbell'


def test_doorbell_mine_fetches_from_an_open_chain_and_from_a_parked_one_that_has_waited() -> None:
    """The row, not the message, says where to go on."""
    assert p.look(OPEN, "b1", NOW) is Look.FETCH
    assert p.look(PARKED, "b1", PARKED.not_before) is Look.FETCH


def test_doorbell_mine_before_its_time_rings_again_later() -> None:
    """The broker's clock may be ahead; a child fetched too early claims what it has not seen (rule 15)."""
    assert p.look(PARKED, "b1", PARKED.not_before - 1) is Look.EARLY


@pytest.mark.parametrize("row", [None, DONE, HALTED, OPEN, PARKED])
def test_doorbell_not_mine_is_stale(row: Chain | None) -> None:
    """A second chain for one user publishes everything twice."""
    assert p.look(row, "other", NOW) is Look.STALE
    assert p.look(row, "", NOW) is Look.STALE


# ------------------------------------------------------------------------------------------------------ row 'lost'


def test_a_loser_leaves_a_copy_with_the_attempt_that_was_just_written() -> None:
    """Two losers with one MessageId are one message to duplicate detection (rule 7)."""
    ring = p.ring_again(replace(OPEN, attempt=4), now=NOW, lock_micros=LOCK)
    assert (ring.message_id, ring.due) == ("b1/4", NOW + LOCK)
    late = replace(PARKED, not_before=NOW + 9 * LOCK)
    assert p.ring_again(late, now=NOW, lock_micros=LOCK).due == late.not_before
    assert p.ring_again(PARKED, now=NOW, lock_micros=LOCK).due == NOW + LOCK


# ---------------------------------------------------------------------------------------------- row 'page fetched'


def test_page_without_next_ends_the_chain_and_proves_all_below() -> None:
    """Only an absent `next` is the end; short and empty pages are not. Nothing older exists: that is proven too."""
    change = page(OPEN, Position(650, "y"), None)
    assert (change.chain.state, change.chain.doorbell_id, change.claim) == (State.DONE, "", (0, 900))
    assert change.ring is None
    unordered = page(OPEN, Position(650, "y"), None, rules=RULES._replace(newest_first=False))
    assert unordered.claim == (100, 900)


def test_page_with_next_goes_on_under_the_same_doorbell_while_the_budget_lasts() -> None:
    """A new message for each page would cost a receive for each."""
    change = page(OPEN, Position(650, "y"), "c2")
    chain = change.chain
    assert (chain.state, chain.doorbell_id, chain.seq, chain.cursor) == (State.OPEN, "b1", 3, "c2")
    assert chain.position == Position(650, "y")
    assert change.ring is None


def test_page_that_yields_draws_a_new_doorbell_with_attempt_zero() -> None:
    """The continuation is in the transaction, or a crash right after it ends the chain."""
    change = page(replace(OPEN, attempt=3), Position(650, "y"), "c2", yielding=True)
    assert change.ring
    assert (change.ring.message_id, change.ring.due) == ("bn/0", 0)
    assert (change.chain.doorbell_id, change.chain.attempt) == ("bn", 0)


def test_page_sets_a_parked_chain_open_and_forgets_its_re_rings() -> None:
    """What was counted against it before belongs to a page that is through."""
    chain = page(replace(PARKED, rerings=3, seen=3), Position(650, "y"), "c2").chain
    assert (chain.state, chain.not_before, chain.reason) == (State.OPEN, 0, "")
    assert (chain.rerings, chain.seen) == (0, 0)


def test_page_claims_above_its_last_item_only() -> None:
    """A tie of the last item may stand on the next page (rule 2)."""
    assert page(OPEN, Position(650, "y"), "c2").claim == (651, 900)


def test_page_that_touches_a_proven_interval_is_not_the_end() -> None:
    """Below the interval may be a hole: history that is never mined (rule 1)."""
    change = page(OPEN, Position(650, "y"), "c2", spans=((600, 660),))
    assert change.chain.state is State.OPEN
    assert page(OPEN, Position(650, "y"), "c2", spans=((100, 650),)).chain.state is State.OPEN  # a tie at 650 is open


def test_page_ends_the_chain_when_all_below_is_proven() -> None:
    """The tick of a user without news costs one call."""
    change = page(OPEN, Position(650, "y"), "c2", spans=((100, 651),))
    assert (change.chain.state, change.claim) == (State.DONE, (100, 900))


def test_page_jumps_over_a_proven_interval() -> None:
    """What is proven is not paged again (rule 3)."""
    chain = page(OPEN, Position(650, "y"), "c2", spans=((300, 660),)).chain
    assert (chain.cursor, chain.position) == (None, Position(299, ""))
    stays = page(OPEN, Position(650, "y"), "c2", spans=((300, 660),), rules=RULES._replace(by_time=False)).chain
    assert (stays.cursor, stays.position) == ("c2", Position(650, "y"))


def test_pages_of_known_items_are_never_the_end() -> None:
    """This is how the series loses history: WebSocket items made the first page look known."""
    assert page(OPEN, Position(650, "y"), "c2", new_keys=0).chain.state is State.OPEN


def test_empty_page_with_next_goes_on_and_claims_nothing_new() -> None:
    """The API filters after it pages: empty is not the end."""
    change = page(OPEN, None, "c2")
    assert (change.chain.state, change.chain.cursor, change.chain.position) == (State.OPEN, "c2", OPEN.position)
    first = page(replace(OPEN, position=None), None, "c2")
    assert first.claim is None


def test_page_above_the_position_ends_all_claims_but_not_the_chain() -> None:
    """A pinned old item at the top made coverage lie in every run (rule 0)."""
    change = page(OPEN, Position(800, "pinned"), "c2")
    assert (change.chain.ordered, change.claim, change.chain.state) == (False, None, State.OPEN)
    assert change.chain.position == OPEN.position
    later = page(change.chain, Position(90, "z"), "c3")
    assert (later.chain.state, later.claim) == (State.OPEN, None)


def test_refresh_and_backfill_ignore_coverage_and_do_not_jump() -> None:
    """They read again what is proven: that is what they are for."""
    for lane in (Lane.REFRESH, Lane.BACKFILL):
        chain = replace(OPEN, key=KEY._replace(lane=lane))
        going = page(chain, Position(650, "y"), "c2", spans=((0, 2000),)).chain
        assert (going.state, going.cursor) == (State.OPEN, "c2")
        assert page(chain, Position(100, "y"), "c2").chain.state is State.OPEN  # ties at the lower edge
        assert page(chain, Position(99, "y"), "c2").chain.state is State.DONE


# ---------------------------------------------------------------------------------------- row 'invalid cursor' (6)


def test_re_seek_asks_from_the_position_inclusive() -> None:
    """Exclusive would lose the ties of the last item."""
    assert p.first_until(OPEN, (), RULES) == 700
    assert p.first_until(OPEN, (), RULES._replace(by_time=False)) is None
    assert p.first_until(replace(OPEN, ordered=False), (), RULES) is None


def test_gap_begins_below_what_is_proven() -> None:
    """Its first page would repeat the last of main."""
    chain = replace(OPEN, key=KEY._replace(lane=Lane.GAP), position=None, cursor=None)
    assert p.first_until(chain, ((600, 900),), RULES) == 599
    assert p.first_until(chain, (), RULES) == 899
    assert p.first_until(replace(chain, key=KEY), (), RULES) is None


# ------------------------------------------------------------------------------------- rows 'park', 'halt', 'close'


@pytest.mark.parametrize("row", [OPEN, PARKED])
def test_park_draws_a_new_doorbell_that_is_due_then(row: Chain) -> None:
    """Two parks at one page must not share a MessageId: duplicate detection would swallow the second (rule 10)."""
    one = p.park(row, until=NOW + 7, reason="throttled", now=NOW, nonce="n1")
    two = p.park(one.chain, until=NOW + 9, reason="throttled", now=NOW, nonce="n2")
    assert one.ring
    assert two.ring
    assert (one.chain.state, one.chain.not_before, one.ring.due) == (State.PARKED, NOW + 7, NOW + 7)
    assert one.ring.message_id != two.ring.message_id
    assert one.chain.seq == two.chain.seq == row.seq
    assert (two.chain.rerings, two.chain.seen, two.chain.cursor) == (0, 0, "c")


@pytest.mark.parametrize("row", [OPEN, PARKED])
def test_halt_empties_the_doorbell_and_keeps_what_was_reached(row: Chain) -> None:
    """No message may wake it; a tick may, after a day that doubles to a week (rule 17)."""
    change = p.halt(row, "refused", now=NOW)
    assert (change.chain.state, change.chain.doorbell_id, change.ring) == (State.HALTED, "", None)
    assert change.chain.position == row.position
    waits = []
    chain = row
    for _ in range(5):
        chain = p.halt(chain, "refused", now=0).chain
        waits.append(chain.not_before // MICROS // 3600)
    assert waits == [24, 48, 96, 168, 168]


def test_close_ends_without_a_claim() -> None:
    """A scope that is gone proves nothing about its items."""
    change = p.close(OPEN, "scope gone")
    assert (change.chain.state, change.chain.doorbell_id, change.claim, change.ring) == (State.DONE, "", None, None)


# ------------------------------------------------------------------------------------------------- row 'watchdog' (9)


def look_of(chain: Chain, seconds: float, *, wait: int = 0) -> Watch:
    """Let the watchdog look so many locks after the last ring."""
    return p.watch(chain, now=NOW + int(seconds * LOCK), lock_micros=LOCK, queue_wait_micros=wait)


def test_watchdog_leaves_what_is_done_halted_or_still_waits() -> None:
    """Column by column."""
    assert look_of(DONE, 1000) is Watch.LEAVE
    assert look_of(HALTED, 1000) is Watch.LEAVE
    assert look_of(replace(PARKED, not_before=NOW + 2000 * LOCK), 1000) is Watch.LEAVE


def test_watchdog_rings_open_and_parked_chains_that_are_silent_for_too_long() -> None:
    """Losing every doorbell costs time, never data."""
    assert look_of(OPEN, 2) is Watch.LEAVE
    assert look_of(OPEN, 2.01) is Watch.RING
    parked = replace(PARKED, not_before=NOW + LOCK)
    assert look_of(parked, 3) is Watch.LEAVE
    assert look_of(parked, 3.01) is Watch.RING


@pytest.mark.parametrize(("rerings", "locks"), [(0, 2), (1, 4), (2, 8), (3, 16), (5, 64), (6, 128), (9, 128)])
def test_watchdog_waits_twice_as_long_after_each_re_ring(rerings: int, locks: int) -> None:
    """Without it a backlog grows by its own watchdog."""
    chain = replace(OPEN, rerings=rerings)
    assert look_of(chain, locks) is Watch.LEAVE
    assert look_of(chain, locks + 0.01) is Watch.RING
    assert look_of(chain, locks + 0.01, wait=LOCK) is Watch.LEAVE
    assert look_of(chain, locks + 2.01, wait=LOCK) is Watch.RING


def test_watchdog_rings_the_same_doorbell_with_the_next_attempt() -> None:
    """A new doorbell would make the one in the backlog stale."""
    change = p.ring_by_watchdog(replace(OPEN, attempt=2, rerings=1), now=NOW + 5)
    assert change.ring
    assert change.ring.message_id == "b1/3"
    assert (change.chain.attempt, change.chain.rerings, change.chain.rung_at) == (3, 2, NOW + 5)


def test_watchdog_halts_only_what_was_delivered_three_times_in_vain() -> None:
    """Three hours in which nothing is delivered would halt every waiting chain."""
    assert look_of(replace(OPEN, rerings=3, seen=3), 17) is Watch.HALT
    assert look_of(replace(OPEN, rerings=3, seen=2), 17) is Watch.RING
    assert look_of(replace(OPEN, rerings=2, seen=3), 17) is Watch.RING


def test_watchdog_opens_a_halted_child_that_has_rested() -> None:
    """A child gets no tick: nobody else would."""
    child = replace(RESTED, wanted=500)
    assert look_of(child, 0) is Watch.OPEN_CHILD
    assert look_of(replace(child, wanted=0), 0) is Watch.LEAVE


# -------------------------------------------------------------------------------------------- rule 14: child scopes

CHILD = RULES._replace(child=True, refresh_window=0)


def want(row: Chain | None, spans: Spans = ()) -> Change:
    """Let a parent want its child now."""
    return p.want_child(row, KEY, now=NOW, skew_seconds=1, spans=spans, start=0, rules=CHILD, nonce="n")


@pytest.mark.parametrize("row", [None, DONE, RESTED])
def test_parent_opens_a_child_parked_until_what_it_must_see_has_settled(row: Chain | None) -> None:
    """Opened like a tick, a comment that becomes visible just after the fetch is lost for good."""
    change = want(row)
    chain = change.chain
    assert (chain.state, chain.wanted, chain.hi, chain.lo) == (State.PARKED, 1002, 1002, 0)
    assert chain.not_before == (1002 + CHILD.settle) * MICROS
    assert change.ring
    assert change.ring.due == chain.not_before


@pytest.mark.parametrize("row", [OPEN, PARKED, HALTED])
def test_parent_only_raises_wanted_where_a_child_is_busy_or_rests(row: Chain) -> None:
    """The chain that ends opens the next one with it."""
    change = want(row)
    assert change.ring is None
    assert replace(change.chain, wanted=row.wanted) == row
    assert change.chain.wanted == 1002
    assert want(replace(row, wanted=5000)).chain.wanted == 5000


def test_a_child_whose_wanted_is_proven_is_done() -> None:
    """Nothing to do is no chain."""
    change = p.open_child(replace(DONE, wanted=500), now=NOW, spans=((0, 500),), start=0, rules=CHILD, nonce="n")
    assert (change.chain.state, change.ring) == (State.DONE, None)


# --------------------------------------------------------------------------------------------- loops and treadmills


def test_pages_without_progress_halt_the_chain_and_keep_the_page() -> None:
    """A cursor that turns in a circle costs a call a turn, for ever."""
    chain = replace(OPEN, stalled=p.STALLED_PAGES - 1)
    change = page(chain, OPEN.position, "c2")
    assert (change.chain.state, change.chain.reason, change.chain.seq) == (State.HALTED, "no-progress", 3)
    assert page(replace(OPEN, stalled=p.STALLED_PAGES - 1), Position(699, "y"), "c2").chain.stalled == 0


def test_restarts_from_the_top_are_counted() -> None:
    """Without time paging each restart passes over everything again."""
    rules = RULES._replace(by_time=False)
    chain = replace(OPEN, restarts=p.RESTARTS)
    assert page(chain, Position(800, "y"), "c2", rules=rules, restarted=True).chain.reason == "restarts"
