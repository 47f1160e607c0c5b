"""Tokens: where they may stand, how they die, what may be seen with them."""

from __future__ import annotations

import hashlib
import hmac

import httpx
import pytest

from infra.local.graph import Options, Shape, running
from tests.contract.graph.conftest import NOW, Reader


async def test_a_token_may_come_in_the_header_the_query_or_the_form(reader: Reader):
    """SDKs use the query, careful clients the header, POSTs the form."""
    client = reader.client

    answers = [
        await client.get("/me", headers={"Authorization": "Bearer tok-1"}),
        await client.get("/me", headers={"Authorization": "OAuth tok-1"}),
        await client.get("/me?access_token=tok-1"),
        await client.post("/me", data={"access_token": "tok-1", "method": "get"}),
    ]

    assert [answer.json().get("id") for answer in answers] == ["10000001"] * 4
    assert (await reader.control("GET", "calls"))["token_in_query"] == 1


@pytest.mark.parametrize(
    ("token", "code", "subcode"), [("tok-expired", 190, 463), ("tok-revoked", 190, 467), ("nonsense", 190, None)]
)
async def test_a_dead_token_is_code_190_with_its_subcode(reader: Reader, token: str, code: int, subcode: int | None):
    """Only the subcode tells what to do; the status is a plain 400."""
    reader.token = token

    answer = await reader.get("/1000/posts")

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error.get("error_subcode")) == (400, code, subcode)
    assert answer.headers["www-authenticate"].startswith('OAuth "Facebook Platform"')


async def test_without_a_token_the_code_depends_on_the_path(reader: Reader):
    """`me` cannot mean anybody: 2500; other objects only lack a token: 104."""
    assert (await reader.client.get("/me")).json()["error"]["code"] == 2500
    assert (await reader.client.get("/1000/posts")).json()["error"]["code"] == 104


async def test_rotation_kills_the_old_token_and_its_page_tokens(reader: Reader):
    """A rotated token must be picked up at once; a revived one works again."""
    fresh = await reader.control("POST", "users/0/token", {"action": "rotate"})
    old = await reader.get("/1000/posts")
    old_page = await reader.client.get("/1000/posts?access_token=tok-0-page-1000")
    reader.token = fresh["token"]
    new = await reader.get("/1000/posts")
    await reader.control("POST", "users/0/token", {"action": "revoke", "subcode": 458})
    revoked = await reader.get("/1000/posts")
    await reader.control("POST", "users/0/token", {"action": "revive"})

    assert [old.json()["error"]["error_subcode"], old_page.json()["error"]["error_subcode"]] == [460, 460]
    assert new.status_code == 200
    assert revoked.json()["error"]["error_subcode"] == 458
    assert (await reader.get("/1000/posts")).status_code == 200


@pytest.mark.parametrize(
    ("path", "code"), [("/1001/posts", 10), ("/act_501/ads", 200), ("/1001", 100), ("/act_501/insights", 200)]
)
async def test_what_belongs_to_another_user_is_refused_and_counted(reader: Reader, path: str, code: int):
    """Isolation is proven by the log: no call may ask for another user's data."""
    assert (await reader.get(path)).json()["error"]["code"] == code
    assert (await reader.control("GET", "calls"))["cross_user"] == 1


async def test_debug_token_tells_the_state_of_a_token(reader: Reader):
    """The daily token check reads this."""
    app = (await reader.control("GET", "world"))["app"]
    reader.token = app["token"]
    alive = (await reader.get("/debug_token", input_token="tok-0")).json()["data"]
    await reader.control("POST", "users/0/token", {"action": "expire"})

    dead = (await reader.get("/debug_token", input_token="tok-0")).json()["data"]

    assert (alive["is_valid"], alive["user_id"], alive["type"]) == (True, "10000000", "USER")
    assert (dead["is_valid"], dead["error"]["subcode"]) == (False, 463)


async def test_a_living_token_can_be_exchanged_and_an_expired_one_cannot(reader: Reader):
    """Refreshing works only before the end."""
    app = (await reader.control("GET", "world"))["app"]
    params = {"grant_type": "fb_exchange_token", "client_id": app["id"], "client_secret": app["secret"]}

    good = await reader.client.get("/oauth/access_token", params={**params, "fb_exchange_token": "tok-0"})
    bad = await reader.client.get("/oauth/access_token", params={**params, "fb_exchange_token": "tok-expired"})

    reader.token = good.json()["access_token"]
    assert good.json()["token_type"] == "bearer"
    assert (await reader.get("/me")).json()["id"] == "10000000"
    assert bad.json()["error"]["code"] == 190


async def test_a_required_proof_must_fit_the_token_and_the_time():
    """`appsecret_proof` is an HMAC; the timed form is good for five minutes."""
    async with (
        running(Options(shape=Shape(users=1, posts=1), now=NOW, proof_required=True)) as graph,
        httpx.AsyncClient(base_url=graph.url) as client,
    ):
        reader = Reader(client, graph)
        secret = (await reader.control("GET", "world"))["app"]["secret"].encode()

        def proof(message: str) -> str:
            return hmac.new(secret, message.encode(), hashlib.sha256).hexdigest()

        now = int(NOW.timestamp())
        codes = [
            (await reader.get("/me")).status_code,
            (await reader.get("/me", appsecret_proof=proof("tok-0"))).status_code,
            (await reader.get("/me", appsecret_proof=proof("tok-1"))).status_code,
            (await reader.get("/me", appsecret_proof=proof(f"tok-0|{now}"), appsecret_time=now)).status_code,
            (
                await reader.get("/me", appsecret_proof=proof(f"tok-0|{now - 301}"), appsecret_time=now - 301)
            ).status_code,
        ]

    assert codes == [400, 200, 400, 200, 400]
