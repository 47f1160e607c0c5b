"""A world that is kept in a file: the process may die at any moment, the world goes on."""

from __future__ import annotations

import logging
import resource
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest

from infra.local.graph import Options, Shape, build
from infra.local.graph.app import GraphApp
from infra.local.graph.clock import Clock
from infra.local.graph.http_server import Request
from infra.local.graph.journal import BadState, Journal
from infra.local.graph.tokens import APP_ID, APP_SECRET

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SMALL = Options(shape=Shape(users=3, posts=12, pages=1, ads=3, comments=2), now=NOW)


def ask(app: GraphApp, method: str, target: str, body: object = None, token: str = "") -> Any:
    """Make a call, and give its answer."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    response = app.handle(Request(method, target, headers, orjson.dumps(body) if body is not None else b""))
    return orjson.loads(response.body) if response.body else None


def everything(app: GraphApp) -> dict[str, Any]:
    """Give all that a reader can learn of a world."""
    world = ask(app, "GET", "/__sim/world")
    return {
        "truth": ask(app, "GET", "/__sim/truth?edge=all&items=1&since=2026-05-20"),
        "world": world,
        "limits": ask(app, "GET", "/__sim/budgets")["limits"],
        "faults": [
            {name: value for name, value in rule.items() if name not in {"matched", "fired"}}
            for rule in ask(app, "GET", "/__sim/faults")["faults"]
        ],
    }


def page_of(app: GraphApp, user: int = 0) -> tuple[str, str, str]:
    """Give a user's first page, its ad account and the user's token."""
    found = ask(app, "GET", "/__sim/world")["users"][user]
    return found["pages"][0]["id"], found["ad_accounts"][0]["id"], found["token"]


def changes(app: GraphApp) -> list[tuple[str, str, object]]:
    """Give control calls of every kind that may be made one after the other; some are refused."""
    page, account, _ = page_of(app)
    post = ask(app, "GET", f"/__sim/truth?scope={page}")["rows"][3]["id"]
    ad = ask(app, "GET", f"/__sim/truth?edge=ads&scope={account}")["rows"][0]["id"]
    return [
        ("POST", "mutate", {"do": "create", "user": 0, "count": 3}),
        ("POST", "mutate", {"do": "edit", "id": post}),
        ("POST", "clock", {"advance": 77.25}),
        ("POST", "mutate", {"do": "edit", "id": post, "item": {"message": None, "mood": "good"}}),
        ("POST", "mutate", {"do": "create", "edge": "comments", "scope": post}),
        ("POST", "mutate", {"do": "create", "edge": "comments", "scope": post, "visible_in": 30}),
        ("POST", "mutate", [{"do": "delete", "user": 1, "pick": "random"}, {"do": "edit", "id": "nothing"}]),
        ("POST", "mutate", {"do": "churn", "count": 20}),
        ("POST", "users/1/token", {"action": "rotate"}),
        ("POST", "users/2/token", {"action": "expire"}),
        ("POST", "clock", {"advance": 60}),
        ("POST", "mutate", {"do": "delete", "user": 0, "pick": "last_cursor", "at_call": 1, "match": "posts"}),
        ("POST", "mutate", {"do": "create", "user": 2, "visible_at_call": 2}),
        ("POST", "faults", {"kind": "malformed_item", "user": 0, "index": 1, "times": 1}),
        ("POST", "faults", {"kind": "slow", "rate": 0.5}),
        ("POST", "budgets", {"page": 100}),
        ("POST", "mutate", {"do": "edit", "edge": "insights", "id": f"{ad}:2026-05-30", "item": {"clicks": "7"}}),
        ("DELETE", "faults?id=2", None),
        ("POST", "mutate", "not a change"),
        ("POST", "mutate", {"do": "create", "edge": "ads", "user": 0}),
        ("POST", "mutate", {"do": "churn", "count": 20, "edge": "comments"}),
    ]


def play(app: GraphApp, number: int, change: tuple[str, str, object]) -> None:
    """Make a control call, and between two of them what a client does."""
    method, path, body = change
    ask(app, method, f"/__sim/{path}", body)
    page, account, token = page_of(app)
    ask(app, "GET", f"/v26.0/{page}/posts?limit=3", token=token)
    if number % 4 == 0:
        query = {"level": "ad", "time_increment": "1", "date_preset": "last_7d"}
        run = ask(app, "POST", f"/{account}/insights?{urlencode(query)}", token=token)["report_run_id"]
        for _ in range(number % 3):
            ask(app, "GET", f"/{run}", token=token)
        query = {"grant_type": "fb_exchange_token", "client_id": APP_ID, "client_secret": APP_SECRET}
        assert ask(app, "GET", f"/oauth/access_token?{urlencode({**query, 'fb_exchange_token': token})}")


def test_a_world_is_the_same_after_every_change_that_its_process_did_not_outlive(tmp_path: Path) -> None:
    """Versions, hashes, times, tokens, reports: a reader that was told of a change must find it again."""
    options = replace(SMALL, state=tmp_path / "state.jsonl")
    app, twin = build(options), build(SMALL)
    for number, change in enumerate(changes(app)):
        play(app, number, change)
        play(twin, number, change)

        again = build(options)

        assert everything(again) == everything(app) == everything(twin), change
    assert ask(app, "GET", "/__sim/truth?user=0")["rows"] != ask(build(SMALL), "GET", "/__sim/truth?user=0")["rows"]


def test_what_is_made_after_a_restart_never_has_an_older_ones_id(tmp_path: Path) -> None:
    """Two items of one id would be one to every reader; a report's id would read another's rows."""
    options = replace(SMALL, state=tmp_path / "state.jsonl")
    app = build(options)
    _, account, token = page_of(app)
    exchange = {"grant_type": "fb_exchange_token", "client_id": APP_ID, "client_secret": APP_SECRET}
    seen: list[str] = []
    for _ in range(3):
        app = build(options)
        for edge in ("posts", "comments", "ads"):
            rows = ask(app, "POST", "/__sim/mutate", {"do": "create", "edge": edge, "user": 0, "count": 2})["rows"]
            seen += [row["id"] for row in rows]
        seen.append(ask(app, "POST", f"/{account}/insights?level=ad", token=token)["report_run_id"])
        query = urlencode({**exchange, "fb_exchange_token": token})
        seen.append(ask(app, "GET", f"/oauth/access_token?{query}")["access_token"])
        seen.append(ask(app, "POST", "/__sim/users/1/token", {"action": "rotate"})["token"])

    assert len(seen) == len(set(seen)) == 27


def test_a_report_that_was_done_can_still_be_read(tmp_path: Path) -> None:
    """A reader that saw it finish comes for its rows, whoever died meanwhile."""
    options = replace(SMALL, state=tmp_path / "state.jsonl")
    app = build(options)
    _, account, token = page_of(app)
    query = urlencode({"level": "ad", "time_increment": "1", "fields": "ad_id,clicks"})
    run = ask(app, "POST", f"/{account}/insights?{query}", token=token)["report_run_id"]
    statuses = [ask(app, "GET", f"/{run}", token=token) for _ in range(2)]
    rows = ask(app, "GET", f"/{run}/insights", token=token)

    again = build(options)

    assert statuses[-1]["async_status"] == "Job Completed"
    assert ask(again, "GET", f"/{run}/insights", token=token) == rows
    assert rows["data"]


def test_a_torn_last_line_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A process that dies while it writes has answered nobody; the half line must not cost the whole world."""
    options = replace(SMALL, state=tmp_path / "state.jsonl")
    app = build(options)
    ask(app, "POST", "/__sim/mutate", {"do": "create", "user": 0})
    before, size = everything(app), (tmp_path / "state.jsonl").stat().st_size
    ask(app, "POST", "/__sim/mutate", {"do": "create", "user": 0})
    whole = (tmp_path / "state.jsonl").read_bytes()

    for cut in (size + 1, len(whole) - 1):
        (tmp_path / "state.jsonl").write_bytes(whole[:cut])
        with caplog.at_level(logging.WARNING):
            again = build(options)
        assert everything(again) == before
        assert f"the last line is torn ({cut - size} bytes)" in caplog.text
    ask(again, "POST", "/__sim/mutate", {"do": "edit", "user": 0, "pick": "newest"})

    assert everything(build(options)) == everything(again)


