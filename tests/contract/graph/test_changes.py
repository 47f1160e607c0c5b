"""The world changes while it is read, and the truth says how."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from infra.local.graph.world import content_hash
from tests.contract.graph.conftest import Reader

POSTS = "/1000/published_posts"


async def test_the_truth_hashes_what_a_reader_can_see(reader: Reader):
    """A verifier hashes what it collected with the fields it asked for; both must agree to the byte."""
    fields = "id,message,from,shares,created_time,comments.limit(0).summary(true)"
    items = await reader.walk(POSTS, fields=fields, limit=100)

    rows = (await reader.control("GET", "truth", user=0, fields=fields))["rows"]

    assert {item["id"]: content_hash(item) for item in items} == {row["id"]: row["hash"] for row in rows}
    assert content_hash({"b": 1, "a": "é"}) == content_hash(orjson.loads(b'{"a":"\xc3\xa9","b":1}'))


async def test_a_new_post_during_paging_is_not_in_this_run_but_in_the_truth(reader: Reader):
    """Keyset cursors do not shift; what is new is found by the next run."""
    await reader.control("POST", "mutate", {"do": "create", "user": "0", "at_call": 3})

    ids = [item["id"] for item in await reader.walk(POSTS, limit=20)]

    assert len(ids) == len(set(ids)) == 120
    assert len(await reader.expected() - set(ids)) == 1


async def test_a_back_dated_post_takes_its_place(reader: Reader):
    """Back-dating puts an item where a reader has already been."""
    made = await reader.control("POST", "mutate", {"do": "create", "user": "0", "age_seconds": 86_400 * 100})

    ids = [item["id"] for item in await reader.walk(POSTS, limit=100)]

    assert ids.index(made["rows"][0]["id"]) > 1


async def test_a_post_can_be_back_dated_after_the_fact(reader: Reader):
    """An edit of the time moves the item; a cursor that pointed at it is dead."""
    page = (await reader.get(POSTS, limit=3)).json()
    await reader.control(
        "POST",
        "mutate",
        {"do": "edit", "id": page["data"][2]["id"], "item": {"created_time": "2025-12-01T00:00:00+0000"}},
    )

    ids = [item["id"] for item in await reader.walk(POSTS, limit=50)]

    after = page["paging"]["cursors"]["after"]
    assert ids.index(page["data"][2]["id"]) > 10
    assert len(ids) == len(set(ids)) == 120
    assert (await reader.get(POSTS, after=after)).json()["error"]["code"] == 100


async def test_an_edit_makes_a_version_and_moves_updated_time(reader: Reader):
    """Updated times have whole seconds: two edits in one second look the same from outside."""
    await reader.control("POST", "clock", {"advance": 60})
    before = (await reader.get(POSTS, limit=1, fields="updated_time,created_time")).json()["data"][0]
    row = (await reader.control("POST", "mutate", {"do": "edit", "id": before["id"], "item": {"message": "b"}}))[
        "rows"
    ][0]

    after = (await reader.get(POSTS, limit=1, fields="updated_time,created_time,message")).json()["data"][0]

    assert row["version"] == 2
    assert after["message"] == "b"
    assert after["updated_time"] == "2026-06-01T12:01:00+0000"
    assert after["created_time"] == before["created_time"]


async def test_a_comment_bumps_its_post(reader: Reader):
    """Readers of comments visit a post again only because its count or time changed."""
    fields = "updated_time,comments.limit(0).summary(true)"
    old = (await reader.get(POSTS, limit=1, fields=fields)).json()["data"][0]
    await reader.control("POST", "clock", {"advance": 5})
    await reader.control("POST", "mutate", {"do": "create", "edge": "comments", "scope": old["id"]})

    new = (await reader.get(POSTS, limit=1, fields=fields)).json()["data"][0]

    assert new["comments"]["summary"]["total_count"] == old["comments"]["summary"]["total_count"] + 1
    assert new["updated_time"] == "2026-06-01T12:00:05+0000"
    assert "updated_time" not in (await reader.walk(f"/{old['id']}/comments"))[-1]


async def test_a_deleted_post_takes_its_comments_along(reader: Reader):
    """Gone is code 100, subcode 33; the truth keeps both as deleted."""
    rows = (await reader.control("GET", "truth", user=0, edge="comments"))["rows"]
    post = rows[0]["scope"]
    await reader.control("POST", "mutate", {"do": "delete", "id": post})

    error = (await reader.get(f"/{post}/comments")).json()["error"]

    gone = (await reader.control("GET", "truth", user=0, edge="comments", scope=post))["rows"]
    assert (error["code"], error["error_subcode"]) == (100, 33)
    assert all(row["deleted"] and not row["visible"] for row in gone)
    assert post not in await reader.expected()


@pytest.mark.parametrize("change", [{"visible_in": 0.05}, {"visible_at_call": 2}])
async def test_an_item_can_show_up_late(reader: Reader, change: dict[str, float]):
    """Between creation and visibility lies the settling time that coverage must respect."""
    made = await reader.control("POST", "mutate", {"do": "create", "user": "0", "age_seconds": 30, **change})
    post = made["rows"][0]["id"]
    first = (await reader.get(POSTS, limit=5)).json()["data"]
    await reader.control("POST", "clock", {"advance": 1})
    await asyncio.sleep(0)

    later = (await reader.get(POSTS, limit=5)).json()["data"]

    assert post not in {item["id"] for item in first}
    assert post in {item["id"] for item in later}


async def test_the_item_a_cursor_points_at_can_be_deleted_under_the_reader(reader: Reader):
    """The nastiest moment for a stored cursor, reproduced on demand."""
    await reader.control("POST", "mutate", {"do": "delete", "pick": "last_cursor", "at_call": 2})
    page = (await reader.get(POSTS, limit=5)).json()

    answer = await reader.get(POSTS, limit=5, after=page["paging"]["cursors"]["after"])

    assert answer.json()["error"]["code"] == 100
    assert page["data"][-1]["id"] not in await reader.expected()


async def test_churn_is_the_same_for_the_same_seed(reader: Reader):
    """Chaos must be repeatable to be useful."""

    async def touched() -> list[str]:
        await reader.control("POST", "reset", {})
        rows = (await reader.control("POST", "mutate", {"do": "churn", "count": 40, "seed": 3}))["rows"]
        return [f"{row['id']}/{row['version']}/{row['deleted']}" for row in rows]

    first = await touched()

    assert first == await touched()
    assert set(i["id"] for i in await reader.walk(POSTS, limit=100)) == await reader.expected()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"do": "burn"}, "do must be one of"),
        ({"do": "delete", "id": "4711"}, "there is no item '4711'"),
        ({"do": "create", "scope": "act_500"}, "a post needs a scope that is a page"),
        ({"do": "create", "user": "99"}, "there is no user '99'"),
        ({"do": "edit", "pick": "tallest"}, "by pick: newest"),
        ({"do": "create", "user": "0", "colour": 1}, "a change has no 'colour'"),
        ({"do": "create", "user": "0", "at_call": 0}, "at_call must be a whole number"),
    ],
)
async def test_a_change_that_cannot_be_made_says_why(reader: Reader, change: dict[str, object], reason: str):
    """A silent no-op in a test's set-up costs an afternoon."""
    answer = await reader.client.post("/__sim/mutate", json=change)

    assert answer.status_code == 400
    assert reason in answer.json()["refused"]


async def test_runs_are_counted_apart(reader: Reader):
    """Several tests or clients may share one simulator."""
    for run in ("a", "a", "b"):
        await reader.client.get("/me?access_token=tok-0", headers={"X-Sim-Run": run})

    log = await reader.control("GET", "calls", run="a", log=1)

    assert log["total"] == 2
    assert (await reader.control("GET", "calls"))["total"] == 3
    assert "tok-0" not in str(log)


async def test_reset_brings_the_first_world_back(reader: Reader):
    """Tests that share a process must not share their damage."""
    before = (await reader.control("GET", "truth", user=0))["rows"]
    await reader.control("POST", "mutate", {"do": "churn", "count": 20})
    await reader.fault("reset")
    await reader.control("POST", "reset", {})

    assert (await reader.control("GET", "truth", user=0))["rows"] == before
    assert (await reader.get("/me")).status_code == 200
