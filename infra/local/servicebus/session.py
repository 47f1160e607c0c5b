"""A session: windows, links by handle, and the settlements of what was delivered."""

from collections import deque
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from infra.local.servicebus.attaching import open_link
from infra.local.servicebus.codec import DecodeError, Described, UInt, UShort
from infra.local.servicebus.errors import (
    HANDLE_IN_USE,
    LOCK_LOST,
    NOT_ALLOWED,
    UNATTACHED_HANDLE,
    AmqpError,
)
from infra.local.servicebus.links import IncomingLink, Link, OutgoingLink
from infra.local.servicebus.performatives import (
    ATTACH,
    BEGIN,
    DETACH,
    DISPOSITION,
    FLOW,
    TRANSFER,
    code_of,
    disposition,
    error_value,
    frame,
    outcome,
    rejected,
    transfer_frames,
)

if TYPE_CHECKING:
    from infra.local.servicebus.connection import Connection

HANDLE_MAX: Final = 255
#: Transfer frames a peer may send ahead; restated in every Flow, because frames are used up at once.
INCOMING_WINDOW: Final = 65536
#: Settlements that can no longer arrive (their lock is gone) are dropped beyond this number.
_MAX_UNSETTLED: Final = 20_000
_ID_MASK: Final = 0xFFFFFFFF


