"""Every kind of fault, seen from outside."""

from __future__ import annotations

import json
import time

import httpx
import pytest

from tests.contract.graph.conftest import Reader

POSTS = "/1000/published_posts"


@pytest.mark.parametrize(
    ("fault", "status", "error"),
    [
        ({"kind": "error", "code": 2, "status": 503}, 503, {"code": 2, "is_transient": True}),
        ({"kind": "error", "code": 190, "subcode": 460}, 400, {"code": 190, "error_subcode": 460}),
        ({"kind": "throttle", "code": 613}, 400, {"code": 613}),
        ({"kind": "reduce_data", "limit": 10}, 500, {"code": 1}),
        ({"kind": "ok_with_error", "code": 2}, 200, {"code": 2}),
        ({"kind": "token_expires_after", "calls": 0}, 400, {"code": 190, "error_subcode": 463}),
    ],
)
async def test_an_error_takes_the_place_of_the_answer(
    reader: Reader, fault: dict[str, object], status: int, error: dict[str, object]
):
    """Codes decide, not statuses; an error may even come with 200."""
    await reader.control("POST", "faults", fault)

    answer = await reader.get(POSTS)

    assert answer.status_code == status
    assert error.items() <= answer.json()["error"].items()


async def test_reduce_data_is_a_state_that_a_smaller_limit_ends(reader: Reader):
    """The remedy is to halve the limit, keeping the cursor."""
    await reader.fault("reduce_data", limit=30)

    assert [(await reader.get(POSTS, limit=limit)).status_code for limit in (100, 50, 25)] == [500, 500, 200]


async def test_a_throttle_brings_its_hint(reader: Reader):
    """The pause is in the header of the error answer, in minutes."""
    await reader.fault("throttle", code=80001, minutes=7)

    usage = json.loads((await reader.get(POSTS)).headers["x-business-use-case-usage"])

    assert usage["1000"][0]["estimated_time_to_regain_access"] == 7


async def test_token_expires_after_n_calls(reader: Reader):
    """A token that dies in the middle of a traversal."""
    await reader.fault("token_expires_after", calls=2)

    assert [(await reader.get(POSTS, limit=9)).status_code for _ in range(3)] == [200, 200, 400]


async def test_html_comes_instead_of_json(reader: Reader):
    """Proxies answer in their own language."""
    await reader.fault("html500")

    answer = await reader.get(POSTS)

    assert (answer.status_code, answer.headers["content-type"]) == (500, "text/html; charset=utf-8")
    assert answer.text.startswith("<!DOCTYPE html>")


async def test_the_socket_is_reset(reader: Reader):
    """A connection that dies without an answer."""
    await reader.fault("reset")

    with pytest.raises(httpx.NetworkError):
        await reader.get(POSTS)


async def test_a_call_hangs_until_the_client_gives_up(reader: Reader):
    """Only the client's own deadline ends this."""
    await reader.fault("hang")

    with pytest.raises(httpx.ReadTimeout):
        await reader.client.get(f"{POSTS}?access_token=tok-0", timeout=0.2)


@pytest.mark.parametrize("kind", ["slow", "slow_drip"])
async def test_an_answer_takes_its_time(reader: Reader, kind: str):
    """Slow to begin, or slow all along: a read time-out sees only the first."""
    await reader.fault(kind, seconds=0.3)
    start = time.monotonic()

    answer = await reader.get(POSTS, limit=100)

    assert time.monotonic() - start >= 0.25
    assert len(answer.json()["data"]) == 100


async def test_an_answer_is_cut_short(reader: Reader):
    """Either the JSON ends early, or the socket does."""
    await reader.fault("truncate", bytes=50, times=1)
    await reader.fault("truncate", bytes=50, how="socket")

    assert len((await reader.get(POSTS)).content) == 50
    with pytest.raises(httpx.RemoteProtocolError):
        await reader.get(POSTS)


