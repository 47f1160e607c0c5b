"""Bytes no client would send: refused by name, and nobody else notices."""

import asyncio
import random
import socket
import ssl
import struct
import time

import pytest
from azure.servicebus import ServiceBusClient, ServiceBusMessage

from infra.local.servicebus.codec import Described, UInt, ULong
from infra.local.servicebus.performatives import AMQP_HEADER, ATTACH, BEGIN, FLOW, OPEN, SASL_HEADER, TRANSFER, frame
from tests.contract.servicebus.conftest import Emulator

OPEN_FRAME = frame(0, OPEN, ["client", "localhost"])
BEGIN_FRAME = frame(0, BEGIN, [None, UInt(0), UInt(100), UInt(100)])


def attach_sender(name: str = "link", target: str = "main") -> bytes:
    terminus = [Described(ULong(0x28), ["me"]), Described(ULong(0x29), [target])]
    return frame(0, ATTACH, [name, UInt(0), False, None, None, *terminus, None, None, UInt(0)])


def talk(emulator: Emulator, *pieces: bytes, wait: float = 5) -> bytes:
    """Send bytes, then read until the server hangs up; fail if it never does."""
    with socket.create_connection(("127.0.0.1", emulator.port), timeout=wait) as raw:
        received = b""
        try:
            for piece in pieces:
                raw.sendall(piece)
            while data := raw.recv(65536):
                received += data
        except (ConnectionResetError, BrokenPipeError):
            pass
        return received


def healthy(emulator: Emulator) -> bool:
    return emulator.call("GET", "/health")[0] == 200


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        pytest.param([AMQP_HEADER, b"\xff\xff\xff\xff\x02\x00\x00\x00"], b"", id="a frame of four gigabytes"),
        pytest.param(
            [AMQP_HEADER, OPEN_FRAME, b"\x00\x00\x00\x04\x02\x00\x00\x00"], b"framing", id="a frame too short"
        ),
        pytest.param([AMQP_HEADER, OPEN_FRAME, b"\x00\x00\x00\x0c\xff\x00\x00\x00abcd"], b"framing", id="a bad offset"),
        pytest.param([AMQP_HEADER, OPEN_FRAME, b"\x00\x00\x00\x0c\x02\x07\x00\x00abcd"], b"framing", id="a bad type"),
        pytest.param(
            [AMQP_HEADER, OPEN_FRAME, b"\x00\x00\x00\x0c\x02\x00\x00\x00abcd"], b"decode", id="no performative"
        ),
        pytest.param([AMQP_HEADER, OPEN_FRAME, OPEN_FRAME], b"not-allowed", id="Open twice"),
        pytest.param([AMQP_HEADER, OPEN_FRAME, BEGIN_FRAME, BEGIN_FRAME], b"not-allowed", id="Begin twice"),
        pytest.param([AMQP_HEADER, BEGIN_FRAME], b"", id="Begin before Open"),
        pytest.param([SASL_HEADER, b"\x00\x00\x00\x0c\x02\x01\x00\x00abcd"], b"", id="SASL that is none"),
        pytest.param([b"AMQP\x09\x09\x09\x09"], SASL_HEADER, id="an unknown protocol version"),
        pytest.param([b"hello, is it me"], b"", id="something else altogether"),
    ],
)
def test_a_broken_frame_ends_its_connection_with_the_reason(
    emulator: Emulator, pieces: list[bytes], told: bytes
) -> None:
    """The peer hears what was wrong and is hung up on; the server goes on."""
    assert told in talk(emulator, *pieces)
    assert healthy(emulator)


@pytest.mark.parametrize(
    ("frames", "told"),
    [
        pytest.param(
            [frame(0, TRANSFER, [UInt(9), UInt(0), b"t", UInt(0)])], b"unattached-handle", id="transfer on no link"
        ),
        pytest.param([attach_sender(), attach_sender()], b"handle-in-use", id="a handle twice"),
        pytest.param([attach_sender(target="nowhere")], b"amqp:not-found", id="an unknown entity"),
    ],
)
def test_a_wrong_link_ends_less_than_the_connection(emulator: Emulator, frames: list[bytes], told: bytes) -> None:
    """A session or a link is refused; the connection stays for the others."""
    with socket.create_connection(("127.0.0.1", emulator.port), timeout=5) as raw:
        raw.sendall(b"".join([AMQP_HEADER, OPEN_FRAME, BEGIN_FRAME, *frames]))
        received = b""
        while told not in received:
            received += raw.recv(65536)
        raw.sendall(frame(1, BEGIN, [None, UInt(0), UInt(100), UInt(100)]))
        assert raw.recv(65536)