class Session:
    """One channel of a connection."""

    def __init__(self, connection: "Connection", channel: int, begin: list[Any]) -> None:
        self.connection = connection
        self.channel = channel
        self.links: dict[int, Link] = {}
        self.remote_window = int(begin[2])
        self._next_incoming = int(begin[1])
        self._next_outgoing = 0
        self._next_delivery = 0
        self._pending: deque[bytes] = deque()
        self._unsettled: dict[int, tuple[OutgoingLink, bytes]] = {}
        self._since_flow = 0

    def begin(self) -> None:
        self.connection.write(
            frame(
                self.channel,
                BEGIN,
                [
                    UShort(self.channel),
                    UInt(self._next_outgoing),
                    UInt(INCOMING_WINDOW),
                    UInt(INCOMING_WINDOW),
                    UInt(HANDLE_MAX),
                ],
            )
        )

    def close(self) -> None:
        for link in list(self.links.values()):
            link.close()
        self.links.clear()
        self._unsettled.clear()
        self._pending.clear()

    def on_frame(self, code: int, fields: list[Any], payload: bytes) -> None:
        try:
            if code == TRANSFER:
                self._on_transfer(fields, payload)
            elif code == DISPOSITION:
                self._on_disposition(fields)
            elif code == FLOW:
                self._on_flow(fields)
            elif code == ATTACH:
                self._on_attach(fields)
            elif code == DETACH:
                self._on_detach(fields)
            else:
                self.connection.end_session(self, NOT_ALLOWED, f"performative 0x{code:02x} inside a session")
        except AmqpError as error:
            self.connection.end_session(self, error.condition, error.description)

    # ---- links

    def _on_attach(self, fields: list[Any]) -> None:
        handle = fields[1]
        if handle > HANDLE_MAX:
            raise AmqpError(NOT_ALLOWED, f"a handle above {HANDLE_MAX}")
        if handle in self.links:
            raise AmqpError(HANDLE_IN_USE, f"handle {handle} is attached already")
        link = open_link(self, int(handle), fields)
        if link is not None:
            self.links[int(handle)] = link
            link.opened()

    def _on_detach(self, fields: list[Any]) -> None:
        link = self.links.pop(fields[0], None)
        if link is None:
            return
        self._forget(link)
        link.close()
        self.connection.write(frame(self.channel, DETACH, [UInt(link.handle), fields[1] is True]))

    def detach(self, link: Link, condition: str, description: str) -> None:
        """Close one link with an error."""
        self.links.pop(link.handle, None)
        self._forget(link)
        link.close()
        error = error_value(condition, description)
        self.connection.write(frame(self.channel, DETACH, [UInt(link.handle), True, error]))

    def _forget(self, link: Link) -> None:
        gone = [delivery for delivery, (owner, _) in self._unsettled.items() if owner is link]
        for delivery in gone:
            del self._unsettled[delivery]

    def resume(self) -> None:
        """Go on after the socket or the window was full."""
        while self._pending and self.remote_window > 0:
            self._write_transfer(self._pending.popleft())
        for link in list(self.links.values()):
            link.resume()

    # ---- flow

    def _on_flow(self, fields: list[Any]) -> None:
        next_incoming = fields[0] if isinstance(fields[0], UInt) else 0
        self.remote_window = (int(next_incoming) + int(fields[1]) - self._next_outgoing) & _ID_MASK
        if self.remote_window > _ID_MASK // 2:
            self.remote_window = 0
        if fields[4] is not None:
            link = self.links.get(fields[4])
            if link is not None:
                link.on_flow(fields)
        elif fields[9] is True:
            self.flow(None)
        self.resume()

    def flow(self, link: Link | None, *, drain: bool = False) -> None:
        """State our windows, and a link's credit with them."""
        self._since_flow = 0
        fields: list[Any] = [
            UInt(self._next_incoming),
            UInt(INCOMING_WINDOW),
            UInt(self._next_outgoing),
            UInt(INCOMING_WINDOW),
        ]
        if link is not None:
            fields += [
                UInt(link.handle),
                UInt(link.delivery_count & _ID_MASK),
                UInt(link.credit),
                UInt(link.available()),
                drain,
                False,
            ]
        self.connection.write(frame(self.channel, FLOW, fields))

    # ---- what the client sends

    def _on_transfer(self, fields: list[Any], payload: bytes) -> None:
        self._next_incoming = (self._next_incoming + 1) & _ID_MASK
        self._since_flow += 1
        link = self.links.get(fields[0])
        if link is None:
            raise AmqpError(UNATTACHED_HANDLE, f"a transfer on handle {fields[0]}, which is not attached")
        if not isinstance(link, IncomingLink):
            raise AmqpError(NOT_ALLOWED, "a transfer on a link that the server sends on")
        link.on_transfer(fields, payload)
        if self._since_flow > INCOMING_WINDOW // 2:
            self.flow(link)

    def acknowledge(self, delivery_id: int, state: bytes) -> None:
        """Settle a delivery that the client sent."""
        self.connection.write(
            disposition(self.channel, role_receiver=True, first=delivery_id, last=delivery_id, state=state)
        )

    # ---- what the client receives

    def can_send(self) -> bool:
        return self.remote_window > 0 and not self._pending and self.connection.writable

    def send(self, link: OutgoingLink, payload: bytes, tag: bytes, *, settled: bool) -> None:
        """Deliver on a link; frames beyond the peer's window wait here."""
        delivery = self._next_delivery
        self._next_delivery = (delivery + 1) & _ID_MASK
        if not settled:
            self._unsettled[delivery] = (link, tag)
            if len(self._unsettled) > _MAX_UNSETTLED:
                self._prune()
        frames = transfer_frames(
            self.channel,
            link.handle,
            delivery,
            tag,
            payload,
            settled=settled,
            max_frame=self.connection.peer_max_frame,
        )
        for data in frames:
            if self.remote_window > 0 and not self._pending:
                self._write_transfer(data)
            else:
                self._pending.append(data)

    def _write_transfer(self, data: bytes) -> None:
        self.remote_window -= 1
        self._next_outgoing = (self._next_outgoing + 1) & _ID_MASK
        self.connection.write(data)

    def _prune(self) -> None:
        """Forget deliveries whose lock is gone; settling one of them is answered with 'lock lost' anyway."""
        self._unsettled = {
            delivery: (link, tag) for delivery, (link, tag) in self._unsettled.items() if link.holds(tag)
        }

    # ---- settlements

    def _on_disposition(self, fields: list[Any]) -> None:
        role, first, last, settled, state = fields[:5]
        if not role:
            return  # the sender's half of a settlement we have made already
        ids = self._delivered(int(first), int(last) if isinstance(last, UInt) else int(first))
        code, details = _state(state)
        answers = [(delivery, self._settle(delivery, code, details)) for delivery in ids]
        if settled is not True and code is not None:
            self._confirm(answers)

    def _delivered(self, first: int, last: int) -> list[int]:
        """Return the deliveries of a range the client names; the range itself may be absurd."""
        if last - first < len(self._unsettled) or first == last:
            return list(range(first, last + 1))
        return sorted(delivery for delivery in self._unsettled if first <= delivery <= last)

    def _settle(self, delivery: int, code: int | None, details: list[Any]) -> bytes | None:
        """Apply an outcome; return the state to confirm, or None when the acknowledgement is lost on purpose."""
        link, tag = self._unsettled.pop(delivery, (None, b""))
        if code is None:
            return outcome(0x24)
        if link is None:
            return rejected(LOCK_LOST, "The lock supplied is invalid: the delivery is settled or its link is closed.")
        try:
            return outcome(code) if link.settle(tag, code, details) else None
        except AmqpError as error:
            link.log(error)
            return rejected(error.condition, error.description)

    def _confirm(self, answers: list[tuple[int, bytes | None]]) -> None:
        for state, group in groupby(answers, key=lambda answer: answer[1]):
            if state is None:
                self.connection.abort()
                return
            ids = [delivery for delivery, _ in group]
            self.connection.write(
                disposition(self.channel, role_receiver=False, first=ids[0], last=ids[-1], state=state)
            )


def _state(state: Any) -> tuple[int | None, list[Any]]:
    """Return an outcome's code and its fields."""
    if state is None:
        return None, []
    if not isinstance(state, Described) or not isinstance(state.value, list):
        raise DecodeError("a delivery state that is none")
    return code_of(state.descriptor), state.value
