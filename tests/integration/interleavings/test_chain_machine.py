"""A state machine over whole worlds: hypothesis chooses what happens next, and shrinks what breaks a promise."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tests.integration.interleavings.configs import Config
from tests.integration.interleavings.runs import make

CONFIG = Config(items=(1, 2, 2, 3), hidden=(1,), workers=3, stored=1)


class ChainMachine(RuleBasedStateMachine):
    """Ticks, deliveries, crashes, lost locks, edits; at the end everything must be there, once."""

    def __init__(self) -> None:
        super().__init__()
        self.world = make(CONFIG, 0)

    @rule(choice=st.integers(0, 10_000), steps=st.integers(1, 6))
    def happen(self, choice: int, steps: int) -> None:
        """One thing of those that may happen now, then a few steps of whoever is at work."""
        actions = self.world.actions()
        _, label, act = actions[choice % len(actions)]
        kind = label.partition(" ")[0]
        if kind in self.world.left:
            self.world.left[kind] -= 1
        self.world.clock.now += 1
        act()
        for _ in range(steps):
            busy = [place for place, worker in enumerate(self.world.workers) if worker is not None]
            if busy:
                self.world.clock.now += 1
                self.world.step(busy[choice % len(busy)])

    def teardown(self) -> None:
        """Faults stop; the world heals; nothing is lost, nothing twice."""
        self.world.heal()
        self.world.oracle.final()


ChainMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestChainMachine = ChainMachine.TestCase
