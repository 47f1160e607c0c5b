"""Why has this user no data?"""

from typing import Any

import pytest

from pipeline.sources.base import Fault, FaultKind
from tests.desk import Desk


def _chain(desk: Desk, user: str = "u1") -> dict[str, Any]:
    return next(c for c in desk.run("why", user, "posts", "--json").json["feeds"][0]["chains"] if c["lane"] == "main")


@pytest.mark.parametrize(
    ("fault", "state", "waiting", "step"),
    [
        (Fault(kind=FaultKind.THROTTLED, code="17", wait=300, calls=1), "parked", "call limit", "by itself"),
        (Fault(kind=FaultKind.TOKEN_DEAD, code="190", calls=1), "parked", "working token", "users add u1"),
        (Fault(kind=FaultKind.TRANSIENT, code="503", calls=3), "parked", "the API, which is down", "by itself"),
        (Fault(kind=FaultKind.FORBIDDEN, code="10", calls=1), "halted", "a person", "recover"),
    ],
)
def test_each_way_to_stand_still_is_told_with_its_next_step(desk: Desk, fault: Fault, state, waiting, step):
    """The one question an operator asks at night, answered without reading code."""
    desk.user("u1", posts=10)
    desk.source.faults = [fault]
    desk.run("mine", "posts")
    desk.work()

    chain = _chain(desk)

    assert chain["state"] == state
    assert waiting in chain["waiting_for"]
    assert step in chain["next_step"]
    assert chain["until"]
    assert fault.code in chain["last_error"]


def test_a_user_without_anything_is_told_what_is_missing(desk: Desk):
    """Most 'no data' questions end here: no user, no token, no tick yet."""
    desk.run("users", "add", "u2")

    assert "no user" in desk.run("why", "u1").out
    assert "no token" in desk.run("why", "u2").out


def test_finished_chains_say_up_to_when_they_are_complete(desk: Desk):
    """Completeness is the promise; it must be readable."""
    desk.user("u1", posts=10)
    desk.run("mine", "posts")
    desk.work()

    chain = _chain(desk)

    assert chain["covered_to"]
    assert chain["open_gaps"] == []
    assert chain["items"] == 10


def test_a_feed_that_is_not_enabled_is_named_as_the_argument_at_fault(desk: Desk):
    """The exit code tells scripts apart: 2 is wrong use."""
    said = desk.run("why", "u1", "nonsense")

    assert said.code == 2
    assert "nonsense" in said.err
    assert "posts" in said.err
