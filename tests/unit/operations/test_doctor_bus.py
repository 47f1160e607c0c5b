"""What exists on the bus against the topology."""

from datetime import timedelta

from pipeline.bus.entities import Described
from pipeline.operations.doctor import Expected, compare

EXPECTED = Expected(
    queues=("posts-mining-queue-prod", "raw-storage-queue-prod"),
    topics={"posts-data-topic-prod": {"raw-storage": "raw-storage-queue-prod"}},
    properties={"LockDuration": "PT1M", "MaxDeliveryCount": 10},
)
PROPERTIES = {"LockDuration": timedelta(minutes=1), "MaxDeliveryCount": 10}
COMPLETE = Described(
    queues=dict.fromkeys(("POSTS-mining-queue-prod", "raw-storage-queue-prod"), PROPERTIES),
    topics={"posts-data-topic-prod": {"raw-storage": "raw-storage-queue-prod"}},
)


def _failed(described: Described) -> list[str]:
    return [one.detail for one in compare(described, EXPECTED) if one.failed]


def test_a_bus_as_declared_passes_whatever_the_case_of_its_names():
    """Service Bus ignores case; Azure's portal shows names as they were typed."""
    assert _failed(COMPLETE) == []


def test_a_missing_queue_topic_and_subscription_are_each_named():
    """Each is one line of a person's to-do list."""
    gone = Described({"raw-storage-queue-prod": PROPERTIES}, {"posts-data-topic-prod": {}})

    assert _failed(gone) == [
        "queue posts-mining-queue-prod is missing",
        "subscription raw-storage of posts-data-topic-prod is missing",
    ]
    assert _failed(COMPLETE._replace(topics={})) == ["topic posts-data-topic-prod is missing"]


def test_a_subscription_that_forwards_elsewhere_fails():
    """Its messages would pile up where nobody reads them."""
    astray = COMPLETE._replace(topics={"posts-data-topic-prod": {"raw-storage": "other-queue"}})

    assert "forwards to other-queue" in _failed(astray)[0]


def test_a_property_that_differs_is_named_with_both_values():
    """A lock shorter than a page means every page is worked twice."""
    short = {name: {**PROPERTIES, "LockDuration": timedelta(seconds=30)} for name in COMPLETE.queues}

    assert "LockDuration is 0:00:30, not PT1M" in _failed(COMPLETE._replace(queues=short))[0]


def test_properties_that_a_bus_does_not_tell_are_skipped_aloud():
    """The local bus tells counts only; silence would read as agreement."""
    silent = COMPLETE._replace(queues=dict.fromkeys(COMPLETE.queues))

    assert [one.state for one in compare(silent, EXPECTED)] == ["ok", "skip"]
