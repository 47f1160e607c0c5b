"""
A server that speaks just enough TDS for Microsoft's driver: login, statements with parameters, rows, errors, drops.

It knows no SQL: a test says what it answers. What is proven is the path from our code through SQLAlchemy, pyodbc and
the driver, and how faults come back; nothing about what a statement means.
"""

from __future__ import annotations

import re
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

Value = str | int
Rows = Sequence[Sequence[Value]]


@dataclass(frozen=True)
class Fails:
    """The server refuses with one of its numbers."""

    number: int


class Drops:
    """The server closes the connection in the middle of a statement."""


Answer = Rows | Fails | Drops | None
_PRELOGIN, _LOGIN, _BATCH, _RPC, _TRANSACTION = 0x12, 0x10, 0x01, 0x03, 0x0E
_COLLATION = bytes((0x09, 0x04, 0xD0, 0x00, 0x34))
_ON_CONNECT: Sequence[tuple[str, Rows]] = (
    ("ProductVersion", [["16.0.4100.1"]]),
    ("schema_name", [["dbo"]]),
    ("transaction_isolation_level", [["READ COMMITTED"]]),
    ("sys.system_views", [["dm_exec_sessions"]]),
    ("fn_listextendedproperty", []),
    ("test max support", [["test max support"]]),
)
"""What SQLAlchemy asks of each new server."""


@dataclass
class TdsServer:
    """What it was asked, and what it will answer."""

    port: int = 0
    logins: int = 0
    statements: list[str] = field(default_factory=list)
    """Statements of ours, without those of the library's own."""
    parameters: list[str] = field(default_factory=list)
    """The texts among the parameters of prepared statements."""
    answer: Callable[[str], Answer] = lambda sql: [["1"]]
    refuse_login: int = 0

    def say(self, sql: str) -> Answer:
        """Answer a statement; an empty one is the driver's own remote call."""
        if not sql:
            return None
        for known, rows in _ON_CONNECT:
            if known in sql:
                return rows
        if re.match(r"(?i)\s*(set|if @@trancount|select 1$)", sql):
            return None
        self.statements.append(sql)
        return self.answer(sql)


@contextmanager
def tds_server() -> Iterator[TdsServer]:
    """Run one on a free port."""
    state = TdsServer()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                _serve(self.request, state)
            except (ConnectionError, struct.error):
                return

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


def _serve(connection: socket.socket, state: TdsServer) -> None:
    while True:
        kind, body = _receive(connection)
        if kind == _PRELOGIN:
            _send(connection, _prelogin())
        elif kind == _LOGIN:
            state.logins += 1
            if state.refuse_login:
                _send(connection, _error(state.refuse_login) + _done(error=True))
                return
            _send(connection, _welcome())
        elif kind == _TRANSACTION:
            _send(connection, _transaction(body))
        elif kind in (_BATCH, _RPC):
            answer = state.say(_statement(kind, body, state))
            if isinstance(answer, Drops):
                connection.shutdown(socket.SHUT_RDWR)
                return
            _send(connection, _result(answer, prepared=kind == _RPC))
        else:  # attention and the like
            _send(connection, _done())


def _statement(kind: int, body: bytes, state: TdsServer) -> str:
    headers = struct.unpack_from("<I", body)[0]
    if kind == _BATCH:
        return body[headers:].decode("utf-16-le")
    texts = list(_texts(body[headers:]))
    sql = max(texts, key=lambda text: ("select" in text.lower() or "insert" in text.lower(), len(text)), default="")
    state.parameters += [text for text in texts if text is not sql]
    return sql


def _texts(body: bytes) -> Iterator[str]:
    """Find the texts of a remote call: NVARCHAR values, short (two bytes of length) and MAX (chunks)."""
    at = 0
    while (at := body.find(b"\xe7", at)) >= 0:
        at += 1
        if len(body) < at + 9:
            return
        size = struct.unpack_from("<H", body, at)[0]
        if size == 0xFFFF:
            total, chunk = struct.unpack_from("<QI", body, at + 7) if len(body) >= at + 19 else (0, 0)
            if 0 < chunk <= len(body) - at - 19 and total >= chunk:
                yield body[at + 19 : at + 19 + chunk].decode("utf-16-le", "replace")
                at += 19 + chunk
        else:
            length = struct.unpack_from("<H", body, at + 7)[0]
            if length <= size and length % 2 == 0 and length <= len(body) - at - 9:
                yield body[at + 9 : at + 9 + length].decode("utf-16-le", "replace")
                at += 9 + length


