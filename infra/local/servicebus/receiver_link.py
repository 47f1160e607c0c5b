"""Links that clients receive messages on, and what their outcomes mean."""

from typing import TYPE_CHECKING, Any, Final

from infra.local.servicebus import operations
from infra.local.servicebus.codec import Described
from infra.local.servicebus.entities import DESCRIPTION, REASON, Entity
from infra.local.servicebus.errors import NOT_IMPLEMENTED, USE_OFFICIAL, AmqpError
from infra.local.servicebus.links import OutgoingLink
from infra.local.servicebus.message import Message
from infra.local.servicebus.performatives import ACCEPTED, MODIFIED, REJECTED, RELEASED, role_and_modes

if TYPE_CHECKING:
    from infra.local.servicebus.session import Session

_SETTLED: Final = 1
_DEAD_LETTER_CONDITION: Final = "com.microsoft:dead-letter"


class ReceiverLink(OutgoingLink):
    """Messages out of a queue, a subscription or a dead-letter queue."""

    def __init__(self, session: "Session", handle: int, attach: list[Any], entity: Entity) -> None:
        super().__init__(session, handle, attach)
        self.entity = entity
        _, sender_mode, _ = role_and_modes(attach)
        self.locks = sender_mode != _SETTLED
        entity.links.add(self)

    def close(self) -> None:
        self.entity.leave(self)
        self.entity.links.discard(self)

    def hungry(self) -> bool:
        return self.credit > 0 and self.session.can_send()

    def resume(self) -> None:
        if self.hungry():
            self.entity.want(self)

    def available(self) -> int:
        return min(self.entity.ready_count(), 0xFFFFFFFF)

    def deliver(self, message: Message) -> None:
        assert message.lock is not None
        self.credit -= 1
        self.delivery_count += 1
        self.session.send(self, message.render(locked=self.locks), message.lock, settled=not self.locks)

    def holds(self, tag: bytes) -> bool:
        return self.entity.is_locked(tag)

    def settle(self, tag: bytes, code: int, details: list[Any]) -> bool:
        self.entity.counter[operations.SETTLE] += 1
        if code == ACCEPTED:
            self.entity.complete(tag)
        elif code == RELEASED:
            self.entity.release(tag)
        elif code == MODIFIED:
            _modify(self.entity, tag, details)
        elif code == REJECTED:
            _reject(self.entity, tag, details)
        else:
            raise AmqpError(NOT_IMPLEMENTED, f"Transactions and other outcomes: {USE_OFFICIAL}")
        faults = self.session.connection.namespace.faults.find(self.entity.name)
        return faults is None or not faults.take("lose_settle_acknowledgements")


def _modify(entity: Entity, tag: bytes, details: list[Any]) -> None:
    """Abandon, or defer where the message is 'undeliverable here'; annotations become properties."""
    _, elsewhere, annotations = [*details, None, None, None][:3]
    properties = {str(key): value for key, value in annotations.items()} if isinstance(annotations, dict) else None
    if elsewhere is True:
        entity.defer(tag, properties)
    else:
        entity.abandon(tag, properties)


def _reject(entity: Entity, tag: bytes, details: list[Any]) -> None:
    """Dead-letter, with the reason out of the error's info or, failing that, out of the error itself."""
    error = details[0] if details else None
    condition, description, info = None, None, None
    if isinstance(error, Described) and isinstance(error.value, list):
        condition, description, info = [*error.value, None, None, None][:3]
    more = {str(key): value for key, value in info.items()} if isinstance(info, dict) else {}
    reason = more.pop(REASON, None)
    text = more.pop(DESCRIPTION, None)
    if not info and condition not in (None, _DEAD_LETTER_CONDITION):
        reason, text = condition, description
    entity.dead_letter(entity.locked(tag), str(reason or ""), str(text or ""), more)
