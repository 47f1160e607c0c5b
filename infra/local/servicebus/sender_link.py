"""Links that clients send messages on."""

import asyncio
from typing import TYPE_CHECKING, Any

from infra.local.servicebus.codec import DecodeError
from infra.local.servicebus.entities import Intake
from infra.local.servicebus.errors import DECODE_ERROR, AmqpError
from infra.local.servicebus.faults import Faults
from infra.local.servicebus.links import IncomingLink
from infra.local.servicebus.performatives import accepted, rejected
from infra.local.servicebus.sections import BATCH_FORMAT, parse_message, split_batch

if TYPE_CHECKING:
    from infra.local.servicebus.session import Session


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
