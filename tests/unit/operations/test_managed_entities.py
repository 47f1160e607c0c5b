"""Azure's management interface, as far as its answers go; the interface itself was never reached from a desk."""

from collections.abc import AsyncIterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from azure.core.exceptions import HttpResponseError
from azure.servicebus.management import QueueProperties, QueueRuntimeProperties

from pipeline.bus.entities import Depth, ManagedEntities, duration


class Administration:
    """Answers like the management client; `refuses` is what an identity without the right to manage meets."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self.closed = False

    async def list_queues_runtime_properties(self) -> AsyncIterator[Any]:
        if self.refuses:
            raise HttpResponseError("401")
        one = SimpleNamespace(
            name="posts-mining-queue-prod",
            active_message_count=7,
            scheduled_message_count=None,
            dead_letter_message_count=2,
        )
        yield one

    async def list_queues(self) -> AsyncIterator[Any]:
        yield SimpleNamespace(
            name="posts-mining-queue-prod",
            lock_duration=timedelta(minutes=1),
            max_delivery_count=10,
            default_message_time_to_live=timedelta(days=14),
            dead_lettering_on_message_expiration=True,
            requires_duplicate_detection=True,
            duplicate_detection_history_time_window=timedelta(minutes=10),
        )

    async def list_topics(self) -> AsyncIterator[Any]:
        yield SimpleNamespace(name="posts-data-topic-prod")

    async def list_subscriptions(self, topic: str) -> AsyncIterator[Any]:
        yield SimpleNamespace(name="raw-storage", forward_to="https://x.servicebus.windows.net/raw-storage-queue-prod")

    async def close(self) -> None:
        self.closed = True


def _entities(client: Administration) -> ManagedEntities:
    return ManagedEntities(lambda: client)  # type: ignore[arg-type, return-value]  # answers like the real one


async def test_depths_are_read_and_the_client_is_closed():
    """Each question opens a client; one that stays open is a leak per page view."""
    client = Administration()

    assert await _entities(client).depths() == {"posts-mining-queue-prod": Depth(7, 0, 2)}
    assert client.closed


async def test_without_the_right_to_manage_depths_are_unknown():
    """The functions' identity may send and receive only; the status must come all the same."""
    client = Administration(refuses=True)

    assert await _entities(client).depths() is None
    assert client.closed


async def test_a_forwarding_address_becomes_the_name_of_its_queue():
    """Azure gives a full address where one sets a name."""
    described = await _entities(Administration()).describe()

    assert described is not None
    assert described.topics == {"posts-data-topic-prod": {"raw-storage": "raw-storage-queue-prod"}}
    properties = described.queues["posts-mining-queue-prod"]
    assert properties is not None
    assert properties["LockDuration"] == duration("PT1M")


def test_the_real_properties_have_the_names_that_are_read():
    """The fake above must not agree with the code about names that the library does not have."""
    depths = {"active_message_count", "scheduled_message_count", "dead_letter_message_count", "name"}

    assert depths <= set(dir(QueueRuntimeProperties))
    assert "lock_duration" in (QueueProperties.__init__.__doc__ or "") + (QueueProperties.__doc__ or "")
