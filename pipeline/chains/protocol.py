"""
The chain protocol: what each event does to a chain. Read beside the table in `docs/protocol.md`.

Everything here is a pure function of the row, the coverage, the database's time and a nonce drawn by the caller. The
store runs each one inside ONE transaction; nothing here may be split over two.

Instants are whole microseconds of the database's clock; item times are whole seconds (`UNIT`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple

from pipeline.chains import coverage, ids
from pipeline.chains.coverage import Span, Spans

UNIT = 1
"""The resolution of item time, seconds."""

MICROS = 1_000_000
DAY = 86_400

AFTER_RESTART = 10_000
"""The same after a restart from the top, when all pages down to the old place bring nothing new."""

STALLED_PAGES = 60
"""Pages without progress before a chain is halted; above the ties that 6,000 items of one second make."""

RESTARTS = 5
"""Restarts from the top within one epoch before a chain of a source without time paging is halted."""

MAX_PAGES = 200_000
"""Pages of one epoch before a chain is halted: 20 million items, far beyond any real edge."""

HALT_FIRST = timedelta(hours=24)
HALT_LONGEST = timedelta(days=7)

RERINGS_BEFORE_HALT = 3
"""Delivered re-rings without a commit that make the next one a halt (rule 9)."""


class Lane(StrEnum):
    """Why a chain runs."""

    MAIN = "main"
    GAP = "gap"
    REFRESH = "refresh"
    BACKFILL = "backfill"
    SWEEP = "sweep"


class State(StrEnum):
    """Where a chain is in its life."""

    OPEN = "open"
    PARKED = "parked"
    HALTED = "halted"
    DONE = "done"


LIVE = (State.OPEN, State.PARKED)


class Key(NamedTuple):
    """Names one chain."""

    user_id: str
    feed: str
    scope: str
    lane: Lane


class Position(NamedTuple):
    """Time (whole seconds) and id of the last item committed, in the API's order; the id is empty after a jump."""

    time: int
    id: str


class Rules(NamedTuple):
    """What the protocol needs to know of a feed; durations in whole seconds."""

    settle: int
    fresh_window: int
    refresh_every: int
    refresh_window: int
    newest_first: bool = True
    by_time: bool = True
    child: bool = False
    snapshot: bool = False
    staged: bool = False
    daily: bool = False
    """Item times are whole days: windows are too."""
    sweep_every: int = 0

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The lanes that a tick looks at, in the order it opens them."""
        if self.snapshot:
            return (Lane.SWEEP,)
        if self.child:
            return (Lane.MAIN,)
        if self.splits:
            return (Lane.MAIN, Lane.GAP, Lane.REFRESH)
        return (Lane.MAIN, Lane.REFRESH) if self.newest_first or self.staged else (Lane.MAIN,)

    @property
    def splits(self) -> bool:
        """Whether the fresh end and older gaps are lanes of their own; needs paging by time, newest first."""
        return self.by_time and self.newest_first and not self.child and not self.snapshot and not self.staged

    @property
    def ordered(self) -> bool:
        """Whether the listing comes newest first, so that a position proves what is above it."""
        return self.newest_first and not self.snapshot and not self.staged

    def rereads(self, lane: Lane) -> bool:
        """
        Whether a lane ignores coverage: it stops below its window, marks what it met, and then looks for deletions.

        A child reads its refresh window again whenever its parent changed, for a deleted comment changes the count.
        """
        return lane in (Lane.REFRESH, Lane.BACKFILL) or self.child

    def marks(self, lane: Lane) -> bool:
        """Whether the items that an epoch meets are marked with it."""
        return lane in (Lane.REFRESH, Lane.SWEEP) or self.child or not self.ordered


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One row of `chains`. An empty `doorbell_id` means that no message can wake it."""

    key: Key
    epoch: int = 0
    seq: int = 0
    doorbell_id: str = ""
    attempt: int = 0
    rung_at: int = 0
    state: State = State.DONE
    not_before: int = 0
    reason: str = ""
    opener: int = 0
    opened_at: int = 0
    committed_at: int = 0
    cursor: str | None = None
    lo: int = 0
    hi: int = 0
    position: Position | None = None
    ordered: bool = True
    wanted: int = 0
    rerings: int = 0
    seen: int = 0
    stalled: int = 0
    restarts: int = 0
    halts: int = 0
    pages: int = 0
    """Pages committed in this epoch."""
    token_version: int = 0
    """The version that was dead when the chain was parked for its token."""
    correlation_id: str = ""

    @property
    def live(self) -> bool:
        """Whether a doorbell can be live for it."""
        return self.state in LIVE and bool(self.doorbell_id)


