"""Flow control, windows, frames and time-outs, by a peer that speaks bare AMQP."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from infra.local.servicebus import Config, ManualClock, QueueConfig, Running, running
from infra.local.servicebus.codec import Described, UInt, ULong, encode, longs
from infra.local.servicebus.management import Management
from infra.local.servicebus.performatives import (
    ACCEPTED,
    ATTACH,
    CLOSE,
    DETACH,
    DISPOSITION,
    END,
    FLOW,
    REJECTED,
    RELEASED,
    TRANSFER,
)
from infra.local.servicebus.sections import parse_message
from tests.contract.servicebus.raw import RawPeer

BODY = b"\x00\x53\x75\xa0\x02hi"


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    queues = (QueueConfig("q"), QueueConfig("other"))
    async with running(Config(queues, relaxed=True), clock=ManualClock()) as started:
        yield started


@pytest.fixture
async def peer(server: Running) -> AsyncIterator[RawPeer]:
    connected = await RawPeer.connect(server.port)
    yield connected
    await connected.close()


def fill(server: Running, count: int, body: bytes = BODY) -> None:
    for _ in range(count):
        server.namespace.queues["q"].accept(parse_message(body))


async def test_nothing_is_delivered_without_credit(server: Running, peer: RawPeer) -> None:
    """Credit is the receiver's only brake."""
    fill(server, 3)
    peer.attach(0, "q", receiver=True)
    await peer.expect(ATTACH)
    before = await peer.quiet()

    peer.flow(0, 2)
    await peer.expect(TRANSFER)
    await peer.expect(TRANSFER)

    assert before
    assert await peer.quiet()


async def test_draining_delivers_what_there_is_and_gives_the_credit_back(server: Running, peer: RawPeer) -> None:
    """A closing client drains so that nothing is under way behind its back."""
    fill(server, 2)
    peer.attach(0, "q", receiver=True)

    peer.flow(0, 10, drain=True)
    await peer.expect(TRANSFER)
    await peer.expect(TRANSFER)
    _, fields, _ = await peer.expect(FLOW)

    assert (fields[4], fields[5], fields[6], fields[8]) == (0, 10, 0, True)
    fill(server, 1)
    assert await peer.quiet()


async def test_credit_taken_back_is_not_used(server: Running, peer: RawPeer) -> None:
    """A second Flow replaces the first."""
    peer.attach(0, "q", receiver=True)
    peer.flow(0, 5)
    peer.flow(0, 0)
    await peer.expect(ATTACH)
    await asyncio.sleep(0.1)

    fill(server, 1)

    assert await peer.quiet()


async def test_a_full_session_window_holds_frames_back(server: Running) -> None:
    """Frames beyond the peer's window would overrun its buffers."""
    fill(server, 5)
    peer = await RawPeer.connect(server.port, window=2)
    peer.attach(0, "q", receiver=True)
    peer.flow(0, 5, window=2)
    first = [await peer.expect(TRANSFER) for _ in range(2)]
    held = await peer.quiet()

    peer.flow(0, 5, received=2, window=10)
    rest = [await peer.expect(TRANSFER) for _ in range(3)]
    await peer.close()

    assert held
    assert [int(fields[1]) for _, fields, _ in first + rest] == [0, 1, 2, 3, 4]


async def test_a_long_message_is_cut_to_the_peers_frame_size(server: Running) -> None:
    """Five hundred and twelve bytes is the smallest a peer may ask for."""
    fill(server, 1, b"\x00\x53\x75\xb0\x00\x00\x07\xd0" + b"x" * 2000)
    peer = await RawPeer.connect(server.port, max_frame=512)
    peer.attach(0, "q", receiver=True)
    peer.flow(0, 1)

    pieces = []
    more = True
    while more:
        _, fields, payload = await peer.expect(TRANSFER)
        pieces.append(payload)
        more = fields[5]
    await peer.close()

    assert len(pieces) >= 5
    assert all(len(piece) < 512 for piece in pieces)
    assert b"".join(pieces).endswith(b"x" * 2000)