def test_a_file_that_was_torn_at_its_first_line_begins_anew(tmp_path: Path) -> None:
    """The world was not served yet."""
    options = replace(SMALL, state=tmp_path / "state.jsonl")
    (tmp_path / "state.jsonl").write_bytes(b'{"do":"ma')

    assert everything(build(options)) == everything(build(SMALL))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{\n", "line 1: not JSON"),
        (b"[]\n", "line 1: not an object with do, at and wall"),
        (b'{"do":"reveal","at":1,"wall":1}\n', "line 1 does not say what the world was made from"),
    ],
)
def test_a_file_that_is_no_state_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    """A slip in the option must not serve a world that is half another's."""
    path = tmp_path / "state.jsonl"
    path.write_bytes(content)

    with pytest.raises(BadState, match=reason):
        build(replace(SMALL, state=path))
    assert path.read_bytes() == content


def test_the_state_of_another_world_is_refused_by_name(tmp_path: Path) -> None:
    """The changes would hit other items, or none."""
    options = replace(SMALL, state=tmp_path / "state.jsonl")
    build(options)

    with pytest.raises(BadState, match="that world was made with seed 7, not 8"):
        build(replace(options, shape=replace(SMALL.shape, seed=8)))


def test_an_unknown_event_is_refused_by_name(tmp_path: Path) -> None:
    """Skipping it would serve a world that never was."""
    options = replace(SMALL, state=tmp_path / "state.jsonl")
    build(options)
    with (tmp_path / "state.jsonl").open("ab") as file:
        file.write(b'{"do":"dance","at":1780315200,"wall":1}\n')

    with pytest.raises(BadState, match="'dance', which this simulator does not know"):
        build(options)


def test_a_running_clock_goes_on_while_the_process_is_away(tmp_path: Path) -> None:
    """Or items that were to be seen at an instant would come late by as long as nobody looked."""
    wall = [1_000.0]
    timer = [50.0]

    def start() -> Clock:
        clock = Clock(wall=lambda: 2_000_000.0, timer=lambda: timer[0])
        journal = Journal(tmp_path / "state.jsonl", wall=lambda: wall[0])
        with clock.standing(journal.born):
            journal.begin(clock, {"seed": 1})
        journal.replay(clock, lambda event: clock.advance(10))
        timer[0] += 5
        wall[0] += 5
        journal.note("control")
        clock.advance(10)
        return clock

    first = start()
    at_death = first.now()
    timer[0] += 100
    wall[0] += 100

    assert at_death == 2_000_015.0
    second = start()
    assert second.now() == first.now() + 10, "what was moved by hand before, and what passed since"


def test_a_full_disk_refuses_the_change_and_leaves_no_half_line(tmp_path: Path) -> None:
    """What cannot be kept must not be answered, and what was kept must stay readable."""
    path = tmp_path / "state.jsonl"
    app = build(replace(SMALL, state=path))
    before, kept = everything(app), path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept) + 20, hard))
    try:
        with pytest.raises(OSError, match="20 of"):
            ask(app, "POST", "/__sim/mutate", {"do": "create", "user": 0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert everything(app) == before
    assert path.read_bytes() == kept
