"""The data contract: what is written, that messages keep it, and which changes are refused."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # ships no types
import orjson
import pytest
from pydantic import create_model

from pipeline import contracts
from pipeline.bus.messages import unpack
from pipeline.contracts import breaking_changes, contract
from pipeline.feeds import load_feeds
from pipeline.feeds.posts import FEED as POSTS
from pipeline.feeds.posts import Post
from tests.unit.subscribers.making import accept, gone, post, sent

FEEDS = load_feeds()
ITEM = "message.jsonDataArray[]"
DATA = f"{ITEM}.data"


def changed(*path: str, to: Any) -> dict[str, Any]:
    """Give the contract of posts with one place changed, or removed if `to` is None."""
    schema = copy.deepcopy(contract(POSTS))
    place: Any = schema
    for name in path[:-1]:
        place = place[name]
    if to is None:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return schema


@pytest.mark.parametrize("feed", FEEDS.values(), ids=FEEDS.keys())
def test_the_written_contract_is_the_code_s(feed):
    """Readers build on the file; `python -m pipeline.contracts --write` brings it up to date."""
    assert contracts.stale({feed.name: feed}) == {}


@pytest.mark.parametrize("feed", FEEDS.values(), ids=FEEDS.keys())
def test_no_feed_breaks_its_readers(feed):
    """A field that is gone, or of another type, breaks what others have built, unless the version says so."""
    assert contracts.refused({feed.name: feed}) == []


@pytest.mark.parametrize("feed", FEEDS.values(), ids=FEEDS.keys())
def test_the_contract_is_itself_a_schema(feed):
    """A reader's code generator must be able to use it."""
    jsonschema.Draft202012Validator.check_schema(contract(feed))


def test_a_message_keeps_the_contract():
    """The schema describes what is really sent, tombstones included."""
    message = sent([accept(post(1)), accept(post(2, **{"from": None})), gone(post(3), 2)])
    body = orjson.loads(unpack(message.body, "zlib"))

    jsonschema.validate(body, contract(POSTS))


def test_a_message_with_a_wrong_item_breaks_the_contract():
    """A schema that accepts anything would make the test above worthless."""
    message = sent([accept(post(1))])
    body = orjson.loads(unpack(message.body, "zlib"))
    del body["jsonDataArray"][0]["data"]["created_time"]

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(body, contract(POSTS))


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (changed("properties", "scope", to=None), "message.scope: is gone"),
        (changed("$defs", "Data", "properties", "story", to=None), f"{DATA}.story: is gone"),
        (
            changed("$defs", "Shares", "properties", "count", to={"type": "string"}),
            f"{DATA}.shares.count: may now be string, was integer",
        ),
        (
            changed("$defs", "Data", "properties", "message", to={"anyOf": [{"type": "string"}, {"type": "null"}]}),
            f"{DATA}.message: may now be null, was string",
        ),
        (
            changed("$defs", "Data", "required", to=["id"]),
            f"{DATA}.created_time: may be missing now",
        ),
        (
            changed("$defs", "Shares", "required", to=["count"]),
            f"{DATA}.shares.count: is required now",
        ),
        (
            changed("$defs", "DataItem", "properties", "op", to={"enum": ["upsert", "delete", "archive"]}),
            f'{ITEM}.op: may now be "archive"',
        ),
        (
            changed("$defs", "DataItem", "properties", "op", to={"type": "string"}),
            "message.jsonDataArray[].op: may now be",
        ),
    ],
)
def test_a_breaking_change_is_told_with_its_place(new, said):
    """The person who changes a model must learn what breaks, before its readers do."""
    changes = breaking_changes(contract(POSTS), new)

    assert any(change.startswith(said) for change in changes), changes


@pytest.mark.parametrize(
    "new",
    [
        changed("$defs", "Data", "properties", "mood", to={"type": "string"}),
        changed("$defs", "Data", "properties", "updated_time", to={"type": "string"}),
        changed("$defs", "Data", "properties", "message", to={"type": "string", "title": "Text", "default": "-"}),
        changed("description", to="better words"),
    ],
)
def test_additions_and_words_break_nobody(new):
    """A feed must be able to grow without a new version."""
    assert breaking_changes(contract(POSTS), new) == []


def test_a_breaking_change_is_not_written_until_the_feed_s_version_grows(tmp_path, capsys):
    """The command that brings files up to date must not be the way around the check."""
    assert contracts.main(["--write"], feeds={"posts": POSTS}, folder=tmp_path) == 0
    model = create_model("Post", __base__=Post, story=(int, 0))
    broken = replace(POSTS, item=model)

    assert contracts.main(["--write"], feeds={"posts": broken}, folder=tmp_path) == 1
    assert "posts: message.jsonDataArray[].data.story" in capsys.readouterr().out
    assert contracts.main(["--write"], feeds={"posts": replace(broken, version=2)}, folder=tmp_path) == 0
    assert contracts.main([], feeds={"posts": replace(broken, version=2)}, folder=tmp_path) == 0


def test_a_stale_contract_fails_and_is_named(tmp_path, capsys):
    """CI runs the command without `--write`."""
    assert contracts.main([], feeds={"posts": POSTS}, folder=tmp_path) == 1
    assert "posts.json" in capsys.readouterr().out
