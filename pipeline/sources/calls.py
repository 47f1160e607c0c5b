"""
One call to an API, with everything that stands around it: budget, breaker, quick retries, deadline.

The same for all sources; what an answer means, the source's `Dialect` says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tenacity import AsyncRetrying, retry_if_result, stop_after_attempt, wait_random_exponential

from pipeline.sources.base import Fault, FaultKind, UsageNote
from pipeline.sources.breaker import Breaker, Breakers
from pipeline.sources.budget import Draws
from pipeline.sources.http import Answer, NoAnswer
from pipeline.sources.json_body import NotJson, parse
from pipeline.sources.verdicts import Verdict

if TYPE_CHECKING:
    from pipeline.sources.base import Budget, SourceOptions
    from pipeline.sources.http import Connections

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
    list_field: str = "data"


class Reply(NamedTuple):
    """A good answer."""

    body: Any
    headers: Mapping[str, str]
    calls: int
    bytes: int


class Refusal(NamedTuple):
    """Any other end of a call."""

    verdict: Verdict
    calls: int


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

    async def ask(self, call: Call) -> Reply | Refusal:
        """
        Make the call, quick retries included. The caller sets the deadline around it.

        The budget and the breaker are asked before every try, so that a block that an answer begins is respected at
        once.
        """
        calls = 0

        async def attempt() -> Reply | Refusal:
            nonlocal calls
            held = await self._held(call)
            if held is not None:
                return Refusal(held, calls)
            calls += 1
            return await self._try(call, calls)

        retrying = AsyncRetrying(
            sleep=self._sleep,
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.25, max=MAX_PAUSE_SECONDS),
            retry=retry_if_result(_worth_another_try),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        outcome: Reply | Refusal = await retrying(attempt)
        return outcome

    def fault(self, refusal: Refusal, *, calls: int | None = None) -> Fault:
        """Turn the end of a call into what the miner sees."""
        verdict = refusal.verdict
        wait = verdict.wait
        if verdict.kind is FaultKind.TRANSIENT and not wait:
            wait = DOWN_MINUTES * self._options.minute_seconds
        return Fault(
            kind=verdict.kind,
            wait=wait,
            code=verdict.code,
            detail=verdict.detail,
            calls=refusal.calls if calls is None else calls,
        )

    async def _held(self, call: Call) -> Verdict | None:
        """Ask budget and breaker; a verdict means that no call may be made now."""
        wait = await self._budget.wait(call.keys)
        if wait > 0:
            return Verdict(FaultKind.THROTTLED, "budget", wait=wait)
        wait = self._breaker(call).wait(self._options.total_timeout)
        if wait > 0:
            return Verdict(FaultKind.TRANSIENT, "breaker-open", wait=wait)
        return None

    async def _try(self, call: Call, calls: int) -> Reply | Refusal:
        breaker = self._breaker(call)
        try:
            answer = await self._connections.call(call.target(), call.headers, name=call.name)
        except BaseException:
            breaker.released()
            raise
        if isinstance(answer, NoAnswer):
            verdict = _no_answer(answer)
            breaker.failed() if verdict.quick else breaker.succeeded()
            return Refusal(verdict, calls)
        body = _parsed(answer, call.list_field)
        found = self._dialect.judge(call, answer, body)
        if found is not None and found.kind is FaultKind.TRANSIENT:
            breaker.failed()
        else:
            breaker.succeeded()
        notes = self._dialect.notes(call, answer, found)
        if notes:
            await self._budget.note(notes)
        if found is None:
            return Reply(body, answer.headers, calls, len(answer.body))
        if found.kind is FaultKind.THROTTLED:
            found = found._replace(wait=max(await self._budget.wait(call.keys), found.wait))
        return Refusal(found, calls)

    def _breaker(self, call: Call) -> Breaker:
        return self._breakers.of(self._connections.host, call.draws.use_case)


def _worth_another_try(outcome: Reply | Refusal) -> bool:
    return isinstance(outcome, Refusal) and outcome.verdict.quick


def _parsed(answer: Answer, list_field: str) -> Any:
    try:
        return parse(answer.body, list_field=list_field)
    except NotJson:
        return None


def _no_answer(answer: NoAnswer) -> Verdict:
    if answer.reason == "too-large":
        return Verdict(FaultKind.TOO_MUCH, "answer-too-large", shrink=True)
    if answer.reason == "refused-address":
        detail = "the API's host name leads to a private or link-local address"
        return Verdict(FaultKind.REFUSED, "refused-address", detail=detail)
    return Verdict(FaultKind.TRANSIENT, answer.reason, quick=True)
