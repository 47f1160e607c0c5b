"""
What an API told and implied about its budgets, and whether anybody called all the same: the oracle of 'none is made
while blocked', read off the wire and written down apart from the product.

The claim is: **no call is made before the time that an answer received before it told or implied** for one of the
budgets that the call draws on. Told: the answer's hint, five minutes at least where the API speaks in minutes.
Implied, where a full budget (refused, or 95 % used) came without a hint: five minutes, and twice the last pause, an
hour at most, while each call that finds out meets the budget full again. That ends with an answer that is no throttle,
or says that the budget is used but not up, and with an hour in which nobody asked. An outage is no such answer: it says
nothing about budgets. Between 75 and 95 %: up to a minute.

What no answer told cannot be known: a block without a hint may outlast the pause, and then the one call that finds
out is made while it runs. Such calls are counted (`met`), and their number is bound by `allowed`: three for a block of
an hour. One that met an outage found nothing out (`in_vain`), and a refusal that never arrived told nothing.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from unittest import mock

from pipeline.sources.http import Answer, Connections, NoAnswer

PAUSE, LONGEST = 5.0, 60.0
"""Minutes."""

CODES = {4: "app", 341: "app", 17: "user", 613: "user", 32: "page", 80001: "page", 80004: "ad_account",
         80000: "insights"}  # fmt: skip
OUTAGES = {1, 2}
TYPES = {"pages": "page", "ads_management": "ad_account", "ads_insights": "insights"}
DRAWS = {
    "posts": frozenset({"app", "user", "page"}),
    "ads": frozenset({"app", "user", "ad_account"}),
    "ads_clicks": frozenset({"app", "user", "insights"}),
    "transactions": frozenset({"user"}),
}
"""The budgets that a feed's calls draw on: one user reads one object here, so a kind names a budget."""
SLACK = 1e-6


class Heard(NamedTuple):
    """One call as the client made it, and the answer as the client got it."""

    asked: float
    answered: float
    answer: Answer | None


class Word(NamedTuple):
    """What one answer says about one budget: used up, used so far, seconds until it may be called again."""

    refused: bool
    percent: float
    hint: float


@dataclass
class Budget:
    """What is known of one budget."""

    not_before: float = 0.0
    since: float = 0.0
    pause: float = 0.0
    """Seconds; 0 if nothing is guessed."""
    first: float = 0.0
    met: int = 0
    unheard: bool = False
    """Whether the last call got no answer, which may have been a refusal."""


@dataclass
class Findings:
    """What the oracle has to say about a run."""

    too_early: list[str] = field(default_factory=list)
    """Calls before the time that was told or implied: there must be none."""
    met: list[tuple[str, float, int]] = field(default_factory=list)
    """Budget, minutes that it was found full without a hint, refused calls that found out."""
    surprises: int = 0
    """Refusals by a budget of which nothing was known."""
    in_vain: int = 0
    """Calls that were to find out whether a block is over, and met an outage."""

    @property
    def unknowable(self) -> int:
        """The calls that may have met a block nobody had told of."""
        return self.surprises + self.in_vain + sum(count for _, _, count in self.met)


def allowed(minutes: float) -> int:
    """So many calls may find out within so many minutes: after 5, 15, 35, 75, 135 minutes, then each hour."""
    return math.floor(math.log2(1 + minutes / PAUSE)) if minutes < 135 else 5 + math.floor((minutes - 135) / LONGEST)


@contextmanager
def wire() -> Iterator[list[Heard]]:
    """Listen to what sources call in here; nothing is changed."""
    heard: list[Heard] = []
    call = Connections.call

    async def listened(self: Connections, *args: Any, **kwargs: Any) -> Answer | NoAnswer:
        asked, answer = time.monotonic(), None
        try:
            answer = await call(self, *args, **kwargs)
            return answer
        finally:
            heard.append(Heard(asked, time.monotonic(), answer if isinstance(answer, Answer) else None))

    with mock.patch.object(Connections, "call", listened):
        yield heard


def judge(heard: list[Heard], draws: frozenset[str], *, minute: float) -> Findings:
    """Look at all calls, in the order in which things were said; `minute` is how long the API's minute lasts here."""
    findings = Findings()
    budgets = {name: Budget() for name in draws}
    asked = [(one.asked, 1, one) for one in heard]
    answered = [(one.answered, 0, one) for one in heard]
    for moment, is_call, one in sorted(asked + answered, key=lambda event: event[:2]):
        if is_call:
            for name, budget in budgets.items():
                if moment < budget.not_before - SLACK:
                    early = (budget.not_before - moment) / minute
                    findings.too_early.append(f"{name}: {early:.2f} minutes before its block's end")
            continue
        words = _words(one.answer, minute) if one.answer is not None else {}
        if _is_outage(one.answer):
            findings.in_vain += any(_finds_out(budget, one) for budget in budgets.values())
        throttled = any(word.refused for word in words.values())
        for name, budget in budgets.items():
            _hear(findings, name, budget, one, words.get(name), minute, throttled=throttled)
            budget.unheard = one.answer is None
    for name, budget in budgets.items():
        _end(findings, name, budget, budget.first, minute)
    return findings