async def test_a_message_arrives_in_as_many_frames_as_its_sender_likes(server: Running, peer: RawPeer) -> None:
    """And an aborted one never."""
    peer.attach(0, "q", receiver=False)
    await peer.expect(FLOW)

    peer.transfer(0, 0, BODY[:3], more=True)
    peer.transfer(0, 0, b"", more=True)
    peer.transfer(0, 0, BODY[3:])
    peer.transfer(0, 1, BODY[:3], more=True)
    peer.transfer(0, 1, b"", aborted=True)
    _, fields, _ = await peer.expect(DISPOSITION)

    assert (fields[1], fields[3], fields[4].descriptor) == (0, True, ACCEPTED)
    assert server.namespace.queues["q"].counts()["active"] == 1


async def test_a_sender_gets_new_credit_before_it_runs_out(server: Running, peer: RawPeer) -> None:
    """A long job sends on one link for hours."""
    peer.attach(0, "q", receiver=False)
    _, first, _ = await peer.expect(FLOW)

    for number in range(600):
        peer.transfer(0, number, BODY, settled=True)
    _, again, _ = await peer.expect(FLOW)

    assert first[6] == again[6] == 1000
    assert again[5] >= 500


async def test_one_disposition_settles_a_range(server: Running, peer: RawPeer) -> None:
    """JavaScript and Java settle many messages with one frame."""
    fill(server, 3)
    peer.attach(0, "q", receiver=True)
    peer.flow(0, 3)
    for _ in range(3):
        await peer.expect(TRANSFER)

    peer.settle(0, 2, ACCEPTED)
    _, fields, _ = await peer.expect(DISPOSITION)

    assert (fields[0], fields[1], fields[2], fields[3]) == (False, 0, 2, True)
    assert server.namespace.queues["q"].counts()["active"] == 0


async def test_an_absurd_range_settles_what_there_is(server: Running, peer: RawPeer) -> None:
    """Four thousand million deliveries in one frame must not occupy the server."""
    fill(server, 1)
    peer.attach(0, "q", receiver=True)
    peer.flow(0, 1)
    await peer.expect(TRANSFER)

    peer.settle(0, 2**32 - 1, RELEASED)
    _, fields, _ = await peer.expect(DISPOSITION)

    assert (fields[1], fields[2]) == (0, 0)


async def test_a_settlement_with_an_unknown_lock_is_rejected_by_name(peer: RawPeer) -> None:
    """Silence would make the client believe that it worked."""
    peer.attach(0, "q", receiver=True)

    peer.settle(77, 77, ACCEPTED)
    _, fields, _ = await peer.expect(DISPOSITION)

    assert fields[4].descriptor == REJECTED
    assert fields[4].value[0].value[0] == "com.microsoft:message-lock-lost"


async def test_every_performative_has_all_its_fields(server: Running, peer: RawPeer) -> None:
    """azure-servicebus 7.14 takes them by position and falls over a short list."""
    fill(server, 1)
    peer.attach(0, "q", receiver=True)
    _, attach, _ = await peer.expect(ATTACH)
    peer.flow(0, 1)
    _, transfer, _ = await peer.expect(TRANSFER)

    assert (len(attach), len(transfer)) == (14, 11)
    assert attach[5].value[0] == "q"
    assert len(transfer[2]) == 16


async def test_a_refused_link_is_attached_without_ends_and_detached(peer: RawPeer) -> None:
    """What the standard prescribes, and what the clients take their error from."""
    peer.attach(3, "nowhere", receiver=True)

    _, attach, _ = await peer.expect(ATTACH)
    _, detach, _ = await peer.expect(DETACH)

    assert attach[5] is attach[6] is None
    assert (detach[0], detach[1], detach[2].value[0]) == (3, True, "amqp:not-found")


async def test_deleting_an_entity_detaches_its_links(server: Running, peer: RawPeer) -> None:
    """The client hears at once instead of waiting for ever."""
    peer.attach(0, "q", receiver=True)
    peer.attach(1, "q", receiver=False)
    peer.attach(2, "other", receiver=False)
    await peer.expect(FLOW)
    await peer.expect(FLOW)

    server.namespace.delete_queue("q")
    gone = {int((await peer.expect(DETACH))[1][0]) for _ in range(2)}

    assert gone == {0, 1}
    assert await peer.quiet()


async def test_an_ended_session_is_answered_and_late_frames_ignored(peer: RawPeer) -> None:
    """The asyncio client sends Detach after End."""
    peer.attach(0, "q", receiver=True)
    peer.send(END, [None])
    peer.send(DETACH, [UInt(0), True, None])
    await peer.expect(END)

    peer.send(CLOSE, [None])

    assert (await peer.expect(CLOSE))[1] == [None]
    assert await peer.hung_up()


