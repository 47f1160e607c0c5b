"""The HTTP port: health, entities, operations and faults."""

import socket
from typing import Any

import pytest

from tests.contract.servicebus.conftest import Emulator


def test_health_is_the_official_emulators(emulator: Emulator) -> None:
    """Scripts that wait for one emulator must be able to wait for the other."""
    assert emulator.call("GET", "/health") == (200, {"status": "healthy", "message": "Service is healthy."})


def test_entities_are_made_counted_and_deleted(emulator: Emulator) -> None:
    """What Azure's management API does in the cloud."""
    made = [
        emulator.call("PUT", "/emulator/queues/made", {"LockDuration": "PT10S"})[0],
        emulator.call("PUT", "/emulator/topics/made-topic", {"Properties": {}})[0],
        emulator.call("PUT", "/emulator/topics/made-topic/subscriptions/s", {"ForwardTo": "made"})[0],
    ]
    _, entities = emulator.call("GET", "/emulator/entities")
    deleted = [
        emulator.call("DELETE", "/emulator/topics/made-topic/subscriptions/s")[0],
        emulator.call("DELETE", "/emulator/topics/made-topic")[0],
        emulator.call("DELETE", "/emulator/queues/made")[0],
        emulator.call("DELETE", "/emulator/queues/made")[0],
    ]

    assert made == [201, 201, 201]
    counts = {"active": 0, "locked": 0, "scheduled": 0, "deferred": 0, "deadLetter": 0, "transferDeadLetter": 0}
    assert entities["queues"]["made"] == counts
    assert entities["topics"]["made-topic"]["subscriptions"] == {"s": counts}
    assert deleted == [200, 200, 200, 404]


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("/emulator/queues/bad", {"RequiresSession": True}, "sessions"),
        ("/emulator/queues/bad", {"MaxDeliveryCount": 0}, "MaxDeliveryCount: 0"),
        ("/emulator/queues/bad", {"Colour": "red"}, "unknown property"),
        ("/emulator/queues/bad", {"ForwardTo": "nowhere"}, "no such queue or topic"),
        ("/emulator/queues/bad", {"ForwardTo": "bad"}, "itself|no such"),
        ("/emulator/queues/bad", [], "must be an object"),
        ("/emulator/queues/-bad-", {}, "not a valid entity name"),
        ("/emulator/queues/news", {}, "is a topic"),
        ("/emulator/topics/main", {}, "is a queue"),
        ("/emulator/topics/t", {"LockDuration": "PT1M"}, "unknown property of a topic"),
        ("/emulator/topics/nowhere/subscriptions/s", {}, "no topic"),
    ],
)
def test_a_wrong_entity_is_refused_with_the_reason(emulator: Emulator, path: str, body: Any, reason: str) -> None:
    """The reason names the property and its value."""
    status, answer = emulator.call("PUT", path, body)

    assert status == 400
    assert any(part in answer["error"] for part in reason.split("|"))


def test_operations_are_counted_and_reset(emulator: Emulator) -> None:
    """The cost report of the product reads them."""
    assert emulator.call("POST", "/emulator/operations/reset")[0] == 200

    assert emulator.call("GET", "/emulator/operations") == (200, {"entities": {}, "kinds": {}, "total": 0})


def test_faults_are_listed_and_cleared(emulator: Emulator) -> None:
    """A forgotten fault must be findable."""
    emulator.call("POST", "/emulator/faults/delay-sends", {"entity": "main", "count": 3, "seconds": 0.5})
    armed = emulator.call("GET", "/emulator/faults")
    cleared = emulator.call("DELETE", "/emulator/faults")

    assert armed == (200, {"main": {"delay-sends": 3}})
    assert cleared[0] == 200
    assert emulator.call("GET", "/emulator/faults") == (200, {})


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("explode", {}, 404),
        ("refuse-sends", {}, 400),
        ("refuse-sends", {"entity": "nowhere"}, 404),
        ("refuse-sends", {"entity": "main", "count": -1}, 400),
        ("deliver-twice", {"entity": "news/Subscriptions/first"}, 400),
        ("delay-sends", {"entity": "main"}, 400),
        ("lose-acknowledgements", {"entity": "main", "of": "peek"}, 400),
        ("expire-locks", {"entity": "main", "sequenceNumber": "1"}, 400),
        ("drop-connections", [1], 400),
    ],
)
def test_a_wrong_fault_is_refused(emulator: Emulator, kind: str, body: Any, status: int) -> None:
    """A test that asks for nothing in particular tests nothing."""
    answered, answer = emulator.call("POST", f"/emulator/faults/{kind}", body)

    assert answered == status
    assert answer["error"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET /health HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"PUT /emulator/queues/x HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n",
        b"PUT /emulator/queues/x HTTP/1.1\r\nContent-Length: 3\r\n\r\n{{{",
        b"GET /" + b"x" * 100_000,
        b"\x00\xff" * 50,
    ],
)
def test_what_is_no_request_is_refused(emulator: Emulator, request_bytes: bytes) -> None:
    """The listener answers 4xx or hangs up, and goes on."""
    with socket.create_connection(("127.0.0.1", emulator.http_port), timeout=5) as raw:
        raw.sendall(request_bytes)
        raw.shutdown(socket.SHUT_WR)
        try:
            answer = raw.recv(65536)
        except ConnectionResetError:
            answer = b""

    assert answer == b"" or b" 4" in answer.splitlines()[0]
    assert emulator.call("GET", "/health")[0] == 200
