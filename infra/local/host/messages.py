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

from infra.local.host.worker import Plain

# .NET's DateTime.MaxValue: what "never expires" looks like.
_NEVER = "9999-12-31T23:59:59.9999999"


def single(message: ServiceBusReceivedMessage, *, binary: bool) -> tuple[Plain, dict[str, Plain]]:
    """Return the datum and the trigger metadata for cardinality one; nulls are left out."""
    enqueued, expires = _times(message)
    properties = ("json", json.dumps(properties_of(message), default=_as_json))
    metadata: dict[str, Plain] = {
        "DeliveryCount": ("json", str((message.delivery_count or 0) + 1)),
        "LockToken": ("string", str(message.lock_token)),
        "ExpiresAtUtc": ("json", f'"{expires}"'),
        "ExpiresAt": ("json", f'"{expires}+00:00"'),
        "EnqueuedTimeUtc": ("json", f'"{enqueued}"'),
        "EnqueuedTime": ("json", f'"{enqueued}+00:00"'),
        "SequenceNumber": ("json", str(message.sequence_number or 0)),
        "ApplicationProperties": properties,
        "UserProperties": properties,
    }
    for name, value in _texts(message):
        if value is not None:
            metadata[name] = ("string", value)
    body = body_of(message)
    return ("bytes", body) if binary else ("string", body.decode(errors="replace")), metadata


def batch(messages: Sequence[ServiceBusReceivedMessage], *, binary: bool) -> tuple[Plain, dict[str, Plain]]:
    """
    Return the datum and the trigger metadata for cardinality many.

    The worker does not announce that it takes empty entries, so the host drops
    empty and null strings from every string array, bodies included.
    """
    times = [_times(message) for message in messages]
    properties = ("json", json.dumps([properties_of(message) for message in messages], default=_as_json))
    metadata: dict[str, Plain] = {
        "DeliveryCountArray": ("json", json.dumps([(message.delivery_count or 0) + 1 for message in messages])),
        "LockTokenArray": ("collection_string", [str(message.lock_token) for message in messages]),
        "ExpiresAtUtcArray": ("json", json.dumps([expires for _, expires in times])),
        "ExpiresAtArray": ("json", json.dumps([f"{expires}+00:00" for _, expires in times])),
        "EnqueuedTimeUtcArray": ("json", json.dumps([enqueued for enqueued, _ in times])),
        "EnqueuedTimeArray": ("json", json.dumps([f"{enqueued}+00:00" for enqueued, _ in times])),
        "SequenceNumberArray": ("collection_sint64", [message.sequence_number or 0 for message in messages]),
        "ApplicationPropertiesArray": properties,
        "UserPropertiesArray": properties,
    }
    columns = zip(*(_texts(message) for message in messages), strict=True)
    for column in columns:
        metadata[f"{column[0][0]}Array"] = ("collection_string", _filled(value for _, value in column))
    bodies = [body_of(message) for message in messages]
    if binary:
        return ("collection_bytes", _filled(bodies)), metadata
    return ("collection_string", _filled(body.decode(errors="replace") for body in bodies)), metadata


def invented(body: str, *, many: bool, binary: bool) -> tuple[Plain, dict[str, Plain]]:
    """Return what a manual run through /admin hands to a Service Bus function: `body` in a new message."""
    suffix = "Array" if many else ""
    now = _zoneless(datetime.now(UTC))

    def one_or_many(kind: str, value: Any) -> Plain:
        if many:
            return ("collection_string", [value]) if kind == "string" else ("json", json.dumps([value]))
        return (kind, value if kind == "string" else json.dumps(value))

    metadata = {
        f"{name}{suffix}": one_or_many(kind, value)
        for name, kind, value in (
            ("MessageId", "string", uuid4().hex),
            ("LockToken", "string", str(UUID(int=0))),
            ("DeliveryCount", "json", 1),
            ("SequenceNumber", "json", 0),
            ("EnqueuedTimeUtc", "json", now),
            ("ExpiresAtUtc", "json", _NEVER),
            ("ApplicationProperties", "json", {}),
            ("UserProperties", "json", {}),
        )
    }
    data = body.encode() if binary else body
    kind = "bytes" if binary else "string"
    return (f"collection_{kind}", [data]) if many else (kind, data), metadata


def properties_of(message: ServiceBusReceivedMessage) -> dict[str, Any]:
    """Return the application properties with text where the client gives bytes."""
    properties = message.application_properties
    if not properties:
        return {}
    return {_text(key): _text(value) for key, value in properties.items()}


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
    subject = message.subject
    partition_key = message.partition_key
    return (
        ("MessageId", message.message_id),
        ("ContentType", message.content_type),
        ("ReplyTo", message.reply_to),
        ("To", message.to),
        ("Subject", subject),
        ("Label", subject),
        ("CorrelationId", message.correlation_id),
        ("SessionId", message.session_id),
        ("ReplyToSessionId", message.reply_to_session_id),
        ("PartitionKey", partition_key),
        ("DeadLetterSource", message.dead_letter_source),
    )


def _filled(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if value]


def _times(message: ServiceBusReceivedMessage) -> tuple[str, str]:
    enqueued = message.enqueued_time_utc or datetime(1, 1, 1, tzinfo=UTC)
    time_to_live = message.time_to_live
    if not time_to_live or enqueued.year + time_to_live.days / 365 > 9998:
        return _zoneless(enqueued), _NEVER
    return _zoneless(enqueued), _zoneless(enqueued + time_to_live)


def _zoneless(moment: datetime) -> str:
    """Write a time as .NET's JSON writes a DateTime of unspecified kind: no zone, no trailing zeros."""
    text = moment.replace(tzinfo=None).isoformat()
    return text.rstrip("0") if "." in text else text


def _text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _as_json(value: object) -> object:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode()
    return str(value)
