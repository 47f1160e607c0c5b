"""
Recovery: the plan (chain, reason, action, priority, estimate), and carrying it out.

What needs no person is left to the ticks and the watchdog; the plan says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from pipeline.chains.protocol import MICROS, Chain, Key, State
from pipeline.miners.plan import Plan, Plans
from pipeline.operations.words import span
from pipeline.settings import Settings
from pipeline.storage import recovery
from pipeline.storage.database import Database
from pipeline.storage.flush import Flusher
from pipeline.storage.outbox import Held
from pipeline.storage.recovery import Situation, Stuck

SILENT_MICROS = 15 * 60 * MICROS
MAX_STEPS = 2_000
"""Chains of one run, halted ones first; the next run goes on."""


class Action(StrEnum):
    """What the recovery does with a chain."""

    REOPEN = "reopen"  # halted: a new epoch over what coverage leaves open
    RING = "ring"  # live, but silent for a quarter of an hour
    WAKE = "wake"  # parked for a reason that is over
    WAIT = "wait"  # nothing to do: it goes on by itself, or something else must come first


@dataclass(frozen=True, kw_only=True)
class Step:
    """One chain of the plan. `estimate_seconds` is pages left times the time a page took; None if nothing tells."""

    key: Key
    state: str
    reason: str
    last_error: str
    action: Action
    why: str
    priority: int
    pages_left: int | None
    estimate_seconds: float | None


def plan_recovery(situation: Situation, plans: Plans, settings: Settings) -> list[Step]:
    """Decide for each chain. Pure."""
    return [_step(one, situation, plans.get(one.chain.key.feed), settings) for one in situation.stuck]


def _step(one: Stuck, situation: Situation, plan: Plan | None, settings: Settings) -> Step:
    action, why = _decide(one.chain, situation, plan, settings)
    pages, seconds = estimate(one.chain)
    return Step(
        key=one.chain.key,
        state=one.chain.state.value,
        reason=one.chain.reason,
        last_error=one.last_error,
        action=action,
        why=why,
        priority=one.priority,
        pages_left=pages,
        estimate_seconds=seconds,
    )


def _decide(chain: Chain, situation: Situation, plan: Plan | None, settings: Settings) -> tuple[Action, str]:
    if plan is None:
        return Action.WAIT, "its feed is not enabled"
    if chain.state is State.HALTED:
        return Action.REOPEN, "stopped; begins again with what is not proven"
    if chain.state is State.OPEN:
        return Action.RING, "silent, though nothing keeps it"
    late = situation.now - max(chain.not_before, chain.rung_at)
    match chain.reason:
        case "token-dead":
            live = (chain.key.user_id, plan.feed.source) in situation.live_tokens
            return (Action.WAKE, "a token that works is stored") if live else (Action.WAIT, "needs a new token")
        case "brake":
            braked = {"*", chain.key.feed} & situation.brakes
            return (Action.WAIT, "the brake is still on") if braked else (Action.WAKE, "the brake is released")
        case "backpressure":
            behind = (
                situation.backlog.rows > settings.outbox_max_rows or situation.backlog.bytes > settings.outbox_max_bytes
            )
            return (Action.WAIT, "the outbox is still full") if behind else (Action.WAKE, "the store has caught up")
    if late > SILENT_MICROS:
        return Action.RING, "its time came, and nobody rang"
    left = (chain.not_before - situation.now) / MICROS
    return Action.WAIT, f"goes on by itself in {span(left)}" if left > 0 else "goes on by itself any moment"


def estimate(chain: Chain) -> tuple[int | None, float | None]:
    """Give pages left and seconds for them, by this epoch's own pace; None without a pace or a lower end."""
    if not chain.pages or chain.position is None or not chain.lo:
        return None, None
    passed, left = chain.hi - chain.position.time, chain.position.time - chain.lo
    if passed <= 0 or left <= 0:
        return None, None
    pages = -(-left * chain.pages // passed)
    per_page = max(0, chain.committed_at - chain.opened_at) / MICROS / chain.pages
    return pages, pages * per_page


class Recovery:
    """Makes plans and carries them out."""

    def __init__(self, database: Database, flusher: Flusher, plans: Plans, settings: Settings) -> None:
        self._database = database
        self._flusher = flusher
        self._plans = plans
        self._settings = settings

    async def plan(self, *, user: str | None = None, feed: str | None = None) -> list[Step]:
        """Read the situation and decide."""
        situation = await self._database.read(
            recovery.read, silent_micros=SILENT_MICROS, limit=MAX_STEPS, user=user, feed=feed
        )
        return plan_recovery(situation, self._plans, self._settings)

    async def carry_out(self, steps: Iterable[Step]) -> Counter[str]:
        """Do what the plan says, one transaction a chain; what changed meanwhile is left alone and counted so."""
        done: Counter[str] = Counter()
        for step in steps:
            if step.action is Action.WAIT:
                done[Action.WAIT.value] += 1
                continue
            held = await self._act(step, self._plans[step.key.feed])
            if held is None:
                done["overtaken"] += 1
                continue
            await self._flusher.send(held)
            done[step.action.value] += 1
        return done

    async def _act(self, step: Step, plan: Plan) -> list[Held] | None:
        match step.action:
            case Action.REOPEN:
                return await self._database.write(
                    "recover", recovery.reopen, step.key, plan.feed, plan.rules, plan.route
                )
            case Action.RING:
                return await self._database.write("recover", recovery.ring, step.key, plan.feed, plan.route)
            case _:
                return await self._database.write(
                    "recover", recovery.wake, step.key, step.reason, plan.feed, plan.route
                )
