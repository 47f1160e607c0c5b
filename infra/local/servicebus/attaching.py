"""Which link a client gets for the address it attaches to, or why it gets none."""

import logging
from typing import TYPE_CHECKING, Any, Final

from infra.local.servicebus.codec import Described, UByte, UInt
from infra.local.servicebus.entities import Intake
from infra.local.servicebus.errors import NOT_ALLOWED, NOT_IMPLEMENTED, UNAUTHORIZED, USE_OFFICIAL, AmqpError
from infra.local.servicebus.links import Link, address_of
from infra.local.servicebus.management import Management
from infra.local.servicebus.performatives import (
    ATTACH,
    COORDINATOR,
    DETACH,
    code_of,
    error_value,
    frame,
    role_and_modes,
)
from infra.local.servicebus.receiver_link import ReceiverLink
from infra.local.servicebus.request_links import ReplyLink, RequestLink
from infra.local.servicebus.sender_link import SenderLink

if TYPE_CHECKING:
    from infra.local.servicebus.session import Session

_LOGGER = logging.getLogger(__name__)

_SESSION_FILTER: Final = "com.microsoft:session-filter"
_CBS: Final = "$cbs"


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
    address = address_of(attach[5])
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
    address = address_of(target)
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


def _has_session_filter(source: Any) -> bool:
    filters = source.value[7] if len(source.value) > 7 else None
    return isinstance(filters, dict) and _SESSION_FILTER in filters
