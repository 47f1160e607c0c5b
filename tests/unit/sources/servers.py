"""A real server of a few lines that answers from a list, and the pieces to call it with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pydantic import SecretStr

from pipeline.feeds.posts import FEED
from pipeline.sources.base import PageRequest, Position, SourceOptions, Token

TOKEN = "canary-4711/with+signs"
SECRET = "canary-app-secret"


class Server:
    """Answers the n-th request with the n-th of `answers`, the last one from then on; keeps what it was asked."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        self._answers = answers
        self.requests: list[str] = []
        self.connections = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.requests.append(head.decode())
                answer = self._answers[min(len(self.requests), len(self._answers)) - 1]
                writer.write(answer)
                await writer.drain()
                if b"content-length" not in answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(*answers: bytes) -> AsyncIterator[Server]:
    """Run such a server on a free port."""
    server = Server(answers)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


def answer(status: int, body: bytes | str, **headers: str) -> bytes:
    """Write an HTTP answer."""
    data = body.encode() if isinstance(body, str) else body
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\ncontent-length: {len(data)}\r\n{lines}\r\n".encode() + data


def options(server: Server | int, **more: Any) -> SourceOptions:
    """Options for a server or a port, with short times."""
    values: dict[str, Any] = {
        "read_timeout": 1.0,
        "total_timeout": 5.0,
        "minute_seconds": 1.0,
        "version": "v26.0",
        **more,
    }
    return SourceOptions(base_url=f"http://127.0.0.1:{server if isinstance(server, int) else server.port}", **values)


def request(**more: Any) -> PageRequest:
    """A page of somebody's posts."""
    values: dict[str, Any] = {
        "feed": FEED,
        "user_id": "u1",
        "scope": "1000",
        "token": Token(SecretStr(TOKEN), 1),
        "limit": 100,
        **more,
    }
    return PageRequest(**values)


LAST = Position(1_700_000_000, "1000_7")
ONE = '{"data": [{"id": "1000_1"}], "paging": {"cursors": {"after": "QVFI"}}}'
