"""What a person sees while it runs."""

from __future__ import annotations

import io

from rich.console import Console

from infra.local.run.compare import Verdict
from infra.local.run.lines import Lines
from infra.local.run.progress import FeedLine, Picture, Queue
from infra.local.run.view import draw

PICTURE = Picture(
    seconds=12.3,
    phase="mining everything",
    feeds=[FeedLine("posts", 1_999, 1_200, pages=40, new=1_200, duplicate=3, quarantined=1, parked=7)],
    queues=[Queue("posts-mining-queue", 5, 2, 9, 1), Queue("idle-queue", 0, 0, 0, 0)],
    calls=321,
    throttled=4,
    faults={"html500": 6},
    restarts={"servicebus": 1},
    notes=["11.0 s  worker 4711 was killed (-9)"],
    verdict=Verdict(1_999, 1_200, 1, [], [], [], [], []),
)


def test_the_live_view_shows_work_trouble_and_where_it_waits():
    """A newcomer decides in five minutes whether this does real work."""
    console = Console(file=io.StringIO(), width=140, force_terminal=False)

    console.print(draw(PICTURE))

    text = console.file.getvalue()  # type: ignore[attr-defined]  # the StringIO given above
    for wanted in ("1,200/1,999", "posts-mining 7 (+9 later) dead 1", "321 calls, 4 throttled", "html500 6", "4711"):
        assert wanted in text
    assert "idle" not in text


def test_plain_lines_tell_each_note_once_and_the_state_now_and_then():
    """A log of a thousand equal lines hides the one that matters."""
    out = io.StringIO()
    lines = Lines(out)

    for _ in range(3):
        lines.show(PICTURE)

    assert out.getvalue().count("4711") == 1
    assert out.getvalue().count("posts 1200/1999") == 1
