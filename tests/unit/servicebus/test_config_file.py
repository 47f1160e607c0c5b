"""Config.json: what is read, and that every violation is named by path and value."""

import json
from typing import Any

import pytest

from infra.local.servicebus import Config, ConfigError, parse_config
from infra.local.servicebus.config_file import duration_ms, parse_properties, without_comments

BASE = "UserConfig.Namespaces[0]"


def document(queue: Any = None, topic: Any = None) -> dict[str, Any]:
    queues = [{"Name": "q", "Properties": queue or {}}]
    topics = [topic] if topic else []
    namespace = {"Name": "sbemulatorns", "Queues": queues, "Topics": topics}
    return {"UserConfig": {"Namespaces": [namespace], "Logging": {"Type": "File"}}}


def read(values: Any, *, relaxed: bool = False) -> Config:
    return parse_config(json.dumps(values), relaxed=relaxed)


def problems(values: Any, *, relaxed: bool = False) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(values, relaxed=relaxed)
    return caught.value.problems


def topic(**subscription: Any) -> dict[str, Any]:
    return {"Name": "t", "Properties": {}, "Subscriptions": [{"Name": "s", **subscription}]}


def test_the_defaults_are_the_official_schemas() -> None:
    """A file for the official emulator means the same here."""
    (queue,) = read(document()).queues

    assert queue.properties.lock_duration == 60_000
    assert queue.properties.max_delivery_count == 3
    assert queue.properties.time_to_live == 3_600_000
    assert queue.properties.duplicate_window == 20_000


def test_every_property_is_read() -> None:
    """Under the names the official file has for them."""
    given = {
        "DeadLetteringOnMessageExpiration": True,
        "DefaultMessageTimeToLive": "PT30M",
        "DuplicateDetectionHistoryTimeWindow": "PT1M30S",
        "ForwardDeadLetteredMessagesTo": "t",
        "ForwardTo": "t",
        "LockDuration": "PT5S",
        "MaxDeliveryCount": 7,
        "RequiresDuplicateDetection": True,
        "RequiresSession": False,
    }

    read_back = read(document(given, topic(Properties={}))).queues[0].properties

    assert (read_back.dead_letter_on_expiry, read_back.duplicate_detection) == (True, True)
    assert (read_back.time_to_live, read_back.duplicate_window, read_back.lock_duration) == (1_800_000, 90_000, 5_000)
    assert (read_back.forward_to, read_back.forward_dead_letters_to, read_back.max_delivery_count) == ("t", "t", 7)


def test_comments_are_allowed_and_strings_left_alone() -> None:
    """The shipped file has comments; a URL in a string has slashes too."""
    text = '{"a": "http://x", // one\n /* two\n lines */ "b": "/*no*/"}'

    assert json.loads(without_comments(text)) == {"a": "http://x", "b": "/*no*/"}
    assert without_comments(text).count("\n") == text.count("\n")


@pytest.mark.parametrize(
    ("queue", "problem"),
    [
        ({"LockDuration": "PT1S"}, 'Properties.LockDuration: "PT1S": must be from PT5S to PT5M'),
        ({"LockDuration": "PT6M"}, 'Properties.LockDuration: "PT6M": must be from PT5S to PT5M'),
        ({"LockDuration": 60}, "Properties.LockDuration: 60: must be an ISO 8601 duration such as PT1M"),
        ({"DefaultMessageTimeToLive": "P14D"}, '.DefaultMessageTimeToLive: "P14D": must be from PT5M to PT1H'),
        ({"DuplicateDetectionHistoryTimeWindow": "PT10M"}, '"PT10M": must be from PT5S to PT5M'),
        ({"MaxDeliveryCount": 11}, "Properties.MaxDeliveryCount: 11: must be a whole number from 1 to 10"),
        ({"MaxDeliveryCount": "3"}, 'Properties.MaxDeliveryCount: "3": must be a whole number from 1 to 10'),
        ({"RequiresSession": True}, "Properties.RequiresSession: true: sessions: "),
        ({"EnablePartitioning": True}, "Properties.EnablePartitioning: true: partitioned entities: "),
        ({"ForwardTo": "nowhere"}, 'Properties.ForwardTo: "nowhere": no such queue or topic'),
        ({"ForwardTo": "Q"}, 'Properties.ForwardTo: "Q": an entity cannot forward to itself'),
        ({"RequiresDuplicateDetection": 1}, "Properties.RequiresDuplicateDetection: 1: must be true or false"),
        ({"Lockduration": "PT1M"}, 'Properties.Lockduration: "PT1M": unknown property of a queue'),
    ],
)
def test_a_wrong_property_is_named_with_its_place_and_value(queue: dict[str, Any], problem: str) -> None:
    """A file that passes here must pass in the official emulator."""
    (found,) = problems(document(queue))

    assert found.startswith(f"{BASE}.Queues[0].Properties")
    assert problem in found


