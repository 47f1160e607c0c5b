"""What comes back: projection, expansion, nodes, `ids`."""

from __future__ import annotations

from tests.contract.graph.conftest import Reader


async def test_absent_fields_are_left_out_and_the_id_always_comes(reader: Reader):
    """The API never writes null; clients must not need it."""
    items = await reader.walk("/1000/posts", fields="shares,story", limit=100)

    assert all("id" in item for item in items)
    assert any("shares" in item for item in items)
    assert any("shares" not in item for item in items)
    assert None not in [value for item in items for value in item.values()]


async def test_an_unknown_field_is_named_in_the_error(reader: Reader):
    """Field drift shows up as this text; clients drop the field and go on."""
    error = (await reader.get("/1000/posts", fields="id,bogus")).json()["error"]

    assert (error["code"], error["message"]) == (
        100,
        "(#100) Tried accessing nonexisting field (bogus) on node type (Post)",
    )


async def test_an_expansion_brings_its_own_paging_and_summary(reader: Reader):
    """Deep children must be followed separately, or only the first few are ever collected."""
    fields = "id,comments.limit(1).filter(stream).summary(true){id,from{name}}"
    posts = await reader.walk("/1000/posts", fields=fields, limit=100)
    post = next(post for post in posts if post["comments"]["summary"]["total_count"] > 1)

    rest = (await reader.client.get(post["comments"]["paging"]["next"])).json()

    assert len(post["comments"]["data"]) == 1
    assert set(post["comments"]["data"][0]["from"]) == {"name"}
    assert rest["data"][0]["id"] != post["comments"]["data"][0]["id"]
    assert set(rest["data"][0]) == {"id", "from"}


async def test_a_summary_counts_without_listing(reader: Reader):
    """`limit(0)` is the cheap way to see that comments changed."""
    post = (
        await reader.get("/1000/posts", limit=1, fields="comments.limit(0).summary(true),reactions.limit(0).summary(1)")
    ).json()

    comments, reactions = post["data"][0]["comments"], post["data"][0]["reactions"]
    assert comments["data"] == reactions["data"] == []
    assert isinstance(comments["summary"]["total_count"], int)
    assert set(reactions["summary"]) == {"total_count", "viewer_reaction"}


async def test_ids_reads_many_and_one_bad_id_fails_the_call(reader: Reader):
    """`?ids=` saves round trips only; its failure is all or nothing."""
    good = (await reader.get("/", ids="1000,act_500", fields="name")).json()
    bad = await reader.get("/", ids="1000,4711")

    assert set(good) == {"1000", "act_500"}
    assert bad.json()["error"]["code"] == 803


async def test_a_node_gives_name_and_id_unless_asked(reader: Reader):
    """Profiles need their fields spelled out."""
    plain = (await reader.get("/1000")).json()
    full = (await reader.get("/1000", fields="username,category,fan_count,followers_count,link")).json()

    assert plain == {"name": "Page 0", "id": "1000"}
    assert set(full) == {"username", "category", "fan_count", "followers_count", "link", "id"}


async def test_me_is_the_user_of_the_token(reader: Reader):
    """The response id must equal the expected owner: this is how clients check isolation."""
    assert (await reader.get("/v26.0/me", fields="id,name")).json() == {"id": "10000000", "name": "User 0"}
    assert (await reader.client.get("/me?access_token=tok-1-page-1001")).json() == {"name": "Page 1", "id": "1001"}


async def test_ads_can_be_filtered_by_status_and_update(reader: Reader):
    """Incremental readers use `filtering`; deleted ads are listed only on request."""
    ads = await reader.walk("/act_500/ads", fields="id,effective_status,updated_time")
    gone = ads[0]["id"]
    await reader.control("POST", "mutate", {"do": "edit", "id": gone, "item": {"effective_status": "DELETED"}})

    plain = await reader.walk("/act_500/ads")
    deleted = await reader.walk("/act_500/ads", effective_status='["DELETED"]')
    recent = await reader.walk(
        "/act_500/ads",
        effective_status='["DELETED","ACTIVE","PAUSED"]',
        filtering='[{"field":"ad.updated_time","operator":"GREATER_THAN","value":"2026-06-01T11:59:59+0000"}]',
    )

    assert gone not in {ad["id"] for ad in plain}
    assert [ad["id"] for ad in deleted] == [gone]
    assert [ad["id"] for ad in recent] == [gone]


async def test_an_expired_version_is_served_by_the_oldest_usable_one(reader: Reader):
    """An expired version is no error; the response header is the only sign."""
    old = await reader.get("/v18.0/1000")
    new = await reader.get("/v26.0/1000")

    assert (old.status_code, old.headers["facebook-api-version"]) == (200, "v21.0")
    assert new.headers["facebook-api-version"] == "v26.0"
    assert (await reader.get("/v99.0/1000")).json()["error"]["code"] == 2500


async def test_an_unchanged_page_answers_304(reader: Reader):
    """ETags save bytes though not quota; the official SDK handles them."""
    first = await reader.get("/1000/posts", limit=3)

    headers = {"Authorization": "Bearer tok-0", "If-None-Match": first.headers["etag"]}
    again = await reader.client.get("/1000/posts?limit=3", headers=headers)

    assert (again.status_code, again.content) == (304, b"")


async def test_the_date_header_is_the_clock_of_the_world(reader: Reader):
    """Clients settle by the API's clock, not by theirs."""
    assert (await reader.get("/1000")).headers["date"] == "Mon, 01 Jun 2026 12:00:00 GMT"
    await reader.control("POST", "clock", {"advance": 3600})
    assert (await reader.get("/1000")).headers["date"] == "Mon, 01 Jun 2026 13:00:00 GMT"
