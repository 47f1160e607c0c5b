"""An API that repeats the caller's token wherever an answer has room for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Told(NamedTuple):
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes


def _error(status: int, code: int, message: str, **more: object) -> Told:
    said = {"message": message, "type": "OAuthException", "code": code, "fbtrace_id": "trace", **more}
    return Told(status, {}, json.dumps({"error": said}).encode())


def _page(token: str) -> Told:
    """A page whose next address carries the token, as the real API's does."""
    item = {"id": "1", "created_time": "2023-11-01T00:00:00+0000", "message": "hello"}
    address = f"http://127.0.0.1/v26.0/page/published_posts?access_token={token}&after=abc"
    body = {"data": [item], "paging": {"cursors": {"after": "abc"}, "next": address}}
    return Told(200, {"X-Debug": token}, json.dumps(body).encode())


ANSWERS: tuple[Callable[[str], Told], ...] = (
    _page,
    lambda token: _error(400, 190, f"Error validating access token: {token} has expired", error_subcode=463),
    lambda token: _error(400, 100, f"Invalid parameter near '{token}'"),
    lambda token: _error(400, 10, f"Bearer {token} lacks a permission", error_user_msg=token),
    lambda token: _error(500, 2, token),
    lambda token: _error(400, 613, f"access_token={token} called too often"),
    lambda token: Told(500, {"Content-Type": "text/html"}, f"<h1>oops {token}</h1>".encode()),
    lambda token: Told(401, {"WWW-Authenticate": f'OAuth "Facebook Platform" "{token}"'}, token.encode()),
    lambda token: Told(302, {"Location": f"http://127.0.0.1:1/?access_token={token}"}, b""),
    lambda token: Told(200, {}, b'{"data": [' + token.encode()),
    lambda token: Told(200, {}, json.dumps({"data": token}).encode()),
    lambda token: Told(503, {"Retry-After": token}, token.encode()),
    lambda token: Told(200, {"X-App-Usage": token, "X-Business-Use-Case-Usage": f'{{"{token}": 1}}'}, b'{"data": []}'),
    lambda token: Told(200, {"Content-Type": f"text/plain; {token}"}, f'"{token}"'.encode()),
)


@contextmanager
def hostile_api() -> Iterator[str]:
    """Run it on a free port; gives its address. How it answers depends on the token alone."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            if "/me/accounts" in self.path:
                page = "page-" + token[-4:].encode().hex()
                told = Told(200, {}, json.dumps({"data": [{"id": page, "name": "A page"}]}).encode())
            else:
                told = ANSWERS[sum(token.encode()) % len(ANSWERS)](token)
            self.send_response(told.status)
            for name, value in told.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(told.body)))
            self.end_headers()
            self.wfile.write(told.body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the test reads the process's own logs."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
