"""The control API on a second port: health, counts, entities, faults, operations."""

import asyncio
import json
import logging
from typing import Any, Final

from infra.local.servicebus.control import Answer, Control, ControlBroker

_LOGGER = logging.getLogger(__name__)

_MAX_HEAD_BYTES: Final = 16 * 1024
_MAX_BODY_BYTES: Final = 256 * 1024
#: One request must be over within this time, slow readers included.
_REQUEST_SECONDS: Final = 10.0
_REASONS: Final = {
    200: "OK",
    201: "Created",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class HttpApi:
    """Just enough HTTP/1.1: one request per connection, JSON in and out."""

    def __init__(self, broker: ControlBroker) -> None:
        self._control = Control(broker)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                answer = await self._answer(reader)
                writer.write(_encoded(answer))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asked has gone away or never finished asking
        except asyncio.CancelledError:
            pass  # the server stops; asyncio would report the cancellation as an error of its own
        finally:
            self._tasks.discard(task)
            writer.close()

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    async def _answer(self, reader: asyncio.StreamReader) -> Answer:
        head = await reader.readuntil(b"\r\n\r\n")
        if len(head) > _MAX_HEAD_BYTES:
            return Answer(413, {"error": "the request's head is too long"})
        lines = head.decode("latin-1").split("\r\n")
        parts = lines[0].split(" ")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        length = headers.get("content-length", "0")
        if len(parts) != 3 or not length.isdigit():
            return Answer(400, {"error": "not an HTTP/1.1 request"})
        if int(length) > _MAX_BODY_BYTES:
            return Answer(413, {"error": "the body is too long"})
        body = await reader.readexactly(int(length))
        try:
            values = json.loads(body) if body.strip() else None
        except ValueError as error:
            return Answer(400, {"error": f"the body is not JSON: {error}"})
        return self._control.answer(parts[0], parts[1], values)


def _encoded(answer: Answer) -> bytes:
    body = json.dumps(answer.body).encode()
    head = (
        f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Unknown')}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
