"""Page numbers, keys, 429 with Retry-After, and the same truth."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from infra.local.graph.world import content_hash
from infra.local.rest import Options, running, spawn

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass
class Reader:
    """Calls the simulator with one user's key."""

    client: httpx.AsyncClient
    key: str = "key-0"

    async def page(self, number: int = 1, size: int = 20) -> httpx.Response:
        params = {"page": number, "per_page": size}
        return await self.client.get("/transactions", params=params, headers={"X-Api-Key": self.key})

    async def walk(self, size: int = 20) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        for number in range(1, 100):
            body = (await self.page(number, size)).json()
            items += body["items"]
            if not body["has_more"]:
                return items
        raise AssertionError("the listing has no end")

    async def control(self, method: str, path: str, body: object = None) -> Any:
        answer = await self.client.request(method, f"/__sim/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    options = Options(users=2, transactions=55, now=NOW, time_scale=60)
    async with running(options) as rest, httpx.AsyncClient(base_url=rest.url) as client:
        yield Reader(client)


@pytest.mark.parametrize("size", [1, 20, 100])
async def test_every_transaction_comes_newest_first(reader: Reader, size: int):
    """Integer ids, ISO times, and the hash that the truth knows."""
    items = await reader.walk(size)

    rows = (await reader.control("GET", "truth?user=0"))["rows"]
    assert {item["id"]: content_hash(item) for item in items} == {row["id"]: row["hash"] for row in rows}
    assert set(items[0]) == {"id", "amount", "currency", "fan_id", "type", "created_at"}
    assert [i["created_at"] for i in items] == sorted((i["created_at"] for i in items), reverse=True)


async def test_items_shift_while_paging(reader: Reader):
    """A new item at the front pushes one over the page's edge: it comes twice, and none is lost."""
    first = (await reader.page(1, 10)).json()["items"]
    await reader.control("POST", "mutate", {"do": "create", "user": "0"})

    second = (await reader.page(2, 10)).json()["items"]

    assert second[0] == first[-1]


async def test_a_delete_shifts_items_past_the_reader(reader: Reader):
    """The other direction loses an item: page numbers need overlap."""
    first = (await reader.page(1, 10)).json()["items"]
    order = await reader.walk(100)
    await reader.control("POST", "mutate", {"do": "delete", "id": first[0]["id"]})

    second = (await reader.page(2, 10)).json()["items"]

    assert order[10]["id"] not in {item["id"] for item in second}
    assert first[0]["id"] not in (await reader.control("GET", "truth?user=0"))["expected"]


async def test_without_a_valid_key_it_is_401(reader: Reader):
    """Keys are per user, in a header."""
    reader.key = "key-9"

    assert (await reader.page()).status_code == 401


@pytest.mark.parametrize(("number", "size"), [(0, 20), (1, 0), (1, 101)])
async def test_wrong_pages_are_400(reader: Reader, number: int, size: int):
    """The bounds are part of the contract."""
    assert (await reader.page(number, size)).status_code == 400


async def test_a_throttle_is_429_and_says_how_long(reader: Reader):
    """Other APIs do what the Graph API does not; calls during the wait are counted."""
    await reader.control("POST", "faults", {"kind": "throttle", "retry_after": 120, "times": 1})
    throttled = await reader.page()
    early = await reader.page()

    calls = await reader.control("GET", "calls")

    assert (throttled.status_code, throttled.headers["retry-after"]) == (429, "2")
    assert early.status_code == 429
    assert (calls["while_blocked"], calls["throttled"]) == (1, 2)


async def test_a_key_has_its_calls_per_minute():
    """The budget is per key: one busy user must not stop another."""
    options = Options(users=2, transactions=1, calls_per_minute=3)
    async with running(options) as rest, httpx.AsyncClient(base_url=rest.url) as client:
        busy = [(await Reader(client).page()).status_code for _ in range(4)]
        other = (await Reader(client, "key-1").page()).status_code

    assert busy == [200, 200, 200, 429]
    assert other == 200


async def test_malformed_items_are_marked_in_the_truth(reader: Reader):
    """Quarantine is checked against this set."""
    await reader.control("POST", "faults", {"kind": "malformed_item", "share": 0.3})

    items = await reader.walk()

    rows = (await reader.control("GET", "truth?user=0"))["rows"]
    bad = {item["id"] for item in items if item["created_at"] == "not a time"}
    assert bad == {row["id"] for row in rows if row["malformed"]} == {r["id"] for r in rows if r["malformed_served"]}
    assert 5 < len(bad) < 30


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/users/10000000/transactions", 200),
        ("/v1/users/10000000/transactions", 200),
        ("/users/10000001/transactions", 403),
        ("/users/10000000/transactions/{newest}", 200),
        ("/transactions/1", 404),
        ("/users/10000000/invoices", 404),
    ],
)
async def test_a_path_may_name_the_user_and_a_transaction(reader: Reader, path: str, status: int):
    """The feed asks below its user, and whoever looks after a missing item reads it by id."""
    newest = (await reader.walk())[0]["id"]

    answer = await reader.client.get(path.format(newest=newest), headers={"X-Api-Key": reader.key})

    assert answer.status_code == status


@pytest.mark.parametrize(("kind", "status"), [("error500", 500), ("html500", 500)])
async def test_servers_fail(reader: Reader, kind: str, status: int):
    """And then they work again."""
    await reader.control("POST", "faults", {"kind": kind, "times": 1})

    assert [(await reader.page()).status_code for _ in range(2)] == [status, 200]


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("faults", {"kind": "error"}, "kind must be one of"),
        ("mutate", {"do": "create", "user": "7"}, "there is no user '7'"),
        ("mutate", {"do": "edit", "id": 1}, "there is no transaction 1"),
        ("nothing", {}, "no control endpoint"),
    ],
)
async def test_a_control_call_that_makes_no_sense_says_why(reader: Reader, path: str, body: object, reason: str):
    """A silent no-op in a test's set-up costs an afternoon."""
    answer = await reader.client.post(f"/__sim/{path}", json=body)

    assert answer.status_code == 400
    assert reason in answer.json()["error"]["message"]


def test_it_runs_as_a_process():
    """The local stack and benchmarks start it this way."""
    with spawn("infra.local.rest", "--users", "1", "--transactions", "3") as rest:
        world = httpx.get(f"{rest.url}/__sim/world").json()

    assert world["users"] == [{"id": "10000000", "key": "key-0", "transactions": 3}]