@pytest.mark.parametrize("how", [{"times": 3}, {"rate": 0.5, "times": 5}, {"every": 2, "times": 4}])
@pytest.mark.parametrize("kind", ["empty_with_next", "short_page"])
async def test_odd_pages_lose_nothing(reader: Reader, kind: str, how: dict[str, object]):
    """A page may be short or empty and not be the end."""
    await reader.fault(kind, **how)

    ids = [item["id"] for item in await reader.walk(POSTS, limit=20)]

    assert len(ids) == 120
    assert set(ids) == await reader.expected()


async def test_endless_empty_pages_never_repeat_a_cursor(reader: Reader):
    """Only a cap on empty pages ends this; a repeated cursor would give it away."""
    await reader.fault("endless_empty")
    after, seen = "", set()
    for _ in range(30):
        page = (await reader.get(POSTS, **({"after": after} if after else {}))).json()
        after = page["paging"]["cursors"]["after"]
        seen.add(after)

    assert len(seen) == 30
    assert page["data"] == []


@pytest.mark.parametrize(("k", "period"), [(1, 1), (2, 2), (3, 3)])
async def test_a_cursor_comes_again(reader: Reader, k: int, period: int):
    """The loop may be one page long or several."""
    await reader.fault("repeat_cursor", k=k, after_calls=3)
    after, seen = "", []
    for _ in range(12):
        page = (await reader.get(POSTS, limit=10, **({"after": after} if after else {}))).json()
        after = page["paging"]["cursors"]["after"]
        seen.append(after)

    assert seen[-1] == seen[-1 - period]
    assert len(set(seen[-6:])) == period


@pytest.mark.parametrize("options", [{}, {"index": 5}, {"duplicate": False}])
async def test_an_old_item_stands_at_the_top(reader: Reader, options: dict[str, object]):
    """A pinned post fools whoever takes the oldest time of a page for its progress."""
    rows = (await reader.control("GET", "truth", user=0))["rows"]
    await reader.fault("pinned", **options)

    ids = [item["id"] for item in await reader.walk(POSTS, limit=25)]

    assert ids[0] == rows[options.get("index", 0)]["id"]
    assert set(ids) == await reader.expected()
    assert len(ids) == (120 if options.get("duplicate") is False else 121)


async def test_an_item_comes_twice_across_pages(reader: Reader):
    """Duplicates within one run are the reader's to drop."""
    await reader.fault("dup_item_across_pages")

    ids = [item["id"] for item in await reader.walk(POSTS, limit=20)]

    assert len(ids) > 120
    assert set(ids) == await reader.expected()


async def test_cursors_fail_on_demand(reader: Reader):
    """Dead and too deep cursors look alike but for their text."""
    after = (await reader.get(POSTS, limit=50)).json()["paging"]["cursors"]["after"]
    await reader.fault("cursor_too_deep", depth=50, times=1)
    deep = (await reader.get(POSTS, limit=50, after=after)).json()["error"]
    await reader.fault("invalid_cursor", code=2642)

    dead = (await reader.get(POSTS, limit=50, after=after)).json()["error"]

    assert (deep["code"], "exceeds the max limit" in deep["message"]) == (100, True)
    assert dead["code"] == 2642
    assert (await reader.get(POSTS, limit=50)).status_code == 200


async def test_a_foreign_next_points_elsewhere(reader: Reader):
    """Whoever follows it sends the token to a stranger."""
    await reader.fault("foreign_next", url="https://evil.example/x")

    assert (await reader.get(POSTS)).json()["paging"]["next"].startswith("https://evil.example/x")


@pytest.mark.parametrize(
    "how",
    ["id_missing", "id_number", "id_empty", "created_missing", "created_junk", "null_item", "not_object",
     "number_as_text", "lone_surrogate", "nul", "huge_int", "nan", "deep"],
)  # fmt: skip
async def test_malformed_items_are_the_same_on_every_read_and_marked_in_the_truth(reader: Reader, how: str):
    """Quarantine is checked against this set, so it must not change between reads."""
    fields = "id,created_time,message,shares"
    clean = {item["id"]: item for item in await reader.walk(POSTS, limit=100, fields=fields)}
    await reader.fault("malformed_item", how=how, share=0.2)
    first, second = [(await reader.get(POSTS, limit=100, fields=fields)).content for _ in range(2)]

    rows = (await reader.control("GET", "truth", user=0))["rows"]

    marked = {row["id"] for row in rows if row["malformed"] == how}
    served = {row["id"] for row in rows if row["malformed_served"] == how}
    assert first == second
    assert served <= marked
    assert 5 < len(served) < 40
    assert set(clean) == await reader.expected()


