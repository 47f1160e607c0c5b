"""Service Bus functions: what they are given, and what becomes of their messages."""

import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.servicebus import ServiceBusMessage

from infra.local.host.bus import Bus
from infra.local.host.functions import Entity, ServiceBusTrigger
from infra.local.host.settings import Connection
from tests.contract.host.broker import Broker
from tests.contract.host.running import running, until, write_app

QUEUE = """
@app.service_bus_queue_trigger(arg_name="message", queue_name="%QUEUE%", connection="BUS")
async def worker(message: func.ServiceBusMessage, context: func.Context) -> None:
"""

SEEN = """
def seen(message):
    names = ("message_id correlation_id session_id subject label content_type reply_to to partition_key "
             "reply_to_session_id delivery_count sequence_number lock_token time_to_live locked_until "
             "scheduled_enqueue_time_utc enqueued_sequence_number dead_letter_reason dead_letter_error_description "
             "dead_letter_source state application_properties user_properties")
    fields = {name: getattr(message, name) for name in names.split()}
    for name in ("enqueued_time_utc", "expires_at_utc"):
        value = getattr(message, name)
        fields[name] = None if value is None else [value.isoformat(), str(value.tzinfo)]
    return {**fields, "body": message.get_body().decode(), "keys": sorted(message.metadata)}
"""


def queue_app(folder: Path, body: str, *, host_json: dict[str, Any] | None = None) -> Path:
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    return write_app(folder, SEEN + QUEUE + indented, host_json=host_json)


def settings_of(broker: Broker, queue: str) -> dict[str, str]:
    return {"BUS": broker.connection_string, "QUEUE": queue}


def test_a_message_is_handed_over_as_in_azure(tmp_path, broker):
    """Names, naive times, and the many properties that never come: code that copes here copes there."""
    queue = broker.queue()
    app = queue_app(tmp_path / "app", "note(**seen(message))")
    message = ServiceBusMessage(
        "the body",
        message_id="m1",
        correlation_id="c1",
        subject="s",
        content_type="text/plain",
        reply_to="r",
        to="t",
        time_to_live=timedelta(minutes=10),
        application_properties={"text": "ä", "number": 7, "true": True},
    )
    broker.send(queue, [message])
    with running(app, settings=settings_of(broker, queue)) as host:
        (seen,) = host.until_noted(1)
        until(lambda: broker.left(queue) == 0, host)

    assert (seen["body"], seen["message_id"], seen["correlation_id"]) == ("the body", "m1", "c1")
    assert (seen["subject"], seen["label"]) == ("s", "s")
    assert (seen["content_type"], seen["reply_to"], seen["to"]) == ("text/plain", "r", "t")
    assert seen["delivery_count"] == 1
    assert seen["application_properties"] == {"text": "ä", "number": 7, "true": True}
    assert seen["user_properties"] == seen["application_properties"]
    assert seen["enqueued_time_utc"][1] == "None"
    assert seen["expires_at_utc"][1] == "None"
    assert len(seen["lock_token"]) == 36


@pytest.mark.parametrize(
    "name",
    [
        "time_to_live",
        "locked_until",
        "scheduled_enqueue_time_utc",
        "enqueued_sequence_number",
        "dead_letter_reason",
        "dead_letter_error_description",
        "state",
    ],
)
def test_what_the_extension_never_sends_is_none(name, bare):
    """These properties exist in Python's type and are always None in production."""
    assert bare[name] is None


def test_a_bare_message_has_no_empty_keys(bare):
    """Null values are left out of the metadata; those of the extension keep their casing."""
    assert bare["correlation_id"] is None
    assert bare["expires_at_utc"][0].startswith("9999-12-31T23:59:59")
    assert bare["keys"] == [
        "ApplicationProperties",
        "DeliveryCount",
        "EnqueuedTime",
        "EnqueuedTimeUtc",
        "ExpiresAt",
        "ExpiresAtUtc",
        "LockToken",
        "MessageId",
        "SequenceNumber",
        "UserProperties",
    ]


