"""Whatever is asked, and whatever changed before: a traversal gives the truth, prebuilt or not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.local.graph import Options, Shape, build
from infra.local.graph.app import GraphApp
from infra.local.graph.http_server import Request

NOW = datetime(2026, 6, 1, tzinfo=UTC)
END = int(NOW.timestamp())
DAY = 86_400
OPTIONS = Options(shape=Shape(users=1, posts=60, ads=8, comments=2, spread=30 * DAY), now=NOW)
FIELDS = "id,message,updated_time,comments.limit(0).summary(true)"


def get(app: GraphApp, path: str, params: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Make a call without a socket; gives the body and the request as bytes."""
    target = f"{path}?{urlencode(params)}"
    headers = {"authorization": "Bearer tok-0", "host": "graph"}
    response = app.handle(Request("GET", target, headers))
    head = f"GET {target} HTTP/1.1\r\nHost: graph\r\nAuthorization: Bearer tok-0\r\n\r\n".encode()
    return orjson.loads(response.body), head


def walk(app: GraphApp, path: str, params: dict[str, Any]) -> list[str]:
    """Collect the ids of a traversal."""
    ids: list[str] = []
    for _ in range(100):
        body, _ = get(app, path, params)
        ids += [item["id"] for item in body["data"]]
        if "next" not in body.get("paging", {}):
            return ids
        params = {**params, "after": body["paging"]["cursors"]["after"]}
    raise AssertionError("no end")


CHANGE = st.one_of(
    st.fixed_dictionaries({"do": st.just("create"), "user": st.just("0"), "age_seconds": st.integers(0, 40 * DAY)}),
    st.fixed_dictionaries(
        {"do": st.sampled_from(["edit", "delete"]), "user": st.just("0"),
         "pick": st.sampled_from(["newest", "oldest", "random"]), "edge": st.sampled_from(["posts", "comments"])}
    ),
    st.fixed_dictionaries({"do": st.just("create"), "user": st.just("0"), "edge": st.just("comments")}),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.lists(CHANGE, max_size=12),
    st.integers(1, 100),
    st.integers(END - 32 * DAY, END),
    st.integers(0, 32 * DAY),
)
def test_a_traversal_gives_exactly_the_expected_ids(changes: list[dict[str, Any]], limit: int, since: int, span: int):
    """Windows, limits and any history of changes: the paging code and the truth must agree."""
    app = build(OPTIONS)
    for change in changes:
        app.script.plan(change)

    ids = walk(app, "/1000/published_posts", {"limit": limit, "since": since, "until": since + span})

    answer = app.control.truth({"user": "0", "since": str(since), "until": str(since + span)}, None)
    assert isinstance(answer, dict)
    assert sorted(ids) == sorted(answer["expected"])


@settings(max_examples=60, deadline=None)
@given(st.lists(CHANGE, max_size=10), st.integers(1, 30))
def test_a_prebuilt_page_never_differs_from_a_fresh_one(changes: list[dict[str, Any]], limit: int):
    """The cache is for speed only: after every change it must give what would be built now, or nothing."""
    app = build(OPTIONS)
    for change in changes:
        get(app, "/1000/posts", {"limit": limit, "fields": FIELDS})
        app.script.plan(change)
        head = get(build(OPTIONS), "/1000/posts", {"limit": limit, "fields": FIELDS})[1]

        prebuilt = app.fast(head)

        fresh = get(app, "/1000/posts", {"limit": limit, "fields": FIELDS})[0]
        assert prebuilt is None or orjson.loads(prebuilt[1]) == fresh
        assert app.fast(head) is not None


def test_posts_encoded_beforehand_are_the_same_posts():
    """A benchmark's simulator must serve what every other one serves."""
    plain, prebuilt = build(OPTIONS), build(replace(OPTIONS, prebuild=FIELDS))

    bodies = [get(app, "/1000/posts", {"limit": 50, "fields": FIELDS})[0] for app in (plain, prebuilt)]

    assert bodies[0] == bodies[1]


def test_seeded_bodies_are_the_same_after_an_edit_elsewhere():
    """Bodies are made on demand; nothing may leak from one item into the next."""
    app = build(OPTIONS)
    items = app.world.edge(app.world.items["1000"], "posts").items
    before = [app.world.body(item) for item in items[1:]]

    app.script.plan({"do": "edit", "id": items[0].id})

    assert [app.world.body(item) for item in items[1:]] == before