async def test_fields_drift(reader: Reader):
    """New fields, changed types, missing fields, huge texts: schema drift in all its forms."""
    await reader.fault("drift_new_field", field="mood", value="fine")
    await reader.fault("drift_type", field="shares", value=3)
    await reader.fault("drop_item_field", field="message")
    await reader.fault("oversize_item", index=2, characters=300_000)

    items = (await reader.get(POSTS, limit=5, fields="id,message,shares")).json()["data"]

    assert {item["mood"] for item in items} == {"fine"}
    assert {item["shares"] for item in items} == {3}
    assert [len(item.get("message", "")) for item in items] == [0, 0, 300_000, 0, 0]


async def test_headers_can_be_forced(reader: Reader):
    """Usage at 97 per cent, or an old version, without making the calls or waiting the years."""
    await reader.fault("usage", headers={"x-app-usage": {"call_count": 97}})
    await reader.fault("old_version_header", version="v22.0")

    headers = (await reader.get(POSTS)).headers

    assert json.loads(headers["x-app-usage"]) == {"call_count": 97}
    assert headers["facebook-api-version"] == "v22.0"


async def test_a_node_can_answer_for_the_wrong_owner(reader: Reader):
    """A wrong owner in the answer must never be stored under the right one."""
    await reader.fault("wrong_owner", id="13")

    assert (await reader.get("/1000", fields="id,name")).json()["id"] == "13"


async def test_a_fault_hits_only_what_it_is_aimed_at(reader: Reader):
    """Blast radius is measured by hitting one user and watching the others."""
    await reader.fault("error", code=2, user="1")
    await reader.fault("error", code=4, edge="ads")
    await reader.fault("error", code=17, match=r"comments")
    post = (await reader.get(POSTS, limit=1)).json()["data"][0]["id"]

    codes = [
        (await reader.get(path)).json().get("error", {}).get("code")
        for path in (POSTS, "/act_500/ads", f"/{post}/comments")
    ]

    reader.token = "tok-1"
    assert codes == [None, 4, 17]
    assert (await reader.get("/me")).json()["error"]["code"] == 2


async def test_faults_count_and_go(reader: Reader):
    """A test must be able to tell that its fault really fired, and to lift it."""
    fault = (await reader.fault("error", code=2, after_calls=1, times=2))["faults"][0]
    statuses = [(await reader.get(POSTS)).status_code for _ in range(5)]

    view = (await reader.control("GET", "faults"))["faults"][0]

    assert statuses == [200, 500, 500, 200, 200]
    assert view["fired"] == 2
    assert await reader.control("DELETE", "faults", id=fault["id"]) == {"removed": 1}
    assert (await reader.control("GET", "calls"))["by_fault"] == {"error": 2}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"kind": "earthquake"}, "kind must be one of"),
        ({"kind": "slow", "minutes": 3}, "slow takes seconds; not 'minutes'"),
        ({"kind": "error", "match": "("}, "match is not a regular expression"),
        ({"kind": "error", "rate": 2}, "rate must be between 0 and 1"),
        ({"kind": "error", "times": 0}, "times must be a whole number"),
        ({"kind": "error", "user": "77"}, "there is no user '77'"),
        ({"kind": "malformed_item", "how": "odd"}, "how must be one of"),
    ],
)
async def test_a_fault_that_cannot_be_says_why(reader: Reader, fault: dict[str, object], reason: str):
    """A fault that silently never fires makes a test that proves nothing."""
    answer = await reader.client.post("/__sim/faults", json=fault)

    assert answer.status_code == 400
    assert reason in answer.json()["refused"]
