"""Both simulators as processes that are killed: whoever was told of a change finds it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.local.graph import spawn

KILLED = -9
GRAPH, REST = "infra.local.graph", "infra.local.rest"
SIZES = {GRAPH: "--posts", REST: "--transactions"}
CHANGES = [{"do": "create", "user": "0", "count": 3}, {"do": "create", "user": "1"}]
MALFORMED = {"kind": "malformed_item", "index": 0, "times": 1}


def rows(url: str) -> list[dict[str, Any]]:
    """Ask for the truth."""
    found: list[dict[str, Any]] = httpx.get(f"{url}/__sim/truth").raise_for_status().json()["rows"]
    return found


def change(url: str, body: object) -> list[dict[str, Any]]:
    """Change the world; gives the truth of what was touched."""
    made: list[dict[str, Any]] = httpx.post(f"{url}/__sim/mutate", json=body).raise_for_status().json()["rows"]
    return made


@pytest.mark.parametrize("module", [GRAPH, REST])
def test_a_killed_simulator_goes_on_where_it_was(tmp_path: Path, module: str) -> None:
    """The local stack promises that any process may be killed; a truth that falls back can never be reached again."""
    options = ["--users", "2", SIZES[module], "10", "--state", str(tmp_path / "state.jsonl")]
    with spawn(module, *options) as first:
        made = change(first.url, CHANGES)
        change(first.url, {"do": "edit", "id": made[0]["id"]})
        change(first.url, {"do": "delete", "id": made[1]["id"]})
        httpx.post(f"{first.url}/__sim/faults", json=MALFORMED).raise_for_status()
        if module == GRAPH:
            page = rows(first.url)[0]["scope"]
            httpx.get(f"{first.url}/{page}/posts", params={"access_token": "tok-0"})
        else:
            httpx.get(f"{first.url}/transactions", headers={"X-Api-Key": "key-0"})
        before = rows(first.url)
        first.process.kill()
        assert first.process.wait(5) == KILLED

    with spawn(module, *options) as second:
        after = rows(second.url)
        more = change(second.url, CHANGES)
        faults = httpx.get(f"{second.url}/__sim/faults").json()["faults"]

    assert after == before
    assert any(row["malformed_served"] for row in before)
    assert not {row["id"] for row in more} & {row["id"] for row in before}
    assert [rule["kind"] for rule in faults] == ["malformed_item"]


@pytest.mark.parametrize("module", [GRAPH, REST])
def test_a_state_file_in_use_is_refused(tmp_path: Path, module: str) -> None:
    """Two that write one file make a world that neither of them ever was."""
    options = ["--users", "2", SIZES[module], "10", "--state", str(tmp_path / "state.jsonl")]
    with spawn(module, *options) as first:
        with pytest.raises(RuntimeError, match="another simulator writes it"), spawn(module, *options):
            pass
        change(first.url, CHANGES)


@pytest.mark.parametrize("module", [GRAPH, REST])
def test_a_state_file_of_another_world_is_refused(tmp_path: Path, module: str) -> None:
    """Naming the wrong file must cost a minute, not a truth that is half another's."""
    options = ["--users", "2", SIZES[module], "10", "--state", str(tmp_path / "state.jsonl")]
    with spawn(module, *options):
        pass

    size = SIZES[module]
    with pytest.raises(RuntimeError, match=f"made with {size[2:]} 10, not 11"), spawn(module, *options, size, "11"):
        pass
