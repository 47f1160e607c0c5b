"""The one place that touches the network, against real sockets that misbehave."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import Any

import pytest

from pipeline import failpoints
from pipeline.sources.base import SourceOptions
from pipeline.sources.http import Answer, Connections, GuardedResolver, NoAnswer, RefusedAddress
from tests.unit.sources.servers import Server, answer, options, serving


async def ask(server: Server, **more: Any) -> Answer | NoAnswer:
    connections = Connections(options(server, **more), setting="X")
    try:
        return await connections.call("/x", {}, name="/x")
    finally:
        await connections.close()


async def test_the_body_is_inflated_and_capped_while_it_comes():
    """A bomb of a few KB must not become gigabytes."""
    bomb = gzip.compress(b"0" * 50_000_000, mtime=0)
    async with serving(answer(200, bomb, content_encoding="gzip")) as server:
        assert await ask(server, max_answer_bytes=1_000_000) == NoAnswer("too-large")


async def test_a_long_body_is_refused_before_it_is_read():
    """An endless answer must not fill memory, nor hold the handler."""
    async with serving(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{}") as server:
        assert await ask(server) == NoAnswer("too-large")


async def test_a_body_without_a_length_is_capped_too():
    """The length header is a promise, not a fact."""
    async with serving(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2_000_000) as server:
        assert await ask(server, max_answer_bytes=1_000_000) == NoAnswer("too-large")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (answer(200, gzip.compress(b"{}" * 999, mtime=0)[:-20], content_encoding="gzip"), "broken"),
        (answer(200, b"no gzip", content_encoding="gzip"), "broken"),
        (answer(200, zlib.compress(b"{}"), content_encoding="br"), "encoding"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}", "timeout"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "broken"),
        (b"nonsense\r\n\r\n", "broken"),
        (b"", "broken"),
    ],
)
async def test_a_broken_answer_is_no_answer(raw, reason):
    """Whatever the wire does is one of a few reasons, never an exception."""
    async with serving(raw) as server:
        found = await ask(server, read_timeout=0.3)

    assert isinstance(found, NoAnswer)
    assert found.reason in (reason, "broken", "timeout")


async def test_a_silent_server_and_a_closed_port_are_told_apart():
    """One costs a read time-out, the other nothing."""
    async with serving(b"") as server:
        pass
    assert await ask(server) == NoAnswer("connect")


async def test_a_redirect_is_an_answer_and_is_not_followed():
    """It could lead anywhere, with the token."""
    async with serving(answer(302, "", location="http://169.254.169.254/")) as server:
        found = await ask(server)

    assert isinstance(found, Answer)
    assert found.status == 302
    assert len(server.requests) == 1


async def test_cookies_are_not_kept_between_users():
    """A session cookie of one user must not travel with another's token."""
    async with serving(answer(200, "{}", set_cookie="session=a")) as server:
        connections = Connections(options(server), setting="X")
        for _ in range(2):
            await connections.call("/x", {}, name="/x")
        await connections.close()

    assert "session" not in server.requests[1]


async def test_connections_are_reused_and_bounded():
    """A new connection per call costs a handshake; unbounded ones cost the process."""
    async with serving(answer(200, "{}")) as server:
        connections = Connections(options(server), setting="X", max_connections=3)
        await asyncio.gather(*(connections.call("/x", {}, name="/x") for _ in range(30)))
        await connections.close()

    assert server.connections <= 3


async def test_every_call_passes_both_failpoints():
    """Crash tests reach the boundary by these names."""
    hits: list[str] = []
    failpoints.install(hits.append)
    try:
        async with serving(answer(200, "{}")) as server:
            await ask(server)
    finally:
        failpoints.install(None)

    assert hits == ["source.call.before", "source.call.after"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_name_that_leads_into_our_network_is_refused(host):
    """DNS belongs to whoever owns the name; it may change between two calls."""
    resolver = GuardedResolver(loopback=False, private=False, trusted=None)

    with pytest.raises(RefusedAddress):
        await resolver.resolve(host, 80)


async def test_a_refused_name_is_a_reason_and_not_an_outage():
    """It halts with a clear code instead of being retried for ever."""
    connections = Connections(SourceOptions(base_url="https://graph.example"), setting="X")
    connections._session = None
    connections._loopback = False

    class Rebound(GuardedResolver):
        async def resolve(self, host, port=0, family=0):
            return await super().resolve("localhost", port)

    session = connections._open()
    session.connector._resolver = Rebound(loopback=False, private=False, trusted=None)  # type: ignore[union-attr]
    found = await connections.call("/x", {}, name="/x")
    await connections.close()

    assert found == NoAnswer("refused-address")


async def test_after_close_nothing_is_opened_again():
    """A late call after shutdown is a bug, and must not leak a socket."""
    connections = Connections(SourceOptions(base_url="http://127.0.0.1:9"), setting="X")
    await connections.close()

    with pytest.raises(RuntimeError, match="closed"):
        await connections.call("/x", {}, name="/x")