def _receive(connection: socket.socket) -> tuple[int, bytes]:
    """Read one message, which may be several packets."""
    body = b""
    while True:
        kind, status, length = struct.unpack(">BBH", _exactly(connection, 8)[:4])
        body += _exactly(connection, length - 8)
        if status & 1:
            return kind, body


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = connection.recv(count - len(data))
        if not chunk:
            raise ConnectionError("closed")
        data += chunk
    return data


def _send(connection: socket.socket, body: bytes) -> None:
    size = 4096 - 8
    parts = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
    for number, part in enumerate(parts, 1):
        last = number == len(parts)
        connection.sendall(struct.pack(">BBHHBB", 0x04, int(last), len(part) + 8, 0, number & 0xFF, 0) + part)


def _prelogin() -> bytes:
    """No encryption, one result set at a time."""
    options = [(0, bytes((16, 0, 16, 4, 0, 0))), (1, b"\x02"), (2, b"\x00"), (3, b""), (4, b"\x00")]
    at, table, data = 5 * len(options) + 1, b"", b""
    for token, value in options:
        table += struct.pack(">BHH", token, at + len(data), len(value))
        data += value
    return table + b"\xff" + data


def _welcome() -> bytes:
    acknowledged = b"\x01\x74\x00\x00\x04" + _short("Microsoft SQL Server") + bytes((16, 0, 16, 4))
    return (
        _changed(b"\x01" + _short("master") + _short("master"))
        + _changed(b"\x07\x05" + _COLLATION + b"\x00")
        + _changed(b"\x04" + _short("4096") + _short("4096"))
        + b"\xad"
        + struct.pack("<H", len(acknowledged))
        + acknowledged
        + _done()
    )


def _transaction(body: bytes) -> bytes:
    headers = struct.unpack_from("<I", body)[0]
    kind = struct.unpack_from("<H", body, headers)[0]
    number = struct.pack("<Q", 1)
    change = {5: b"\x08\x08" + number + b"\x00", 7: b"\x09\x00\x08" + number, 8: b"\x0a\x00\x08" + number}
    return _changed(change.get(kind, b"\x09\x00\x08" + number)) + _done()


def _result(answer: Answer, *, prepared: bool) -> bytes:
    if isinstance(answer, Fails):
        return _error(answer.number) + _done(error=True, procedure=prepared)
    assert not isinstance(answer, Drops)
    body = b"" if answer is None else _rows(answer)
    count = 1 if answer is None else len(answer)
    if not prepared:
        return body + _done(count)
    handle = b"\xac\x00\x00\x00\x01" + bytes(6) + b"\x26\x04\x04" + struct.pack("<i", 1)
    inside = b"\xff" + struct.pack("<HHQ", 0x0011, 0, count)
    return body + inside + b"\x79" + struct.pack("<i", 0) + handle + _done(procedure=True)


def _rows(rows: Rows) -> bytes:
    first = rows[0] if rows else [""]
    described = b"\x81" + struct.pack("<H", len(first))
    for number, value in enumerate(first):
        kind = b"\x26\x08" if isinstance(value, int) else b"\xe7" + struct.pack("<H", 8000) + _COLLATION
        described += struct.pack("<IH", 0, 1) + kind + _short(f"c{number}")
    return described + b"".join(b"\xd1" + b"".join(map(_value, row)) for row in rows)


def _value(value: Value) -> bytes:
    if isinstance(value, int):
        return b"\x08" + struct.pack("<q", value)
    data = value.encode("utf-16-le")
    return struct.pack("<H", len(data)) + data


def _error(number: int) -> bytes:
    told = f"Error {number} of the test"
    body = struct.pack("<iBB", number, 1, 16 if number != 1205 else 13) + struct.pack("<H", len(told))
    body += told.encode("utf-16-le") + _short("fake") + _short("") + struct.pack("<i", 1)
    return b"\xaa" + struct.pack("<H", len(body)) + body


def _done(count: int = 0, *, error: bool = False, procedure: bool = False) -> bytes:
    status = (0x0002 if error else 0) | (0x0010 if count else 0)
    return (b"\xfe" if procedure else b"\xfd") + struct.pack("<HHQ", status, 0, count)


def _changed(body: bytes) -> bytes:
    return b"\xe3" + struct.pack("<H", len(body)) + body


def _short(text: str) -> bytes:
    return bytes((len(text),)) + text.encode("utf-16-le")
