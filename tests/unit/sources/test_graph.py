"""The Graph source against real sockets: what it asks, what it makes of answers, and what it never lets out."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import hmac
import json
import logging
import re
import time
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import SecretStr

from pipeline import failpoints
from pipeline.feeds.posts import FEED
from pipeline.sources import http
from pipeline.sources.base import Fault, FaultKind, Page, PageRequest, Pending, ScopeRef
from pipeline.sources.breaker import FAILURES
from pipeline.sources.graph import GraphSource
from tests.fakes import MemoryBudget
from tests.unit.sources.servers import LAST, ONE, SECRET, TOKEN, Server, answer, options, request, serving


async def fetch(server: Server | int, asked: PageRequest | None = None, **more: Any) -> Page | Fault:
    source = GraphSource(options(server, **more), MemoryBudget(minute_seconds=1.0))
    try:
        found = await source.fetch(asked or request())
        assert not isinstance(found, Pending)
        return found
    finally:
        await source.close()


def error(code: int, status: int = 400, **more: object) -> bytes:
    return answer(status, json.dumps({"error": {"code": code, "message": "m", **more}}))


async def test_the_request_is_built_from_the_feed_and_the_token_goes_in_the_header():
    """A token in the URL is a token in every log between us and the API."""
    async with serving(answer(200, ONE)) as server:
        page = await fetch(server, request(cursor="QVFI=", until=5))

    assert isinstance(page, Page)
    line = server.requests[0].splitlines()[0]
    assert line.startswith("GET /v26.0/1000/published_posts?fields=id,created_time")
    assert "limit=100" in line
    assert "after=QVFI%3D" in line
    assert "until" not in line
    assert f"Authorization: Bearer {TOKEN}" in server.requests[0]
    assert TOKEN not in line


async def test_until_is_asked_when_there_is_no_cursor():
    """That is how a dead cursor and a jump over proven time are resumed."""
    async with serving(answer(200, ONE)) as server:
        await fetch(server, request(until=1_700_000_000))
        await fetch(server, request(until=5, feed=replace(FEED, pages_by_time=False)))

    assert "until=1700000000" in server.requests[0]
    assert "until" not in server.requests[1].splitlines()[0]


async def test_until_stays_beside_the_cursor():
    """An empty first page has a cursor that points at no item: alone it would lead to the top, far from the window."""
    empty = json.dumps({"data": [], "paging": {"cursors": {"after": "QVFI="}, "next": "https://x"}})
    async with serving(answer(200, empty), answer(200, ONE)) as server:
        first = await fetch(server, request(until=1_700_000_000))
        assert isinstance(first, Page)
        await fetch(server, request(cursor=first.cursor))

    assert "after=QVFI%3D&until=1700000000" in server.requests[1]


@pytest.mark.parametrize(
    ("paging", "cursor"),
    [
        ({}, None),
        ({"paging": {}}, None),
        ({"paging": {"cursors": {"after": "A"}}}, None),
        ({"paging": {"cursors": {"before": "A", "after": "A"}, "next": "https://x"}}, "A"),
        ({"paging": {"cursors": {"after": "A"}, "next": ""}}, None),
        ({"paging": None}, None),
        ({"paging": []}, None),
    ],
)
@pytest.mark.parametrize("data", [[], [{"id": "1"}]])
async def test_only_an_absent_next_is_the_end(paging, cursor, data):
    """Empty and short pages are ordinary; the last page has cursors, too; before == after at limit 1."""
    async with serving(answer(200, json.dumps({"data": data, **paging}))) as server:
        page = await fetch(server)

    assert isinstance(page, Page)
    assert (list(page.items), page.cursor) == (data, cursor)


@pytest.mark.parametrize("after", [None, "", 7, "a b", "a\nb", "x" * 513, "../x?", "<"])
async def test_a_next_without_a_usable_cursor_is_never_the_end(after):
    """Taking it for the end would lose everything older, and say that it is complete."""
    body = {"data": [], "paging": {"cursors": {"after": after}, "next": "https://evil.example/?access_token=t"}}
    async with serving(answer(200, json.dumps(body))) as server:
        fault = await fetch(server)

    assert isinstance(fault, Fault)
    assert fault.kind is FaultKind.REFUSED


async def test_a_cursor_that_leads_to_itself_counts_as_invalid():
    """Followed, it would fetch the same page for ever; re-sought by time, the chain goes on."""
    body = {"data": [], "paging": {"cursors": {"after": "A"}, "next": "https://x"}}
    async with serving(answer(200, json.dumps(body))) as server:
        fault = await fetch(server, request(cursor="A"))

    assert isinstance(fault, Fault)
    assert fault.kind is FaultKind.INVALID_CURSOR


async def test_a_heavy_page_is_asked_again_smaller_with_the_same_cursor():
    """The remedy that the API itself names."""
    heavy = answer(500, json.dumps({"error": {"code": 1, "message": "Please reduce the amount of data you ask"}}))
    async with serving(heavy, heavy, answer(200, ONE)) as server:
        page = await fetch(server, request(cursor="A"))

    assert isinstance(page, Page)
    assert (page.limit, page.calls) == (25, 3)
    assert all("after=A" in asked for asked in server.requests)


async def test_too_much_leaves_the_source_only_at_a_single_item():
    """Then the item itself is the problem, and a person must look."""
    heavy = answer(500, json.dumps({"error": {"code": 1, "message": "Please reduce the amount of data you ask"}}))
    async with serving(heavy) as server:
        fault = await fetch(server)

    assert isinstance(fault, Fault)
    assert (fault.kind, fault.calls) == (FaultKind.TOO_MUCH, 7)


async def test_an_unknown_error_is_tried_smaller_but_not_for_ever():
    """It may be a heavy page or an outage; seven halvings with retries would open everybody's breaker."""
    async with serving(error(1, 500)) as server:
        fault = await fetch(server)

    assert isinstance(fault, Fault)
    assert (fault.kind, fault.calls) == (FaultKind.TRANSIENT, 3)
    assert [re.findall(r"&limit=(\d+)", asked) for asked in server.requests] == [["100"], ["50"], ["25"]]


