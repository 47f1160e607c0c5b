"""`<entity>/$management`: requests about messages, by lock token or sequence number."""

import logging
from collections.abc import Callable
from typing import Any, Final

from infra.local.servicebus import operations
from infra.local.servicebus.codec import Array, DecodeError, Described, Int, Symbol, Timestamp, ULong, longs, timestamps
from infra.local.servicebus.config import MAX_MESSAGE_BYTES
from infra.local.servicebus.entities import Entity, Intake
from infra.local.servicebus.errors import (
    ARGUMENT_ERROR,
    INTERNAL,
    LOCK_LOST,
    MESSAGE_NOT_FOUND,
    NOT_ALLOWED,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    RESOURCE_LIMIT,
    SIZE_EXCEEDED,
    UNAUTHORIZED,
    USE_OFFICIAL,
    AmqpError,
)
from infra.local.servicebus.message import Message, lock_of, token_of
from infra.local.servicebus.requests import write_reply
from infra.local.servicebus.sections import parse_message

_LOGGER = logging.getLogger(__name__)

_VENDOR: Final = "com.microsoft:"
_STATUS: Final = {
    LOCK_LOST: 410,
    MESSAGE_NOT_FOUND: 404,
    NOT_FOUND: 404,
    NOT_ALLOWED: 400,
    ARGUMENT_ERROR: 400,
    SIZE_EXCEEDED: 400,
    RESOURCE_LIMIT: 403,
    UNAUTHORIZED: 401,
    NOT_IMPLEMENTED: 501,
    INTERNAL: 500,
}
#: A reply stops growing here; the client asks again from where it stopped.
_MAX_REPLY_BYTES: Final = 1024 * 1024
_MAX_COUNT: Final = 4096
_SESSION_OPERATIONS: Final = frozenset(
    ("get-session-state", "set-session-state", "renew-session-lock", "get-message-sessions")
)
_RULE: Final = 0x137 << 32

Body = dict[str, Any]
Reply = tuple[int, Body | None]