@pytest.fixture(scope="module")
def bare(tmp_path_factory, broker):
    """Return what a function sees of a message with nothing but an id."""
    queue = broker.queue(DefaultMessageTimeToLive="P10675199D")
    app = queue_app(tmp_path_factory.mktemp("bare") / "app", "note(**seen(message))")
    broker.send(queue, [ServiceBusMessage("x", message_id="only")])
    with running(app, settings=settings_of(broker, queue)) as host:
        return host.until_noted(1)[0]


def test_a_failing_function_abandons_at_once_until_the_dead_letter_queue(tmp_path, broker):
    """No pause between the attempts: an app that raises burns all deliveries within a second."""
    queue = broker.queue(MaxDeliveryCount=3)
    app = queue_app(tmp_path / "app", "note(count=message.delivery_count)\nraise RuntimeError('always')")
    with running(app, settings=settings_of(broker, queue)) as host:
        broker.send(queue, ["bad"])
        until(lambda: broker.counts(queue)["deadLetter"] == 1, host)

        assert [note["count"] for note in host.notes()] == [1, 2, 3]


def test_a_dead_letter_queue_is_read_with_the_reason_among_the_properties(tmp_path, broker):
    """In production the reason is found there and nowhere else."""
    queue = broker.queue(MaxDeliveryCount=1)
    source = (
        SEEN
        + QUEUE
        + """
    raise RuntimeError("always")

@app.service_bus_queue_trigger(arg_name="message", queue_name="%QUEUE%/$DeadLetterQueue", connection="BUS")
async def dead(message: func.ServiceBusMessage) -> None:
    note(**seen(message))
"""
    )
    app = write_app(tmp_path / "app", source)
    with running(app, settings=settings_of(broker, queue)) as host:
        broker.send(queue, ["bad"])
        (seen,) = host.until_noted(1)
        until(lambda: broker.counts(queue)["deadLetter"] == 0, host)

    assert seen["dead_letter_reason"] is None
    assert seen["application_properties"]["DeadLetterReason"] == "MaxDeliveryCountExceeded"


def test_the_dead_letters_of_a_subscription_are_read(tmp_path, broker):
    """Each subscription has a dead-letter queue of its own."""
    topic = broker.topic("one")
    app = write_app(
        tmp_path / "app",
        """
        @app.service_bus_topic_trigger(
            arg_name="message", topic_name="%TOPIC%", subscription_name="one", connection="BUS")
        async def failing(message: func.ServiceBusMessage) -> None:
            raise RuntimeError("always")

        @app.service_bus_topic_trigger(
            arg_name="message", topic_name="%TOPIC%", subscription_name="one/$deadletterqueue", connection="BUS")
        async def dead(message: func.ServiceBusMessage) -> None:
            note(body=message.get_body().decode())
        """,
    )
    with running(app, settings={"BUS": broker.connection_string, "TOPIC": topic}) as host:
        broker.send(topic, ["news"])

        assert host.until_noted(1) == [{"body": "news"}]


async def test_an_identity_is_used_where_only_a_namespace_is_given():
    """No key in the settings of the cloud; the client must be made without one, and without a call."""
    connection = Connection("BUS", None, "example.servicebus.windows.net")
    trigger = ServiceBusTrigger("message", connection, Entity("queue"), many=False, binary=False, auto_complete=None)
    bus = Bus()

    receiver = bus.receiver(trigger, prefetch=0)

    assert receiver.fully_qualified_namespace == "example.servicebus.windows.net"
    await bus.close()


def test_a_value_returned_without_a_binding_fails_the_message(tmp_path, broker):
    """A favourite mistake that decorators alone do not show."""
    queue = broker.queue(MaxDeliveryCount=1)
    app = queue_app(tmp_path / "app", "return 'done'")
    with running(app, settings=settings_of(broker, queue)) as host:
        broker.send(queue, ["x"])
        until(lambda: broker.counts(queue)["deadLetter"] == 1, host)

        host.until_said("returned a non-None value")


