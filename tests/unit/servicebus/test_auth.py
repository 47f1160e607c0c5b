"""With a key configured, only who knows it gets in."""

import base64
import hashlib
import hmac
from urllib.parse import quote_plus

import pytest

from infra.local.servicebus import ManualClock
from infra.local.servicebus.auth import Gate, Grants

KEY = "s3cret+/="


def token(*, key: str = KEY, name: str = "root", path: str = "q", expiry: int = 2_000_000_000) -> str:
    resource = quote_plus(f"sb://localhost/{path}")
    digest = hmac.new(key.encode(), f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
    signature = quote_plus(base64.b64encode(digest).decode())
    return f"SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={name}"


def grants(key: str | None = KEY) -> Grants:
    return Grants(Gate(key, "root"), ManualClock())


def test_without_a_key_everybody_may_do_everything() -> None:
    """The default at a desk."""
    assert grants(None).put_token("whatever") is None
    assert grants(None).allow("q")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (token(key="other"), "signature"),
        (token(name="other"), "key name"),
        (token(expiry=1), "expired"),
        ("eyJhbGciOi", "shared access signatures"),
        ("SharedAccessSignature ", "key name"),
        (token().replace("se=2", "se=3"), "signature"),
    ],
)
def test_a_wrong_token_is_refused_with_its_reason(wrong: str, reason: str) -> None:
    """The client raises an authentication error with this text."""
    refusal = grants().put_token(wrong)

    assert refusal is not None
    assert reason in refusal


def test_a_token_opens_its_entity_and_what_lies_below() -> None:
    """The management node and dead letters of a queue, but no other queue."""
    held = grants()

    assert held.put_token(token()) is None

    assert held.allow("amqps://localhost:1/Q")
    assert held.allow("q/$management")
    assert held.allow("q/$DeadLetterQueue")
    assert not held.allow("q2")


def test_a_token_for_the_namespace_opens_everything() -> None:
    """What a root key is used for."""
    held = grants()
    held.put_token(token(path=""))

    assert held.allow("anything/at/all")


def test_plain_proves_the_key_for_the_whole_connection() -> None:
    """Clients of other languages log in so."""
    held = grants()

    assert not held.sasl("PLAIN", b"\0root\0wrong")
    assert held.sasl("PLAIN", b"\0root\0" + KEY.encode())
    assert held.allow("q")


def test_an_anonymous_connection_has_proven_nothing_yet() -> None:
    """It must put a token first."""
    held = grants()

    assert held.sasl("ANONYMOUS", b"")
    assert not held.allow("q")