async def test_an_outage_does_not_make_everybodys_pages_small():
    """Small pages cost calls long after it is over."""
    async with serving(error(1, 500), error(1, 500), error(1, 500), answer(200, ONE)) as server:
        source = GraphSource(options(server), MemoryBudget())
        await source.fetch(request())
        page = await source.fetch(request())
        await source.close()

    assert isinstance(page, Page)
    assert page.limit == 100


async def test_a_passing_fault_is_tried_three_times_and_then_parked():
    """A hiccup costs a moment; an outage must not hold a message's lock."""
    async with serving(answer(503, "<html>")) as server:
        fault = await fetch(server)

    assert isinstance(fault, Fault)
    assert (fault.kind, fault.code, fault.calls, fault.wait) == (FaultKind.TRANSIENT, "http-503", 3, 1.0)


async def test_a_hiccup_is_not_noticed():
    """Truncated JSON, HTML, a cut connection: the next try decides."""
    async with serving(answer(200, '{"data": [{'), b"", answer(200, ONE)) as server:
        page = await fetch(server)

    assert isinstance(page, Page)
    assert len(server.requests) == 3


async def test_a_slow_drip_ends_at_the_deadline():
    """Each byte in time, and never done: only a deadline over everything helps."""

    async def drip(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        try:
            for _ in range(100):
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass

    listening = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    started = time.monotonic()

    fault = await fetch(port, total_timeout=0.5)

    listening.close()
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.code, fault.calls) == (FaultKind.TRANSIENT, "deadline", 1)
    assert time.monotonic() - started < 2.0


async def test_a_throttle_is_not_retried_and_blocks_the_next_call():
    """Calls made while blocked lengthen the block: none is made, not even by another user of the app."""
    async with serving(error(4, is_transient=True), answer(200, ONE)) as server:
        source = GraphSource(options(server), MemoryBudget(minute_seconds=1.0))
        faults = [await source.fetch(request()), await source.fetch(request(user_id="u2", scope="2000"))]
        await source.close()

    assert [fault.calls for fault in faults] == [1, 0]
    assert all(isinstance(fault, Fault) and fault.kind is FaultKind.THROTTLED for fault in faults)
    assert all(4 < fault.wait <= 5 for fault in faults if isinstance(fault, Fault))
    assert len(server.requests) == 1


async def test_one_pages_throttle_does_not_stop_another_page():
    """The blast radius of a throttle is what it blames."""
    usage = json.dumps({"1000": [{"type": "pages", "call_count": 100, "estimated_time_to_regain_access": 10}]})
    throttled = answer(400, '{"error": {"code": 80001, "message": "m"}}', x_business_use_case_usage=usage)
    async with serving(throttled, answer(200, ONE)) as server:
        source = GraphSource(options(server), MemoryBudget(minute_seconds=1.0))
        first = await source.fetch(request())
        other = await source.fetch(request(scope="2000"))
        again = await source.fetch(request(scope="1000_9"))
        await source.close()

    assert isinstance(first, Fault)
    assert 9 < first.wait <= 10
    assert isinstance(other, Page)
    assert isinstance(again, Fault)


