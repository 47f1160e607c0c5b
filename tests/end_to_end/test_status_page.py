"""The status page in a real browser: what a person sees, not what the template says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipeline.bus.entities import Depth, Described
from pipeline.operations import web
from pipeline.sources.base import Fault, FaultKind
from tests.desk import Desk
from tests.end_to_end.browser import browser, chromium

pytestmark = [pytest.mark.browser, pytest.mark.slow]

EVIL = "<img src=http://127.0.0.1:9/x onerror=document.title='owned'>"


class Depths:
    """A bus that tells depths."""

    async def depths(self) -> dict[str, Depth]:
        return {"posts-mining-queue-local": Depth(1204, 17, 0), "comments-mining-queue-local": Depth(0, 250, 2)}

    async def describe(self) -> Described | None:
        return None


@pytest.fixture
def page(tmp_path: Path) -> str:
    """The page of a desk with work done, a stopped chain, a throttled one, a dead token and a hostile name."""
    chromium()
    desk = Desk(tmp_path, entities=Depths())
    for name in ("anna", "ben", "cleo", EVIL):
        desk.user(name, posts=40)
    desk.run("mine", "posts")
    desk.source.faults = [
        Fault(kind=FaultKind.FORBIDDEN, code="10", detail=EVIL, calls=1),
        Fault(kind=FaultKind.THROTTLED, code="17", wait=300, calls=1),
        Fault(kind=FaultKind.TOKEN_DEAD, code="190", calls=1),
    ]
    desk.source.items["page-cleo"][3]["message"] = 17
    desk.work()

    async def answer(pipeline: object) -> str:
        async def build() -> object:
            return pipeline

        return (await web.status_answer(build, html=True)).body  # type: ignore[arg-type]  # it is the pipeline

    return desk.with_pipeline(answer)


@contextlib.asynccontextmanager
async def _served(body: str) -> AsyncIterator[str]:
    """Serve one page with the headers that the function sends."""
    headers = "".join(f"{name}: {value}\r\n" for name, value in web.HEADERS.items())
    content = body.encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(content)}\r\n{headers}"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head.encode() + b"Connection: close\r\n\r\n" + content)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/status?code=key"
    finally:
        server.close()


async def test_a_person_sees_the_state_and_nothing_is_loaded_from_elsewhere(page: str, tmp_path: Path):
    """No external asset may fail, track, or learn the key in the address."""
    async with _served(page) as url, browser() as chrome:
        await chrome.open(url)
        text = await chrome.ask("document.body.innerText")
        picture = await chrome.picture(tmp_path / "status.png")

    foreign = [address for address in chrome.requests if not address.startswith(url.split("/api")[0])]
    assert foreign == []
    assert chrome.complaints == []
    for words in (
        "Something needs a person",
        "recover --dry-run",
        "Completeness",
        "1,204",
        "forbidden 10",
        "malformed",
    ):
        assert words in text
    assert len(picture) > 30_000


async def test_the_style_sheet_is_applied_under_the_pages_own_policy(page: str):
    """A content policy that blocks the page's own style leaves a wall of text."""
    async with _served(page) as url, browser() as chrome:
        await chrome.open(url)
        bad = await chrome.ask("getComputedStyle(document.querySelector('.verdict.bad')).backgroundColor")
        widths = await chrome.ask("[...document.querySelectorAll('.bar i')].map(b => b.getBoundingClientRect().width)")

    assert bad == "rgb(253, 234, 232)"
    assert widths
    assert min(widths) > 0


async def test_a_hostile_name_is_text(page: str):
    """Names come from APIs and files."""
    async with _served(page) as url, browser() as chrome:
        await chrome.open(url)

        assert await chrome.ask("document.images.length + document.scripts.length") == 0
        assert "owned" not in await chrome.ask("document.title")
        assert EVIL in await chrome.ask("document.body.innerText")


@pytest.mark.parametrize("width", [1240, 820, 390])
async def test_the_page_fits_its_window(page: str, width: int):
    """It is read on a phone at night, too: tables scroll inside their cards, the page does not."""
    async with _served(page) as url, browser() as chrome:
        await chrome.open(url, width=width)

        assert await chrome.ask("document.documentElement.scrollWidth") <= width
