"""The status and health answers, over a real store."""

import json

import pytest

from pipeline.bootstrap import Pipeline
from pipeline.bus.entities import Depth, Described
from pipeline.errors import ConfigurationError
from pipeline.operations import web
from pipeline.operations.web import Answer
from pipeline.sources.base import Fault, FaultKind
from tests.desk import Desk

QUEUE = "posts-mining-queue-local"


class Depths:
    """A bus that tells depths."""

    def __init__(self, active: int, dead: int = 0) -> None:
        self.active, self.dead = active, dead

    async def depths(self) -> dict[str, Depth]:
        return {QUEUE: Depth(self.active, 3, self.dead), "somebody-elses-queue-prod": Depth(9, 9, 9)}

    async def describe(self) -> Described | None:
        return None


def _status(desk: Desk, *, html: bool = False) -> Answer:
    async def answer(pipeline: Pipeline) -> Answer:
        async def build() -> Pipeline:
            return pipeline

        return await web.status_answer(build, html=html)

    return desk.with_pipeline(answer)


def _health(desk: Desk) -> Answer:
    async def answer(pipeline: Pipeline) -> Answer:
        async def build() -> Pipeline:
            return pipeline

        return await web.health_answer(build)

    return desk.with_pipeline(answer)


def test_a_queue_that_grows_shows_its_velocity(desk: Desk):
    """A depth of 400 is fine while it falls and an outage while it grows."""
    desk.entities = Depths(100)
    _status(desk)
    desk.clock.advance(60)
    desk.entities = Depths(400)

    queues = {one["queue"]: one for one in json.loads(_status(desk).body)["queues"]}

    assert (queues[QUEUE]["active"], queues[QUEUE]["per_minute"]) == (400, 300.0)
    assert "somebody-elses-queue-prod" not in queues


def test_what_nobody_tells_is_unknown_and_not_zero(desk: Desk):
    """A zero that is a guess hides a backlog."""
    status = json.loads(_status(desk).body)

    assert status["queues_known"] is False
    assert status["queues"][0]["active"] is None


def test_rates_come_from_samples_of_the_last_hour(desk: Desk):
    """Totals tell what was; the rate tells whether it still moves."""
    desk.user("u1", posts=120)
    _status(desk)
    desk.run("mine", "posts")
    desk.work()
    desk.clock.advance(1800)

    posts = json.loads(_status(desk).body)["feeds"][0]

    assert posts["items_per_hour"] == 240.0


def test_a_stopped_chain_is_an_alert_with_the_command_to_type(desk: Desk):
    """A gap that only a person can close must ask for the person."""
    desk.user("u1", posts=5)
    desk.source.faults = [Fault(kind=FaultKind.FORBIDDEN, code="10", calls=1)] * 3
    desk.run("mine", "posts")
    desk.work()

    status = json.loads(_status(desk).body)

    assert status["level"] == "bad"
    assert "recover --dry-run" in status["alerts"][0]["action"]
    assert desk.run("status").code == 1


def test_a_feed_without_ticks_for_two_schedules_is_an_alert(desk: Desk):
    """A scheduler that was switched off by mistake stays silent otherwise."""
    desk.user("u1")
    desk.with_pipeline(lambda p: p.fan_out.scheduled(p.plans["posts"], p.plans["posts"].feed.schedule))
    desk.clock.advance(3600)

    assert any("no tick of posts" in alert["what"] for alert in json.loads(_status(desk).body)["alerts"])


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "&lt;b&gt;"])
def test_names_from_outside_are_text_on_the_page(desk: Desk, name: str):
    """A user id, an error or a reason comes from an API or a file: none of it may become markup."""
    desk.user(name, posts=1)
    desk.source.faults = [Fault(kind=FaultKind.TRANSIENT, code="500", detail=name, calls=1)]
    desk.run("mine", "posts")
    desk.work()

    body = _status(desk, html=True).body

    assert name not in body
    assert "alert(1)" not in body or "&lt;" in body or "&quot;" in body


def test_a_pipeline_that_cannot_start_says_why_in_both_forms(desk: Desk):
    """The page is where a person looks first; a blank 500 tells nothing."""

    async def build():
        raise ConfigurationError("DATABASE_URL is missing")

    async def both(_):
        return [await web.status_answer(build, html=html) for html in (True, False)]

    page, data = desk.with_pipeline(both)

    assert (page.code, data.code) == (503, 503)
    assert "DATABASE_URL is missing" in page.body
    assert json.loads(data.body)["error"] == "DATABASE_URL is missing"


def test_health_is_200_while_it_works_and_503_when_the_schema_is_missing(desk: Desk):
    """A monitor reads the code; a person reads the checks."""
    good = _health(desk)
    (desk.folder / "pipeline.db").rename(desk.folder / "elsewhere.db")
    desk.check_schema = False
    bad = _health(desk)

    assert good.code == 200
    assert bad.code == 503
    assert "python -m pipeline migrate" in bad.body


@pytest.mark.parametrize(
    ("parameter", "accept", "html"),
    [
        (None, "text/html,application/xhtml+xml", True),
        (None, "*/*", False),
        (None, None, False),
        ("json", "text/html", False),
        ("html", None, True),
    ],
)
def test_the_form_follows_the_address_first_and_then_the_client(parameter, accept, html):
    """A browser shows the page, a script gets data, and each can ask for the other."""
    assert web.wants_html(parameter, accept) is html
