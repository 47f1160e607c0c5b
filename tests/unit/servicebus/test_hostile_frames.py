"""Well-formed frames full of nonsense: the documented error, never an internal one."""

import asyncio
import logging
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.local.servicebus import Config, ManualClock, QueueConfig
from infra.local.servicebus.codec import Array, Described, UByte, UInt, ULong, encode
from infra.local.servicebus.connection import Connection
from infra.local.servicebus.performatives import AMQP_HEADER, ATTACH, BEGIN, FIELDS, FLOW, OPEN, TRANSFER, frame
from infra.local.servicebus.sections import parse_message
from infra.local.servicebus.server import Broker
from tests.unit.servicebus.test_codec import values


class Wire(asyncio.Transport):
    """A socket that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("test", 0)})
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


def terminus(address: str) -> Described:
    return Described(ULong(0x28), [address])


def attach(handle: int, role: bool, address: str) -> bytes:
    ends = [terminus(address), terminus(address)]
    return frame(0, ATTACH, [f"l{handle}", UInt(handle), role, UByte(0), UByte(1), *ends, None, None, UInt(0)])


OPENING = b"".join(
    (
        AMQP_HEADER,
        frame(0, OPEN, ["c", "h"]),
        frame(0, BEGIN, [None, UInt(0), UInt(100), UInt(100)]),
        attach(0, False, "q"),
        attach(1, True, "q"),
        attach(2, False, "q/$management"),
        attach(3, True, "q/$management"),
        attach(4, False, "$cbs"),
        attach(5, True, "$cbs"),
        frame(0, FLOW, [UInt(0), UInt(100), UInt(0), UInt(100), UInt(1), UInt(0), UInt(5)]),
        frame(0, FLOW, [UInt(0), UInt(100), UInt(0), UInt(100), UInt(3), UInt(0), UInt(5)]),
    )
)

likely = st.one_of(
    values,
    st.integers(0, 6).map(UInt),
    st.booleans(),
    st.none(),
    st.sampled_from([terminus("q"), terminus("$cbs"), terminus("q/$management"), Described(ULong(0x30), [])]),
    st.builds(Described, st.integers(0x1D, 0x34).map(ULong), st.lists(values, max_size=3)),
)
performatives = st.sampled_from([code for code in FIELDS if code < 0x40]).flatmap(
    lambda code: st.tuples(st.just(code), st.lists(likely, max_size=FIELDS[code]), st.binary(max_size=40))
)

operations = st.sampled_from(
    [
        "renew-lock",
        "peek-message",
        "receive-by-sequence-number",
        "update-disposition",
        "schedule-message",
        "cancel-scheduled-message",
        "batch-delete-messages",
        "enumerate-rules",
        "add-rule",
        "get-session-state",
        "nothing",
    ]
)
names = st.sampled_from(
    [
        "lock-tokens",
        "sequence-numbers",
        "messages",
        "message-count",
        "from-sequence-number",
        "disposition-status",
        "receiver-settle-mode",
        "properties-to-modify",
        "enqueued-time-utc",
        "skip",
        "top",
    ]
)
listed = st.one_of(st.lists(likely, max_size=3), st.lists(st.uuids(), max_size=3).map(lambda v: Array(0x98, tuple(v))))
bodies = st.one_of(values, st.dictionaries(names, st.one_of(likely, listed), max_size=5))


async def exchange(*pieces: bytes) -> tuple[Connection, Wire]:
    broker = Broker(Config((QueueConfig("q"),)), ManualClock())
    broker.namespace.queues["q"].accept(parse_message(b"\x00\x53\x75\xa0\x01x"))
    connection, wire = Connection(broker), Wire()
    connection.connection_made(wire)
    for piece in pieces:
        connection.data_received(piece)
    await asyncio.sleep(0)
    connection.connection_lost(None)
    return connection, wire


def with_payload(code: int, fields: list[Any], payload: bytes) -> bytes:
    data = frame(0, code, fields)
    return (len(data) + len(payload)).to_bytes(4, "big") + data[4:] + payload


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(performatives, min_size=1, max_size=4))
def test_any_fields_in_any_performative_get_a_documented_answer(
    caplog: pytest.LogCaptureFixture, sent: list[tuple[int, list[Any], bytes]]
) -> None:
    """Types come from the peer; each of them may be wrong."""
    caplog.clear()

    _, wire = asyncio.run(exchange(OPENING, *(with_payload(*piece) for piece in sent)))

    assert b"amqp:internal-error" not in wire.written
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([2, 4]), operations, bodies, st.one_of(st.none(), values))
def test_any_request_gets_a_reply(
    caplog: pytest.LogCaptureFixture, handle: int, operation: str, body: Any, message_id: Any
) -> None:
    """A request that is not understood is answered, and answered with a status."""
    caplog.clear()
    request = b"".join(
        (
            encode(Described(ULong(0x73), [message_id, None, None, None, None])),
            encode(Described(ULong(0x74), {"operation": f"com.microsoft:{operation}"})),
            encode(Described(ULong(0x77), body)),
        )
    )
    transfer = with_payload(TRANSFER, [UInt(handle), UInt(0), b"t", UInt(0)], request)

    _, wire = asyncio.run(exchange(OPENING, transfer))

    assert b"amqp:internal-error" not in wire.written
    assert b"statusCode" in wire.written or handle == 4
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=60), max_size=6), st.integers(1, 40))
def test_bytes_in_any_portions_are_the_same_conversation(
    caplog: pytest.LogCaptureFixture, noise: list[bytes], size: int
) -> None:
    """TCP cuts where it likes; and noise behind a good opening ends in a Close or in waiting."""
    caplog.clear()
    portions = [OPENING[start : start + size] for start in range(0, len(OPENING), size)]

    _, whole = asyncio.run(exchange(OPENING))
    _, cut = asyncio.run(exchange(*portions))
    asyncio.run(exchange(*portions, *noise))

    assert len(whole.written) == len(cut.written)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