class Ring(NamedTuple):
    """A doorbell message to write into the outbox in the same transaction; `due` 0 means now."""

    doorbell_id: str
    attempt: int
    due: int

    @property
    def message_id(self) -> str:
        """The MessageId: one per ring."""
        return ids.ring_message_id(self.doorbell_id, self.attempt)


class Change(NamedTuple):
    """What a transaction writes: the row, a doorbell if one must ring, an interval that is now proven."""

    chain: Chain
    ring: Ring | None = None
    claim: Span | None = None


# ---------------------------------------------------------------------------------------------- opening (rules 4, 5, 8)


def upper_edge(now: int, rules: Rules) -> int:
    """Give the `hi` of a chain that opens now (rule 4): what is younger than `settle` is never claimed."""
    edge = now // MICROS - rules.settle
    return edge - edge % DAY if rules.daily else edge


def mark_of(chain: Chain) -> int:
    """Give the number that marks items as met by this epoch of this lane, unlike any other lane's."""
    return chain.epoch * len(Lane) + tuple(Lane).index(chain.key.lane)


def window(lane: Lane, spans: Spans, hi: int, start: int, rules: Rules) -> Span | None:
    """
    Give the window of a lane (rule 5), or None if nothing in its range is open.

    From the lowest to the highest open second of the lane's range, whatever is proven in between. `start` is the
    coverage row's `history_start`.
    """
    if lane is Lane.SWEEP:
        return (start, hi)
    if lane is Lane.REFRESH:
        lo = max(start, hi - rules.refresh_window)
        return (lo, hi) if lo < hi else None
    edge = max(start, hi - rules.fresh_window) if rules.splits else start
    lo, top = (start, edge) if lane is Lane.GAP else (edge, hi)
    gaps = coverage.uncovered(spans, lo, top)
    return (gaps[0][0], gaps[-1][1]) if gaps else None


def open_by_tick(
    row: Chain | None,
    key: Key,
    *,
    occurrence: int,
    now: int,
    spans: Spans,
    start: int,
    first_opened_at: int,
    rules: Rules,
    doorbell_id: str,
    correlation_id: str = "",
    ordered_window: Span | None = None,
) -> Change | None:
    """
    Open a chain for a tick, or None if there is nothing to open (column 'no row, done, halted past not_before').

    `first_opened_at` is when the scope was first opened: refresh waits one period from there. A halted chain whose
    range was proven meanwhile becomes done. `ordered_window` is what a person ordered for the lane `backfill`.
    """
    if row is not None:
        if row.live or (row.state is State.HALTED and now < row.not_before):
            return None
        if occurrence <= row.opener:
            return None
    if not _due(row, key.lane, now, first_opened_at, rules):
        return None
    hi = upper_edge(now, rules)
    span = ordered_window if key.lane is Lane.BACKFILL else window(key.lane, spans, hi, start, rules)
    if span is None:
        if row is not None and row.state is State.HALTED:
            return Change(replace(row, state=State.DONE, reason="", halts=0))
        return None
    return Change(
        _opened(row, key, now, span, doorbell_id, State.OPEN, opener=occurrence, correlation_id=correlation_id)
    )


def _due(row: Chain | None, lane: Lane, now: int, first_opened_at: int, rules: Rules) -> bool:
    if lane is Lane.REFRESH:
        last = max(first_opened_at, row.opened_at if row else 0)
        return bool(first_opened_at) and now - last >= rules.refresh_every * MICROS
    if lane is Lane.SWEEP:
        return row is None or now - row.opened_at >= rules.sweep_every * MICROS
    return True


