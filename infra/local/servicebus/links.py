"""Links: where clients send, where they receive, and the pairs that carry requests and replies."""

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from infra.local.servicebus import operations
from infra.local.servicebus.cbs import put_token
from infra.local.servicebus.codec import DecodeError, Described, UByte, UInt, ULong
from infra.local.servicebus.entities import DESCRIPTION, REASON, Entity, Intake
from infra.local.servicebus.errors import (
    ARGUMENT_ERROR,
    DECODE_ERROR,
    NOT_ALLOWED,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    SIZE_EXCEEDED,
    UNAUTHORIZED,
    USE_OFFICIAL,
    AmqpError,
)
from infra.local.servicebus.faults import Faults
from infra.local.servicebus.management import Management
from infra.local.servicebus.message import Message, new_lock
from infra.local.servicebus.performatives import (
    ACCEPTED,
    ATTACH,
    COORDINATOR,
    DETACH,
    MODIFIED,
    REJECTED,
    RELEASED,
    accepted,
    code_of,
    error_value,
    frame,
    rejected,
    role_and_modes,
)
from infra.local.servicebus.requests import read_request
from infra.local.servicebus.sections import BATCH_FORMAT, parse_message, split_batch

if TYPE_CHECKING:
    from infra.local.servicebus.session import Session

_LOGGER = logging.getLogger(__name__)

#: Deliveries a sender may have under way; topped up when half is used.
SENDER_CREDIT: Final = 1000
#: Replies that wait for a client that gives no credit; then its oldest are dropped.
_MAX_WAITING_REPLIES: Final = 256
_SETTLED: Final = 1
_SESSION_FILTER: Final = "com.microsoft:session-filter"
_DEAD_LETTER_CONDITION: Final = "com.microsoft:dead-letter"
_CBS: Final = "$cbs"


class Link:
    """What all links share."""

    #: True where the server receives.
    receiving = False

    def __init__(self, session: "Session", handle: int, attach: list[Any]) -> None:
        self.session = session
        self.handle = handle
        self.name: str = attach[0]
        self.attach = attach
        self.credit = 0
        self.delivery_count = 0

    def opened(self) -> None:
        """Answer the client's Attach."""
        fields = self.attach
        _, sender_mode, receiver_mode = role_and_modes(fields)
        self.session.connection.write(
            frame(
                self.session.channel,
                ATTACH,
                [
                    self.name,
                    UInt(self.handle),
                    self.receiving,
                    UByte(sender_mode),
                    UByte(receiver_mode),
                    fields[5],
                    fields[6],
                    None,
                    False,
                    None if self.receiving else UInt(0),
                    ULong(self.session.connection.max_message_bytes),
                    None,
                    None,
                    fields[13],
                ],
            )
        )
        self.attach = []

    def close(self) -> None:
        """Let go of everything; nothing is written."""

    def resume(self) -> None:
        """Go on after a pause of socket or window."""

    def available(self) -> int:
        return 0

    def on_flow(self, fields: list[Any]) -> None:
        if fields[9] is True:
            self.session.flow(self)

    def entity_deleted(self) -> None:
        self.session.detach(self, NOT_FOUND, "The messaging entity has been deleted.")

    def log(self, error: AmqpError) -> None:
        _LOGGER.info("%s: link %s: %s", self.session.connection.peer, self.name[:80], error)


class IncomingLink(Link):
    """A link the client sends on."""

    receiving = True

    def __init__(self, session: "Session", handle: int, attach: list[Any]) -> None:
        super().__init__(session, handle, attach)
        self.delivery_count = int(attach[9]) if isinstance(attach[9], UInt) else 0
        self._pieces: list[bytes] = []
        self._underway = False
        self._size = 0
        self._delivery = 0
        self._format = 0
        self._settled = False

    def opened(self) -> None:
        super().opened()
        self.credit = SENDER_CREDIT
        self.session.flow(self)

    def on_transfer(self, fields: list[Any], payload: bytes) -> None:
        if not self._underway:
            if not isinstance(fields[1], UInt):
                raise DecodeError("a delivery without an id")
            self._delivery = int(fields[1])
            self._format = int(fields[3] or 0)
            self._settled = fields[4] is True
            self._size = 0
            self._underway = True
        self._size += len(payload)
        # What is too long is counted and not kept; empty frames are not even counted.
        if payload and self._size <= self.session.connection.max_message_bytes:
            self._pieces.append(payload)
        aborted = fields[9] is True
        if fields[5] is True and not aborted:
            return
        whole = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._underway = False
        self._use_credit()
        if not aborted:
            self.on_delivery(self._delivery, whole, message_format=self._format, settled=self._settled)

    def _use_credit(self) -> None:
        self.delivery_count += 1
        self.credit -= 1
        if self.credit <= SENDER_CREDIT // 2:
            self.credit = SENDER_CREDIT
            self.session.flow(self)

    def on_delivery(self, delivery: int, payload: bytes, *, message_format: int, settled: bool) -> None:
        raise NotImplementedError

    def too_large(self) -> AmqpError | None:
        limit = self.session.connection.max_message_bytes
        if self._size <= limit:
            return None
        return AmqpError(SIZE_EXCEEDED, f"The message is {self._size} bytes long; the limit is {limit} bytes.")


