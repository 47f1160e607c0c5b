"""The checker itself: each class of wrong must be seen, and nothing of the pipeline may be in it."""

from __future__ import annotations

import ast
import base64
import contextlib
import json
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.checker.__main__ import main
from tests.checker.judge import Verdict, canonical_hash, control, judge, read_received, read_truth

ROOT = Path(__file__).parents[2]


def row(item_id: str, *, user: str = "u", version: int = 1, **changed: Any) -> dict[str, Any]:
    """Give a row of the truth as the simulator does."""
    raw = {"id": item_id, "v": version}
    return {
        "user": user, "scope": f"page-{user}", "edge": "posts", "id": item_id, "version": version, "created": 5,
        "hash": canonical_hash(raw), "visible": True, "deleted": False, "malformed": False, **changed,
    }  # fmt: skip


def line(message_id: str, *items: tuple[str, int, int | None], user: str = "u") -> str:
    """Give a received message; items are (id, revision, version or None for a deletion)."""
    message = {
        "feed": "posts", "userId": user, "scope": f"page-{user}",
        "jsonDataArray": [
            {"id": item_id, "revision": revision, "op": "delete" if version is None else "upsert",
             "raw": None if version is None else {"id": item_id, "v": version}}
            for item_id, revision, version in items
        ],
    }  # fmt: skip
    body = base64.b64encode(zlib.compress(json.dumps(message).encode())).decode()
    return json.dumps({"messageId": message_id, "body": body, "contentEncoding": "zlib"})


def verdict(rows: list[dict[str, Any]], *lines: str, deletions: bool = False) -> dict[str, int]:
    """Judge, and give the classes that were found."""
    result = Verdict()
    arrivals = read_received(lines, result)
    judge(read_truth({"rows": rows}), arrivals, result, deletions=deletions)
    return dict(result.counts)


def test_everything_that_arrived_once_is_ok() -> None:
    """The green case; a redelivery under its own MessageId is what at-least-once means."""
    assert verdict([row("a"), row("b")], line("m1", ("a", 1, 1)), line("m2", ("b", 1, 1)), line("m1", ("a", 1, 1))) == {
        "ok": 2
    }


def test_each_wrong_has_its_class() -> None:
    """A checker that mixes them up sends people to the wrong place."""
    rows = [row("a", version=2)]
    assert verdict(rows) == {"lost": 1}
    assert verdict(rows, line("m1", ("a", 1, 1))) == {"stale": 1}
    assert verdict(rows, line("m1", ("a", 1, 2)), line("m2", ("a", 1, 2))) == {"duplicated": 1, "ok": 1}
    assert verdict(rows, line("m1", ("a", 1, 2), ("z", 1, 1))) == {"ok": 1, "unexpected": 1}
    assert verdict([*rows, row("b", user="w")], line("m1", ("a", 1, 2)), line("m2", ("b", 1, 1), user="w")) == {"ok": 2}
    assert verdict(rows, line("m1", ("a", 1, 2)), line("m1", ("a", 1, 1))) == {"ok": 1, "altered": 1}
    assert verdict(rows, line("m1", ("a", 1, 2)), line("m2", ("a", 2, None))) == {"stale": 1}


def test_an_item_under_another_user_is_named_as_such() -> None:
    """It is the worst of all: one customer sees another's data."""
    shared = row("a") | {"scope": "page-w"}
    assert verdict([shared], line("m1", ("a", 1, 1), user="w")) == {"wrong-user": 1, "lost": 1}


def test_a_revision_that_was_never_true_is_unexpected() -> None:
    """Where the truth tells its history, every published content must be in it."""
    told = row("a", version=3) | {"history": [canonical_hash({"id": "a", "v": 2})]}
    assert verdict([told], line("m1", ("a", 1, 2)), line("m2", ("a", 2, 3))) == {"ok": 1}
    assert verdict([told], line("m1", ("a", 1, 1)), line("m2", ("a", 2, 3))) == {"unexpected": 1}