def test_a_subscription_is_read(tmp_path, broker):
    """Topics fan out; a function reads one subscription."""
    topic = broker.topic("one", "two")
    app = write_app(
        tmp_path / "app",
        """
        @app.service_bus_topic_trigger(
            arg_name="message", topic_name="%TOPIC%", subscription_name="two", connection="BUS")
        def reader(message: func.ServiceBusMessage) -> None:
            note(body=message.get_body().decode())
        """,
    )
    with running(app, settings={"BUS": broker.connection_string, "TOPIC": topic}) as host:
        broker.send(topic, ["news"])

        assert host.until_noted(1) == [{"body": "news"}]


def test_no_more_than_max_concurrent_calls_run_at_once(tmp_path, broker):
    """The number that keeps an app within the limits of what it calls."""
    queue = broker.queue()
    app = queue_app(
        tmp_path / "app",
        "note(step=1)\nawait asyncio.sleep(0.2)\nnote(step=-1)",
        host_json={"extensions": {"serviceBus": {"maxConcurrentCalls": 3}}},
    )
    broker.send(queue, ["x"] * 12)
    with running(app, settings=settings_of(broker, queue)) as host:
        notes = host.until_noted(24)

        levels = [sum(note["step"] for note in notes[: position + 1]) for position in range(24)]
        assert max(levels) == 3


def test_a_lock_is_renewed_while_a_function_runs(tmp_path, broker):
    """A function may take longer than the lock; without renewal its message would run twice."""
    queue = broker.queue(LockDuration="PT1S")
    app = queue_app(tmp_path / "app", "note(count=message.delivery_count)\nawait asyncio.sleep(3)")
    with running(app, settings=settings_of(broker, queue)) as host:
        broker.send(queue, ["long"])
        until(lambda: host.notes() != [] and broker.left(queue) == 0, host)

        assert host.notes() == [{"count": 1}]


def test_a_lock_is_not_renewed_for_ever(tmp_path, broker):
    """After maxAutoLockRenewalDuration a second delivery begins, in production as here."""
    queue = broker.queue(LockDuration="PT1S")
    app = queue_app(
        tmp_path / "app",
        "note(count=message.delivery_count)\nawait asyncio.sleep(3 if message.delivery_count == 1 else 0)",
        host_json={"extensions": {"serviceBus": {"maxAutoLockRenewalDuration": "00:00:00"}}},
    )
    with running(app, settings=settings_of(broker, queue)) as host:
        broker.send(queue, ["long"])

        assert host.until_noted(2) == [{"count": 1}, {"count": 2}]


def test_a_killed_worker_loses_no_message(tmp_path, broker):
    """Out of memory, a segfault: what was in its hands is delivered again, to a new worker."""
    queue = broker.queue()
    app = queue_app(
        tmp_path / "app",
        "note(body=message.get_body().decode(), pid=os.getpid())\n"
        "await asyncio.sleep(30 if message.delivery_count == 1 else 0)\n"
        "note(done=message.get_body().decode())",
    )
    with running(app, settings=settings_of(broker, queue)) as host:
        broker.send(queue, [str(number) for number in range(8)])
        host.until_noted(8)

        host.kill_workers()

        until(lambda: broker.left(queue) == 0, host)
        done = [note["done"] for note in host.notes() if "done" in note]
        assert sorted(done) == [str(number) for number in range(8)]
        assert broker.counts(queue)["deadLetter"] == 0


def test_nothing_is_lost_while_workers_die_and_connections_break(tmp_path, broker):
    """Every message is run to its end at least once, and none is given up."""
    queue = broker.queue(LockDuration="PT3S")
    app = queue_app(
        tmp_path / "app",
        "await asyncio.sleep(0.1)\nnote(done=message.get_body().decode())",
        host_json={"extensions": {"serviceBus": {"maxConcurrentCalls": 4}}},
    )
    bodies = {str(number) for number in range(150)}
    with running(app, "--workers", "2", settings=settings_of(broker, queue)) as host:
        broker.send(queue, sorted(bodies))
        for goal in (10, 40, 70):
            host.until_noted(goal)
            host.kill_workers()
            broker.fault("drop-connections", entity=queue)

        until(lambda: broker.left(queue) == 0, host)

        assert {note["done"] for note in host.notes()} == bodies
        assert broker.counts(queue)["deadLetter"] == 0