class SenderLink(IncomingLink):
    """Messages into a queue or topic."""

    def __init__(self, session: "Session", handle: int, attach: list[Any], entity: Intake) -> None:
        super().__init__(session, handle, attach)
        self.entity = entity
        self._faults = session.connection.namespace.faults
        entity.links.add(self)

    def close(self) -> None:
        self.entity.links.discard(self)

    def on_delivery(self, delivery: int, payload: bytes, *, message_format: int, settled: bool) -> None:
        faults = self._faults.find(self.entity.name)
        refusal = self.too_large()
        if refusal is None and faults is not None:
            refusal = _asked_refusal(faults)
        if faults is not None and refusal is None and faults.take("delay_sends"):
            asyncio.get_running_loop().call_later(
                faults.delay_seconds, self._late, delivery, payload, message_format, settled
            )
            return
        self._take(delivery, payload, message_format, refusal, settled=settled)

    def _late(self, delivery: int, payload: bytes, message_format: int, settled: bool) -> None:
        if self.handle in self.session.links:
            self._take(delivery, payload, message_format, None, settled=settled)

    def _take(
        self, delivery: int, payload: bytes, message_format: int, refusal: AmqpError | None, *, settled: bool
    ) -> None:
        try:
            if refusal is not None:
                raise refusal
            self._accept(payload, message_format)
            state = accepted()
        except DecodeError as error:
            refused = AmqpError(DECODE_ERROR, str(error))
            self.log(refused)
            state = rejected(refused.condition, refused.description)
        except AmqpError as error:
            self.log(error)
            state = rejected(error.condition, error.description)
        faults = self._faults.find(self.entity.name)
        if faults is not None and faults.take("lose_send_acknowledgements"):
            self.session.connection.abort()
        elif not settled:
            self.session.acknowledge(delivery, state)

    def _accept(self, payload: bytes, message_format: int) -> None:
        """Take all messages of a transfer or none of them."""
        pieces = split_batch(payload) if message_format == BATCH_FORMAT else [payload]
        messages = [parse_message(piece) for piece in pieces]
        self.entity.check_quota(sum(message.size for message in messages))
        for message in messages:
            self.entity.accept(message)


def _asked_refusal(faults: Faults) -> AmqpError | None:
    if not faults.take("refuse_sends"):
        return None
    return AmqpError(faults.refuse_condition, "The send was refused because a test asked for it.")


class OutgoingLink(Link):
    """A link the client receives on."""

    def on_flow(self, fields: list[Any]) -> None:
        credit = int(fields[6]) if isinstance(fields[6], UInt) else 0
        seen = int(fields[5]) if isinstance(fields[5], UInt) else self.delivery_count
        self.credit = max(0, seen + credit - self.delivery_count)
        self.resume()
        drain = fields[8] is True
        if drain:
            self.delivery_count += self.credit
            self.credit = 0
        if drain or fields[9] is True:
            self.session.flow(self, drain=drain)

    def settle(self, tag: bytes, code: int, details: list[Any]) -> bool:
        """Apply the client's outcome; return false when its acknowledgement shall be lost."""
        return True

    def holds(self, tag: bytes) -> bool:
        """Whether a delivery can still be settled."""
        return False


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


class ReplyLink(OutgoingLink):
    """Replies of `$cbs` or of an entity's `$management`."""

    def __init__(self, session: "Session", handle: int, attach: list[Any], address: str, entity: Entity | None) -> None:
        super().__init__(session, handle, attach)
        self.address = address.lower()
        self.reply_to = _address(attach[6])
        self.entity = entity
        self._waiting: deque[bytes] = deque(maxlen=_MAX_WAITING_REPLIES)
        if entity is not None:
            entity.links.add(self)

    def close(self) -> None:
        if self.entity is not None:
            self.entity.links.discard(self)

    def reply(self, payload: bytes) -> None:
        self._waiting.append(payload)
        self.resume()

    def resume(self) -> None:
        while self._waiting and self.credit > 0 and self.session.can_send():
            self.credit -= 1
            self.delivery_count += 1
            self.session.send(self, self._waiting.popleft(), new_lock(), settled=True)


