"""Paging: cursors, windows, limits, and what happens to a cursor whose item goes."""

from __future__ import annotations

import httpx
import pytest

from infra.local.graph import Options, Shape, running
from tests.contract.graph.conftest import NOW, Reader

POSTS = "/v26.0/1000/published_posts"


@pytest.mark.parametrize("limit", [1, 7, 25, 100])
async def test_every_post_comes_once_in_order_whatever_the_limit(reader: Reader, limit: int):
    """A simulator that loses items itself would hide a client that does."""
    items = await reader.walk(POSTS, limit=limit, fields="id,created_time")

    ids = [item["id"] for item in items]
    assert len(ids) == len(set(ids)) == 120
    assert set(ids) == await reader.expected()
    assert [item["created_time"] for item in items] == sorted((i["created_time"] for i in items), reverse=True)


async def test_the_last_page_has_cursors_but_no_next(reader: Reader):
    """Clients that stop at a missing `after` never stop; the real API always gives cursors."""
    page = (
        await reader.get(
            POSTS, limit=100, after=(await reader.get(POSTS, limit=100)).json()["paging"]["cursors"]["after"]
        )
    ).json()

    assert len(page["data"]) == 20
    assert set(page["paging"]) == {"cursors", "previous"}


async def test_no_data_means_no_paging_at_all(reader: Reader):
    """Clients that index `paging` blindly break on this."""
    page = (await reader.get(POSTS, until=1)).json()

    assert page == {"data": []}


async def test_following_next_reads_everything_and_carries_the_token(reader: Reader):
    """Third-party clients follow the link as it is; it must work without any header, as the real one does."""
    ids, url = [], f"{POSTS}?limit=50&access_token=tok-0"
    for _ in range(3):
        page = (await reader.client.get(url)).json()
        ids += [item["id"] for item in page["data"]]
        url = page["paging"].get("next", "")

    assert url == ""
    assert set(ids) == await reader.expected()


async def test_previous_leads_back_to_the_same_items(reader: Reader):
    """The backward link is rarely tested and therefore rarely right."""
    first = (await reader.get(POSTS, limit=10)).json()
    second = (await reader.client.get(f"{first['paging']['next']}")).json()

    back = (await reader.client.get(second["paging"]["previous"])).json()

    assert back["data"] == first["data"]
    assert "previous" not in back["paging"]


async def test_since_and_until_include_both_ends(reader: Reader):
    """Half-open windows must be cut by the client; an off-by-one here would blame it."""
    rows = (await reader.control("GET", "truth", user=0))["rows"]
    low, high = rows[30]["created"], rows[60]["created"]

    items = await reader.walk(POSTS, since=low, until=high, limit=13)

    assert {item["id"] for item in items} == {row["id"] for row in rows if low <= row["created"] <= high}
    assert {item["id"] for item in items} == await reader.expected(since=low, until=high)


async def test_times_may_be_words_or_iso_text(reader: Reader):
    """`since` accepts what strtotime accepts; clients send ISO dates and '-7 days'."""
    by_words = await reader.walk(POSTS, since="-7 days")
    by_text = await reader.walk(POSTS, since="2026-05-25T12:00:00+0000")

    assert by_words == by_text
    assert (await reader.get(POSTS, since="soon")).json()["error"]["code"] == 100


@pytest.mark.parametrize(("edge", "code"), [("1000/published_posts", 100), ("act_500/ads", 2642)])
async def test_a_cursor_dies_with_its_item(reader: Reader, edge: str, code: int):
    """Stored cursors are perishable; the two codes are both seen in the wild."""
    page = (await reader.get(f"/{edge}", limit=5)).json()
    await reader.control("POST", "mutate", {"do": "delete", "id": page["data"][-1]["id"]})

    error = (await reader.get(f"/{edge}", limit=5, after=page["paging"]["cursors"]["after"])).json()["error"]

    assert error["code"] == code
    assert "Invalid cursors values" in error["message"]


