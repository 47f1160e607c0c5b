"""An independent reader: the official `facebook-business` package, pointed at the simulator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from facebook_business.adobjects.ad import Ad
from facebook_business.adobjects.adaccount import AdAccount
from facebook_business.adobjects.adreportrun import AdReportRun
from facebook_business.adobjects.adsinsights import AdsInsights
from facebook_business.adobjects.page import Page
from facebook_business.adobjects.pagepost import PagePost
from facebook_business.adobjects.user import User
from facebook_business.api import FacebookAdsApi
from facebook_business.exceptions import FacebookRequestError
from facebook_business.session import FacebookSession

from infra.local.graph import spawn

POST_FIELDS = ["id", "created_time", "updated_time", "message", "from", "shares", "permalink_url"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with spawn("infra.local.graph", "--users", "2", "--posts", "230", "--pages", "2", "--ads", "60") as graph:
        yield graph.url


@pytest.fixture
def control(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{url}/__sim") as client:
        client.post("/reset", json={})
        yield client


@pytest.fixture
def api(url: str, control: httpx.Client) -> FacebookAdsApi:
    return connect(url, control, "tok-0")


def connect(url: str, control: httpx.Client, token: str) -> FacebookAdsApi:
    """Point the package at the simulator: `GRAPH` is its setting for the host."""
    app = control.get("/world").json()["app"]
    session = FacebookSession(app_id=app["id"], app_secret=app["secret"], access_token=token)
    session.GRAPH = url
    return FacebookAdsApi(session)


def expected(control: httpx.Client, **query: Any) -> set[str]:
    return set(control.get("/truth", params={"user": "0", **query}).json()["expected"])


def test_it_reads_all_posts_of_all_pages(api: FacebookAdsApi, control: httpx.Client):
    """If the package that Facebook ships cannot read it, it is not the Graph API."""
    pages = list(User("me", api=api).get_accounts(fields=["id", "name", "access_token"], params={"limit": 1}))

    posts = [
        post for page in pages for post in Page(page["id"], api=api).get_published_posts(POST_FIELDS, {"limit": 40})
    ]

    assert len(pages) == 2
    assert {post[PagePost.Field.id] for post in posts} == expected(control)
    assert len(posts) == 230


def test_it_reads_all_ads_and_their_nodes(api: FacebookAdsApi, control: httpx.Client):
    """Objects, fields and nested creatives go through the package's own types."""
    accounts = list(User("me", api=api).get_ad_accounts(fields=["id", "name", "currency"]))
    cursor = accounts[0].get_ads(
        fields=[Ad.Field.name, Ad.Field.creative, Ad.Field.effective_status], params={"limit": 25}
    )

    ads = list(cursor)
    again = Ad(ads[0]["id"], api=api).api_get(fields=[Ad.Field.name, Ad.Field.updated_time])

    assert {ad["id"] for ad in ads} == expected(control, edge="ads")
    assert cursor.total() == 60
    assert again["name"] == ads[0]["name"]
    assert ads[0]["creative"]["id"] == f"9{ads[0]['id']}"


def test_it_runs_a_report_to_its_end(api: FacebookAdsApi):
    """The asynchronous report is three calls in the package as well."""
    params = {"level": "ad", "time_increment": 1, "date_preset": "last_7d"}
    fields = [AdsInsights.Field.ad_id, AdsInsights.Field.clicks, AdsInsights.Field.spend]
    run = AdAccount("act_500", api=api).get_insights(fields=fields, params=params, is_async=True)
    for _ in range(5):
        run = run.api_get()
        if run[AdReportRun.Field.async_status] == "Job Completed":
            break

    rows = list(run.get_insights(params={"limit": 50}))

    direct = list(AdAccount("act_500", api=api).get_insights(fields=fields, params={**params, "limit": 100}))
    assert [dict(row) for row in rows] == [dict(row) for row in direct]
    assert len(rows) > 100


@pytest.mark.parametrize(
    ("fault", "code", "subcode", "transient"),
    [
        ({"kind": "throttle", "code": 17, "subcode": 2446079}, 17, 2446079, True),
        ({"kind": "error", "code": 190, "subcode": 463}, 190, 463, False),
        ({"kind": "error", "code": 1}, 1, None, True),
        ({"kind": "ok_with_error", "code": 2}, 2, None, True),
    ],
)
def test_it_parses_errors(
    api: FacebookAdsApi, control: httpx.Client, fault: dict[str, Any], code: int, subcode: int | None, transient: bool
):
    """Envelope, codes and the transient flag must be where the package looks for them."""
    control.post("/faults", json=fault)

    with pytest.raises(FacebookRequestError) as caught:
        Page("1000", api=api).api_get(fields=["name"])

    error = caught.value
    assert (error.api_error_code(), error.api_error_subcode(), error.api_transient_error()) == (
        code,
        subcode,
        transient,
    )
    assert error.api_error_type() == "OAuthException"


def test_it_sees_a_dead_token_and_a_blamed_field(url: str, control: httpx.Client, api: FacebookAdsApi):
    """A revoked token is 190/467; a wrong limit blames its parameter."""
    control.post("/users/1/token", json={"action": "revoke"})

    with pytest.raises(FacebookRequestError) as dead:
        User("me", api=connect(url, control, "tok-1")).api_get()
    with pytest.raises(FacebookRequestError) as blamed:
        list(Page("1000", api=api).get_published_posts(params={"limit": 500}))

    assert (dead.value.api_error_code(), dead.value.api_error_subcode()) == (190, 467)
    assert blamed.value.api_blame_field_specs() == [["limit"]]
