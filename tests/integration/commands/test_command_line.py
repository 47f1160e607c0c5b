"""The command line itself."""

import pytest

from pipeline.__main__ import commands, main
from tests.desk import Desk


@pytest.mark.parametrize("name", [command.name for command in commands()])
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]):
    """`--help` needs no settings, no database and no bus."""
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])

    assert end.value.code == 0
    assert name in capsys.readouterr().out


def test_an_older_schema_names_the_command_that_fixes_it(desk: Desk):
    """The first thing that goes wrong after a deployment."""
    (desk.folder / "pipeline.db").unlink()

    said = desk.run("status")

    assert said.code == 2
    assert "python -m pipeline migrate" in said.err


def test_a_database_that_cannot_be_opened_names_its_setting_and_not_its_value(desk: Desk):
    """A connection string holds a password."""
    desk.variables["DATABASE_URL"] = "oracle://user:hunter2@host/db"

    said = desk.run("status")

    assert said.code == 2
    assert "DATABASE_URL" in said.err
    assert "hunter2" not in said.err


def test_a_key_is_drawn_that_the_app_accepts(desk: Desk):
    """The first command of a newcomer."""
    desk.variables["TOKEN_KEY"] = desk.run("new-key").out.strip()

    assert desk.run("users", "add", "u1", "--token-stdin", stdin="t").code == 0


def test_an_ordered_time_is_mined_again_and_only_that(desk: Desk):
    """A person orders a day anew; what is stored and unchanged is published no second time."""
    desk.user("u1", posts=200)
    desk.run("mine", "posts")
    desk.work()
    published = len(desk.bus.topics["posts-data-topic-local"])
    desk.clock.advance(1)

    said = desk.run("mine", "posts", "--user", "u1", "--since", "2023-11-14T18:00:00", "--until", "2023-11-14T19:00:00")
    desk.work()

    assert said.code == 0
    lanes = {c["lane"] for c in desk.run("why", "u1", "posts", "--json").json["feeds"][0]["chains"]}
    assert "backfill" in lanes
    assert len(desk.bus.topics["posts-data-topic-local"]) == published


def test_several_feeds_are_ordered_at_once_or_none_of_them(desk: Desk):
    """Starting the command costs a second; and a typing error in the last name must not leave half an order."""
    desk.variables["FEEDS_ENABLED"] = "posts,profile"
    desk.user("u1", posts=1)

    wrong = desk.run("mine", "posts", "nonsense")
    left_by_wrong = dict(desk.bus.queues)
    right = desk.run("mine", "posts", "profile")

    assert (wrong.code, left_by_wrong) == (2, {})
    assert right.code == 0
    assert {name for name, queued in desk.bus.queues.items() if queued} == {
        "posts-mining-queue-local",
        "profile-mining-queue-local",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["mine", "nonsense"],
        ["mine", "posts", "--until", "2023-01-01"],
        ["mine", "posts", "--since", "2023-01-02", "--until", "2023-01-01"],
        ["mine", "comments", "--since", "1d"],
        ["reprocess", "nonsense", "--since", "1d"],
    ],
)
def test_wrong_use_is_exit_code_2_and_names_the_argument(desk: Desk, arguments: list[str]):
    """Scripts tell a typing error from a failure."""
    said = desk.run(*arguments)

    assert said.code == 2
    assert any(word in said.err for word in ("FEED", "--since", "--until"))


def test_names_from_outside_cannot_steer_the_terminal(desk: Desk):
    """An API's text with escape codes could rewrite what an operator reads."""
    desk.user("u1", posts=1)
    desk.source.items["page-u1"][0]["message"] = 5
    desk.source.items["page-u1"][0]["evil"] = "\x1b[2J"
    desk.run("mine", "posts")
    desk.work()
    row = desk.run("quarantine", "list", "--json").json[0]["id"]

    assert "\x1b" not in desk.run("quarantine", "show", str(row)).out
