"""A state machine over coverage and paging: whatever a listing does, coverage never claims what was not stored."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipeline.chains import protocol
from pipeline.chains.coverage import Spans, add, uncovered
from pipeline.chains.protocol import MICROS, Chain, Change, Key, Lane, PageFacts, Position, Rules, State

RULES = Rules(settle=3, fresh_window=8, refresh_every=6, refresh_window=12)
LANES = (Lane.MAIN, Lane.GAP, Lane.REFRESH)


class Paging(RuleBasedStateMachine):
    """One scope, three lanes, a listing that grows, loses items and shows some of them late."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 20
        self.items: dict[int, tuple[int, int]] = {}
        """id -> (time, visible from); a deleted item is gone."""
        self.stored: set[int] = set()
        self.spans: Spans = ()
        self.chains: dict[Lane, Chain] = {}
        self.tick = self.number = 0

    def page_of(
        self, cursor: str | None, until: int | None, size: int
    ) -> tuple[list[tuple[int, int]], str | None] | None:
        """Give (time, id) newest first and the cursor; None if the cursor's item is gone."""
        seen = sorted(((t, i) for i, (t, visible) in self.items.items() if visible <= self.now), reverse=True)
        if cursor is not None:
            if int(cursor) not in self.items:
                return None
            last = (self.items[int(cursor)][0], int(cursor))
            seen = [one for one in seen if one < last]
        elif until is not None:
            seen = [one for one in seen if one[0] <= until]
        page = seen[:size]
        return page, str(page[-1][1]) if len(seen) > len(page) else None

    @rule(lag=st.integers(0, 3), count=st.integers(1, 3))
    def publish(self, lag: int, count: int) -> None:
        """Items of this second, some visible later."""
        for _ in range(count):
            self.number += 1
            self.items[self.number] = (self.now, self.now + lag)

    @rule(age=st.integers(4, 19), count=st.integers(1, 4))
    @precondition(lambda self: not self.chains)
    def history(self, age: int, count: int) -> None:
        """Items that are there before anything is mined."""
        for _ in range(count):
            self.number += 1
            self.items[self.number] = (self.now - age, 0)

    @rule(data=st.data())
    @precondition(lambda self: self.items)
    def delete(self, data: st.DataObject) -> None:
        """An item goes, and with it the cursor that names it."""
        del self.items[data.draw(st.sampled_from(sorted(self.items)))]

    @rule(count=st.integers(1, 3))
    def live(self, count: int) -> None:
        """A live event stores the newest items and proves nothing."""
        newest = sorted(((t, i) for i, (t, visible) in self.items.items() if visible <= self.now), reverse=True)
        self.stored |= {i for _, i in newest[:count]}

    @rule(seconds=st.integers(1, 7))
    def time(self, seconds: int) -> None:
        """Time passes."""
        self.now += seconds

    @rule(lane=st.sampled_from(LANES))
    def open(self, lane: Lane) -> None:
        """A tick falls due."""
        self.tick += 1
        row = self.chains.get(lane)
        change = protocol.open_by_tick(
            row, Key("u", "f", "s", lane), occurrence=self.tick, now=self.now * MICROS, spans=self.spans, start=0,
            first_opened_at=1, rules=RULES, doorbell_id="d",
        )  # fmt: skip
        if change:
            assert row is None or not row.live
            self.chains[lane] = change.chain

    @rule(lane=st.sampled_from(LANES), size=st.integers(1, 3), yielding=st.booleans())
    def fetch_and_commit(self, lane: Lane, size: int, yielding: bool) -> None:
        """A doorbell is delivered."""
        chain = self.chains.get(lane)
        if chain is not None and chain.live:
            self.commit(chain, size, yielding=yielding)

    def commit(self, chain: Chain, size: int, *, yielding: bool = False) -> Change:
        """Fetch one page from the row, commit it."""
        until = protocol.first_until(chain, self.spans, RULES)
        answer = self.page_of(chain.cursor, None if chain.cursor else until, size)
        if answer is None:
            answer = self.page_of(None, protocol.first_until(replace(chain, cursor=None), (), RULES), size)
        assert answer
        page, cursor = answer
        self.stored |= {item for _, item in page}
        last = Position(page[-1][0], str(page[-1][1])) if page else None
        change = protocol.advance(
            chain, PageFacts(last, cursor), self.spans, RULES, now=self.now * MICROS, nonce=f"n{self.now}{chain.seq}",
            yielding=yielding,
        )  # fmt: skip
        if change.claim:
            self.spans = add(self.spans, *change.claim)
        assert change.chain.seq == chain.seq + 1
        if chain.position and change.chain.position:
            assert change.chain.position.time <= chain.position.time
        self.chains[chain.key.lane] = change.chain
        return change

    @invariant()
    def coverage_is_honest(self) -> None:
        """S8: nothing that is there, or will still be shown, lies unstored under a claim."""
        for item, (moment, _) in self.items.items():
            if item not in self.stored:
                assert not any(lo <= moment < hi for lo, hi in self.spans), (item, moment, self.spans)

    def teardown(self) -> None:
        """With ticks and deliveries and nothing else, all history is covered within bounded calls."""
        for _ in range(4):
            self.now += 7
            for lane in LANES:
                self.open(lane)
                for _ in range(3 * len(self.items) + 10):
                    chain = self.chains.get(lane)
                    if chain is None or not chain.live:
                        break
                    self.commit(chain, 2)
                assert lane not in self.chains or self.chains[lane].state is State.DONE
        assert not uncovered(self.spans, 0, self.now - RULES.settle - 7)
        assert {item for item, (moment, _) in self.items.items() if moment < self.now - 10} <= self.stored


Paging.TestCase.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)
TestPaging = Paging.TestCase