def _opened(
    row: Chain | None,
    key: Key,
    now: int,
    span: Span,
    doorbell_id: str,
    state: State,
    *,
    opener: int,
    not_before: int = 0,
    correlation_id: str = "",
) -> Chain:
    return Chain(
        key=key,
        epoch=(row.epoch if row else 0) + 1,
        doorbell_id=doorbell_id,
        rung_at=now,
        state=state,
        not_before=not_before,
        opener=opener,
        opened_at=now,
        committed_at=row.committed_at if row else 0,
        lo=span[0],
        hi=span[1],
        wanted=row.wanted if row else 0,
        halts=row.halts if row else 0,
        correlation_id=correlation_id,
    )


# ------------------------------------------------------------------------------------------------- doorbells (7, 15)


class Look(StrEnum):
    """What a doorbell's look at its chain says."""

    STALE = "stale"  # another doorbell is live, or none: flush, complete
    EARLY = "early"  # before `not_before`: ring again when it is due (rule 15)
    FETCH = "fetch"


def look(row: Chain | None, doorbell_id: str, now: int) -> Look:
    """Tell what a doorbell may do; only the row decides, never the message's other fields."""
    if row is None or not row.live or row.doorbell_id != doorbell_id:
        return Look.STALE
    if row.state is State.PARKED and now < row.not_before:
        return Look.EARLY
    return Look.FETCH


def ring_again(row: Chain, *, now: int, lock_micros: int) -> Ring:
    """
    Give the copy that a loser leaves (rule 7). `row` is what its own UPDATE returned, attempt already counted up.

    Due in one lock, and for a parked chain not before `not_before`.
    """
    due = now + lock_micros
    if row.state is State.PARKED:
        due = max(due, row.not_before)
    return Ring(row.doorbell_id, row.attempt, due)


def first_until(chain: Chain, spans: Spans, rules: Rules) -> int | None:
    """
    Give the inclusive `until` of a fetch without a cursor; None lists from the top (rules 3, 4 and 6).

    The first page of `gap` begins below what was proven since the chain was opened, so it repeats no page of `main`.
    """
    if not rules.by_time or not rules.ordered or not chain.ordered:
        return None
    if chain.position is not None:
        return chain.position.time
    if chain.key.lane is Lane.GAP:
        gaps = coverage.uncovered(spans, chain.lo, chain.hi)
        return gaps[-1][1] - UNIT if gaps else chain.lo
    if chain.key.lane is Lane.BACKFILL:
        return chain.hi - UNIT
    return None


def asked_window(chain: Chain, rules: Rules, now: int) -> Span:
    """
    Give the window to ask a report for: the chain's own, and with it the day that is not over yet.

    As in a listing, what is newer than `hi` is stored and published, but proves nothing.
    """
    today = now // MICROS - now // MICROS % DAY
    reaches_today = rules.daily and chain.key.lane is not Lane.BACKFILL and chain.hi >= today
    return (chain.lo, today + DAY) if reaches_today else (chain.lo, chain.hi)


# ------------------------------------------------------------------------------------------------- pages (rules 0-3)


class PageFacts(NamedTuple):
    """What the protocol needs of a page."""

    last: Position | None
    """Time and id of the page's last item in the API's order that has a time; None if none has."""
    cursor: str | None
    """None exactly when the API gave no `next`."""
    new_keys: int = 0
    """Items that this epoch (sweeps) or the store had not seen: the progress of a listing without order."""
    restarted: bool = False
    """The page answers a request from the top, made because the cursor was dead and time cannot be paged."""