def test_deletions_count_only_where_they_are_promised() -> None:
    """Older than the refresh window they are found by live events or not at all."""
    gone = [row("a", visible=False, deleted=True)]
    assert verdict(gone, line("m1", ("a", 1, 1))) == {"ok": 1}
    assert verdict(gone, line("m1", ("a", 1, 1)), deletions=True) == {"undeleted": 1}
    assert verdict(gone, line("m1", ("a", 1, 1)), line("m2", ("a", 2, None)), deletions=True) == {"ok": 1}
    assert verdict(gone, deletions=True) == {}


def test_malformed_items_may_be_in_quarantine() -> None:
    """They wait for a person there; their absence is no loss."""
    assert verdict([row("a", malformed="id_missing")]) == {}


def test_dropping_one_row_turns_the_verdict_red() -> None:
    """The negative control of every run: a checker that stays green would be blind."""
    truth = read_truth({"rows": [row("a"), row("b")]})
    arrivals = read_received([line("m1", ("a", 1, 1), ("b", 1, 1))], Verdict())
    assert control(truth, arrivals, 0)
    assert not control(truth, [], 0)


def test_the_process_speaks_by_exit_code(tmp_path: Path) -> None:
    """CI reads exit codes: red is 1, a blind checker 3."""
    truth, good, bad = tmp_path / "truth.json", tmp_path / "good", tmp_path / "bad"
    truth.write_text(json.dumps({"rows": [row("a")]}))
    good.write_text(line("m1", ("a", 1, 1)) + "\n")
    bad.write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "tests.checker", "--truth", truth, "--received", good, bad],
        capture_output=True, text=True, cwd=ROOT, timeout=30, check=False,
    )  # fmt: skip
    first, second = map(json.loads, done.stdout.splitlines())
    assert (done.returncode, first["valid"], first["control"]) == (1, True, "red")
    assert (second["valid"], second["lost"]) == (False, 1)
    assert main(["--truth", str(truth), "--received", str(good)]) == 0
    truth.write_text(json.dumps({"rows": []}))
    empty = tmp_path / "empty"
    empty.write_text("")
    assert main(["--truth", str(truth), "--received", str(empty)]) == 3


def test_the_checker_imports_nothing_but_the_standard_library() -> None:
    """Code that it shared with the pipeline could be wrong in both."""
    for name in ("judge.py", "__main__.py"):
        tree = ast.parse((Path(__file__).parent / name).read_text())
        modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        tops = {module.partition(".")[0] for module in modules if module != "tests.checker.judge"}
        assert tops <= set(sys.stdlib_module_names) | {"__future__"}


class World:
    """A truth that changes, told over HTTP as the simulator does."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def served(self) -> Iterator[str]:
        """Serve it until the block ends; gives the address."""
        world = self

        class Teller(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps({"rows": world.rows}).encode())

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Teller) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}/truth"
            server.shutdown()


def test_following_it_asks_for_the_truth_of_each_moment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Hundreds of runs share a simulator; a verdict by the truth of another run would be worth nothing."""
    world = World()
    path = tmp_path / "received"

    def moments() -> Iterator[str]:
        world.rows = [row("a", version=1)]
        yield "look\n"
        world.rows = [row("a", version=2)]
        path.write_text("\n".join([line("m1", ("a", 1, 1)), line("m2", ("a", 2, 2))]))
        yield f"{path}\n"
        world.rows = [row("a", version=3)]  # another run: nobody has seen version 1 in it, and 2 is its past
        yield f"{path}\n"
        world.rows = [row("a", version=2)]
        yield "look\n"
        yield f"{path}\n"

    with world.served() as url:
        assert main(["--truth", url, "--follow"], moments()) == 1
    answers = [json.loads(one) for one in capsys.readouterr().out.splitlines()]
    assert [answer.get("valid") for answer in answers] == [None, True, False, None, False]
    assert (answers[1]["ok"], answers[1]["control"]) == (1, "red")
    assert answers[2]["stale"] == 1
    assert answers[4]["unexpected"] == 1


def test_one_of_two_ways_to_get_files_must_be_chosen(tmp_path: Path) -> None:
    """A run that judges nothing must not end green."""
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"rows": []}))
    for extra in ([], ["--follow", "--received", str(truth)]):
        with pytest.raises(SystemExit):
            main(["--truth", str(truth), *extra])