class RequestLink(IncomingLink):
    """Requests to `$cbs` or to an entity's `$management`."""

    def __init__(
        self, session: "Session", handle: int, attach: list[Any], address: str, management: Management | None
    ) -> None:
        super().__init__(session, handle, attach)
        self.address = address.lower()
        self.management = management
        if management is not None:
            management.entity.links.add(self)

    def close(self) -> None:
        if self.management is not None:
            self.management.entity.links.discard(self)

    def on_delivery(self, delivery: int, payload: bytes, *, message_format: int, settled: bool) -> None:
        try:
            too_large = self.too_large()
            if too_large is not None:
                raise too_large
            properties, application, body = read_request(payload)
            state = accepted()
        except (DecodeError, AmqpError) as error:
            refused = error if isinstance(error, AmqpError) else AmqpError(DECODE_ERROR, str(error))
            self.log(refused)
            self.session.acknowledge(delivery, rejected(refused.condition, refused.description))
            return
        if not settled:
            self.session.acknowledge(delivery, state)
        if self.management is None:
            answer = put_token(self.session.connection.grants, properties, application, body)
        else:
            answer = self.management.answer(properties, application, body)
        self._reply(properties[4], answer)

    def _reply(self, reply_to: Any, payload: bytes) -> None:
        """
        Find the link for a reply.

        JavaScript names its own receiving link in reply-to; Python names the node, which
        is the same for everybody: there it is the pair's other link.
        """
        pairs = [
            link
            for session in (self.session, *self.session.connection.sessions.values())
            for link in session.links.values()
            if isinstance(link, ReplyLink) and link.address == self.address
        ]
        named = [link for link in pairs if link.reply_to == reply_to]
        for link in named or pairs:
            link.reply(payload)
            return
        self.log(AmqpError(ARGUMENT_ERROR, "a request whose reply nobody receives"))


def open_link(session: "Session", handle: int, attach: list[Any]) -> Link | None:
    """Make the link a client asks for, or refuse it and return None."""
    peer_receives, _, _ = role_and_modes(attach)
    try:
        if peer_receives:
            return _open_outgoing(session, handle, attach)
        return _open_incoming(session, handle, attach)
    except AmqpError as error:
        _LOGGER.warning("%s: link %s refused: %s", session.connection.peer, attach[0][:80], error)
        refusal = [
            attach[0],
            UInt(handle),
            not peer_receives,
            UByte(2),
            UByte(0),
            None,
            None,
            None,
            False,
            None if not peer_receives else UInt(0),
        ]
        session.connection.write(frame(session.channel, ATTACH, refusal))
        session.connection.write(
            frame(session.channel, DETACH, [UInt(handle), True, error_value(error.condition, error.description)])
        )
        return None


def _open_outgoing(session: "Session", handle: int, attach: list[Any]) -> Link:
    address = _address(attach[5])
    if address.lower() == _CBS:
        return ReplyLink(session, handle, attach, address, None)
    node = session.connection.namespace.resolve(address)
    _check_allowed(session, address)
    if node.management:
        return ReplyLink(session, handle, attach, address, node.entity)
    if _has_session_filter(attach[5]):
        raise AmqpError(NOT_ALLOWED, f"'{node.entity.name}' has no sessions; sessions: {USE_OFFICIAL}")
    if not node.entity.receivable:
        raise AmqpError(NOT_ALLOWED, f"'{node.entity.name}' is a topic; receive from one of its subscriptions.")
    if node.entity.forwards():
        raise AmqpError(NOT_ALLOWED, f"'{node.entity.name}' forwards its messages; nothing can be received from it.")
    return ReceiverLink(session, handle, attach, node.entity)


def _open_incoming(session: "Session", handle: int, attach: list[Any]) -> Link:
    target = attach[6]
    if isinstance(target, Described) and code_of(target.descriptor) == COORDINATOR:
        raise AmqpError(NOT_IMPLEMENTED, f"Transactions: {USE_OFFICIAL}")
    address = _address(target)
    if address.lower() == _CBS:
        return RequestLink(session, handle, attach, address, None)
    node = session.connection.namespace.resolve(address)
    _check_allowed(session, address)
    if node.management:
        return RequestLink(session, handle, attach, address, Management(node.entity))
    if not isinstance(node.entity, Intake) or not node.entity.accepts:
        raise AmqpError(NOT_ALLOWED, f"Messages cannot be sent to '{node.entity.name}'.")
    return SenderLink(session, handle, attach, node.entity)


def _check_allowed(session: "Session", address: str) -> None:
    if not session.connection.grants.allow(address):
        raise AmqpError(UNAUTHORIZED, "Unauthorized access: no valid token was put for this entity.")


def _address(terminus: Any) -> str:
    """Return the address of a source or target."""
    if not isinstance(terminus, Described) or not isinstance(terminus.value, list) or not terminus.value:
        return ""
    address = terminus.value[0]
    return address.decode("utf-8", "replace") if isinstance(address, bytes) else str(address or "")


def _has_session_filter(source: Any) -> bool:
    filters = source.value[7] if len(source.value) > 7 else None
    return isinstance(filters, dict) and _SESSION_FILTER in filters
