"""Fetch one page for a chain, seeking it again when its cursor is dead; a fault becomes a change of the chain."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from pipeline import telemetry
from pipeline.chains import protocol
from pipeline.chains.protocol import MICROS, Chain, Change
from pipeline.miners import outcomes
from pipeline.miners.plan import Plan
from pipeline.miners.tools import Tools
from pipeline.sources.base import Fault, FaultKind, Page, PageRequest, Pending, Position, Source, Token
from pipeline.storage import pages
from pipeline.storage.transitions import Looked

log = logging.getLogger(__name__)

MAX_SEEKS = 3
"""Requests for one page: the cursor, the re-seek, the top."""


@dataclass(frozen=True)
class Fetched:
    """A page; `restarted` tells that it answers a request from the top because nothing else worked."""

    page: Page
    restarted: bool


@dataclass(frozen=True)
class Stopped:
    """No page: what happens to the chain instead, the calls made, and why, for people."""

    change: Change
    calls: int
    error: str


class Fetching:
    """Asks sources."""

    def __init__(self, tools: Tools) -> None:
        self.sources = tools.sources
        self.tokens = tools.tokens
        self.scopes = tools.scopes
        self.settings = tools.settings
        self.clock = tools.clock

    async def fetch(self, plan: Plan, looked: Looked, chain: Chain, token: Token) -> Fetched | Stopped:
        """Fetch one page, re-seeking when the cursor is dead (rule 6)."""
        source = self.sources[plan.feed.source]
        request = PageRequest(
            feed=plan.feed,
            user_id=chain.key.user_id,
            scope=chain.key.scope,
            token=token,
            limit=plan.feed.page_limit,
            cursor=chain.cursor,
            until=None if chain.cursor else protocol.first_until(chain, looked.spans, plan.rules),
            after=Position(*chain.position) if chain.position and chain.position.id else None,
            epoch=chain.epoch,
            window=protocol.asked_window(chain, plan.rules, looked.now),
            now=looked.now,
        )
        calls, restarted = 0, False
        for _ in range(MAX_SEEKS):
            started = self.clock()
            answer = await source.fetch(request)
            telemetry.record("pipeline.api.duration", self.clock() - started, source=source.name)
            calls += answer.calls
            outcome = answer.kind.value if isinstance(answer, Fault) else "ok"
            telemetry.count("pipeline.api.calls", answer.calls, source=source.name, outcome=outcome)
            if isinstance(answer, Page):
                return Fetched(replace(answer, calls=calls), restarted)
            if isinstance(answer, Pending):
                return self._staged(looked, chain, answer)
            verdict = outcomes.judge(answer, now=looked.now, settings=self.settings)
            if not isinstance(verdict, outcomes.Reseek):
                return await self._stop(plan, looked, chain, token, answer, verdict, calls)
            sought = self._seek(source, plan, chain, request)
            restarted = restarted or (sought.cursor is None and sought.until is None and chain.position is not None)
            request = sought
        fault = Fault(kind=FaultKind.TRANSIENT, code="cursor", detail="no cursor, time or top works")
        return await self._stop(
            plan, looked, chain, token, fault, outcomes.judge(fault, now=looked.now, settings=self.settings), calls
        )

    def _staged(self, looked: Looked, chain: Chain, pending: Pending) -> Stopped:
        until = looked.now + int(pending.wait * MICROS)
        change = protocol.stage(chain, pending.cursor, until=until, now=looked.now, nonce=pages.nonce())
        return Stopped(change, pending.calls, pending.detail)

    def _seek(self, source: Source, plan: Plan, chain: Chain, request: PageRequest) -> PageRequest:
        if plan.rules.by_time and request.cursor is not None:
            return replace(request, cursor=None, until=protocol.first_until(chain, (), plan.rules))
        again = source.reseek(request)
        return again or replace(request, cursor=None, until=None, after=None)

    async def _stop(
        self,
        plan: Plan,
        looked: Looked,
        chain: Chain,
        token: Token,
        fault: Fault,
        verdict: outcomes.Verdict,
        calls: int,
    ) -> Stopped:
        error = f"{fault.kind.value} {fault.code} {fault.detail}".strip()
        log.info("%s: %s", chain.key, error)
        if fault.kind is FaultKind.TOKEN_DEAD:
            await self.tokens.mark_dead(chain.key.user_id, plan.feed.source, token.version)
        match verdict:
            case outcomes.Park(until, reason):
                change = protocol.park(
                    chain, until=until, reason=reason, now=looked.now, nonce=pages.nonce(), token_version=token.version
                )
            case outcomes.Halt(reason):
                change = protocol.halt(chain, reason, now=looked.now)
            case _:
                change = protocol.close(chain, "scope gone")
                await self.scopes.close(plan.feed, chain.key)
        return Stopped(change, calls, error)