def test_a_message_that_cannot_be_read_is_rejected_and_the_link_goes_on(emulator: Emulator) -> None:
    """One bad message of a batch job must not cost the job its link."""
    bad = frame(0, TRANSFER, [UInt(0), UInt(0), b"t", UInt(0)])
    payload = b"\x00\x53\x75\xa0\xffshort"
    bad = struct.pack(">I", len(bad) + len(payload)) + bad[4:] + payload
    with socket.create_connection(("127.0.0.1", emulator.port), timeout=5) as raw:
        raw.sendall(AMQP_HEADER + OPEN_FRAME + BEGIN_FRAME + attach_sender() + bad)
        received = b""
        while b"amqp:decode-error" not in received:
            data = raw.recv(65536)
            assert data, received
            received += data
        raw.sendall(frame(0, FLOW, [UInt(0), UInt(9), UInt(0), UInt(9), UInt(0), None, None, None, None, True]))
        assert raw.recv(65536)


def test_tls_is_refused_by_name(emulator: Emulator) -> None:
    """Forgetting UseDevelopmentEmulator=true is the commonest mistake; the log says so."""
    context = ssl.create_default_context()
    with (
        socket.create_connection(("127.0.0.1", emulator.port), timeout=5) as raw,
        pytest.raises((ssl.SSLError, OSError)),
    ):
        context.wrap_socket(raw, server_hostname="localhost")

    assert "TLS" in emulator.log.read_text()


def test_a_web_socket_is_refused_by_name(emulator: Emulator) -> None:
    """The other transport of the clients; the log says which to use."""
    assert talk(emulator, b"GET /$servicebus/websocket HTTP/1.1\r\nUpgrade: websocket\r\n\r\n") == b""
    assert "WebSocket" in emulator.log.read_text()


def test_random_bytes_at_every_stage_touch_nobody_else(emulator: Emulator) -> None:
    """A client works while garbage of every kind arrives beside it."""
    noise = random.Random(7)
    stages = [b"", SASL_HEADER, AMQP_HEADER, AMQP_HEADER + OPEN_FRAME, AMQP_HEADER + OPEN_FRAME + BEGIN_FRAME]
    name = emulator.queue()
    client = ServiceBusClient.from_connection_string(emulator.connection_string)
    with client, client.get_queue_sender(name) as sender:
        for round_ in range(60):
            body = noise.randbytes(noise.randrange(1, 300))
            kind = noise.choice([body, struct.pack(">IBBH", len(body) + 8, 2, 0, 0) + body])
            with socket.create_connection(("127.0.0.1", emulator.port), timeout=5) as raw:
                raw.sendall(stages[round_ % len(stages)] + kind)
            sender.send_messages(ServiceBusMessage(str(round_)))

    assert emulator.counts(name)["active"] == 60


async def test_five_hundred_connections_are_served_at_once(emulator: Emulator) -> None:
    """Every sender and receiver of the Python client is a connection of its own."""

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", emulator.port)
        writer.write(AMQP_HEADER + OPEN_FRAME + BEGIN_FRAME + attach_sender())
        async with asyncio.timeout(20):
            while b"main" not in await reader.read(65536):
                pass
        return reader, writer

    opened = await asyncio.gather(*(connect() for _ in range(500)))
    counted = (await asyncio.to_thread(emulator.call, "GET", "/emulator/entities"))[1]["connections"]
    for _, writer in opened:
        writer.close()

    assert counted >= 500


def test_closed_connections_are_forgotten(emulator: Emulator) -> None:
    """Whether they said goodbye or not."""
    end = time.monotonic() + 5
    while emulator.call("GET", "/emulator/entities")[1]["connections"] and time.monotonic() < end:
        time.sleep(0.05)

    assert emulator.call("GET", "/emulator/entities")[1]["connections"] == 0
