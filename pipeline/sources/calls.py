"""
One call to an API, with everything that stands around it: budget, breaker, quick retries, deadline.

The same for all sources; what an answer means, the source's `Dialect` says.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt, wait_random_exponential

from pipeline.chains.budget import BLOCK_PERCENT
from pipeline.sources.base import Fault, FaultKind, UsageNote
from pipeline.sources.breaker import Breaker, Breakers
from pipeline.sources.budget import Draws
from pipeline.sources.http import Answer, NoAnswer
from pipeline.sources.json_body import NotJson, parse
from pipeline.sources.verdicts import Verdict

if TYPE_CHECKING:
    from pipeline.sources.base import Budget, SourceOptions
    from pipeline.sources.http import Connections
    from pipeline.sources.limits import PageLimits

ATTEMPTS = 3
"""Tries of one call within its deadline; what is still down then is parked, not waited for."""

MAX_PAUSE_SECONDS = 1.0
"""The longest sleep between two tries: it holds a message's lock and a slot of the worker."""

DOWN_MINUTES = 1.0
"""How long to leave an API alone that failed all quick tries."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One thing to ask."""

    name: str
    """The path with its placeholders: what spans and logs may show."""
    target: Callable[[], str]
    """Path and query, encoded; made anew for each try."""
    headers: Mapping[str, str]
    keys: Sequence[str]
    """The keys of the budgets it draws on."""
    draws: Draws
    secrets: Sequence[str] = ()
    list_fields: Sequence[str] = ("data",)
    method: str = "GET"


class Reply(NamedTuple):
    """A good answer."""

    body: Any
    headers: Mapping[str, str]
    bytes: int


@dataclass
class Tally:
    """Counts the API calls made for one request of the miner, also when the deadline cuts it."""

    calls: int = 0


class Dialect(Protocol):
    """How a source speaks: what its answers mean, and what they say about budgets."""

    def judge(self, call: Call, answer: Answer, body: Any) -> Verdict | None:
        """None for a good answer. `body` is None if it was no JSON."""
        ...

    def notes(self, call: Call, answer: Answer, verdict: Verdict | None) -> Sequence[UsageNote]:
        """What the answer says about budgets; a throttle always yields a note that blocks."""
        ...