def advance(
    chain: Chain, page: PageFacts, spans: Spans, rules: Rules, *, now: int, nonce: str, yielding: bool
) -> Change:
    """
    Commit a page: the new row, the claim, and the next doorbell if the handler yields.

    Done leaves no doorbell. Without progress for too long the chain is halted in the same transaction, so what the
    page held is kept all the same.
    """
    position, ordered, progress = _position(chain, page, rules)
    claims = rules.ordered and ordered
    restarts = chain.restarts + page.restarted
    moved = replace(
        chain,
        seq=chain.seq + 1,
        state=State.OPEN,
        not_before=0,
        reason="",
        cursor=page.cursor,
        position=position,
        ordered=ordered,
        rung_at=now,
        committed_at=now,
        rerings=0,
        seen=0,
        stalled=0 if progress else chain.stalled + 1,
        restarts=restarts,
        pages=chain.pages + 1,
    )
    floor = chain.lo if position is None else position.time + UNIT
    if page.cursor is None:
        # An ordered listing that ends has shown that nothing older exists: that is proven, too.
        end = None if rules.snapshot else (0 if claims else chain.lo, chain.hi)
        return Change(_done(moved), claim=end)
    rest = _rest(moved, spans, rules)
    if not rest:
        return Change(_done(moved), claim=(min(chain.lo, floor), chain.hi) if claims else None)
    claim = (floor, chain.hi) if claims and position is not None else None
    why = _stuck(moved)
    if why:
        return Change(halt(moved, why, now=now).chain, claim=claim)
    may_jump = claims and rules.by_time and not rules.rereads(chain.key.lane)
    if may_jump and position is not None and rest[-1][1] - UNIT < position.time:
        moved = replace(moved, cursor=None, position=Position(rest[-1][1] - UNIT, ""))
    if not yielding:
        return Change(moved, claim=claim)
    moved, ring = _new_doorbell(moved, nonce, due=0)
    return Change(moved, ring, claim)


def _position(chain: Chain, page: PageFacts, rules: Rules) -> tuple[Position | None, bool, bool]:
    """Rule 0: (position, ordered, progress). The position never rises; a page above it proves nothing more."""
    before, last = chain.position, page.last
    if not rules.ordered:
        return (last or before), True, page.new_keys > 0
    if last is None:
        return before, chain.ordered, False
    if before is None or last.time < before.time:
        return last, chain.ordered, True
    if last.time == before.time:
        return last, chain.ordered, False
    if not rules.by_time:  # pages shift, and a restart passes again over what was seen: expected, no progress
        return before, chain.ordered, True
    return before, False, False


def _rest(chain: Chain, spans: Spans, rules: Rules) -> Spans:
    """Give what is still open below the position (rule 1); empty means that the chain is done."""
    everything = ((chain.lo, chain.hi),)
    if not rules.ordered or not chain.ordered:
        return everything
    position = chain.position
    if rules.rereads(chain.key.lane):
        return () if position is not None and position.time < chain.lo else everything
    top = chain.hi if position is None else min(chain.hi, position.time + UNIT)
    return coverage.uncovered(spans, chain.lo, top)


def _stuck(chain: Chain) -> str:
    if chain.stalled >= (AFTER_RESTART if chain.restarts else STALLED_PAGES):
        return "no-progress"
    if chain.restarts > RESTARTS:
        return "restarts"
    return "page-cap" if chain.pages >= MAX_PAGES else ""


def _done(chain: Chain) -> Chain:
    return replace(chain, state=State.DONE, doorbell_id="", attempt=0, cursor=None, halts=0)


def _new_doorbell(chain: Chain, nonce: str, *, due: int) -> tuple[Chain, Ring]:
    rung = replace(chain, doorbell_id=ids.new_doorbell(nonce), attempt=0, rerings=0, seen=0)
    return rung, Ring(rung.doorbell_id, 0, due)


# ------------------------------------------------------------------------------------------------- park, halt, close


def park(chain: Chain, *, until: int, reason: str, now: int, nonce: str, token_version: int = 0) -> Change:
    """Park a chain until an instant, with a new doorbell that is due then."""
    parked = replace(
        chain, state=State.PARKED, not_before=until, reason=reason, rung_at=now, token_version=token_version
    )
    return Change(*_new_doorbell(parked, nonce, due=until))


def stage(chain: Chain, cursor: str | None, *, until: int, now: int, nonce: str) -> Change:
    """
    Note how far a report is: what to ask next, and not before `until`; a report that failed (`cursor` None) is
    created anew, a few times. `until` in the past rings at once.
    """
    restarts = chain.restarts + (cursor is None)
    moved = replace(chain, cursor=cursor, restarts=restarts, token_version=0)
    if restarts > RESTARTS:
        return halt(moved, "report fails", now=now)
    if until > now:
        return park(moved, until=until, reason="report", now=now, nonce=nonce)
    opened = replace(moved, state=State.OPEN, not_before=0, reason="", rung_at=now)
    return Change(*_new_doorbell(opened, nonce, due=0))


