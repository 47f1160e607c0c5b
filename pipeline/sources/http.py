"""
The one place where a source touches the network: a bounded pool of connections, shared by all users.

It uses aiohttp directly: an httpx pool of the same size costs ten times the processor time per call, sharded or not
(`tests/bench/sources.py`). Nothing here follows redirects, repeats calls, keeps cookies, reads proxies from the
environment, or puts a URL or header into an exception, log line or span.
"""

from __future__ import annotations

import ipaddress
import socket
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from opentelemetry import trace
from yarl import URL

from pipeline.failpoints import failpoint
from pipeline.sources.addresses import check_base_url, may_connect

if TYPE_CHECKING:
    from pipeline.sources.base import SourceOptions

MAX_CONNECTIONS = 64
"""Open connections of a process to one API; a worker handles 16 messages at a time, each one call."""

KEEP_ALIVE_SECONDS = 30.0

USER_AGENT = "graph-miner/1"
"""Constant: the API's ETags and abuse heuristics look at it."""


class Answer(NamedTuple):
    """What came back, whatever its status; the body is decoded and no longer than the cap."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NoAnswer(NamedTuple):
    """Why there is none: `connect`, `timeout`, `broken`, `refused-address`, `encoding` or `too-large`."""

    reason: str


class Connections:
    """Makes calls to one base URL. Opens on first use, in the running loop; `close` is final."""

    def __init__(self, options: SourceOptions, *, setting: str, max_connections: int = MAX_CONNECTIONS) -> None:
        """Raises `ConfigurationError`, naming `setting`, if the base URL must not be called."""
        private = options.extra.get("private_network") == "allowed"
        self._loopback = check_base_url(options.base_url, setting=setting, private=private)
        self._private = private
        self._base = options.base_url.rstrip("/")
        self._options = options
        self._max_connections = max_connections
        self._session: aiohttp.ClientSession | None = None
        self._closed = False
        self.host = urlsplit(self._base).netloc

    def __repr__(self) -> str:
        return f"Connections({self.host})"

    async def call(
        self, target: str, headers: Mapping[str, str], *, name: str, method: str = "GET"
    ) -> Answer | NoAnswer:
        """
        Make one call. `target` is path and query, already encoded; `name` describes it without ids or secrets.

        Raises only what cancels the caller, and `RuntimeError` after `close`.
        """
        failpoint("source.call.before")
        attributes = {"http.request.method": method, "server.address": self.host, "url.template": name}
        # no exception is recorded: aiohttp's texts may hold URLs
        with _tracer.start_as_current_span(
            f"{method} {name}", kind=trace.SpanKind.CLIENT, attributes=attributes, record_exception=False
        ) as span:
            answer = await self._call(method, target, headers)
            if isinstance(answer, Answer):
                span.set_attribute("http.response.status_code", answer.status)
            else:
                span.set_attribute("error.type", answer.reason)
        failpoint("source.call.after")
        return answer

    async def close(self) -> None:
        """Close all connections."""
        self._closed = True
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _call(self, method: str, target: str, headers: Mapping[str, str]) -> Answer | NoAnswer:
        session = self._session or self._open()
        try:
            async with session.request(
                method,
                URL(self._base + target, encoded=True),
                headers=headers,
                allow_redirects=False,
                proxy=self._options.proxy_url or None,
            ) as response:
                body = await self._body(response)
                if isinstance(body, NoAnswer):
                    response.close()  # what is left of the body must not be read
                    return body
                return Answer(response.status, response.headers, body)
        except RefusedAddress:
            return NoAnswer("refused-address")
        except aiohttp.ClientConnectorDNSError as error:
            return NoAnswer("refused-address" if isinstance(error.os_error, RefusedAddress) else "connect")
        except aiohttp.ClientConnectorError:
            return NoAnswer("connect")
        except TimeoutError:
            return NoAnswer("timeout")
        except (LostConnection, aiohttp.ClientError, OSError, ValueError, zlib.error):  # ValueError: impossible headers
            return NoAnswer("broken")

    async def _body(self, response: aiohttp.ClientResponse) -> bytes | NoAnswer:
        """Read the body, inflating as it comes; stops at the cap, whatever the headers promised."""
        cap = self._options.max_answer_bytes
        if (response.content_length or 0) > cap:
            return NoAnswer("too-large")
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if encoding not in ("identity", "gzip", ""):
            return NoAnswer("encoding")  # we offered gzip only
        inflater = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
        chunks, size = [], 0
        while chunk := await response.content.readany():
            if inflater is not None:
                chunk = inflater.decompress(chunk, cap - size + 1)
            size += len(chunk)
            if size > cap:
                return NoAnswer("too-large")
            chunks.append(chunk)
        if inflater is not None and not inflater.eof and size:
            return NoAnswer("broken")
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise RuntimeError("the source is closed")
        proxy_host = urlsplit(self._options.proxy_url).hostname if self._options.proxy_url else None
        resolver = GuardedResolver(loopback=self._loopback, private=self._private, trusted=proxy_host)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._max_connections, resolver=resolver, keepalive_timeout=KEEP_ALIVE_SECONDS
            ),
            timeout=aiohttp.ClientTimeout(
                total=None,  # the caller's deadline covers all tries and the wait for a connection
                sock_connect=self._options.connect_timeout,
                sock_read=self._options.read_timeout,
            ),
            headers={"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "gzip"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            middlewares=(_once,),
        )
        return self._session


class LostConnection(Exception):
    """A connection broke after the call was sent, perhaps."""


async def _once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a GET again by itself when its connection breaks: each call asks the budget first."""
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise  # nothing was sent
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise LostConnection from error


class RefusedAddress(OSError):
    """Do not connect: the name leads into our own network."""


class GuardedResolver(AbstractResolver):
    """
    Resolves names, and refuses a name if any of its addresses is not where the API can be.

    It checks the addresses that are then connected to, so that a name that changes its address gains nothing.
    """

    def __init__(self, *, loopback: bool, private: bool, trusted: str | None) -> None:
        self._inner = aiohttp.ThreadedResolver()
        self._loopback = loopback
        self._private = private
        self._trusted = trusted

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve; raises `RefusedAddress`."""
        found = await self._inner.resolve(host, port, family)
        if host != self._trusted and not all(self._allowed(result["host"]) for result in found):
            raise RefusedAddress("the API's name leads to an address that must not be called")
        return found

    async def close(self) -> None:
        """Nothing is held."""
        await self._inner.close()

    def _allowed(self, text: str) -> bool:
        address = ipaddress.ip_address(text.partition("%")[0])
        return address.is_loopback if self._loopback else may_connect(address, private=self._private)


_tracer = trace.get_tracer("pipeline.sources")
