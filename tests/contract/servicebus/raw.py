"""A bare AMQP peer for what no client library can be made to do."""

import asyncio
import struct
from typing import Any

from infra.local.servicebus.codec import Described, UByte, UInt, ULong
from infra.local.servicebus.performatives import (
    AMQP_HEADER,
    ATTACH,
    BEGIN,
    DISPOSITION,
    FLOW,
    HEARTBEAT,
    OPEN,
    TRANSFER,
    frame,
    read_performative,
)

Frame = tuple[int, list[Any], bytes]


class RawPeer:
    """Writes performatives and reads them back, one by one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.heartbeats = 0

    @classmethod
    async def connect(
        cls, port: int, *, max_frame: int | None = None, idle_ms: int | None = None, window: int = 1000
    ) -> "RawPeer":
        peer = cls(*await asyncio.open_connection("127.0.0.1", port))
        limits = [None if max_frame is None else UInt(max_frame), None, None if idle_ms is None else UInt(idle_ms)]
        peer.write(AMQP_HEADER)
        peer.send(OPEN, ["raw", "localhost", *limits])
        peer.send(BEGIN, [None, UInt(0), UInt(window), UInt(1000)])
        assert await peer._reader.readexactly(8) == AMQP_HEADER
        await peer.expect(OPEN)
        await peer.expect(BEGIN)
        return peer

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    def send(self, code: int, fields: list[Any], payload: bytes = b"") -> None:
        data = frame(0, code, fields)
        self.write(struct.pack(">I", len(data) + len(payload)) + data[4:] + payload)

    def attach(self, handle: int, address: str, *, receiver: bool, settled: bool = False) -> None:
        source = Described(ULong(0x28), [address if receiver else "me"])
        target = Described(ULong(0x29), ["me" if receiver else address])
        mode = UByte(1 if settled else 0)
        count = None if receiver else UInt(0)
        self.send(ATTACH, [f"l{handle}", UInt(handle), receiver, mode, UByte(1), source, target, None, None, count])

    def flow(self, handle: int, credit: int, *, received: int = 0, window: int = 1000, drain: bool = False) -> None:
        self.send(
            FLOW,
            [UInt(received), UInt(window), UInt(0), UInt(1000), UInt(handle), UInt(0), UInt(credit), None, drain],
        )

    def transfer(self, handle: int, delivery: int, payload: bytes, **more: Any) -> None:
        settled, unfinished, aborted = (more.get(name, False) for name in ("settled", "more", "aborted"))
        fields = [UInt(handle), UInt(delivery), b"t", UInt(0), settled, unfinished, None, None, None, aborted]
        self.send(TRANSFER, fields, payload)

    def settle(self, first: int, last: int, outcome: int) -> None:
        self.send(DISPOSITION, [True, UInt(first), UInt(last), False, Described(ULong(outcome), [])])

    async def next(self) -> Frame:
        """Return the next frame that is not a heartbeat."""
        async with asyncio.timeout(5):
            while True:
                head = await self._reader.readexactly(8)
                if head == HEARTBEAT:
                    self.heartbeats += 1
                    continue
                body = await self._reader.readexactly(int.from_bytes(head[:4], "big") - 8)
                return read_performative(body)

    async def expect(self, code: int) -> Frame:
        """Return the next frame of a kind, passing over others."""
        while (found := await self.next())[0] != code:
            pass
        return found

    async def quiet(self, seconds: float = 0.2) -> bool:
        """Whether nothing but heartbeats comes for a while."""
        try:
            async with asyncio.timeout(seconds):
                await self.next()
        except TimeoutError:
            return True
        return False

    async def hung_up(self) -> bool:
        """Wait until the server hangs up."""
        async with asyncio.timeout(5):
            while await self._reader.read(65536):
                pass
        return True

    async def close(self) -> None:
        self._writer.close()