async def test_a_peer_that_asked_for_heartbeats_gets_them(server: Running) -> None:
    """Otherwise it would hang up on an idle link."""
    peer = await RawPeer.connect(server.port, idle_ms=200)

    assert await peer.quiet(0.7)
    await peer.close()

    assert peer.heartbeats >= 3


async def test_a_silent_peer_is_cut_off() -> None:
    """Half-open connections must not pile up."""
    async with running(Config(idle_timeout_seconds=0.1)) as server:
        peer = await RawPeer.connect(server.port)
        _, fields, _ = await peer.expect(CLOSE)

        assert fields[0].value[0] == "amqp:resource-limit-exceeded"
        assert await peer.hung_up()


async def test_the_server_says_goodbye_when_it_stops() -> None:
    """Clients reconnect at once instead of waiting for a time-out."""
    async with running(Config()) as server:
        peer = await RawPeer.connect(server.port)

    assert (await peer.expect(CLOSE))[1][0].value[0] == "amqp:connection:forced"


async def test_the_official_emulators_ten_connections_can_be_kept() -> None:
    """An app that opens too many must find out at a desk."""
    async with running(Config(max_connections=2)) as server:
        peers = [await RawPeer.connect(server.port) for _ in range(2)]
        with pytest.raises(asyncio.IncompleteReadError):
            await RawPeer.connect(server.port)
        for peer in peers:
            await peer.close()


async def test_an_endless_message_is_refused_without_being_kept(server: Running, peer: RawPeer) -> None:
    """Its frames are counted, not collected."""
    peer.attach(0, "q", receiver=False)
    await peer.expect(FLOW)

    for _ in range(8):
        peer.transfer(0, 0, b"x" * 60_000, more=True)
    peer.transfer(0, 0, b"x")
    _, fields, _ = await peer.expect(DISPOSITION)

    assert fields[4].value[0].value[0] == "amqp:link:message-size-exceeded"


async def test_a_receiver_that_does_not_read_holds_up_nobody_and_little_memory(server: Running) -> None:
    """A thousand large messages on credit must wait in the queue and not in a socket's buffer."""
    large = b"\x00\x53\x75\xb0\x00\x03\x0d\x40" + b"x" * 200_000
    fill(server, 200, large)
    slow = await RawPeer.connect(server.port, window=100_000)
    slow.attach(0, "q", receiver=True)
    slow.flow(0, 200, window=100_000)
    await slow.expect(ATTACH)
    await asyncio.sleep(0.3)

    held_back = server.namespace.queues["q"].ready_count()
    got = 0
    while got < 200:
        _, fields, _ = await slow.expect(TRANSFER)
        got += not fields[5]
    await slow.close()

    assert held_back > 100


async def test_asking_twice_for_one_deferred_message_locks_it_once(server: Running) -> None:
    """A repeated number in one request is one message."""
    queue = server.namespace.queues["q"]
    fill(server, 1)
    peer = await RawPeer.connect(server.port)
    peer.attach(0, "q", receiver=True)
    peer.flow(0, 1)
    _, fields, _ = await peer.expect(TRANSFER)
    queue.defer(fields[2])
    body = {"sequence-numbers": longs([1, 1]), "receiver-settle-mode": UInt(1)}

    Management(queue).answer([None] * 13, {"operation": "com.microsoft:receive-by-sequence-number"}, body)
    await peer.close()

    assert queue.counts()["locked"] == 1


async def test_a_reply_without_credit_waits_and_is_told_in_the_log(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """One client gives its credit only once; who finds it hanging must find the reason too."""
    peer = await RawPeer.connect(server.port)
    peer.attach(0, "q/$management", receiver=True)
    peer.attach(1, "q/$management", receiver=False)
    await peer.expect(FLOW)
    request = encode(Described(ULong(0x73), ["1"])) + encode(Described(ULong(0x77), {}))
    peer.transfer(1, 0, request)
    await peer.expect(DISPOSITION)
    waited = await peer.quiet()

    peer.flow(0, 1)
    await peer.expect(TRANSFER)
    await peer.close()

    assert waited
    assert "gave no further credit" in caplog.text
