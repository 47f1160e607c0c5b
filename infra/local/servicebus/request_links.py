"""Pairs of links that carry requests to `$cbs` or `$management`, and the replies."""

import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from infra.local.servicebus.cbs import put_token
from infra.local.servicebus.codec import DecodeError
from infra.local.servicebus.entities import Entity
from infra.local.servicebus.errors import ARGUMENT_ERROR, DECODE_ERROR, AmqpError
from infra.local.servicebus.links import IncomingLink, OutgoingLink, address_of
from infra.local.servicebus.management import Management
from infra.local.servicebus.message import new_lock
from infra.local.servicebus.performatives import accepted, rejected
from infra.local.servicebus.requests import read_request

if TYPE_CHECKING:
    from infra.local.servicebus.session import Session

_LOGGER = logging.getLogger(__name__)

#: Replies that wait for a client that gives no credit; then its oldest are dropped.
_MAX_WAITING_REPLIES: Final = 256


class ReplyLink(OutgoingLink):
    """Replies of `$cbs` or of an entity's `$management`."""

    def __init__(self, session: "Session", handle: int, attach: list[Any], address: str, entity: Entity | None) -> None:
        super().__init__(session, handle, attach)
        self.address = address.lower()
        self.reply_to = address_of(attach[6])
        self.entity = entity
        self._warned = False
        self._waiting: deque[bytes] = deque(maxlen=_MAX_WAITING_REPLIES)
        if entity is not None:
            entity.links.add(self)

    def close(self) -> None:
        if self.entity is not None:
            self.entity.links.discard(self)

    def reply(self, payload: bytes) -> None:
        self._waiting.append(payload)
        self.resume()
        if self._waiting and self.credit == 0 and not self._warned:
            # azure-servicebus 7.15 gives 10,000 credits once and waits for ever for reply 10,001.
            self._warned = True
            _LOGGER.warning(
                "%s: reply %d on %s waits: the client gave no further credit; open a new sender or receiver",
                self.session.connection.peer,
                self.delivery_count + 1,
                self.address[:80],
            )

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