def _finds_out(budget: Budget, one: Heard) -> bool:
    return bool(budget.pause) and one.asked >= budget.since + budget.pause - SLACK


def _hear(
    findings: Findings, name: str, budget: Budget, one: Heard, word: Word | None, minute: float, *, throttled: bool
) -> None:
    refused, percent, hint = word or Word(refused=False, percent=0.0, hint=0.0)
    now, until, full = one.answered, 0.0, refused or percent >= 95.0
    if full and not hint:
        if budget.pause and one.asked < budget.since:
            return
        known = budget.pause and now < budget.not_before + LONGEST * minute
        if not known:
            _end(findings, name, budget, now, minute)
            budget.first = now
            findings.surprises += refused
        elif refused:
            budget.met += 1
            met_for = (now - budget.first) / minute
            if budget.met > allowed(met_for):
                findings.too_early.append(f"{name}: {budget.met} calls to find out in {met_for:.1f} minutes")
        budget.pause = min(2 * budget.pause, LONGEST * minute) if known else PAUSE * minute
        budget.since, until = now, now + budget.pause
    elif full or hint:
        stopped = refused or (one.answer is not None and one.answer.status == 429)
        budget.met += stopped and _finds_out(budget, one)
        findings.surprises += stopped and budget.unheard
        _end(findings, name, budget, now, minute)
        until = now + (max(hint, PAUSE * minute) if full else hint)
    else:
        until = now + (percent - 75.0) / 20.0 * minute if percent > 75.0 else 0.0
        is_told = until > budget.not_before
        if is_told or not (throttled or _is_outage(one.answer)):
            _end(findings, name, budget, now, minute)
    budget.not_before = max(budget.not_before, until)


def _end(findings: Findings, name: str, budget: Budget, now: float, minute: float) -> None:
    if budget.met:
        findings.met.append((name, (now - budget.first) / minute, budget.met))
    budget.met, budget.pause = 0, 0.0


def _is_outage(answer: Answer | None) -> bool:
    """Whether an answer comes from something broken, on the way or behind the API, and tells nothing else."""
    if answer is None:
        return True
    if answer.status == 429:
        return False
    try:
        body = json.loads(answer.body)
    except ValueError:
        return True
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict) and "code" in error:
        if error["code"] in CODES or "reduce the amount of data" in str(error.get("message", "")):
            return False
        return answer.status >= 500 or bool(error.get("is_transient")) or error["code"] in OUTAGES
    return answer.status >= 500


def _words(answer: Answer, minute: float) -> dict[str, Word]:
    words: dict[str, Word] = {}

    def say(name: str, *, refused: bool = False, percent: float = 0.0, hint: float = 0.0) -> None:
        old = words.get(name, Word(refused=False, percent=0.0, hint=0.0))
        words[name] = Word(old.refused or refused, max(old.percent, percent), max(old.hint, hint))

    if answer.status == 429:
        retry_after = float(answer.headers.get("Retry-After", 0))
        say("user", refused=not retry_after, hint=retry_after)
    if error := _json(answer.body).get("error"):
        name = CODES.get(error.get("code", 0)) if isinstance(error, dict) else None
        if name:
            say(name, refused=True)
    say("app", percent=_load(_json(answer.headers.get("x-app-usage", ""))))
    for entries in _json(answer.headers.get("x-business-use-case-usage", "")).values():
        for entry in entries:
            hint = float(entry["estimated_time_to_regain_access"]) * minute
            say(TYPES[entry["type"]], percent=_load(entry), hint=hint)
    if insights := _json(answer.headers.get("x-fb-ads-insights-throttle", "")):
        say("app", percent=float(insights["app_id_util_pct"]))
        say("insights", percent=float(insights["acc_id_util_pct"]))
    account = _json(answer.headers.get("x-ad-account-usage", ""))
    if account:
        percent = float(account["acc_id_util_pct"])
        say("ad_account", percent=percent, hint=float(account["reset_time_duration"]) * minute / 60)
    return words


def _load(found: Mapping[str, Any]) -> float:
    return max((float(found.get(name, 0)) for name in ("call_count", "total_cputime", "total_time")), default=0.0)


def _json(text: str | bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
