"""A small HTTP/1.1 server on asyncio: fast with prebuilt answers, and able to misbehave on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol
from urllib.parse import unquote

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 16 * 1024 * 1024
SEND_BUFFER_BYTES = 1024 * 1024  # a page of 110 KB leaves in one system call
HANG_SECONDS = 300.0  # a hanging answer ends some day, so that no test leaves a socket behind
DRIP_CHUNKS = 20
REASONS = {status.value: status.phrase for status in HTTPStatus}


@dataclass(slots=True)
class Request:
    """One call; header names are lower case, the body is complete."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        """The decoded path without the query."""
        return unquote(self.target.partition("?")[0])

    @property
    def query(self) -> str:
        """The raw query."""
        return self.target.partition("?")[2]


@dataclass(slots=True)
class Response:
    """One answer, and how the connection is to misbehave while it is given."""

    status: int = 200
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    delay: float = 0.0
    hang: bool = False
    reset: bool = False
    cut: int | None = None
    """Send only so many bytes of the body although the length says more, then close."""
    drip: float = 0.0
    """Spread the body over so many seconds."""


class Application(Protocol):
    """What the server asks for answers; both are plain calls and never wait."""

    def fast(self, head: bytes) -> tuple[bytes, bytes] | None:
        """Give head and body of a prebuilt answer to a GET, or None to have it parsed."""

    def handle(self, request: Request) -> Response:
        """Answer a parsed request."""


class Connection(asyncio.Protocol):
    """One client's connection: requests in order, one at a time."""

    def __init__(self, application: Application, connections: set[Connection]) -> None:
        self._application = application
        self._connections = connections
        self._buffer = bytearray()
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self._timer:
            self._timer.cancel()
        self._transport = None

    def pause_writing(self) -> None:
        if self._transport:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        if not self._buffer and not self._busy and data.startswith(b"GET ") and data.endswith(b"\r\n\r\n"):
            answer = self._application.fast(data)
            if answer is not None:
                self._transport.writelines(answer)
                return
        self._buffer += data
        self._serve_buffer()

    def abort(self) -> None:
        """Close at once; used when the server stops."""
        if self._transport:
            self._transport.abort()

    def _serve_buffer(self) -> None:
        while not self._busy and self._transport is not None:
            request = self._next_request()
            if request is None:
                return
            self._busy = True
            response = self._application.handle(request)
            keep = "close" not in request.headers.get("connection", "").lower()
            if response.delay > 0:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(response.delay, self._answer_later, request, response, keep)
            else:
                self._answer(request, response, keep=keep)

    def _next_request(self) -> Request | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                self._refuse(431)
            return None
        head = bytes(self._buffer[:end]).decode("latin-1")
        lines = head.split("\r\n")
        parts = lines[0].split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            self._refuse(400)
            return None
        pairs = (line.partition(":") for line in lines[1:])
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        if parts[2] == "HTTP/1.0":
            headers.setdefault("connection", "close")
        if headers.get("expect", "").lower() == "100-continue" and self._transport and len(self._buffer) == end + 4:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body, used = self._body(headers, end + 4)
        if body is None:
            return None
        del self._buffer[:used]
        return Request(parts[0].upper(), parts[1], headers, body)

    def _body(self, headers: dict[str, str], start: int) -> tuple[bytes | None, int]:
        """Give the body and where it ends, or None while it is incomplete or refused."""
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return self._chunks(start)
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            self._refuse(413 if length.isdigit() else 400)
            return None, start
        end = start + int(length)
        return (bytes(self._buffer[start:end]), end) if len(self._buffer) >= end else (None, start)

    def _chunks(self, position: int) -> tuple[bytes | None, int]:
        body = bytearray()
        while True:
            line = self._buffer.find(b"\r\n", position)
            if line < 0:
                return None, position
            try:
                size = int(bytes(self._buffer[position:line]).split(b";")[0], 16)
            except ValueError:
                size = MAX_BODY_BYTES + 1
            if len(body) + size > MAX_BODY_BYTES:
                self._refuse(413)
                return None, position
            position = line + 2 + size + 2
            if len(self._buffer) < position:
                return None, position
            if size == 0:
                return bytes(body), position
            body += self._buffer[line + 2 : line + 2 + size]

    def _refuse(self, status: int) -> None:
        self._buffer.clear()
        if self._transport:
            head = f"HTTP/1.1 {status} {REASONS[status]}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            self._transport.write(head.encode())
            self._transport.close()

    def _answer_later(self, request: Request, response: Response, keep: bool) -> None:
        self._timer = None
        self._answer(request, response, keep=keep)
        self._serve_buffer()

    def _answer(self, request: Request, response: Response, *, keep: bool) -> None:
        if self._transport is None:
            return
        if response.reset:
            linger = struct.pack("ii", 1, 0)  # closing with no linger time sends RST
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._transport.abort()
            return
        if response.hang:
            self._timer = asyncio.get_running_loop().call_later(HANG_SECONDS, self.abort)
            return
        body = b"" if request.method == "HEAD" else response.body
        head = head_bytes(response, keep=keep and response.cut is None)
        if response.drip > 0:
            self._transport.write(head)
            size = max(1, -(-len(body) // DRIP_CHUNKS))
            chunks = [body[start : start + size] for start in range(0, len(body), size)]
            self._drip(chunks, response.drip / DRIP_CHUNKS, keep)
            return
        self._transport.writelines((head, body if response.cut is None else body[: response.cut]))
        self._done(keep=keep and response.cut is None)

    def _drip(self, chunks: list[bytes], pause: float, keep: bool) -> None:
        if self._transport is None:
            return
        if not chunks:
            self._done(keep=keep)
            self._serve_buffer()
            return
        self._transport.write(chunks[0])
        self._timer = asyncio.get_running_loop().call_later(pause, self._drip, chunks[1:], pause, keep)

    def _done(self, *, keep: bool) -> None:
        self._busy = False
        if not keep and self._transport:
            self._transport.close()


def head_bytes(response: Response, *, keep: bool) -> bytes:
    """Write the status line and the headers, with the length of the whole body."""
    lines = [f"HTTP/1.1 {response.status} {REASONS.get(response.status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in response.headers]
    lines.append(f"content-length: {len(response.body)}")
    if not keep:
        lines.append("connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


@contextlib.asynccontextmanager
async def listening(application: Application, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """Serve in the current loop; gives the port, and closes every connection at the end."""
    loop = asyncio.get_running_loop()
    connections: set[Connection] = set()
    server = await loop.create_server(lambda: Connection(application, connections), host, port, backlog=1024)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in list(connections):
            connection.abort()
        await server.wait_closed()