async def test_usage_on_a_good_answer_slows_the_next_call_down():
    """The limit is met before it is hit."""
    async with serving(answer(200, ONE, x_app_usage='{"call_count": 85}')) as server:
        source = GraphSource(options(server), MemoryBudget(minute_seconds=1.0))
        page, fault = await source.fetch(request()), await source.fetch(request())
        await source.close()

    assert isinstance(page, Page)
    assert isinstance(fault, Fault)
    assert 0.4 < fault.wait <= 0.5


async def test_a_host_that_is_down_is_left_alone():
    """A thousand chains must not hammer it; each parks for the breaker's pause."""
    async with serving(answer(500, "<html>")) as server:
        source = GraphSource(options(server), MemoryBudget())
        faults = [await source.fetch(request(user_id=f"u{n}")) for n in range(6)]
        await source.close()

    assert len(server.requests) == FAILURES
    assert isinstance(faults[-1], Fault)
    assert (faults[-1].code, faults[-1].calls) == ("breaker-open", 0)


@pytest.mark.parametrize("scope", ["..", ".", "", "a/b", "a?b", "a#b", "%2e", "a b", "é", "a\n", "x" * 200])
async def test_an_id_that_could_change_the_url_is_never_sent(scope):
    """Ids come from answers; one with a slash would ask for something else in the user's name."""
    async with serving(answer(200, ONE)) as server:
        fault = await fetch(server, request(scope=scope))

    assert isinstance(fault, Fault)
    assert (fault.kind, fault.code, server.requests) == (FaultKind.REFUSED, "bad-id", [])


async def test_a_node_feed_has_the_node_as_its_one_item():
    """A profile is no listing, but is mined like one."""
    async with serving(answer(200, '{"id": "1000", "name": "Page 0"}')) as server:
        page = await fetch(server, request(feed=replace(FEED, path="/{scope}")))

    assert isinstance(page, Page)
    assert (list(page.items), page.cursor) == ([{"id": "1000", "name": "Page 0"}], None)
    assert "limit" not in server.requests[0].splitlines()[0].replace("limit(0)", "")


async def test_another_object_than_asked_for_is_not_stored_under_its_name():
    """One person's profile under another's id is worse than none."""
    async with serving(answer(200, '{"id": "666"}')) as server:
        fault = await fetch(server, request(feed=replace(FEED, path="/{scope}")))

    assert isinstance(fault, Fault)
    assert (fault.kind, fault.code) == (FaultKind.REFUSED, "wrong-item")


async def test_discovery_follows_its_pages():
    """A user with 30 pages has them on two; the second half must not be forgotten."""
    first = {"data": [{"id": "1", "name": "A"}, {"id": None}, 7], "paging": {"cursors": {"after": "X"}, "next": "x"}}
    async with serving(answer(200, json.dumps(first)), answer(200, '{"data": [{"id": "2"}]}')) as server:
        source = GraphSource(options(server), MemoryBudget())
        found = await source.discover("page", "u1", request().token)
        await source.close()

    assert found == [ScopeRef("1", "A"), ScopeRef("2", "")]
    assert "/v26.0/me/accounts?" in server.requests[0]
    assert "after=X" in server.requests[1]


async def test_discovery_is_all_or_nothing():
    """Half a list would look like scopes that are gone."""
    first = {"data": [{"id": "1"}], "paging": {"cursors": {"after": "X"}, "next": "x"}}
    async with serving(answer(200, json.dumps(first)), error(190)) as server:
        source = GraphSource(options(server), MemoryBudget())
        found = await source.discover("ad-account", "u1", request().token)
        await source.close()

    assert isinstance(found, Fault)
    assert found.kind is FaultKind.TOKEN_DEAD


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (answer(200, '{"id": "1000_7", "message": "m"}'), {"id": "1000_7", "message": "m"}),
        (error(100, error_subcode=33), FaultKind.GONE),
        (error(803, 404), FaultKind.GONE),
        (answer(200, '{"id": "1000_8"}'), FaultKind.REFUSED),
        (answer(200, "[]"), FaultKind.REFUSED),
    ],
)
async def test_an_item_is_read_by_its_id_or_is_gone(raw, expected):
    """A tombstone needs proof; an answer about another item proves nothing."""
    async with serving(raw) as server:
        source = GraphSource(options(server), MemoryBudget())
        found = await source.fetch_item(FEED, "u1", "1000", "1000_7", request().token)
        await source.close()

    assert (found.kind if isinstance(found, Fault) else found) == expected
    assert "/v26.0/1000_7?fields=" in server.requests[0]


