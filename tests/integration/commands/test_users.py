"""Users and their tokens from the command line."""

from pathlib import Path

from pipeline.sources.base import Fault, FaultKind
from tests.desk import Desk


def test_a_token_on_the_command_line_is_refused_and_the_refusal_says_why(desk: Desk):
    """Every process of the machine can read arguments, and the shell keeps them."""
    said = desk.run("users", "add", "u1", "--token", "secret")

    assert said.code == 2
    assert desk.run("users", "list", "--json").json == []


def test_a_token_is_stored_sealed_and_never_shown(desk: Desk):
    """A copy of the database must not be a copy of the tokens."""
    desk.variables["MY_TOKEN"] = "very-secret-token"

    added = desk.run("users", "add", "u1", "--token-env", "MY_TOKEN")

    assert added.code == 0
    assert "very-secret-token" not in added.out + added.err + desk.run("users", "list").out
    assert b"very-secret-token" not in (desk.folder / "pipeline.db").read_bytes()


def test_a_new_token_wakes_what_waited_for_it_and_leaves_the_rest_alone(desk: Desk):
    """Rule 17: the user goes on at once where it stood, instead of at the next recheck."""
    desk.user("u1", posts=30)
    desk.user("u2", posts=30)
    desk.source.faults = [Fault(kind=FaultKind.TOKEN_DEAD, code="190", calls=1)]
    desk.run("mine", "posts", "--user", "u1")
    desk.work()
    before = desk.bus.sends

    said = desk.run("users", "add", "u1", "--token-stdin", stdin="fresh\n")
    desk.work()

    assert "2 chains woken" in said.out
    assert desk.bus.sends > before
    assert {one["state"] for one in desk.run("why", "u1", "posts", "--json").json["feeds"][0]["chains"]} == {"done"}


def test_a_file_of_users_is_imported_and_importing_it_again_changes_nothing(desk: Desk, tmp_path: Path):
    """An import that broke half-way is simply run again."""
    file = tmp_path / "users.csv"
    file.write_text("user_id,priority,token\nu1,5,t1\nu2,,\n")

    first, second = desk.run("users", "import", str(file)), desk.run("users", "import", str(file))

    assert "2 users added, 1 tokens stored" in first.out
    assert "0 users added" in second.out
    assert [(u["user_id"], u["priority"], u["token"]) for u in desk.run("users", "list", "--json").json] == [
        ("u1", 5, "live"),
        ("u2", 0, "none"),
    ]


def test_a_file_at_fault_names_its_line_and_never_its_token(desk: Desk, tmp_path: Path):
    """The message lands in terminals and logs."""
    file = tmp_path / "users.csv"
    file.write_text("user_id,token,source\nu1,secret-one,graph\nu2,secret-two,nowhere\n")

    said = desk.run("users", "import", str(file))

    assert said.code == 2
    assert "line 3" in said.err
    assert "secret" not in said.err


def test_adding_a_disabled_user_again_keeps_its_priority(desk: Desk):
    """A new token for a VIP must not put it at the end of the queue."""
    desk.run("users", "add", "u1", "--priority", "7")
    desk.run("users", "disable", "u1")

    desk.run("users", "add", "u1")

    assert desk.run("users", "list", "--json").json[0] | {"stored_at": None} == {
        "user_id": "u1", "state": "active", "priority": 7, "source": "", "token": "none", "stored_at": None,
    }  # fmt: skip


def test_disabling_nobody_is_an_error(desk: Desk):
    """A typing error must not look like success."""
    assert desk.run("users", "disable", "nobody").code == 1