def halt(chain: Chain, reason: str, *, now: int) -> Change:
    """Halt a chain: no doorbell, what it proved kept. It may be opened anew after 24 h, doubling to 7 days (17)."""
    wait = min(HALT_FIRST * 2 ** min(chain.halts, 8), HALT_LONGEST)
    return Change(
        replace(
            chain,
            state=State.HALTED,
            reason=reason,
            not_before=now + wait // timedelta(microseconds=1),
            doorbell_id="",
            attempt=0,
            halts=chain.halts + 1,
        )
    )


def close(chain: Chain, reason: str) -> Change:
    """End a chain whose scope is gone: done, without a claim."""
    return Change(replace(_done(chain), reason=reason))


# ------------------------------------------------------------------------------------------------- watchdog (rule 9)


class Watch(StrEnum):
    """What the watchdog does with a chain."""

    LEAVE = "leave"
    RING = "ring"
    HALT = "halt"
    OPEN_CHILD = "open-child"


def watch(chain: Chain, *, now: int, lock_micros: int, queue_wait_micros: int) -> Watch:
    """
    Tell whether a chain must be rung again, or halted because three delivered re-rings brought no commit.

    Idle is measured from the later of last commit, last ring and `not_before`; the bound doubles with each re-ring,
    from 2 to 128 locks, plus twice the wait last seen on the queue.
    """
    if chain.state is State.HALTED:
        return Watch.OPEN_CHILD if chain.wanted and now >= chain.not_before else Watch.LEAVE
    if not chain.live or (chain.state is State.PARKED and now < chain.not_before):
        return Watch.LEAVE
    idle = now - max(chain.committed_at, chain.rung_at, chain.not_before)
    if idle <= lock_micros * 2 ** min(chain.rerings + 1, 7) + 2 * queue_wait_micros:
        return Watch.LEAVE
    if chain.rerings >= RERINGS_BEFORE_HALT and chain.seen >= RERINGS_BEFORE_HALT:
        return Watch.HALT
    return Watch.RING


def ring_by_watchdog(chain: Chain, *, now: int) -> Change:
    """Ring with the same doorbell id and the next attempt, so that the doorbell in a backlog stays good."""
    rung = replace(chain, attempt=chain.attempt + 1, rerings=chain.rerings + 1, rung_at=now)
    return Change(rung, Ring(rung.doorbell_id, rung.attempt, 0))


# -------------------------------------------------------------------------------------------------- children (rule 14)


def want_child(
    row: Chain | None, key: Key, *, now: int, skew_seconds: int, spans: Spans, start: int, rules: Rules, nonce: str
) -> Change:
    """
    Want a child's comments anew, in the transaction that accepts its parent item as new or changed.

    `wanted` never falls. A child that is done, or halted past `not_before`, is opened in the same transaction, parked
    until what it must see has had time to become visible.
    """
    wanted = max(row.wanted if row else 0, now // MICROS + skew_seconds + UNIT)
    child = replace(row, wanted=wanted) if row else Chain(key=key, wanted=wanted)
    if child.live or (child.state is State.HALTED and now < child.not_before):
        return Change(child)
    return open_child(child, now=now, spans=spans, start=start, rules=rules, nonce=nonce)


def open_child(child: Chain, *, now: int, spans: Spans, start: int, rules: Rules, nonce: str) -> Change:
    """
    Open a child below its `wanted`, parked until `wanted` + settle; nothing open there leaves it done.

    Used by a parent's transaction, by the transaction that ends the child's chain (with `wanted` as its own UPDATE
    returned it) and by the watchdog for a halted child past `not_before`.
    """
    if rules.snapshot:
        span: Span | None = (start, child.wanted)
    else:
        gaps = coverage.uncovered(spans, start, child.wanted)
        again = max(start, child.wanted - rules.refresh_window)
        span = (min(gaps[0][0], again), gaps[-1][1]) if gaps else None
    if span is None:
        return Change(replace(child, state=State.DONE, doorbell_id="", reason=""))
    due = max(now, (child.wanted + rules.settle) * MICROS)
    opened = _opened(
        child, child.key, now, span, "", State.PARKED, opener=child.opener, not_before=due, correlation_id=""
    )
    return Change(*_new_doorbell(replace(opened, reason="settling"), nonce, due=due))
