"""Why has this user no data? Each chain's state in plain words: covered to, gaps, last page, waiting for what, next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pipeline.chains.protocol import MICROS, Chain, State
from pipeline.feeds.base import ChildOf, Discovered
from pipeline.miners.plan import Plan
from pipeline.operations import completeness
from pipeline.operations.schedules import next_due
from pipeline.operations.words import clock, item_moment, moment, plural, span
from pipeline.settings import Settings
from pipeline.storage.reports import ChainStory, UserStory, UserToken

WAITS = {
    "throttled": "the API's call limit",
    "api-down": "the API, which is down or too slow",
    "token-dead": "a working token",
    "brake": "the brake to be released",
    "backpressure": "the store to catch up",
    "settling": "new items to have had time to become visible",
    "report": "the API to finish a report",
}
"""What a parked chain waits for, by its reason."""

STOPS = {
    "no-progress": "many pages in a row brought nothing new: the API loops or repeats itself",
    "restarts": "the listing had to be restarted from the top too often",
    "page-cap": "it passed the greatest number of pages of one traversal",
    "page kills its worker": "three deliveries in a row died on one page without a commit",
    "report fails": "the API failed the report again and again",
    "too much data at limit 1": "the API refuses even a page of one item as too large",
}
"""Why a halted chain stopped, by its reason."""

SILENT_LOCKS = 2
MAX_GAPS = 20


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Item time that is not proven; `since` None means from the beginning."""

    since: datetime | None
    until: datetime | None


@dataclass(frozen=True, kw_only=True)
class ChainReport:
    """One chain in plain words, and the same as data."""

    feed: str
    scope: str
    scope_name: str
    lane: str
    state: str
    reason: str
    covered_to: datetime | None
    open_gaps: list[Gap]
    last_page_at: datetime | None
    pages: int
    items: int
    last_error: str
    waiting_for: str
    until: datetime | None
    next_step: str
    words: str


@dataclass(frozen=True, kw_only=True)
class FeedReport:
    """One feed of the user: what keeps it from being mined at all, and its chains."""

    feed: str
    on: bool
    obstacles: list[str]
    next_run: datetime | None
    finished: int
    """Chains that are done."""
    chains: list[ChainReport]


@dataclass(frozen=True, kw_only=True)
class UserReport:
    """The whole answer."""

    user: str
    at: datetime | None
    known: bool
    active: bool
    verdict: str
    feeds: list[FeedReport]
    more_chains: bool


def explain(user_id: str, story: UserStory, plans: Iterable[Plan], settings: Settings) -> UserReport:
    """Put what the store holds about a user into words. Pure."""
    feeds = [_feed(user_id, story, plan, settings) for plan in plans]
    known = bool(story.tokens)
    active = known and story.tokens[0].state == "active"
    return UserReport(
        user=user_id,
        at=moment(story.now),
        known=known,
        active=active,
        verdict=_verdict(user_id, story, feeds, known=known, active=active),
        feeds=feeds,
        more_chains=story.more_chains,
    )


def _verdict(user_id: str, story: UserStory, feeds: Sequence[FeedReport], *, known: bool, active: bool) -> str:
    if not known and not any(feed.chains or feed.finished for feed in feeds):
        return f"There is no user {user_id!r}: add it with `users add {user_id} --token-stdin`."
    if not active:
        return f"The user is disabled: no tick reaches it. `users add {user_id}` makes it active again."
    chains = [chain for feed in feeds for chain in feed.chains]
    halted = sum(chain.state == State.HALTED for chain in chains)
    waiting = sum(chain.state == State.PARKED for chain in chains)
    running = sum(chain.state == State.OPEN for chain in chains)
    obstacles = [words for feed in feeds for words in feed.obstacles]
    if halted:
        return f"{plural(halted, 'chain')} stopped and left gaps; see below, then `recover --dry-run`."
    if obstacles:
        return obstacles[0]
    if waiting or running:
        return f"{plural(running, 'chain')} at work, {waiting:,} waiting; nothing needs a person."
    return "Everything that was asked for is complete; the next ticks bring what is new."


def _feed(user_id: str, story: UserStory, plan: Plan, settings: Settings) -> FeedReport:
    mine = [one for one in story.chains if one.chain.key.feed == plan.feed.name]
    done = sum(one.chain.state is State.DONE for one in mine)
    child = isinstance(plan.feed.scope, ChildOf)
    schedule = settings.schedules.get(plan.feed.schedule_setting, plan.feed.schedule)
    next_run = moment(next_due(schedule, story.now))
    # Thousands of finished comment scopes are one number; those of few scopes are told one by one.
    told = [one for one in mine if not (child and one.chain.state is State.DONE)]
    return FeedReport(
        feed=plan.feed.name,
        on=True,
        obstacles=_obstacles(user_id, story, plan, settings, chains=len(mine)),
        next_run=next_run,
        finished=done,
        chains=[_chain(user_id, story, plan, one, settings, next_run) for one in told],
    )


