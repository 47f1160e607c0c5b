"""
Service Bus messages as the extension hands them to Python: production's habits, not nicer ones.

Times come without a zone; time to live, lock time and dead-letter reason never
come; in batches the empty strings of an array are left out, so that values
shift to the wrong message. An app that copes here copes in Azure.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.amqp import AmqpMessageProperties

from infra.local.host.worker import Plain

# .NET's DateTime.MaxValue: what "never expires" looks like.
_NEVER = "9999-12-31T23:59:59.9999999"
# The header's 32 bits hold 49 days; all ones stand for more.
_LONGEST_LIFETIME = 2**32 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_PROPERTIES = AmqpMessageProperties()

Metadata = dict[str, Plain]


def single(message: ServiceBusReceivedMessage, properties: dict[str, Any], *, binary: bool) -> tuple[Plain, Metadata]:
    """Return the datum and the trigger metadata for cardinality one; nulls are left out."""
    enqueued, expires = _times(message)
    shown = ("json", _as_json(properties) if properties else "{}")
    metadata: Metadata = {
        "DeliveryCount": ("json", str(_delivery_count(message))),
        "LockToken": ("string", str(message.lock_token)),
        "ExpiresAtUtc": ("json", f'"{expires}"'),
        "ExpiresAt": ("json", f'"{expires}+00:00"'),
        "EnqueuedTimeUtc": ("json", f'"{enqueued}"'),
        "EnqueuedTime": ("json", f'"{enqueued}+00:00"'),
        "SequenceNumber": ("json", str(_annotation(message, b"x-opt-sequence-number") or 0)),
        "ApplicationProperties": shown,
        "UserProperties": shown,
    }
    for name, value in _texts(message):
        if value is not None:
            metadata[name] = ("string", value)
    body = body_of(message)
    return ("bytes", body) if binary else ("string", body.decode(errors="replace")), metadata


def batch(messages: Sequence[ServiceBusReceivedMessage], *, binary: bool) -> tuple[Plain, Metadata]:
    """
    Return the datum and the trigger metadata for cardinality many.

    The worker does not announce that it takes empty entries, so the host drops
    empty and null strings from every string array, bodies included.
    """
    times = [_times(message) for message in messages]
    properties = ("json", _as_json([properties_of(message) for message in messages]))
    metadata: Metadata = {
        "DeliveryCountArray": ("json", _as_json([_delivery_count(message) for message in messages])),
        "LockTokenArray": ("collection_string", [str(message.lock_token) for message in messages]),
        "ExpiresAtUtcArray": ("json", _as_json([expires for _, expires in times])),
        "ExpiresAtArray": ("json", _as_json([f"{expires}+00:00" for _, expires in times])),
        "EnqueuedTimeUtcArray": ("json", _as_json([enqueued for enqueued, _ in times])),
        "EnqueuedTimeArray": ("json", _as_json([f"{enqueued}+00:00" for enqueued, _ in times])),
        "SequenceNumberArray": (
            "collection_sint64",
            [_annotation(message, b"x-opt-sequence-number") or 0 for message in messages],
        ),
        "ApplicationPropertiesArray": properties,
        "UserPropertiesArray": properties,
    }
    for column in zip(*(_texts(message) for message in messages), strict=True):
        metadata[f"{column[0][0]}Array"] = ("collection_string", _filled(value for _, value in column))
    bodies = [body_of(message) for message in messages]
    if binary:
        return ("collection_bytes", _filled(bodies)), metadata
    return ("collection_string", _filled(body.decode(errors="replace") for body in bodies)), metadata


def invented(body: str, *, many: bool, binary: bool) -> tuple[Plain, Metadata]:
    """Return what a manual run through /admin hands to a Service Bus function: `body` in a new message."""
    now = _zoneless(datetime.now(UTC))
    texts = {"MessageId": uuid4().hex, "LockToken": str(UUID(int=0))}
    values: dict[str, Any] = {"DeliveryCount": 1, "EnqueuedTimeUtc": now, "ExpiresAtUtc": _NEVER}
    values |= {"SequenceNumber": 0, "ApplicationProperties": {}, "UserProperties": {}}
    kind, data = ("bytes", body.encode()) if binary else ("string", body)
    metadata: Metadata
    if many:
        metadata = {f"{name}Array": ("collection_string", [text]) for name, text in texts.items()}
        metadata |= {f"{name}Array": ("json", _as_json([value])) for name, value in values.items()}
        return (f"collection_{kind}", [data]), metadata
    metadata = {name: ("string", text) for name, text in texts.items()}
    metadata |= {name: ("json", _as_json(value)) for name, value in values.items()}
    return (kind, data), metadata


def properties_of(message: ServiceBusReceivedMessage) -> dict[str, Any]:
    """Return the application properties with text where the client gives bytes."""
    properties = message.application_properties
    if not properties:
        return {}
    return {str(_text(key)): _text(value) for key, value in properties.items()}


def body_of(message: ServiceBusReceivedMessage) -> bytes:
    body: Any = message.body
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, Iterable):
        return b"".join(part if isinstance(part, bytes) else str(part).encode() for part in body)
    return str(body).encode()


def _texts(message: ServiceBusReceivedMessage) -> tuple[tuple[str, str | None], ...]:
    # The client's own accessors list all properties anew for each; reading the section once is ten times cheaper.
    properties: Any = message.raw_amqp_message.properties or _NO_PROPERTIES
    subject = _text(properties.subject)
    return (
        ("MessageId", _text(properties.message_id)),
        ("ContentType", _text(properties.content_type)),
        ("ReplyTo", _text(properties.reply_to)),
        ("To", _text(properties.to)),
        ("Subject", subject),
        ("Label", subject),
        ("CorrelationId", _text(properties.correlation_id)),
        ("SessionId", _text(properties.group_id)),
        ("ReplyToSessionId", _text(properties.reply_to_group_id)),
        ("PartitionKey", _text(_annotation(message, b"x-opt-partition-key"))),
        ("TransactionPartitionKey", _text(_annotation(message, b"x-opt-via-partition-key"))),
        ("DeadLetterSource", _text(_annotation(message, b"x-opt-deadletter-source"))),
    )


def _filled(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if value]


def _annotation(message: ServiceBusReceivedMessage, name: bytes) -> Any:
    annotations: Any = message.raw_amqp_message.annotations
    return annotations.get(name) if annotations else None


def _delivery_count(message: ServiceBusReceivedMessage) -> int:
    """Count from one, as .NET does; AMQP counts failed deliveries, from nought."""
    header = message.raw_amqp_message.header
    return (header.delivery_count or 0) + 1 if header is not None else 1


def _times(message: ServiceBusReceivedMessage) -> tuple[str, str]:
    """Return when it was enqueued and when it expires."""
    raw = message.raw_amqp_message
    enqueued = _EPOCH + timedelta(milliseconds=_annotation(message, b"x-opt-enqueued-time") or 0)
    absolute = raw.properties.absolute_expiry_time if raw.properties is not None else None
    lifetime = raw.header.time_to_live if raw.header is not None else None
    try:
        if absolute:
            return _zoneless(enqueued), _zoneless(_EPOCH + timedelta(milliseconds=absolute))
        if lifetime and lifetime < _LONGEST_LIFETIME:
            return _zoneless(enqueued), _zoneless(enqueued + timedelta(milliseconds=lifetime))
    except OverflowError:
        # A time to live of thousands of years is how senders say "never".
        pass
    return _zoneless(enqueued), _NEVER


def _zoneless(moment: datetime) -> str:
    """Write a time as .NET's JSON writes a DateTime of unspecified kind: no zone, no trailing zeros."""
    text = moment.isoformat()[:26] if moment.microsecond else moment.isoformat()[:19]
    return text.rstrip("0") if moment.microsecond else text


def _text(value: Any) -> Any:
    """Return text for bytes and for the ids that AMQP also allows to be numbers or UUIDs; values stay values."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value) if isinstance(value, UUID) else value


def _known(value: object) -> object:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode()
    return str(value)


_as_json = json.JSONEncoder(default=_known).encode
