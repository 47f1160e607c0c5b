"""
Reports that the Graph API prepares (ad insights): create, wait, read.

The stage lives in the chain's cursor: `wait:RUN:CREATED`, then `read:RUN:CREATED[:AFTER]`; CREATED is unix
milliseconds.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from pipeline.sources.base import READ_STAGE, Fault, FaultKind, Page, PageRequest, Pending
from pipeline.sources.graph_client import Answered, bad_id
from pipeline.sources.graph_listing import read_listing
from pipeline.sources.graph_usage import draws
from pipeline.sources.verdicts import masked

if TYPE_CHECKING:
    from pipeline.sources.budget import Draws
    from pipeline.sources.calls import Call
    from pipeline.sources.graph_client import GraphClient

POLL_MINUTES = 0.5
"""Between two looks at a report; each costs a call, and most reports take a minute or two."""

START_MINUTES = 5.0
"""A report that has not begun after so long never will; before that, 'does not exist' may only be too early."""

LONGEST_MINUTES = 30.0
"""A report that is not done after so long hangs."""

AGAIN_MINUTES = 1.0
"""Before a report that failed is created anew."""

_STAGE = re.compile(r"(wait|read):([A-Za-z0-9_]{1,64}):([0-9]{1,15})(?::(.+))?", re.DOTALL)
_RUN = re.compile(r"[A-Za-z0-9_]{1,64}")
_UNFINISHED = {"Job Not Started", "Job Started", "Job Running"}


class Stage(NamedTuple):
    """How far a report is."""

    reading: bool
    run: str
    created: int
    """Unix milliseconds."""
    after: str | None = None

    def cursor(self) -> str:
        """The chain's cursor at this stage."""
        text = f"{READ_STAGE if self.reading else 'wait:'}{self.run}:{self.created}"
        return f"{text}:{self.after}" if self.after else text


class Reports:
    """Takes staged feeds' reports on, one step per call of `fetch`."""

    def __init__(self, client: GraphClient) -> None:
        self._client = client

    async def fetch(self, request: PageRequest) -> Page | Pending | Fault:
        """Create the report, look at it, or read a page of it, whatever its cursor says is next."""
        stage = read_stage(request.cursor)
        now, minute = request.now // 1_000, self._client.options.minute_seconds
        drawn = draws(request.feed.path, request.scope, request.user_id)
        if stage is None:
            answer = await self._create(request, drawn)
            return answer if isinstance(answer, Fault) else created(answer, now, minute)
        if stage.reading:
            page = await self._read(request, stage, drawn)
            return refused(page, stage, now, minute) if isinstance(page, Fault) else page
        path = self._client.path("/{scope}", stage.run, request.user_id)
        assert path is not None  # a stage's run is an id
        answer = await self._client.ask(self._client.call("/{report}", path, {}, drawn, request.token))
        return refused(answer, stage, now, minute) if isinstance(answer, Fault) else looked(answer, stage, now, minute)

    async def _create(self, request: PageRequest, drawn: Draws) -> Answered | Fault:
        feed = request.feed
        path = self._client.path(feed.path, request.scope, request.user_id)
        if path is None:
            return bad_id()
        parameters = {**feed.params, "fields": feed.fields, "time_range": time_range(request.window)}
        return await self._client.ask(
            self._client.call(feed.path, path, parameters, drawn, request.token, method="POST")
        )

    async def _read(self, request: PageRequest, stage: Stage, drawn: Draws) -> Page | Fault:
        path = self._client.path("/{scope}/insights", stage.run, request.user_id)
        assert path is not None  # a stage's run is an id

        def make(limit: int) -> Call:
            parameters = {"limit": str(limit), **({"after": stage.after} if stage.after else {})}
            return self._client.call("/{report}/insights", path, parameters, drawn, request.token)

        page = await self._client.page(request, make, lambda body: read_listing(body, stage.after), fresh=False)
        if isinstance(page, Fault) or page.cursor is None:
            return page
        return replace(page, cursor=stage._replace(after=page.cursor).cursor())


def read_stage(cursor: str | None) -> Stage | None:
    """Take a cursor apart; None means that a report must be created, as for a cursor that is not one of ours."""
    match = _STAGE.fullmatch(cursor or "")
    return Stage(match[1] == "read", match[2], int(match[3]), match[4]) if match else None


def time_range(window: tuple[int, int]) -> str:
    """Write the days of `[lo, hi)` as the API wants them: both ends inclusive."""
    since, until = (datetime.fromtimestamp(second, UTC).date() for second in (window[0], max(window[0], window[1] - 1)))
    return json.dumps({"since": since.isoformat(), "until": until.isoformat()}, separators=(",", ":"))


def created(answer: Answered, now: int, minute_seconds: float) -> Pending | Fault:
    """Read the answer to the order of a report."""
    run = answer.body.get("report_run_id") if isinstance(answer.body, dict) else None
    if not isinstance(run, (str, int)) or not _RUN.fullmatch(str(run)):
        return Fault(kind=FaultKind.REFUSED, code="no-report", calls=answer.calls)
    cursor = Stage(reading=False, run=str(run), created=now).cursor()
    return Pending(cursor=cursor, wait=POLL_MINUTES * minute_seconds, calls=answer.calls)


def looked(answer: Answered, stage: Stage, now: int, minute_seconds: float) -> Pending:
    """Read a report's status. Only 'Job Completed' is done: 100 percent with 'Job Running' happens."""
    body, calls = answer
    status = body.get("async_status") if isinstance(body, dict) else None
    minutes = (now - stage.created) / 1_000 / minute_seconds
    if status == "Job Completed":
        return Pending(cursor=stage._replace(reading=True).cursor(), wait=0.0, calls=calls)
    if status not in _UNFINISHED:
        words = body.get("error_message") or status if isinstance(body, dict) else "no status"
        return again(f"report failed: {words}", minute_seconds, calls)
    if minutes > LONGEST_MINUTES or (status == "Job Not Started" and minutes > START_MINUTES):
        return again(f"report hangs: {status}", minute_seconds, calls)
    return Pending(cursor=stage.cursor(), wait=POLL_MINUTES * minute_seconds, calls=calls)


def refused(fault: Fault, stage: Stage, now: int, minute_seconds: float) -> Pending | Fault:
    """
    Judge a fault at a report that was created.

    A report that does not exist is only too young or was lost: it says nothing about the ad account. One that cannot
    be read although it is done, or whose cursor died, is created anew after a while.
    """
    minutes = (now - stage.created) / 1_000 / minute_seconds
    if fault.kind is FaultKind.GONE and minutes <= START_MINUTES and not stage.reading:
        return Pending(cursor=stage.cursor(), wait=POLL_MINUTES * minute_seconds, calls=fault.calls)
    lost = fault.kind in (FaultKind.GONE, FaultKind.INVALID_CURSOR)
    if lost or (fault.kind is FaultKind.TRANSIENT and minutes > LONGEST_MINUTES and fault.calls):
        return again(f"report lost: {fault.code}", minute_seconds, fault.calls)
    return fault


def again(detail: str, minute_seconds: float, calls: int) -> Pending:
    """Have a report created anew."""
    return Pending(cursor=None, wait=AGAIN_MINUTES * minute_seconds, calls=calls, detail=masked(detail))