@pytest.mark.parametrize("cursor", ["junk", "QVFI", "QVFIAAAAAAAAAAAA"])
async def test_a_forged_cursor_is_refused(reader: Reader, cursor: str):
    """Cursors are opaque: nothing may work that the simulator did not hand out."""
    assert (await reader.get(POSTS, after=cursor)).json()["error"]["code"] == 100


async def test_a_cursor_of_one_edge_does_not_work_on_another(reader: Reader):
    """A client that mixes up its scopes must notice here, not in production."""
    cursor = (await reader.get(POSTS, limit=5)).json()["paging"]["cursors"]["after"]

    assert (await reader.get("/act_500/ads", after=cursor)).json()["error"]["code"] == 2642


@pytest.mark.parametrize("limit", ["101", "-1", "many"])
async def test_a_limit_out_of_bounds_is_an_error_that_names_it(reader: Reader, limit: str):
    """The Page edges refuse more than 100 instead of capping it."""
    error = (await reader.get(POSTS, limit=limit)).json()["error"]

    assert error["code"] == 100
    assert error["error_data"] == {"blame_field_specs": [["limit"]]}


async def test_time_paging_reads_everything_by_its_links():
    """Some edges page by `until` and an opaque token and give no cursors."""
    options = Options(shape=Shape(users=1, posts=60), now=NOW, time_paging=True)
    async with running(options) as graph, httpx.AsyncClient(base_url=graph.url) as client:
        ids: list[str] = []
        url = "/1000/posts?access_token=tok-0&limit=25"
        for _ in range(3):
            page = (await client.get(url)).json()
            assert "cursors" not in page["paging"]
            ids += [item["id"] for item in page["data"]]
            url = page["paging"].get("next", "")

    assert len(ids) == len(set(ids)) == 60


async def test_comments_come_newest_first_on_request_and_replies_only_in_the_stream(reader: Reader):
    """The comments feed asks for both; the default order is the other one."""
    rows = (await reader.control("GET", "truth", user=0, edge="comments"))["rows"]
    post = max({row["scope"] for row in rows}, key=lambda scope: sum(row["scope"] == scope for row in rows))
    wanted = {row["id"] for row in rows if row["scope"] == post}

    stream = await reader.walk(
        f"/{post}/comments", filter="stream", order="reverse_chronological", limit=1, fields="id,created_time"
    )

    assert {item["id"] for item in stream} == wanted
    assert [i["created_time"] for i in stream] == sorted((i["created_time"] for i in stream), reverse=True)


async def test_accounts_and_ad_accounts_are_paged_too():
    """A user with more pages than one answer holds must not lose the rest."""
    options = Options(shape=Shape(users=1, posts=8, pages=4, ad_accounts=3), now=NOW)
    async with running(options) as graph, httpx.AsyncClient(base_url=graph.url) as client:
        reader = Reader(client, graph)

        pages = await reader.walk("/me/accounts", limit=1)
        accounts = await reader.walk("/me/adaccounts", limit=2)

    assert [page["id"] for page in pages] == ["1000", "1001", "1002", "1003"]
    assert all(page["access_token"].startswith("tok-0-page-") for page in pages)
    assert [account["id"] for account in accounts] == ["act_500", "act_501", "act_502"]


async def test_prebuilt_pages_notice_every_change(reader: Reader):
    """The fast path must never serve yesterday's page."""

    async def top() -> list[str]:
        return [item.get("message", "") for item in (await reader.get(POSTS, limit=2, fields="message")).json()["data"]]

    before = [await top(), await top()]
    await reader.control("POST", "mutate", {"do": "edit", "user": "0", "pick": "newest", "item": {"message": "new"}})
    edited = await top()
    await reader.control("POST", "users/0/token", {"action": "revoke"})

    assert before[0] == before[1] != edited
    assert edited[0] == "new"
    assert (await reader.get(POSTS, limit=2, fields="message")).status_code == 400
