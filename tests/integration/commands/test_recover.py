"""Recovery after the cause is gone."""

from typing import Any

from pipeline.bus.messages import Received
from pipeline.sources.base import Fault, FaultKind
from tests.desk import Desk

FORBIDDEN = Fault(kind=FaultKind.FORBIDDEN, code="10", calls=1)


def _halted(desk: Desk, *, at_page: int = 0) -> Desk:
    """One user whose main chain stopped at a page, ten items a page."""
    desk.source.limit = 10
    desk.user("u1", posts=60)
    desk.variables["PAGES_PER_MESSAGE"] = "1"
    desk.run("mine", "posts")
    queue = "posts-mining-queue-local"
    for _ in range(at_page):
        one = desk.bus.ready(queue)[0]
        _handle(desk, desk.bus.receive(queue, one))
        desk.bus.complete(queue, one)
    desk.source.faults = [FORBIDDEN] * 3
    desk.work()
    desk.source.faults = []
    return desk


def _handle(desk: Desk, message: Received) -> None:
    desk.with_pipeline(lambda pipeline: pipeline.miner.handle(message))


def _plan(desk: Desk, *more: str) -> list[dict[str, Any]]:
    plan: list[dict[str, Any]] = desk.run("recover", "--dry-run", "--json", *more).json["plan"]
    return plan


def _items(desk: Desk) -> int:
    return int(desk.run("status", "--json").json["feeds"][0]["items"])


def test_the_plan_changes_nothing_and_the_recovery_brings_everything(desk: Desk):
    """Halted for a day, a person who fixed the permission needs the data now."""
    _halted(desk)

    plan = _plan(desk, "--feed", "posts")
    untouched = _plan(desk, "--feed", "posts")
    said = desk.run("recover", "--feed", "posts", "--json")
    desk.work()

    assert {step["action"] for step in plan} == {"reopen"}
    assert plan == untouched
    assert said.json["done"] == {"reopen": len(plan)}
    assert _items(desk) == 60


def test_a_reopened_chain_fetches_only_what_is_not_proven(desk: Desk):
    """A restart is a new epoch, never a lost position: proven pages cost no call again."""
    _halted(desk, at_page=3)
    calls = desk.source.calls

    desk.run("recover", "--feed", "posts")
    desk.work()

    assert _items(desk) == 60
    # Three of six pages were proven; each of the three lanes may look once at an edge.
    assert desk.source.calls - calls <= 6


def test_recovering_twice_opens_nothing_twice(desk: Desk):
    """Two people at two desks press at once."""
    _halted(desk)
    desk.run("recover", "--feed", "posts")

    again = desk.run("recover", "--feed", "posts", "--json")

    assert "reopen" not in again.json["done"]


def test_what_waits_for_a_token_waits_on_and_the_plan_says_for_what(desk: Desk):
    """Waking it without a token would cost a call and change nothing."""
    desk.user("u1", posts=5)
    desk.source.faults = [Fault(kind=FaultKind.TOKEN_DEAD, code="190", calls=1)]
    desk.run("mine", "posts")
    desk.work()

    plan = _plan(desk)

    assert {(step["action"], step["why"]) for step in plan} == {("wait", "needs a new token")}


def test_the_plan_estimates_from_the_chains_own_pace(desk: Desk):
    """'How long will it take' is asked of every recovery."""
    from pipeline.chains.protocol import MICROS, Chain, Key, Lane, Position
    from pipeline.operations.recover import estimate

    chain = Chain(
        key=Key("u", "posts", "s", Lane.MAIN), lo=1000, hi=2000, position=Position(1500, "x"), pages=10,
        opened_at=0, committed_at=20 * MICROS,
    )  # fmt: skip

    assert estimate(chain) == (10, 20.0)


def test_republishing_needs_kept_messages_and_names_the_setting(desk: Desk):
    """The default keeps none: the command must not pretend."""
    said = desk.run("republish")

    assert said.code == 2
    assert "OUTBOX_RETENTION_SECONDS" in said.err


def test_republishing_brings_back_what_a_bus_forgot(desk: Desk):
    """The local bus keeps messages in memory only; a killed one has lost them all."""
    desk.variables["OUTBOX_RETENTION_SECONDS"] = "600"
    desk.user("u1", posts=30)
    desk.run("mine", "posts")
    desk.work()
    lost = [message.message_id for message in desk.bus.topics["posts-data-topic-local"]]
    desk.bus.topics.clear()
    desk.bus.queues.clear()
    desk.bus.seen.clear()

    said = desk.run("republish", "--json")

    assert said.json["unsent"] == said.json["sent"] > 0
    assert [message.message_id for message in desk.bus.topics["posts-data-topic-local"]] == lost
