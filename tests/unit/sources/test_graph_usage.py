"""Usage headers: what the API says about our budget, in five dialects. Missed usage means a lengthening block."""

from __future__ import annotations

import json

import pytest

from pipeline.sources.budget import Draws
from pipeline.sources.graph_usage import draws, usage

PAGE = Draws("pages", "1000", "u1")
ADS = Draws("ads_management", "500", "u1")


def test_app_usage_is_the_fullest_of_its_three_numbers():
    """Time is as much a budget as calls."""
    header = json.dumps({"call_count": 28, "total_time": 91, "total_cputime": 25})

    assert usage("graph", {"x-app-usage": header}, PAGE) == [("graph:app", 91.0, 0.0)]


def test_ad_account_usage_names_seconds_only_when_it_is_full():
    """`reset_time_duration` is there at 9 % too, and is no reason to wait then."""
    calm = json.dumps({"acc_id_util_pct": 9.67, "reset_time_duration": 100, "ads_api_access_tier": "standard_access"})
    full = json.dumps({"acc_id_util_pct": 100, "reset_time_duration": 100})

    assert usage("graph", {"x-ad-account-usage": calm}, ADS) == [("graph:ads_management:500", 9.67, 0.0)]
    assert usage("graph", {"x-ad-account-usage": full}, ADS) == [("graph:ads_management:500", 100.0, 100.0)]


def test_business_use_case_usage_takes_every_object_and_every_type():
    """An old connector read only the first entry of the list, and ran into blocks."""
    header = json.dumps(
        {
            "66782684": [
                {"type": "ads_management", "call_count": 95, "total_cputime": 20, "total_time": 20,
                 "estimated_time_to_regain_access": 0},
                {"type": "ads_insights", "call_count": 1, "total_cputime": 144, "total_time": 2,
                 "estimated_time_to_regain_access": 7},
            ],
            "1000": [{"type": "pages", "call_count": 3, "total_cputime": 2, "total_time": 1}],
        }
    )  # fmt: skip

    assert usage("graph", {"x-business-use-case-usage": header}, PAGE, minute_seconds=2.0) == [
        ("graph:ads_management:66782684", 95.0, 0.0),
        ("graph:ads_insights:66782684", 144.0, 14.0),
        ("graph:pages:1000", 3.0, 0.0),
    ]


def test_insights_throttle_counts_for_app_and_account():
    """It is the only usage that insights answers carry."""
    header = json.dumps({"app_id_util_pct": 80.5, "acc_id_util_pct": "97", "ads_api_access_tier": "x"})

    assert usage("graph", {"x-fb-ads-insights-throttle": header}, ADS) == [
        ("graph:app", 80.5, 0.0),
        ("graph:ads_management:500", 97.0, 0.0),
    ]


def test_page_usage_of_old_versions_is_read():
    """It preceded the business use case header."""
    assert usage("graph", {"x-page-usage": '{"call_count": 99}'}, PAGE) == [("graph:pages:1000", 99.0, 0.0)]


@pytest.mark.parametrize(
    "value",
    ["", "{", "null", "[]", "7", '"text"', '{"call_count": null}', '{"call_count": "lots"}', '{"call_count": NaN}',
     '{"call_count": true}', '{"call_count": -5}', '{"call_count": [1]}', '{"call_count": 1e999}'],
)  # fmt: skip
@pytest.mark.parametrize("name", ["x-app-usage", "x-page-usage", "x-ad-account-usage", "x-fb-ads-insights-throttle"])
def test_junk_in_a_header_is_no_usage_and_no_crash(name, value):
    """Usage is advice; a page must not be lost for it."""
    assert all(note.percent == 0 and note.wait == 0 for note in usage("graph", {name: value}, PAGE))


@pytest.mark.parametrize(
    "value", ["{", "[]", '{"1": null}', '{"1": [null, 7]}', '{"1": {"call_count": 99}}', '{"1": [{"type": 7}]}']
)
def test_junk_in_the_business_header_is_skipped(value):
    """The same, for the nested one."""
    assert usage("graph", {"x-business-use-case-usage": value}, PAGE) == []


def test_no_headers_means_nothing_is_used():
    """They are left out when usage is near zero."""
    assert usage("graph", {}, PAGE) == []


def test_numbers_may_come_as_text_and_exceed_a_hundred():
    """Both were seen in recorded answers."""
    assert usage("graph", {"x-app-usage": '{"call_count": "55.5", "total_time": 144}'}, PAGE)[0].percent == 144.0


@pytest.mark.parametrize(
    ("path", "scope", "expected"),
    [
        ("/{scope}/published_posts", "1000", ("pages", "1000")),
        ("/{scope}/comments", "1000_900", ("pages", "1000")),
        ("/{scope}", "1000", ("pages", "1000")),
        ("/{scope}/ads", "act_500", ("ads_management", "500")),
        ("/{scope}/insights", "act_500", ("ads_insights", "500")),
    ],
)
def test_a_call_knows_which_budget_it_draws_on(path, scope, expected):
    """The key asked before the call must be the key that the answer's header fills."""
    assert draws(path, scope, "u1") == (*expected, "u1")


@pytest.mark.parametrize(
    ("blames", "key"),
    [
        ("app", "graph:app"),
        ("user", "graph:user:u1"),
        ("object", "graph:pages:1000"),
        ("", "graph:pages:1000"),
        ("pages", "graph:pages:1000"),
        ("ads_insights", "graph:ads_insights:1000"),
    ],
)
def test_an_error_blocks_the_budget_that_it_blames(blames, key):
    """Blocking the app for one page's throttle stops every user; blocking too little goes on calling."""
    assert PAGE.blamed("graph", blames) == key
