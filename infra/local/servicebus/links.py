"""Links, as far as all of them are alike: attaching, credit, frames into deliveries."""

import logging
from typing import TYPE_CHECKING, Any, Final

from infra.local.servicebus.codec import DecodeError, Described, UByte, UInt, ULong
from infra.local.servicebus.errors import NOT_FOUND, SIZE_EXCEEDED, AmqpError
from infra.local.servicebus.performatives import ATTACH, frame, role_and_modes

if TYPE_CHECKING:
    from infra.local.servicebus.session import Session

_LOGGER = logging.getLogger(__name__)

#: Deliveries a sender may have under way; topped up when half is used.
SENDER_CREDIT: Final = 1000


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


def address_of(terminus: Any) -> str:
    """Return the address of a source or target."""
    if not isinstance(terminus, Described) or not isinstance(terminus.value, list) or not terminus.value:
        return ""
    address = terminus.value[0]
    return address.decode("utf-8", "replace") if isinstance(address, bytes) else str(address or "")
