"""One client's TCP connection: headers, SASL, frames, heartbeats, and a clean end."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol

from infra.local.servicebus.auth import Gate, Grants
from infra.local.servicebus.codec import Array, DecodeError, Symbol, UByte, UInt, UShort
from infra.local.servicebus.config import Config
from infra.local.servicebus.errors import (
    CONNECTION_FORCED,
    DECODE_ERROR,
    FRAMING_ERROR,
    INTERNAL,
    NOT_ALLOWED,
    RESOURCE_LIMIT,
    AmqpError,
)
from infra.local.servicebus.namespace import Namespace
from infra.local.servicebus.performatives import (
    AMQP_HEADER,
    BEGIN,
    CLOSE,
    END,
    HEARTBEAT,
    OPEN,
    SASL_HEADER,
    SASL_INIT,
    SASL_MECHANISMS,
    SASL_OUTCOME,
    error_value,
    frame,
    read_performative,
)
from infra.local.servicebus.session import Session

_LOGGER = logging.getLogger(__name__)

MAX_FRAME_BYTES: Final = 64 * 1024
#: No frame may be smaller than this by the standard.
MIN_MAX_FRAME_BYTES: Final = 512
CHANNEL_MAX: Final = 255
#: From the first byte to Open; whoever takes longer is not a client.
HANDSHAKE_SECONDS: Final = 30.0
#: More than this is handed to the socket without waiting for the end of the turn.
FLUSH_BYTES: Final = 256 * 1024
#: A silent peer is cut off after this many of the idle time-outs it was told.
_IDLE_GRACE: Final = 2
_MECHANISMS: Final = ("ANONYMOUS", "PLAIN", "EXTERNAL", "MSSBCBS")
_HTTP_STARTS: Final = (b"GET ", b"POST", b"PUT ", b"HEAD", b"OPTI", b"CONN", b"DELE")
_CONTAINER: Final = "local-servicebus"


class Broker(Protocol):
    """What a connection needs to know of the server around it."""

    config: Config
    namespace: Namespace
    gate: Gate
    connections: "set[Connection]"


class Connection(asyncio.Protocol):
    """Reads frames and hands them to sessions; every protocol error ends here, with one log line."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.namespace = broker.namespace
        self.max_message_bytes = broker.config.max_message_bytes
        self.peer_max_frame = MAX_FRAME_BYTES
        self.writable = True
        self.sessions: dict[int, Session] = {}
        self.grants = Grants(broker.gate, broker.namespace.clock)
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._consume: Callable[[], bool] = self._read_header
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._flushing = False
        self._opened = False
        self._closing = False
        self._heard = self._wrote = self._loop.time()
        self._peer_idle: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.peer = "?"

    # ---- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        address = transport.get_extra_info("peername")
        self.peer = f"{address[0]}:{address[1]}" if address else "?"
        self.broker.connections.add(self)
        self._timer = self._loop.call_later(HANDSHAKE_SECONDS, self._handshake_expired)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self.broker.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        for session in self.sessions.values():
            session.close()
        self.sessions.clear()
        self._transport = None

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._heard = self._loop.time()
        self._buffer += data
        try:
            while not self._closing and self._consume():
                pass
        except DecodeError as error:
            self.fail(DECODE_ERROR, str(error))
        except AmqpError as error:
            self.fail(error.condition, error.description)
        except Exception as error:
            _LOGGER.exception("%s: internal error", self.peer)
            self.fail(INTERNAL, f"{type(error).__name__}")

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        for session in list(self.sessions.values()):
            session.resume()

    # ---- writing

    def write(self, data: bytes) -> None:
        """
        Queue bytes; what one turn of the loop writes leaves in one piece.

        Much of it leaves at once, so that a full socket stops deliveries in the middle of a turn.
        """
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > FLUSH_BYTES:
            self._flush_now()
        elif not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        self._flush_now()

    def _flush_now(self) -> None:
        self._out_bytes = 0
        if self._out and self._transport is not None:
            data = b"".join(self._out)
            self._out.clear()
            self._transport.write(data)
            self._wrote = self._loop.time()
        self._out.clear()

    def fail(self, condition: str, description: str) -> None:
        """End the connection with an error: one log line, one Close."""
        _LOGGER.warning("%s: %s: %s", self.peer, condition, description)
        self.close(condition, description)

    def close(self, condition: str | None = None, description: str = "") -> None:
        """Send Close (if there is anything to close) and hang up once it is written."""
        if self._closing:
            return
        self._closing = True
        if self._opened:
            error = None if condition is None else error_value(condition, description)
            self.write(frame(0, CLOSE, [error]))
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection as a network failure would."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    # ---- headers and SASL

    def _read_header(self) -> bool:
        start = bytes(self._buffer[:8])
        if start[:2] == b"\x16\x03":
            return self._not_amqp("a TLS handshake: this emulator speaks plain AMQP; use UseDevelopmentEmulator=true")
        if start[:4] in _HTTP_STARTS:
            return self._not_amqp("an HTTP request: AMQP over WebSockets is left out; use the AMQP transport")
        if len(start) < 8:
            if not AMQP_HEADER.startswith(start[:4]):
                return self._not_amqp("bytes that are not AMQP")
            return False
        del self._buffer[:8]
        if start == SASL_HEADER and not self._opened:
            self.write(SASL_HEADER)
            mechanisms = Array(0xA3, tuple(Symbol(name) for name in _MECHANISMS))
            self.write(frame(0, SASL_MECHANISMS, [mechanisms], kind=1))
        elif start == AMQP_HEADER:
            self.write(AMQP_HEADER)
        else:
            self.write(SASL_HEADER)
            return self._not_amqp(f"an unknown protocol header {start!r}")
        self._consume = self._read_frame
        return True

    def _not_amqp(self, what: str) -> bool:
        _LOGGER.warning("%s: refused %s", self.peer, what)
        self._buffer.clear()
        self.close()
        return False

    def _read_frame(self) -> bool:
        buffer = self._buffer
        if len(buffer) < 8:
            return False
        size = int.from_bytes(buffer[:4], "big")
        if not 8 <= size <= MAX_FRAME_BYTES:
            raise AmqpError(FRAMING_ERROR, f"a frame of {size} bytes")
        if len(buffer) < size:
            return False
        offset = buffer[4] * 4
        kind = buffer[5]
        channel = buffer[6] << 8 | buffer[7]
        if not 8 <= offset <= size:
            raise AmqpError(FRAMING_ERROR, f"a data offset of {offset} bytes")
        body = bytes(buffer[offset:size])
        del buffer[:size]
        if kind == 1:
            self._on_sasl(body)
        elif kind != 0:
            raise AmqpError(FRAMING_ERROR, f"a frame of unknown type {kind}")
        elif body:
            self._on_frame(channel, body)
        return True

    def _on_sasl(self, body: bytes) -> None:
        code, fields, _ = read_performative(body)
        if code != SASL_INIT or self._opened:
            raise AmqpError(FRAMING_ERROR, "an unexpected SASL frame")
        mechanism = str(fields[0])
        response = fields[1] if isinstance(fields[1], bytes) else b""
        if mechanism not in _MECHANISMS or not self.grants.sasl(mechanism, response):
            self.write(frame(0, SASL_OUTCOME, [UByte(1)], kind=1))
            _LOGGER.warning("%s: SASL %s refused", self.peer, mechanism[:20])
            self.close()
            return
        self.write(frame(0, SASL_OUTCOME, [UByte(0)], kind=1))
        self._consume = self._read_header

    # ---- frames

    def _on_frame(self, channel: int, body: bytes) -> None:
        code, fields, payload = read_performative(body)
        if not self._opened:
            if code != OPEN:
                raise AmqpError(NOT_ALLOWED, "the first frame must be Open")
            self._on_open(fields)
        elif code == BEGIN:
            self._on_begin(channel, fields)
        elif code == CLOSE:
            self.close()
        elif code == OPEN:
            raise AmqpError(NOT_ALLOWED, "a second Open")
        else:
            session = self.sessions.get(channel)
            if session is None:
                # Clients send Detach and End on a channel that has just ended.
                return
            if code == END:
                self._end(channel, session)
            else:
                session.on_frame(code, fields, payload)

    def _on_open(self, fields: list[Any]) -> None:
        self._opened = True
        if isinstance(fields[2], UInt):
            self.peer_max_frame = max(MIN_MAX_FRAME_BYTES, min(int(fields[2]), MAX_FRAME_BYTES))
        if isinstance(fields[4], UInt) and fields[4] > 0:
            self._peer_idle = fields[4] / 1000
        idle = self.broker.config.idle_timeout_seconds
        self.write(
            frame(0, OPEN, [_CONTAINER, None, UInt(MAX_FRAME_BYTES), UShort(CHANNEL_MAX), UInt(round(idle * 1000))])
        )
        if len(self.broker.connections) > self.broker.config.max_connections:
            limit = self.broker.config.max_connections
            raise AmqpError(RESOURCE_LIMIT, f"The namespace already has its {limit} concurrent connections.")
        if self._timer is not None:
            self._timer.cancel()
        self._tick()

    def _on_begin(self, channel: int, fields: list[Any]) -> None:
        if channel in self.sessions or channel > CHANNEL_MAX:
            raise AmqpError(NOT_ALLOWED, f"Begin on channel {channel}")
        session = Session(self, channel, fields)
        self.sessions[channel] = session
        session.begin()

    def _end(self, channel: int, session: Session) -> None:
        session.close()
        del self.sessions[channel]
        self.write(frame(channel, END, [None]))

    def end_session(self, session: Session, condition: str, description: str) -> None:
        """End one session with an error; the connection's other sessions go on."""
        _LOGGER.warning("%s: session %d: %s: %s", self.peer, session.channel, condition, description)
        session.close()
        self.sessions.pop(session.channel, None)
        self.write(frame(session.channel, END, [error_value(condition, description)]))

    # ---- time

    def _handshake_expired(self) -> None:
        if not self._closing:
            _LOGGER.warning("%s: no AMQP connection was opened within %.0f s", self.peer, HANDSHAKE_SECONDS)
            self.close()

    def _tick(self) -> None:
        """Keep the peer from timing out, and notice one that has gone silent."""
        if self._closing:
            return
        now = self._loop.time()
        idle = self.broker.config.idle_timeout_seconds
        silence = _IDLE_GRACE * idle
        if now - self._heard > silence:
            self.fail(RESOURCE_LIMIT, f"nothing was received for {silence:.0f} s")
            return
        every = idle / 2 if self._peer_idle is None else min(idle / 2, self._peer_idle / 2)
        if self._peer_idle is not None and now - self._wrote >= every * 0.9:
            self.write(HEARTBEAT)
        # A peer may name any time-out; a tick more often than this would only burn the processor.
        self._timer = self._loop.call_later(max(every, 0.05), self._tick)

    def shut_down(self) -> None:
        """End the connection because the server stops."""
        self.close(CONNECTION_FORCED, "The server is shutting down.")
