"""The process: its start line, its refusals, worlds from files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from infra.local.graph import spawn
from infra.local.graph.process import ROOT


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the simulator with arguments it must refuse."""
    command = [sys.executable, "-m", "infra.local.graph", "--port", "0", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=ROOT, check=False)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--users", "0"], "argument --users: must be a whole number from 1 to 100000; got '0'"),
        (["--posts", "many"], "argument --posts: must be a whole number"),
        (["--spread", "1 year"], "argument --spread: must be a length of time such as 90s"),
        (["--now", "tomorrow"], "argument --now: must be an ISO instant"),
        (["--time-scale", "0"], "argument --time-scale: must be a number from 1"),
        (["--port", "99999"], "argument --port: must be a whole number from 0 to 65535"),
        (["--world", "nowhere.jsonl"], "argument --world: there is no file 'nowhere.jsonl'"),
        (["--prebuild", "id,comments{id}"], "only plain fields and limit(0) expansions can be prebuilt"),
        (["--prebuild", "id{"], "Syntax error"),
        (["--fault", "{"], "argument --fault: not JSON"),
        (["--fault", '{"kind":"x"}'], "kind must be one of"),
    ],
)
def test_a_bad_value_is_named(arguments: list[str], reason: str):
    """A wrong option must cost a minute, not an evening."""
    refused = run(*arguments)

    assert refused.returncode == 2
    assert reason in refused.stderr
    assert "Traceback" not in refused.stderr


LINES = [
    {"user": "alice", "edge": "posts", "item": {"id": "77_1", "created_time": "2026-01-01T00:00:00+0000", "mood": "x"}},
    {"user": "alice", "edge": "posts", "item": {"id": "77_2", "created_time": 1767225700, "message": "hello"}},
    {"user": "alice", "scope": "77_1", "edge": "comments",
     "item": {"id": "1_5", "created_time": "2026-01-01T00:01:00+0000", "message": "c"}},
    {"user": "bob", "scope": "4711", "edge": "profile", "item": {"name": "Bob's page", "fan_count": 3}},
    {"user": "bob", "scope": "4711", "edge": "posts", "item": {"id": "4711_9", "created_time": "2026-01-02"}},
    {"user": "bob", "edge": "ads", "item": {"id": "900", "name": "my ad", "updated_time": "2026-01-02T00:00:00+0000"}},
    {"user": "bob", "edge": "insights", "item": {"ad_id": "900", "date_start": "2026-01-02", "clicks": "4"}},
]  # fmt: skip


def test_a_file_is_a_world(tmp_path: Path):
    """Real data can be served: the file says everything, nothing is made up beside it."""
    path = tmp_path / "world.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in LINES) + "\n")

    with spawn("infra.local.graph", "--world", str(path), "--now", "2026-01-03") as graph, httpx.Client() as http:
        alice = {"Authorization": "Bearer tok-alice"}
        bob = {"Authorization": "Bearer tok-bob"}
        page = http.get(f"{graph.url}/me/accounts", headers=alice).json()["data"][0]["id"]
        posts = http.get(f"{graph.url}/{page}/posts?fields=id,mood,message", headers=alice).json()["data"]
        comments = http.get(f"{graph.url}/77_1/comments", headers=alice).json()["data"]
        profile = http.get(f"{graph.url}/4711?fields=name,fan_count", headers=bob).json()
        account = http.get(f"{graph.url}/me/adaccounts", headers=bob).json()["data"][0]["id"]
        clicks = http.get(
            f"{graph.url}/{account}/insights?level=ad&time_increment=1&fields=ad_id,clicks", headers=bob
        ).json()["data"]

    assert posts == [{"id": "77_2", "message": "hello"}, {"id": "77_1", "mood": "x"}]
    assert [comment["message"] for comment in comments] == ["c"]
    assert profile == {"name": "Bob's page", "fan_count": 3, "id": "4711"}
    assert clicks == [{"ad_id": "900", "clicks": "4", "date_start": "2026-01-02", "date_stop": "2026-01-02"}]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: not an object"),
        ('{"user":"a","edge":"posts","item":{},"colour":1}', "line 2: unknown key 'colour'"),
        ('{"user":1,"edge":"posts","item":{}}', "line 2: user must be text"),
        ('{"user":"a","edge":"moods","item":{}}', "line 2: edge must be one of posts"),
        ('{"user":"a","edge":"posts","item":[]}', "line 2: item must be an object"),
        ('{"user":"a","edge":"posts","item":{"id":5}}', "line 2: item.id must be text"),
        ('{"user":"a","edge":"posts","item":{"id":"x","created_time":"soon"}}', "line 2: item.created_time must be a"),
        ('{"user":"alice","edge":"posts","item":{"id":"77_1","created_time":1}}', "line 2: item.id '77_1' is there"),
        ('{"user":"a","edge":"comments","scope":"9_9","item":{"id":"x"}}', "line 2: comments need a scope"),
        ('{"user":"a","edge":"insights","item":{"ad_id":"1"}}', "line 2: an insights item needs ad_id"),
    ],
)
def test_a_bad_line_is_refused_with_its_number_and_reason(tmp_path: Path, line: str, reason: str):
    """A world that is half read would make a truth that is half true."""
    path = tmp_path / "world.jsonl"
    path.write_text(json.dumps(LINES[0]) + "\n" + line + "\n")

    refused = run("--world", str(path))

    assert refused.returncode == 2
    assert reason in refused.stderr


def test_the_same_seed_gives_the_same_world():
    """Ids, times and texts must not depend on the process, its hash seed or the day."""
    arguments = ("--users", "2", "--posts", "40", "--seed", "11", "--now", "2026-02-03T04:05:06Z")
    truths = []
    for _ in range(2):
        with spawn("infra.local.graph", *arguments) as graph:
            truths.append(httpx.get(f"{graph.url}/__sim/truth?edge=posts,comments,ads,accounts").json()["rows"])

    assert truths[0] == truths[1]


def test_another_seed_gives_another_world():
    """Or every property test would test one world."""
    hashes = []
    for seed in ("1", "2"):
        with spawn("infra.local.graph", "--users", "1", "--posts", "5", "--seed", seed, "--now", "2026-02-03") as graph:
            hashes.append({row["hash"] for row in httpx.get(f"{graph.url}/__sim/truth").json()["rows"]})

    assert not hashes[0] & hashes[1]
