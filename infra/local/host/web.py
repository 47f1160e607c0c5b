"""HTTP: functions by route, and the /admin interface of the host."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol

from aiohttp import web

from infra.local.host import routes, tracing
from infra.local.host.execution import Executor, response_of
from infra.local.host.keys import Keys
from infra.local.host.routes import Route
from infra.local.host.worker import Plain

log = logging.getLogger("host")

# Azure's front end gives up on a request after this long; the function runs on.
ANSWER_LIMIT_SECONDS = 230.0
_LARGEST_BODY_BYTES = 100 * 1024 * 1024
# host.json extensions.http.maxConcurrentRequests, Azure's default outside Flex.
_MOST_REQUESTS = 100
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "upgrade", "te", "trailer"}


class Admin(Protocol):
    """What /admin shows and does."""

    def status(self) -> dict[str, Any]:
        """Describe the host."""

    def functions(self) -> list[dict[str, Any]]:
        """Describe each function."""

    def manual(self, name: str, text: str) -> Awaitable[object] | None:
        """Start a timer or queue function by hand; None when there is no such function."""


class Web:
    """The listening side; `port` is the real one once started."""

    def __init__(
        self,
        found: Sequence[Route],
        *,
        run: Executor,
        admin: Admin,
        keys: Keys | None,
        limit_seconds: float = ANSWER_LIMIT_SECONDS,
        most_requests: int = _MOST_REQUESTS,
    ) -> None:
        self._routes = found
        self._run = run
        self._admin = admin
        self._keys = keys
        self._limit = limit_seconds
        self._most = most_requests
        self._running: set[asyncio.Task[Any]] = set()
        self._runner: web.ServerRunner | None = None
        self.port = 0

    async def start(self, address: str, port: int) -> None:
        """Listen; raises OSError when the port is taken."""
        self._runner = web.ServerRunner(web.Server(self._answer, request_factory=_request))
        await self._runner.setup()
        site = web.TCPSite(self._runner, address, port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self, seconds: float) -> None:
        """Take no more requests, and let the running ones end."""
        if self._runner is not None:
            for site in list(self._runner.sites):
                await site.stop()
            if self._running:
                await asyncio.wait(self._running, timeout=seconds)
            await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path == "/admin" or path.startswith("/admin/"):
            return await self._administer(request, path)
        found = routes.match(self._routes, request.method, request.rel_url.raw_path)
        if found is None:
            if path == "/":
                return web.Response(text="Your Functions app is up and running on the local host.\n")
            return web.Response(status=404)
        route, parameters = found
        if self._keys is not None and not self._keys.allow(route.trigger.auth_level, request):
            return web.Response(status=401)
        if len(self._running) >= self._most:
            return web.Response(status=429)
        data = await _datum(request, parameters)
        task = asyncio.ensure_future(self._invoke(route, data, request.headers.get("traceparent"), request.headers))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await asyncio.wait_for(asyncio.shield(task), self._limit)
        except TimeoutError:
            log.warning("%s did not answer within %.0f s; it runs on", route.function.name, self._limit)
            return web.Response(status=504)

    async def _invoke(
        self, route: Route, data: Plain, parent: str | None, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        trace = (tracing.continued(parent), headers.get("tracestate", ""))
        result = await self._run.run(route.function, data, {}, trace=trace)
        if not result.ok:
            return web.Response(status=500)
        return _response(response_of(route.function, result))

    async def _administer(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        if self._keys is not None and not self._keys.allow("admin", request):
            return web.Response(status=401)
        parts = path.strip("/").split("/")[1:]
        if parts in (["host", "status"], ["host", "ping"]):
            return web.json_response(self._admin.status() if parts[1] == "status" else {})
        if parts == ["functions"] and request.method == "GET":
            return web.json_response(self._admin.functions())
        if len(parts) == 2 and parts[0] == "functions":
            return await self._manual(request, parts[1])
        return web.Response(status=404)

    async def _manual(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        known = {each["name"]: each for each in self._admin.functions()}
        if name not in known:
            return web.Response(status=404, text=f"no function {name}\n")
        if request.method == "GET":
            return web.json_response(known[name])
        if request.method != "POST":
            return web.Response(status=405)
        try:
            given = json.loads(await request.read() or b"{}")
            value = given.get("input", "")
        except (ValueError, AttributeError):
            return web.Response(status=400, text='the body must be {"input": "..."}\n')
        started = self._admin.manual(name, value if isinstance(value, str) else json.dumps(value))
        if started is None:
            return web.Response(status=400, text=f"{name} cannot be run by hand\n")
        task = asyncio.ensure_future(started)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return web.Response(status=202)


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    """Make a request that may have a body as large as Azure takes."""
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=_LARGEST_BODY_BYTES)


async def _datum(request: web.BaseRequest, parameters: Mapping[str, str]) -> Plain:
    """Describe a request as the host does: names in lower case, repeats joined, empty query values dropped."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]},{value}" if key in headers else value
    query: dict[str, str] = {}
    for name, value in request.query.items():
        if value:
            query[name] = f"{query[name]},{value}" if name in query else value
    return (
        "http",
        {
            "method": request.method,
            "url": str(request.url),
            "headers": headers,
            "query": query,
            "params": dict(parameters),
            "body": await request.read(),
        },
    )


def _response(value: Plain | None) -> web.StreamResponse:
    if value is None:
        # No http output at all, or one that was never set.
        return web.Response(status=204)
    kind, content = value
    if kind == "http":
        response = web.Response(status=content["status"], body=content["body"])
        for name, header in content["headers"].items():
            if name.lower() not in _HOP_BY_HOP:
                response.headers[name] = header
        for cookie in content["cookies"]:
            response.headers.add("Set-Cookie", cookie)
        return response
    if kind == "json":
        return web.Response(text=content, content_type="application/json")
    if kind == "bytes":
        return web.Response(body=content)
    return web.Response(text=str(content))