class Management:
    """The requests of one entity."""

    def __init__(self, entity: Entity) -> None:
        self.entity = entity
        self._operations: dict[str, Callable[[Body], Reply]] = {
            "renew-lock": self._renew,
            "peek-message": self._peek,
            "receive-by-sequence-number": self._receive,
            "update-disposition": self._settle,
            "schedule-message": self._schedule,
            "cancel-scheduled-message": self._cancel,
            "batch-delete-messages": self._delete,
            "enumerate-rules": self._rules,
        }

    def answer(self, properties: list[Any], application: dict[str, Any], body: Any) -> bytes:
        """Carry out one request and return the reply, whatever happens."""
        name = str(application.get("operation", ""))
        condition: str | None = None
        try:
            status, reply = self._run(name, body)
            text = "OK" if status == 200 else "No content"
        except DecodeError as error:
            status, reply, text, condition = 400, None, str(error), ARGUMENT_ERROR
        except AmqpError as error:
            status, reply, text, condition = _STATUS.get(error.condition, 400), None, error.description, error.condition
        if condition is not None:
            _LOGGER.info("%s: %s refused: %s: %s", self.entity.name, name[:80], condition, text)
        told: dict[str, Any] = {"statusCode": Int(status), "statusDescription": text}
        if condition is not None:
            told["errorCondition"] = Symbol(condition)
        return write_reply(properties[0], properties[4], told, reply)

    def _run(self, name: str, body: Any) -> Reply:
        short = name.removeprefix(_VENDOR)
        if short in _SESSION_OPERATIONS:
            raise AmqpError(NOT_IMPLEMENTED, f"Sessions: {USE_OFFICIAL}")
        if short in ("add-rule", "remove-rule"):
            raise AmqpError(NOT_IMPLEMENTED, f"Rules other than match-all: {USE_OFFICIAL}")
        operation = self._operations.get(short)
        if operation is None:
            raise AmqpError(NOT_IMPLEMENTED, f"The operation '{name[:80]}' is unknown.")
        if not isinstance(body, dict):
            raise AmqpError(ARGUMENT_ERROR, "The body of the request must be a map.")
        return operation({_text(key): value for key, value in body.items()})

    # ---- locks

    def _renew(self, body: Body) -> Reply:
        locks = [lock_of(token) for token in _items(body, "lock-tokens")]
        for lock in locks:
            self.entity.locked(lock)
        self.entity.counter[operations.RENEW] += len(locks)
        return 200, {"expirations": timestamps([self.entity.renew(lock) for lock in locks])}

    def _settle(self, body: Body) -> Reply:
        status = str(body.get("disposition-status"))
        locks = list(dict.fromkeys(lock_of(token) for token in _items(body, "lock-tokens")))
        for lock in locks:
            self.entity.locked(lock)
        given = body.get("properties-to-modify")
        properties = {_text(key): value for key, value in given.items()} if isinstance(given, dict) else {}
        for lock in locks:
            self.entity.counter[operations.SETTLE] += 1
            self._settle_one(status, lock, body, properties)
        return 200, {}

    def _settle_one(self, status: str, lock: bytes, body: Body, properties: dict[str, Any]) -> None:
        if status == "completed":
            self.entity.complete(lock)
        elif status == "abandoned":
            self.entity.abandon(lock, properties)
        elif status in ("defered", "deferred"):
            self.entity.defer(lock, properties)
        elif status in ("suspended", "deadlettered"):
            reason = str(body.get("deadletter-reason") or "")
            description = str(body.get("deadletter-description") or "")
            self.entity.dead_letter(self.entity.locked(lock), reason, description, properties)
        else:
            raise AmqpError(ARGUMENT_ERROR, f"The disposition status '{status[:80]}' is unknown.")

    # ---- by sequence number

    def _peek(self, body: Body) -> Reply:
        count = min(_number(body, "message-count"), _MAX_COUNT)
        found = self.entity.peek(_number(body, "from-sequence-number"), count)
        listed: list[Body] = []
        size = 0
        for message in found:
            data = message.render(locked=False)
            size += len(data)
            if listed and size > _MAX_REPLY_BYTES:
                break
            self.entity.counter[operations.PEEK] += message.units
            listed.append({"message": data})
        return (200, {"messages": listed}) if listed else (204, None)

    def _receive(self, body: Body) -> Reply:
        lock = _number(body, "receiver-settle-mode", 1) != 0
        found = self.entity.take_deferred(_numbers(body), lock=lock)
        return 200, {"messages": [_received(message, lock=lock) for message in found]}

    def _delete(self, body: Body) -> Reply:
        before = body.get("enqueued-time-utc")
        limit = int(before) if isinstance(before, Timestamp) else self.entity.clock.now() + 1
        deleted = self.entity.purge(min(_number(body, "message-count"), _MAX_COUNT), limit)
        return (200, {"message-count": Int(deleted)}) if deleted else (204, None)

    # ---- schedules

    def _intake(self) -> Intake:
        if not isinstance(self.entity, Intake) or not self.entity.accepts:
            raise AmqpError(NOT_ALLOWED, f"Messages cannot be sent to '{self.entity.name}'.")
        return self.entity

    def _schedule(self, body: Body) -> Reply:
        intake = self._intake()
        messages = [self._scheduled(entry) for entry in _items(body, "messages")]
        intake.check_quota(sum(message.size for message in messages))
        return 200, {"sequence-numbers": longs([intake.accept(message) for message in messages])}

    def _scheduled(self, entry: Any) -> Message:
        values = {_text(key): value for key, value in entry.items()} if isinstance(entry, dict) else {}
        data = values.get("message")
        if not isinstance(data, bytes):
            raise AmqpError(ARGUMENT_ERROR, "An entry of 'messages' has no message.")
        if len(data) > MAX_MESSAGE_BYTES:
            raise AmqpError(SIZE_EXCEEDED, f"The message is {len(data)} bytes long; the limit is {MAX_MESSAGE_BYTES}.")
        return parse_message(data)

    def _cancel(self, body: Body) -> Reply:
        cancelled = self.entity.cancel(_numbers(body))
        self.entity.counter[operations.CANCEL] += cancelled
        return 200, {}

    # ---- rules

    def _rules(self, body: Body) -> Reply:
        """Describe the one rule every subscription here has."""
        if _number(body, "skip", 0) > 0 or _number(body, "top", 100) < 1:
            return 204, None
        match_all = Described(ULong(_RULE + 7), [])
        no_action = Described(ULong(_RULE + 5), [])
        rule = Described(ULong(_RULE + 4), [match_all, no_action, "$Default", Timestamp(self.entity.clock.now())])
        return 200, {"rules": [{"rule-description": rule}]}


def _received(message: Message, *, lock: bool) -> Body:
    if not lock or message.lock is None:
        return {"message": message.render(locked=False)}
    return {"lock-token": token_of(message.lock), "message": message.render(locked=True, tell_lock=True)}


def _text(key: Any) -> str:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)


def _items(body: Body, name: str) -> list[Any]:
    value = body.get(name)
    if isinstance(value, Array):
        return list(value.items)
    if isinstance(value, list):
        return value
    raise AmqpError(ARGUMENT_ERROR, f"The request has no list '{name}'.")


def _numbers(body: Body) -> list[int]:
    values = _items(body, "sequence-numbers")
    if not values or not all(isinstance(value, int) for value in values):
        raise AmqpError(ARGUMENT_ERROR, "The request names no sequence number.")
    return list(dict.fromkeys(int(value) for value in values))


def _number(body: Body, name: str, default: int | None = None) -> int:
    value = body.get(name, default)
    if not isinstance(value, int):
        raise AmqpError(ARGUMENT_ERROR, f"The request has no number '{name}'.")
    return int(value)