def test_a_stop_lets_running_functions_end_and_leaves_the_rest(tmp_path, broker):
    """Nothing is lost or done twice by a restart: in flight ends, waiting waits."""
    queue = broker.queue()
    app = queue_app(
        tmp_path / "app",
        "note(began=message.get_body().decode())\nawait asyncio.sleep(1)\nnote(ended=message.get_body().decode())",
        host_json={"extensions": {"serviceBus": {"maxConcurrentCalls": 2}}},
    )
    broker.send(queue, [str(number) for number in range(10)])
    with running(app, settings=settings_of(broker, queue)) as host:
        host.until_noted(2)

        code = host.stop()

        notes = host.notes()
        assert code == 0
        assert sum("began" in note for note in notes) == sum("ended" in note for note in notes)
        assert broker.counts(queue)["active"] == 10 - sum("ended" in note for note in notes)
        assert broker.counts(queue)["locked"] == 0


def test_what_does_not_end_in_the_drain_is_given_back(tmp_path, broker):
    """A stop has a limit; the message is free at once, not after its lock."""
    queue = broker.queue()
    app = queue_app(tmp_path / "app", "note()\nawait asyncio.sleep(60)")
    with running(app, "--drain", "1", settings=settings_of(broker, queue)) as host:
        broker.send(queue, ["long"])
        host.until_noted(1)

        host.stop()

        assert broker.counts(queue)["active"] == 1


def test_a_killed_host_loses_no_message(tmp_path, broker):
    """Its locks end, another host goes on."""
    queue = broker.queue(LockDuration="PT2S")
    app = queue_app(
        tmp_path / "app",
        "note(count=message.delivery_count)\nawait asyncio.sleep(0 if os.environ.get('AGAIN') else 60)",
    )
    with running(app, settings=settings_of(broker, queue)) as host:
        broker.send(queue, ["x"])
        host.until_noted(1)
        os.kill(host.process.pid, signal.SIGKILL)
        host.ended()
    with running(app, settings={**settings_of(broker, queue), "AGAIN": "1"}) as host:
        until(lambda: broker.left(queue) == 0, host)

        assert host.notes()[-1] == {"count": 2}


def test_a_broken_connection_is_opened_again(tmp_path, broker):
    """Networks break; nobody should have to restart a host for it."""
    queue = broker.queue()
    app = queue_app(tmp_path / "app", "note(body=message.get_body().decode())")
    with running(app, settings=settings_of(broker, queue)) as host:
        broker.send(queue, ["before"])
        host.until_noted(1)
        broker.fault("drop-connections", entity=queue)

        broker.send(queue, ["after"])

        host.until_noted(2)
        assert host.notes()[-1] == {"body": "after"}


def test_a_queue_that_does_not_exist_is_told_and_tried_again(tmp_path, broker):
    """The one who made the typing error reads this line."""
    app = queue_app(tmp_path / "app", "note()")
    with running(app, settings=settings_of(broker, "no-such-queue")) as host:
        until(lambda: "worker: no-such-queue:" in host.text and "again in" in host.text, host)


def test_a_lone_message_does_not_wait_for_others(tmp_path, broker):
    """The client likes to collect a page for 200 ms; a pipeline of ten steps would pay for that ten times."""
    queue = broker.queue()
    app = queue_app(
        tmp_path / "app",
        "from datetime import datetime, timezone\n"
        "waited = datetime.now(timezone.utc).replace(tzinfo=None) - message.enqueued_time_utc\n"
        "note(waited=waited.total_seconds())",
    )
    with running(app, settings=settings_of(broker, queue)) as host:
        for count in (1, 2, 3):
            broker.send(queue, ["alone"])
            notes = host.until_noted(count)

        assert min(note["waited"] for note in notes) < 0.15


