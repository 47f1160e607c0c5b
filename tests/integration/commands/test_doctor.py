"""The doctor: know before the first tick."""

import base64
from typing import Any

from tests.desk import Desk


def _findings(desk: Desk) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for one in desk.run("doctor", "--json").json["findings"]:
        found.setdefault(one["what"], []).append(one)
    return found


def test_a_desk_in_order_passes(desk: Desk):
    """Exit code 0 is what a deployment waits for."""
    desk.user("u1")

    said = desk.run("doctor")

    assert said.code == 0
    assert "FAIL" not in said.out


def test_every_setting_that_is_missing_is_named_at_once(desk: Desk):
    """One run, one list: not one setting per attempt."""
    desk.variables |= {"MINER_AZURE_SERVICE_BUS": "", "TOKEN_KEY": ""}

    said = desk.run("doctor")

    assert said.code == 1
    assert "MINER_AZURE_SERVICE_BUS" in said.out
    assert "TOKEN_KEY" in said.out


def test_a_key_that_opens_no_token_fails(desk: Desk):
    """After a lost key every user would park, one by one, for hours."""
    desk.user("u1")
    desk.variables["TOKEN_KEY"] = base64.b64encode(b"k" * 32).decode()

    assert _findings(desk)["tokens"][0]["state"] == "fail"


def test_a_lake_that_cannot_be_written_fails(desk: Desk):
    """A read-only share would stop the raw subscriber at its first message."""
    (desk.folder / "file").write_text("no folder")
    desk.variables["LAKE_URL"] = f"file:{desk.folder / 'file' / 'lake'}"

    assert _findings(desk)["lake"][0]["state"] == "fail"


def test_a_schedule_that_is_no_schedule_is_named(desk: Desk):
    """The host would only say that the function is in error."""
    desk.variables["POSTS_SCHEDULE_MINER"] = "every day"

    assert any(
        "POSTS_SCHEDULE_MINER" in one["detail"] and one["state"] == "fail" for one in _findings(desk)["schedules"]
    )


def test_what_cannot_be_asked_is_said_to_be_skipped(desk: Desk):
    """A check that did not run must not look like one that passed."""
    assert _findings(desk)["bus"][0]["state"] == "skip"
