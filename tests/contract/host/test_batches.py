"""Cardinality many, with the extension's habit of dropping empty strings."""

from azure.servicebus import ServiceBusMessage

from tests.contract.host.broker import Broker
from tests.contract.host.running import running, until, write_app

BATCH = """
@app.service_bus_queue_trigger(
    arg_name="messages", queue_name="%QUEUE%", connection="BUS", cardinality=func.Cardinality.MANY)
async def worker(messages: List[func.ServiceBusMessage]) -> None:
"""
LARGE = {"extensions": {"serviceBus": {"minMessageBatchSize": 3, "maxBatchWaitTime": "00:00:05"}}}


def settings_of(broker: Broker, queue: str) -> dict[str, str]:
    return {"BUS": broker.connection_string, "QUEUE": queue}


def test_a_batch_arrives_together_with_values_shifted_as_in_azure(tmp_path, broker):
    """The second message's correlation id lands on the first: read identity from the body or the properties."""
    queue = broker.queue()
    app = write_app(
        tmp_path / "app",
        BATCH
        + """
    for message in messages:
        note(size=len(messages), body=message.get_body().decode(), correlation=message.correlation_id,
             properties=message.application_properties, naive=message.enqueued_time_utc.tzinfo is None,
             sequence=message.sequence_number, count=message.delivery_count)
""",
        host_json=LARGE,
    )
    broker.send(
        queue,
        [
            ServiceBusMessage("a", application_properties={"n": 0}),
            ServiceBusMessage("b", correlation_id="corr1", application_properties={"n": 1}),
            ServiceBusMessage("c", correlation_id="corr2", application_properties={"n": 2}),
        ],
    )
    with running(app, settings=settings_of(broker, queue)) as host:
        notes = host.until_noted(3)
        until(lambda: broker.left(queue) == 0, host)

    assert [note["size"] for note in notes] == [3, 3, 3]
    assert [note["body"] for note in notes] == ["a", "b", "c"]
    assert [note["correlation"] for note in notes] == ["corr1", "corr2", None]
    assert [note["properties"]["n"] for note in notes] == [0, 1, 2]
    assert [note["count"] for note in notes] == [1, 1, 1]
    assert all(note["naive"] for note in notes)


def test_a_failing_batch_comes_back_whole(tmp_path, broker):
    """One bad message takes its neighbours along; that is the price of batches."""
    queue = broker.queue(MaxDeliveryCount=2)
    app = write_app(
        tmp_path / "app", BATCH + "    note(size=len(messages))\n    raise RuntimeError('one of them')", host_json=LARGE
    )
    broker.send(queue, ["a", "b", "c"])
    with running(app, settings=settings_of(broker, queue)) as host:
        until(lambda: broker.counts(queue)["deadLetter"] == 3, host)

        assert sum(note["size"] for note in host.notes()) == 6


def test_batches_run_one_at_a_time_and_no_larger_than_allowed(tmp_path, broker):
    """Concurrency is one per function, whatever maxConcurrentCalls says."""
    queue = broker.queue()
    app = write_app(
        tmp_path / "app",
        BATCH + "    note(step=1, size=len(messages))\n    await asyncio.sleep(0.2)\n    note(step=-1, size=0)",
        host_json={"extensions": {"serviceBus": {"maxMessageBatchSize": 4}}},
    )
    broker.send(queue, ["x"] * 12)
    with running(app, settings=settings_of(broker, queue)) as host:
        until(lambda: broker.left(queue) == 0, host)
        notes = host.notes()

        assert [note["step"] for note in notes] == [1, -1] * (len(notes) // 2)
        assert max(note["size"] for note in notes) == 4


def test_a_stop_ends_the_running_batch_first(tmp_path, broker):
    """Drained like single messages."""
    queue = broker.queue()
    app = write_app(tmp_path / "app", BATCH + "    note()\n    await asyncio.sleep(1)\n    note()")
    broker.send(queue, ["x"])
    with running(app, settings=settings_of(broker, queue)) as host:
        host.until_noted(1)

        host.stop()

        assert len(host.notes()) == 2
        assert broker.left(queue) == 0