class Caller:
    """Makes calls for one source. Holds connections and breakers, no tokens."""

    def __init__(
        self,
        options: SourceOptions,
        budget: Budget,
        connections: Connections,
        dialect: Dialect,
        *,
        breakers: Breakers | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._options = options
        self._budget = budget
        self._connections = connections
        self._dialect = dialect
        self._breakers = breakers or Breakers(minute_seconds=options.minute_seconds)
        self._sleep = sleep

    async def ask(self, call: Call, tally: Tally) -> Reply | Fault:
        """Make a call that has no size, under the deadline."""
        try:
            async with asyncio.timeout(self._options.total_timeout):
                outcome = await self._ask(call, tally, retry=_worth_another_try)
        except TimeoutError:
            return self._too_late(tally)
        return outcome if isinstance(outcome, Reply) else self._fault(outcome, tally)

    async def ask_page(
        self, make: Callable[[int], Call], limit: int, limits: PageLimits, key: Hashable, tally: Tally
    ) -> tuple[Reply, int] | Fault:
        """
        Ask for a page, with half the limit each time that it is too heavy; gives the limit that was borne, too.

        `TOO_MUCH` leaves here only when a single item is too much, or the time is up. A fault that may be an outage
        as well is tried smaller, too, but not more often than any passing fault, and teaches the limits only if that
        helped.
        """
        suspected = 0
        try:
            async with asyncio.timeout(self._options.total_timeout):
                while True:
                    outcome = await self._ask(make(limit), tally, retry=_worth_the_same_try)
                    if isinstance(outcome, Reply):
                        if suspected:
                            limits.too_much(key, 2 * limit)
                        return outcome, limit
                    smaller = limit // 2 if outcome.shrink else 0
                    if outcome.kind is FaultKind.TRANSIENT:
                        suspected += 1
                        smaller = max(1, smaller) if outcome.shrink and suspected < ATTEMPTS else 0
                    elif outcome.shrink:
                        limits.too_much(key, limit)
                    if not smaller:
                        return self._fault(outcome, tally)
                    if suspected:
                        await self._sleep(random.uniform(0.0, MAX_PAUSE_SECONDS / 2))
                    limit = smaller
        except TimeoutError:
            return self._too_late(tally)

    async def _ask(self, call: Call, tally: Tally, *, retry: Callable[[Reply | Verdict], bool]) -> Reply | Verdict:
        """
        Make the call and its quick retries.

        The budget and the breaker are asked before every try, so that a block that an answer begins is respected at
        once.
        """

        async def attempt() -> Reply | Verdict:
            return await self._held(call) or await self._try(call, tally)

        first = await attempt()
        if not retry(first):  # nearly every call; tenacity's own steps cost more than reading the page's JSON
            return first
        made = [first]

        async def again() -> Reply | Verdict:
            return made.pop() if made else await attempt()

        retrying = AsyncRetrying(
            sleep=self._sleep,
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.25, max=MAX_PAUSE_SECONDS),
            retry=retry_if_result(retry),
            retry_error_callback=_last_result,
        )
        outcome: Reply | Verdict = await retrying(again)
        return outcome

    async def _held(self, call: Call) -> Verdict | None:
        """Ask budget and breaker; a verdict means that no call may be made now."""
        wait = await self._budget.wait(call.keys)
        if wait > 0:
            return Verdict(FaultKind.THROTTLED, "budget", wait=wait)
        wait = self._breaker(call).wait(self._options.total_timeout)
        if wait > 0:
            return Verdict(FaultKind.TRANSIENT, "breaker-open", wait=wait)
        return None

    async def _try(self, call: Call, tally: Tally) -> Reply | Verdict:
        breaker = self._breaker(call)
        tally.calls += 1
        try:
            answer = await self._connections.call(call.target(), call.headers, name=call.name, method=call.method)
        except BaseException:
            breaker.released()
            raise
        if isinstance(answer, NoAnswer):
            verdict = _no_answer(answer)
            breaker.note(alive=verdict.kind is not FaultKind.TRANSIENT)
            return verdict
        body = _parsed(answer, call.list_fields)
        judged = self._dialect.judge(call, answer, body)
        breaker.note(alive=judged is None or judged.kind is not FaultKind.TRANSIENT)
        notes = self._dialect.notes(call, answer, judged)
        if judged is None or judged.kind not in (FaultKind.THROTTLED, FaultKind.TRANSIENT):
            full = {note.key for note in notes if note.percent >= BLOCK_PERCENT}
            await self._budget.passed([key for key in call.keys if key not in full])
        if notes:
            await self._budget.note(notes)
        if judged is None:
            return Reply(body, answer.headers, len(answer.body))
        if judged.kind is FaultKind.THROTTLED:
            return judged._replace(wait=max(await self._budget.wait(call.keys), judged.wait))
        return judged

    def _breaker(self, call: Call) -> Breaker:
        return self._breakers.of(self._connections.host, call.draws.use_case)

    def _fault(self, verdict: Verdict, tally: Tally) -> Fault:
        wait = verdict.wait
        if verdict.kind is FaultKind.TRANSIENT and not wait:
            wait = DOWN_MINUTES * self._options.minute_seconds
        return Fault(kind=verdict.kind, wait=wait, code=verdict.code, detail=verdict.detail, calls=tally.calls)

    def _too_late(self, tally: Tally) -> Fault:
        """The deadline has passed. With no call made, all of it went into waiting for a connection."""
        return self._fault(Verdict(FaultKind.TRANSIENT, "deadline"), tally)


def _last_result(state: RetryCallState) -> Reply | Verdict:
    """After the last try its result counts, not an error about retrying."""
    assert state.outcome is not None
    outcome: Reply | Verdict = state.outcome.result()
    return outcome


def _worth_another_try(outcome: Reply | Verdict) -> bool:
    return isinstance(outcome, Verdict) and outcome.quick


def _worth_the_same_try(outcome: Reply | Verdict) -> bool:
    """Where the page can be made smaller, that is the better second try."""
    return isinstance(outcome, Verdict) and outcome.quick and not outcome.shrink


def _parsed(answer: Answer, list_fields: Sequence[str]) -> Any:
    try:
        return parse(answer.body, list_fields=list_fields)
    except NotJson:
        return None


def _no_answer(answer: NoAnswer) -> Verdict:
    if answer.reason == "too-large":
        return Verdict(FaultKind.TOO_MUCH, "answer-too-large", shrink=True)
    if answer.reason == "refused-address":
        detail = "the API's host name leads to a private or link-local address"
        return Verdict(FaultKind.REFUSED, "refused-address", detail=detail)
    return Verdict(FaultKind.TRANSIENT, answer.reason, quick=True)
