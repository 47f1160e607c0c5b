"""Real headless Chromium, driven by its own debugging protocol over a WebSocket; no driver to install."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

START_SECONDS = 30.0
ANSWER_SECONDS = 20.0
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    "--remote-debugging-port=0",
)


def chromium() -> str:
    """Give Chromium's path; without it a desk skips and CI fails."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is missing")
        pytest.skip("Chromium is missing")
    return found


class Browser:
    """One page."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.requests: list[str] = []
        self.complaints: list[str] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and give its result; events that come before it are noted."""
        number = next(self._numbers)
        await self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            event = json.loads(await asyncio.wait_for(self._socket.recv(), ANSWER_SECONDS))
            if event.get("id") == number:
                assert "error" not in event, event["error"]
                result: dict[str, Any] = event["result"]
                return result
            self._note(event)

    def _note(self, event: dict[str, Any]) -> None:
        method, what = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(what["request"]["url"])
        if method == "Log.entryAdded" and what["entry"]["level"] in ("warning", "error"):
            self.complaints.append(what["entry"]["text"])

    async def open(self, url: str, *, width: int = 1240, height: int = 1800) -> None:
        """Show an address in a window of this size and wait until it is there."""
        for domain in ("Page", "Network", "Log", "Runtime"):
            await self.call(f"{domain}.enable")
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        await self.call("Page.navigate", url=url)
        async with asyncio.timeout(ANSWER_SECONDS):
            while (
                await self.ask(f"document.readyState === 'complete' && location.href === {json.dumps(url)}") is not True
            ):
                await asyncio.sleep(0.05)

    async def ask(self, script: str) -> Any:
        """Give the value of an expression in the page."""
        result = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return result["result"].get("value")

    async def picture(self, path: Path) -> bytes:
        """Take a screenshot as PNG."""
        data = base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])
        path.write_bytes(data)
        return data


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Start Chromium with a profile of its own, and stop it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            chromium(), *FLAGS, f"--user-data-dir={profile}", "about:blank",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with connect(await _page(Path(profile)), max_size=None) as socket:
                yield Browser(socket)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _page(profile: Path) -> str:
    port_file = profile / "DevToolsActivePort"
    async with asyncio.timeout(START_SECONDS), httpx.AsyncClient(trust_env=False) as client:
        while True:
            with contextlib.suppress(OSError, httpx.HTTPError, StopIteration, IndexError):
                port = port_file.read_text().split()[0]
                pages = (await client.get(f"http://127.0.0.1:{port}/json")).json()
                return str(next(page for page in pages if page["type"] == "page")["webSocketDebuggerUrl"])
            await asyncio.sleep(0.1)
