"""Quarantine: list, show, replay, discard."""

import json
import zlib
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.storage.tables import items, quarantine
from tests.desk import Desk


@pytest.fixture
def kept(desk: Desk) -> Desk:
    """A user with nine good posts and one whose message is no text."""
    desk.user("u1", posts=10)
    desk.source.items["page-u1"][4]["message"] = 17
    desk.run("mine", "posts")
    desk.work()
    return desk


def _rows(desk: Desk, table: sa.Table) -> list[Any]:
    def read(connection: Connection, /) -> list[Any]:
        return list(connection.execute(sa.select(table)).all())

    return desk.with_pipeline(lambda pipeline: pipeline.database.read(read))


def _fix(desk: Desk) -> None:
    """What a fix of the model would do: the kept body is acceptable now."""
    body = zlib.compress(json.dumps(desk.source.items["page-u1"][4] | {"message": "fixed"}).encode())

    def write(connection: Connection, /) -> None:
        connection.execute(sa.update(quarantine).values(body=body))

    desk.with_pipeline(lambda pipeline: pipeline.database.write("test", write))


def test_a_bad_item_is_listed_with_its_reason_and_shown_with_its_body(kept: Desk):
    """A person must see what was refused and why, without SQL."""
    row = kept.run("quarantine", "list", "--feed", "posts", "--user", "u1", "--json").json[0]

    shown = kept.run("quarantine", "show", str(row["id"]))

    assert (row["reason"], row["item_id"], row["attempts"]) == ("malformed", "u1_4", 0)
    assert '"message":17' in shown.out


@pytest.mark.parametrize(
    "filters",
    [
        ["--feed", "comments"],
        ["--user", "u2"],
        ["--reason", "oversize"],
        ["--until", "2020-01-01"],
        ["--version", "99"],
    ],
)
def test_every_filter_narrows_the_list(kept: Desk, filters: list[str]):
    """A replay after a fix must touch what the fix is for, nothing else."""
    assert kept.run("quarantine", "list", "--json", *filters).json == []


def test_a_row_that_is_still_bad_waits_on_and_its_attempt_is_counted(kept: Desk):
    """A replay before the fix is deployed must not lose the row."""
    said = kept.run("quarantine", "replay", "--feed", "posts", "--json")

    assert said.code == 1
    assert said.json["counts"] == {"still-bad": 1}
    assert kept.run("quarantine", "list", "--json").json[0]["attempts"] == 1


def test_a_replay_after_a_fix_brings_the_item_in_once(kept: Desk):
    """Running it twice must publish nothing twice: people do run things twice."""
    _fix(kept)
    published = len(kept.bus.topics["posts-data-topic-local"])

    first = kept.run("quarantine", "replay", "--all", "--json")
    second = kept.run("quarantine", "replay", "--all", "--json")

    assert (first.json["counts"], second.json["counts"]) == ({"replayed": 1}, {})
    assert len(kept.bus.topics["posts-data-topic-local"]) == published + 1
    assert len(_rows(kept, items)) == 10


def test_a_replayed_parent_wants_its_children(kept: Desk):
    """Rule 14: else the comments of a post that came through quarantine would never be fetched."""
    _fix(kept)

    kept.run("quarantine", "replay", "--all")

    report = kept.run("why", "u1", "comments", "--json").json["feeds"][0]
    assert "u1_4" in {chain["scope"] for chain in report["chains"]}


def test_a_replay_never_overwrites_a_later_revision(kept: Desk):
    """The row keeps the observation it had: what the API said since is newer."""
    kept.source.items["page-u1"][4]["message"] = "the latest words"
    kept.clock.advance(8 * 86_400)
    kept.run("mine", "posts", "--since", "2023-11-01", "--until", "2023-11-15")
    kept.work()
    _fix(kept)

    said = kept.run("quarantine", "replay", "--all", "--json")

    assert said.json["counts"] == {"overtaken": 1}
    assert [row.revision for row in _rows(kept, items) if row.item_id == "u1_4"] == [1]


def test_a_discarded_row_stays_in_the_table_and_does_not_wait(kept: Desk):
    """Nothing is ever destroyed, only closed."""
    assert kept.run("quarantine", "discard", "--reason", "malformed").code == 0

    assert kept.run("quarantine", "list", "--json").json == []
    assert [row["state"] for row in kept.run("quarantine", "list", "--state", "all", "--json").json] == ["discarded"]


def test_a_replay_of_nothing_in_particular_is_refused(kept: Desk):
    """A forgotten filter must not mean everything."""
    said = kept.run("quarantine", "replay")

    assert said.code == 2
    assert "--all" in said.err