@pytest.mark.parametrize(
    ("subscription", "problem"),
    [
        ({"Properties": {"LockDuration": "PT30S"}}, "must be from PT1M to PT5M"),
        ({"Properties": {"RequiresDuplicateDetection": True}}, "unknown property of a subscription"),
        ({"Properties": {}, "Rules": [{"Name": "r", "Properties": {"FilterType": "Correlation"}}]}, "match-all"),
        ({"Properties": {}, "Filter": 1}, "Subscriptions[0].Filter: 1: unknown key"),
    ],
)
def test_subscriptions_have_bounds_of_their_own(subscription: dict[str, Any], problem: str) -> None:
    """They differ from a queue's, and so does what is left out."""
    (found,) = problems(document(None, topic(**subscription)))

    assert f"{BASE}.Topics[0].Subscriptions[0]" in found
    assert problem in found


def test_a_rule_that_matches_everything_is_taken() -> None:
    """It says what every subscription here does anyway."""
    rule = {"Name": "all", "Properties": {"FilterType": "Sql", "SqlFilter": {"SqlExpression": "1 = 1"}}}

    assert read(document(None, topic(Properties={}, Rules=[rule]))).topics[0].subscriptions[0].name == "s"


def test_all_problems_are_told_at_once() -> None:
    """Nobody likes to start the emulator once per mistake."""
    wrong = document({"LockDuration": "x", "MaxDeliveryCount": 0})
    wrong["UserConfig"]["Logging"]["Type"] = "Screen"
    wrong["UserConfig"]["Namespaces"][0]["Name"] = "mine"

    assert len(problems(wrong)) == 4


@pytest.mark.parametrize("name", ["", "-a", "a b", "a" * 300, None, "$x"])
def test_a_name_no_entity_may_have_is_refused(name: Any) -> None:
    """Names are part of addresses."""
    values = document()
    values["UserConfig"]["Namespaces"][0]["Queues"][0]["Name"] = name

    assert "is not a valid entity name" in problems(values)[0]


def test_names_that_differ_by_case_only_are_one_name() -> None:
    """Azure does not tell them apart."""
    values = document()
    values["UserConfig"]["Namespaces"][0]["Queues"].append({"Name": "Q"})

    assert "used twice" in problems(values)[0]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"UserConfig": 3}', '{"UserConfig": {"Namespaces": []}}'])
def test_what_is_no_configuration_says_so(text: str) -> None:
    """Whatever the file holds, the answer is a list of problems."""
    with pytest.raises(ConfigError):
        parse_config(text)


def test_relaxed_allows_what_tests_need() -> None:
    """Short locks and long windows, but no nonsense."""
    config = read(document({"LockDuration": "PT0.5S", "DefaultMessageTimeToLive": "P14D"}), relaxed=True)

    assert config.queues[0].properties.lock_duration == 500
    assert "must be from" in problems(document({"LockDuration": "PT0S"}), relaxed=True)[0]


def test_entities_made_over_http_have_the_clouds_defaults() -> None:
    """They stand in for what Azure's management API would make."""
    properties = parse_properties("queue", None, relaxed=False)

    assert (properties.max_delivery_count, properties.time_to_live) == (10, None)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("PT1M", 60_000), ("P1DT1H", 90_000_000), ("PT0.25S", 250), ("P", None), ("1M", None), ("PT", None)],
)
def test_durations_are_iso_8601(text: str, milliseconds: int | None) -> None:
    """As the official file writes them."""
    assert duration_ms(text) == milliseconds
