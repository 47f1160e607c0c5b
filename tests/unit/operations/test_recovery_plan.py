"""What a recovery decides, chain by chain."""

import pytest

from pipeline.chains.protocol import MICROS, Chain, Key, Lane, State
from pipeline.feeds import load_feeds
from pipeline.miners.plan import make_plans
from pipeline.operations.recover import Action, plan_recovery
from pipeline.settings import load
from pipeline.storage.outbox import Backlog
from pipeline.storage.recovery import Situation, Stuck

NOW = 1_700_000_000 * MICROS
HOUR = 3600 * MICROS
SETTINGS = load({"OUTBOX_MAX_ROWS": "10"})
PLANS = make_plans(load_feeds(enabled=["posts"]), SETTINGS)


def _decide(state: State, reason: str = "", *, feed: str = "posts", not_before: int = NOW + HOUR, **situation: object):
    chain = Chain(
        key=Key("u1", feed, "s", Lane.MAIN), state=state, reason=reason, not_before=not_before, rung_at=NOW - HOUR
    )
    facts = {"brakes": frozenset(), "live_tokens": {}, "backlog": Backlog(0, 0, 0)} | situation
    stuck = [Stuck(chain, "", 0)]
    (step,) = plan_recovery(Situation(now=NOW, stuck=stuck, **facts), PLANS, SETTINGS)  # type: ignore[arg-type]  # facts
    return step.action


def test_what_stopped_is_opened_anew_before_its_time():
    """A person who removed the cause does not wait a day."""
    assert _decide(State.HALTED, "forbidden 10") is Action.REOPEN


@pytest.mark.parametrize(
    ("reason", "over", "not_over"),
    [
        ("token-dead", {"live_tokens": {("u1", "graph"): 2}}, {"live_tokens": {("u2", "graph"): 2}}),
        ("brake", {"brakes": frozenset({"ads"})}, {"brakes": frozenset({"*"})}),
        ("backpressure", {"backlog": Backlog(3, 0, 0)}, {"backlog": Backlog(11, 0, 0)}),
    ],
)
def test_what_waits_is_woken_only_when_its_reason_is_over(reason, over, not_over):
    """Woken too early it costs a call and parks again; never woken it waits for nothing."""
    assert _decide(State.PARKED, reason, **over) is Action.WAKE
    assert _decide(State.PARKED, reason, **not_over) is Action.WAIT


def test_a_throttled_chain_keeps_its_time():
    """The API's limit is not over because a person is impatient."""
    assert _decide(State.PARKED, "throttled") is Action.WAIT


def test_what_nobody_rang_is_rung():
    """A quarter of an hour of silence is no park and no backlog's first re-rings."""
    assert _decide(State.OPEN, not_before=0) is Action.RING
    assert _decide(State.PARKED, "api-down", not_before=NOW - HOUR) is Action.RING


def test_a_feed_that_is_off_is_left_alone():
    """Its queue may have no function: a doorbell would end among the dead letters."""
    assert _decide(State.HALTED, feed="ads") is Action.WAIT
