"""Output bindings: $return and Out, to queues and topics."""

import pytest

from tests.contract.host.broker import Broker
from tests.contract.host.running import running, until, write_app

TRIGGER = '@app.service_bus_queue_trigger(arg_name="message", queue_name="%QUEUE%", connection="BUS")\n'


def settings_of(broker: Broker, queue: str, other: str) -> dict[str, str]:
    return {"BUS": broker.connection_string, "QUEUE": queue, "OTHER": other}


@pytest.mark.parametrize(
    ("binding", "function"),
    [
        (
            '@app.service_bus_queue_output(arg_name="$return", queue_name="%OTHER%", connection="BUS")',
            "async def step(message: func.ServiceBusMessage) -> str:\n"
            "    return 'made of ' + message.get_body().decode()",
        ),
        (
            '@app.service_bus_topic_output(arg_name="out", topic_name="%OTHER%", connection="BUS")',
            "def step(message: func.ServiceBusMessage, out: func.Out[str]) -> None:\n"
            "    out.set('made of ' + message.get_body().decode())",
        ),
    ],
)
def test_what_a_function_gives_is_sent(tmp_path, broker, binding, function):
    """Returned or set, sync or async: one message more in the next queue."""
    queue, other = broker.queue(), broker.queue()
    app = write_app(tmp_path / "app", TRIGGER + binding + "\n" + function)
    with running(app, settings=settings_of(broker, queue, other)) as host:
        broker.send(queue, ["x"])

        assert broker.bodies(other, 1) == ["made of x"]
        until(lambda: broker.left(queue) == 0, host)


def test_a_json_array_becomes_one_message_per_element(tmp_path, broker):
    """That is how a function sends several."""
    queue, other = broker.queue(), broker.queue()
    app = write_app(
        tmp_path / "app",
        """
        @app.route(route="send", methods=["POST"])
        @app.service_bus_queue_output(arg_name="out", queue_name="%OTHER%", connection="BUS")
        async def send(req: func.HttpRequest, out: func.Out[str]) -> func.HttpResponse:
            out.set(json.dumps(["a", {"b": 1}]))
            return func.HttpResponse("sent", status_code=202)
        """,
    )
    with running(app, settings=settings_of(broker, queue, other)) as host:
        answer = host.call("/api/send", "POST")

        assert (answer.status, answer.body) == (202, b"sent")
        assert broker.bodies(other, 2) == ["a", '{"b": 1}']


def test_an_array_larger_than_a_batch_is_sent_in_several(tmp_path, broker):
    """A batch holds 256 KB; how many messages that is must not be the app's concern."""
    queue, other = broker.queue(), broker.queue()
    app = write_app(
        tmp_path / "app",
        TRIGGER
        + '@app.service_bus_queue_output(arg_name="$return", queue_name="%OTHER%", connection="BUS")\n'
        + "async def step(message: func.ServiceBusMessage) -> str:\n    return json.dumps(['x' * 100_000] * 6)",
    )
    with running(app, settings=settings_of(broker, queue, other)):
        broker.send(queue, ["x"])

        assert [len(body) for body in broker.bodies(other, 6)] == [100_000] * 6


def test_an_output_that_cannot_be_sent_fails_the_message(tmp_path, broker):
    """The input must not be completed when its output is nowhere."""
    queue = broker.queue(MaxDeliveryCount=1)
    app = write_app(
        tmp_path / "app",
        TRIGGER
        + '@app.service_bus_queue_output(arg_name="$return", queue_name="%OTHER%", connection="BUS")\n'
        + "async def step(message: func.ServiceBusMessage) -> str:\n    return 'x'",
    )
    with running(app, settings=settings_of(broker, queue, "no-such-queue")) as host:
        broker.send(queue, ["x"])
        until(lambda: broker.counts(queue)["deadLetter"] == 1, host)

        host.until_said("output binding failed")


def test_nothing_set_sends_nothing(tmp_path, broker):
    """An Out that stays empty is a decision."""
    queue, other = broker.queue(), broker.queue()
    app = write_app(
        tmp_path / "app",
        TRIGGER
        + '@app.service_bus_queue_output(arg_name="out", queue_name="%OTHER%", connection="BUS")\n'
        + "async def step(message: func.ServiceBusMessage, out: func.Out[str]) -> None:\n    note()",
    )
    with running(app, settings=settings_of(broker, queue, other)) as host:
        broker.send(queue, ["x"])
        until(lambda: broker.left(queue) == 0, host)

        assert broker.counts(other)["active"] == 0
