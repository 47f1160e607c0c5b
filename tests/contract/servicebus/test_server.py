"""The emulator inside a test: its clock moved by hand, its key checked by the real client."""

import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient
from azure.servicebus.exceptions import (
    MessageLockLostError,
    ServiceBusAuthenticationError,
    ServiceBusQuotaExceededError,
)

from infra.local.servicebus import Config, ManualClock, Properties, QueueConfig, Running, running


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that stands at the machine's time: clients compare lock ends with their own."""
    return ManualClock(int(datetime.now(UTC).timestamp() * 1000))


@pytest.fixture
async def server(clock: ManualClock) -> AsyncIterator[Running]:
    once = Properties(duplicate_detection=True, duplicate_window=300_000)
    queues = (QueueConfig("q"), QueueConfig("once", once))
    async with running(Config(queues, quota_bytes=5_000), clock=clock) as started:
        yield started


async def test_a_lock_expires_when_the_clock_is_moved(server: Running, clock: ManualClock) -> None:
    """A test of a lost lock takes no minute."""
    async with ServiceBusClient.from_connection_string(server.connection_string) as client:
        await client.get_queue_sender("q").send_messages(ServiceBusMessage("m"))
        receiver = client.get_queue_receiver("q")
        (message,) = await receiver.receive_messages(1, max_wait_time=5)

        clock.advance(seconds=61)
        with pytest.raises(MessageLockLostError):
            await receiver.renew_message_lock(message)
        (again,) = await receiver.receive_messages(1, max_wait_time=5)

    assert again.delivery_count == 1


async def test_a_schedule_and_a_window_follow_the_clock(server: Running, clock: ManualClock) -> None:
    """An hour passes between two lines."""
    queue = server.namespace.queues["once"]
    async with ServiceBusClient.from_connection_string(server.connection_string) as client:
        sender = client.get_queue_sender("once")
        await sender.schedule_messages(ServiceBusMessage("m"), datetime.now(UTC) + timedelta(hours=1))
        before = queue.counts()
        clock.advance(seconds=3601)
        after = queue.counts()
        for _ in range(2):
            await sender.send_messages(ServiceBusMessage("m", message_id="same"))
            clock.advance(seconds=301)

    assert (before["scheduled"], before["active"]) == (1, 0)
    assert (after["scheduled"], after["active"]) == (0, 1)
    assert queue.counts()["active"] == 3


async def test_a_full_queue_raises_the_quota_error(server: Running) -> None:
    """The documented error, so that the relay can hold back."""
    async with ServiceBusClient.from_connection_string(server.connection_string, retry_total=0) as client:
        with pytest.raises(ServiceBusQuotaExceededError):
            await client.get_queue_sender("q").send_messages(ServiceBusMessage("x" * 6_000))


async def test_with_a_key_configured_a_wrong_one_is_refused() -> None:
    """And the right one is not."""
    async with running(Config((QueueConfig("q"),), key="right")) as server:
        wrong = server.connection_string.replace("right", "wrong")
        async with ServiceBusClient.from_connection_string(wrong, retry_total=0) as client:
            with pytest.raises(ServiceBusAuthenticationError):
                await client.get_queue_sender("q").send_messages(ServiceBusMessage("m"))
        async with ServiceBusClient.from_connection_string(server.connection_string) as client:
            await client.get_queue_sender("q").send_messages(ServiceBusMessage("m"))

        assert server.namespace.queues["q"].counts()["active"] == 1


def test_a_wrong_configuration_is_told_and_nothing_starts(tmp_path: Path) -> None:
    """Each problem on a line, with exit code 2."""
    config = tmp_path / "Config.json"
    config.write_text('{"UserConfig": {"Namespaces": [], "Logging": {"Type": "File"}, "More": 1}}')

    done = subprocess.run(
        [sys.executable, "-m", "infra.local.servicebus", "--config", str(config), "--port", "0", "--http-port", "0"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert done.returncode == 2
    assert "UserConfig.More: 1: unknown key" in done.stderr
    assert "UserConfig.Namespaces" in done.stderr