def test_a_dead_cursor_is_sought_again_by_time():
    """A cursor dies with its item; the time of the last item committed does not."""
    source = GraphSource(options(1), MemoryBudget())
    asked = request(cursor="dead", after=LAST)

    found = source.reseek(asked)

    assert found is not None
    assert (found.cursor, found.until) == (None, LAST.time)
    assert source.reseek(request(cursor="dead")) is None
    assert source.reseek(replace(asked, feed=replace(FEED, pages_by_time=False))) is None


async def test_another_version_than_asked_is_counted_and_logged_once(caplog):
    """An expired version is served by the next one without an error: this header is the only sign."""
    async with serving(answer(200, ONE, facebook_api_version="v27.0")) as server:
        source = GraphSource(options(server), MemoryBudget())
        for _ in range(3):
            await source.fetch(request())
        await source.close()

    assert source.client.other_versions == {"v27.0": 3}
    assert [record.levelname for record in caplog.records if "v27.0" in record.getMessage()] == ["WARNING"]


@pytest.mark.parametrize("timed", [False, True])
async def test_the_proof_is_made_for_the_token_and_is_right(timed):
    """With 'require app secret' on, every call without it is refused."""
    async with serving(answer(200, ONE)) as server:
        extra = {"appsecret_proof": "timed"} if timed else {}
        source = GraphSource(
            options(server, app_secret=SecretStr(SECRET), extra=extra), MemoryBudget(), clock=lambda: 1_700_000_000.5
        )
        await source.fetch(request())
        await source.close()

    message = f"{TOKEN}|1700000000" if timed else TOKEN
    proof = hmac.new(SECRET.encode(), message.encode(), hashlib.sha256).hexdigest()
    assert f"appsecret_proof={proof}" in server.requests[0]
    assert ("appsecret_time=1700000000" in server.requests[0]) is timed


ECHO = json.dumps({"error": {"code": 190, "message": f"Malformed access token {TOKEN}", "fbtrace_id": TOKEN}})


@pytest.mark.parametrize(
    "raw",
    [answer(200, ONE), answer(400, ECHO), answer(500, "<html>"), answer(302, "", location=f"http://x/?t={TOKEN}"), b"",
     answer(200, ONE, facebook_api_version=TOKEN), answer(400, ECHO.replace("190", "99999"))],
)  # fmt: skip
async def test_no_token_leaves_the_source(raw, caplog, capfd, monkeypatch):
    """Canaries: the token, the app secret and the proof are in no log line, span, fault, repr or printed text."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(http, "_tracer", provider.get_tracer("test"))
    caplog.set_level(logging.DEBUG)
    async with serving(raw) as server:
        server_options = options(server, app_secret=SecretStr(SECRET))
        source = GraphSource(server_options, MemoryBudget())
        asked = request(cursor="QVFI")
        found = await source.fetch(asked)
        everything = [
            repr(thing) for thing in (found, source, source.client.connections, server_options, asked, asked.token)
        ]
        await source.close()
    gc.collect()

    spans = [span.to_json() for span in exporter.get_finished_spans()]
    printed = capfd.readouterr()
    said = [record.getMessage() + repr(record.args) + str(record.exc_info) for record in caplog.records]
    assert spans
    for text in [*everything, *spans, *said, caplog.text, printed.out, printed.err]:
        for secret in (TOKEN, SECRET, "canary", "appsecret_proof="):
            assert secret not in text


async def test_a_failing_failpoint_leaves_no_token_in_its_traceback():
    """Crash tests raise out of the middle of a call; so may a cancelled handler."""

    def fail(name: str) -> None:
        raise RuntimeError(name)

    async with serving(answer(200, ONE)) as server:
        source = GraphSource(options(server), MemoryBudget())
        try:
            failpoints.install(fail)
            with pytest.raises(RuntimeError) as caught:
                await source.fetch(request())
        finally:
            failpoints.install(None)
            await source.close()

    assert TOKEN not in str(caught.getrepr(style="short"))
