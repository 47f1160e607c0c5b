"""Requests to `$cbs` and `$management`, and the replies."""

from typing import Any

from infra.local.servicebus.codec import Described, decode, encode, encode_list
from infra.local.servicebus.sections import APPLICATION_PROPERTIES, DATA, PROPERTIES, VALUE


def read_request(data: bytes) -> tuple[list[Any], dict[str, Any], Any]:
    """
    Read a request to `$cbs` or `$management`: properties, application properties and body value.

    The properties come with all thirteen fields.
    """
    properties: list[Any] = []
    application: dict[str, Any] = {}
    body: Any = None
    position = 0
    while position < len(data):
        section, position = decode(data, position)
        code = section.descriptor if isinstance(section, Described) else None
        if code == PROPERTIES and isinstance(section.value, list):
            properties = section.value
        elif code == APPLICATION_PROPERTIES and isinstance(section.value, dict):
            application = {str(key): value for key, value in section.value.items()}
        elif code in (VALUE, DATA):
            body = section.value
    return properties + [None] * (13 - len(properties)), application, body


def write_reply(correlation_id: Any, to: Any, application: dict[str, Any], body: Any) -> bytes:
    """Write the answer to a request."""
    properties = [None, None, to, None, None, correlation_id]
    return b"".join(
        (
            b"\x00\x53\x73",
            encode_list(properties),
            b"\x00\x53\x74",
            encode(application),
            b"\x00\x53\x77",
            encode(body),
        )
    )