def _obstacles(user_id: str, story: UserStory, plan: Plan, settings: Settings, *, chains: int) -> list[str]:
    """Say what keeps a feed from being mined, or from having been mined yet; the gravest first."""
    found = []
    token = next((one for one in story.tokens if one.source == plan.feed.source), None)
    if story.tokens and (problem := _token_problem(user_id, token, plan.feed.source, settings)):
        found.append(problem)
    if settings.allowlist and user_id not in settings.allowlist:
        found.append("MINING_USER_ALLOWLIST is set and does not name the user: no tick reaches it.")
    for name in ("*", plan.feed.name):
        if name in story.brakes:
            what = "all feeds" if name == "*" else name
            found.append(f"The brake is on for {what}: {story.brakes[name] or 'no reason given'}.")
    if isinstance(plan.feed.scope, Discovered) and not story.scopes.get(plan.feed.scope.kind):
        kind = plan.feed.scope.kind.replace("_", " ")
        if plan.feed.scope.kind in story.discoveries:
            found.append(f"The source shows no {kind} for this user: the token may lack the permission.")
        elif not chains:
            found.append(f"Its scopes ({kind}) were not discovered yet: the next tick does it.")
    elif not chains:
        if isinstance(plan.feed.scope, ChildOf):
            found.append(f"No {plan.feed.scope.feed} item has asked for it yet.")
        else:
            found.append(f"No tick has opened it yet; `mine {plan.feed.name} --user {user_id}` does at once.")
    return found


def _token_problem(user_id: str, token: UserToken | None, source: str, settings: Settings) -> str:
    if token is None:
        alone = settings.graph_access_token is not None and source == "graph" and settings.graph_user_id == user_id
        return (
            "" if alone else f"There is no token for {source}: `users add {user_id} --source {source} --token-stdin`."
        )
    if token.token == "dead":  # noqa: S105 - a state, not a secret
        return f"The API refused the token for {source}: `users add {user_id} --source {source} --token-stdin`."
    return ""


def _chain(
    user_id: str, story: UserStory, plan: Plan, one: ChainStory, settings: Settings, next_run: datetime | None
) -> ChainReport:
    chain, key = one.chain, one.chain.key
    covered = story.covered.get((key.feed, key.scope))
    state = completeness.of_scope(covered, plan.rules, wanted=chain.wanted, now=story.now) if covered else None
    claims = state is not None and not plan.rules.snapshot
    found = state.gaps[:MAX_GAPS] if claims and state else ()
    gaps = [Gap(since=item_moment(lo), until=item_moment(hi)) for lo, hi in found]
    waiting, until, step = _waiting(user_id, chain, story.now, settings, next_run, child=plan.rules.child)
    covered_to = item_moment(state.covered_to) if claims and state else None
    if plan.rules.snapshot and chain.state is State.DONE:
        covered_to = moment(chain.opened_at)
    kind = plan.feed.scope.kind if isinstance(plan.feed.scope, Discovered) else ""
    report = ChainReport(
        feed=key.feed,
        scope=key.scope,
        scope_name=story.scopes.get(kind, {}).get(key.scope, ""),
        lane=key.lane.value,
        state=chain.state.value,
        reason=chain.reason,
        covered_to=covered_to,
        open_gaps=gaps,
        last_page_at=moment(chain.committed_at),
        pages=one.total_pages,
        items=one.total_new,
        last_error=one.last_error,
        waiting_for=waiting,
        until=until,
        next_step=step,
        words="",
    )
    return _with_words(report, chain, story.now)


def _waiting(
    user_id: str, chain: Chain, now: int, settings: Settings, next_run: datetime | None, *, child: bool
) -> tuple[str, datetime | None, str]:
    """Give (what it waits for, until when, what happens next)."""
    tick = "the next change of its parent item" if child else f"the next tick, {clock(next_run)}"
    if chain.state is State.DONE:
        return "", None, f"nothing is due before {tick}"
    if chain.state is State.HALTED:
        again = "the watchdog then" if child else "the first tick after then"
        return f"a person, or {again}", moment(chain.not_before), "look at the reason, then `recover`"
    if chain.state is State.PARKED:
        what = WAITS.get(chain.reason, chain.reason or "its time")
        step = "it goes on by itself"
        if chain.reason == "token-dead":
            step = f"store a new token: `users add {user_id} --token-stdin`; it wakes at once"
        elif chain.reason == "brake":
            step = "release the brake, then `recover`"
        return what, moment(chain.not_before), step
    silent = now - max(chain.rung_at, chain.committed_at)
    if silent > SILENT_LOCKS * settings.lock_seconds * MICROS:
        return f"its doorbell, silent for {span(silent / MICROS)}", None, "the watchdog rings it again"
    return "its doorbell on the queue", None, "the next page"


def _with_words(report: ChainReport, chain: Chain, now: int) -> ChainReport:
    sentences = [_state_words(report, chain, now)]
    if report.covered_to:
        sentences.append(f"Complete up to {clock(report.covered_to)}.")
    if report.open_gaps:
        first = report.open_gaps[0]
        many = plural(len(report.open_gaps), "open gap")
        sentences.append(f"{many}, the oldest from {clock(first.since)} to {clock(first.until)}.")
    if report.last_page_at:
        sentences.append(f"Last page {span((now - chain.committed_at) / MICROS)} ago.")
    if report.last_error:
        sentences.append(f"Last error: {report.last_error}.")
    sentences.append(f"Next: {report.next_step}.")
    return replace(report, words=" ".join(sentences))


def _state_words(report: ChainReport, chain: Chain, now: int) -> str:
    if chain.state is State.DONE:
        gone = " because its scope is gone" if chain.reason == "scope gone" else ""
        return f"Finished{gone}."
    if chain.state is State.HALTED:
        why = STOPS.get(chain.reason, f"the API says: {chain.reason}" if chain.reason else "no reason is known")
        return f"Stopped: {why}. Tried again {_until(chain.not_before, now)}."
    if chain.state is State.PARKED:
        return f"Waits for {report.waiting_for}, {_until(chain.not_before, now)}."
    return f"At work, {plural(chain.pages, 'page')} into this traversal."


def _until(not_before: int, now: int) -> str:
    left = (not_before - now) / MICROS
    return f"in {span(left)} at the earliest" if left > 0 else "any moment"