def test_auto_complete_off_leaves_a_success_to_its_lock_and_abandons_a_failure(tmp_path, broker):
    """Production abandons failures even then, which surprises people."""
    queue = broker.queue(LockDuration="PT2S")
    app = queue_app(
        tmp_path / "app",
        "note(at=time.time())\nif message.delivery_count == 1: raise RuntimeError('once')",
        host_json={"extensions": {"serviceBus": {"autoCompleteMessages": False}}},
    )
    with running(app, settings=settings_of(broker, queue)) as host:
        broker.send(queue, ["x"])
        notes = host.until_noted(3)

        assert notes[1]["at"] - notes[0]["at"] < 1
        assert notes[2]["at"] - notes[1]["at"] > 1


def test_the_trace_of_the_sender_is_continued(tmp_path, broker):
    """Same trace, new span, for either spelling of the property."""
    queue = broker.queue()
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    app = queue_app(tmp_path / "app", "note(parent=context.trace_context.trace_parent)")
    with running(app, settings=settings_of(broker, queue)) as host:
        for name in ("traceparent", "Diagnostic-Id"):
            broker.send(queue, [ServiceBusMessage("x", application_properties={name: f"00-{trace}-{span}-01"})])
        notes = host.until_noted(2)

        assert {note["parent"].split("-")[1] for note in notes} == {trace}
        assert span not in {note["parent"].split("-")[2] for note in notes}


def test_retry_on_service_bus_is_ignored_with_a_warning(tmp_path, broker):
    """It is accepted and does nothing in Azure; here one is told."""
    queue = broker.queue(MaxDeliveryCount=1)
    retry = '@app.retry(strategy="fixed_delay", max_retry_count="5", delay_interval="00:00:00")'
    source = QUEUE.replace("async def", f"{retry}\nasync def")
    app = write_app(tmp_path / "app", source + "    note()\n    raise RuntimeError('always')")
    with running(app, settings=settings_of(broker, queue)) as host:
        broker.send(queue, ["x"])
        until(lambda: broker.counts(queue)["deadLetter"] == 1, host)

        assert len(host.notes()) == 1
        host.until_said("worker: @app.retry has no effect on a Service Bus trigger")


def test_a_queue_function_is_run_by_hand(tmp_path, broker):
    """With a body of one's own, and no message anywhere."""
    queue = broker.queue()
    app = queue_app(tmp_path / "app", "note(body=message.get_body().decode(), count=message.delivery_count)")
    with running(app, settings=settings_of(broker, queue)) as host:
        answer = host.call("/admin/functions/worker", "POST", b'{"input": "by hand"}')

        assert answer.status == 202
        assert host.until_noted(1) == [{"body": "by hand", "count": 1}]


def test_binary_bodies_arrive_as_they_were_sent(tmp_path, broker):
    """Compressed bodies are not text; data_type BINARY says so."""
    queue = broker.queue()
    app = write_app(
        tmp_path / "app",
        QUEUE.replace('connection="BUS"', 'connection="BUS", data_type="BINARY"')
        + "    note(body=list(message.get_body()))",
    )
    with running(app, settings=settings_of(broker, queue)) as host:
        broker.send(queue, [ServiceBusMessage(bytes([0, 255, 128]))])

        assert host.until_noted(1) == [{"body": [0, 255, 128]}]


def test_a_host_against_nothing_says_so_and_goes_on(tmp_path):
    """The emulator may be started after the host."""
    app = queue_app(tmp_path / "app", "note()")
    nowhere = "Endpoint=sb://localhost:1;SharedAccessKeyName=k;SharedAccessKey=v;UseDevelopmentEmulator=true;"
    with running(app, settings={"BUS": nowhere, "QUEUE": "q"}) as host:
        until(lambda: "worker: q:" in host.text and "again in" in host.text, host)
