"""
Work on one mining message: a tick opens chains, a doorbell fetches pages. See `docs/protocol.md` for the table.

Raising is for bugs and lost infrastructure only; everything foreseeable ends in a completed message plus a row.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sqlalchemy.engine import Connection

from pipeline import telemetry
from pipeline.bus.messages import MiningMessage, Received, decode_mining
from pipeline.chains import ids, protocol
from pipeline.chains.protocol import MICROS, Chain, Change, Key, Lane, Look, PageFacts
from pipeline.errors import BadMessage, NewerMessage, StoreUnavailable
from pipeline.feeds.base import ChildOf
from pipeline.miners import outcomes
from pipeline.miners.copies import Copies
from pipeline.miners.outcomes import Ended
from pipeline.miners.plan import Plan, Plans
from pipeline.miners.pressure import Pressure
from pipeline.miners.scopes import NoScopes, Scopes
from pipeline.processors.data_messages import Unencodable, encode
from pipeline.processors.read_items import ReadPage, read_item, read_page
from pipeline.settings import Settings
from pipeline.sources.base import Fault, FaultKind, Page, PageRequest, Pending, Position, Source, Token
from pipeline.storage import chains, children, outbox, pages, transitions
from pipeline.storage.cache import Cache
from pipeline.storage.children import Child
from pipeline.storage.database import Database
from pipeline.storage.flush import Flusher
from pipeline.storage.items import Candidate, deletion, not_returned
from pipeline.storage.outbox import Held
from pipeline.storage.pages import Committed, PageWork
from pipeline.storage.quarantine import Bad
from pipeline.storage.tokens import SealedToken, SqlTokens, read_sealed
from pipeline.storage.transitions import Looked, Tick

log = logging.getLogger(__name__)

MAX_SEEKS = 3
"""Requests for one page: the cursor, the re-seek, the top."""

SWEPT_PARENTS = 50
"""Child scopes that one tick of a child feed visits for one user."""

SKEW_SECONDS = 1
"""How far the API's clock may be ahead of the database's when a parent counts a child (rule 14)."""

VERIFY_ITEMS = 50
"""Items that one refresh reads by id because its listing did not return them; the next refresh goes on."""

Secret = Callable[[str, str, SealedToken | None], Token | None]


@dataclass(frozen=True, kw_only=True)
class Miner:
    """Everything a mining message needs. `clock` is this process's monotonic time, for budgets only."""

    database: Database
    flusher: Flusher
    sources: dict[str, Source]
    tokens: SqlTokens
    secret: Secret
    plans: Plans
    scopes: Scopes
    copies: Copies
    cache: Cache
    pressure: Pressure
    settings: Settings
    clock: Callable[[], float] = time.monotonic

    async def handle(self, received: Received) -> Ended:
        """Work on one message of a mining queue; returning completes it."""
        try:
            message = decode_mining(received.body)
            plan = self._plan(message)
        except NewerMessage as error:
            await self.copies.put_off(received, seconds=60, why=str(error))
            return Ended.POSTPONED
        except BadMessage as error:
            await self.copies.quarantine(received, error)
            return Ended.QUARANTINED
        attributes = {"feed": message.feed, "user": message.user_id, "correlation_id": message.correlation_id}
        with telemetry.span("mine", attributes):
            try:
                ended = await self._work(plan, message, received)
            except StoreUnavailable as error:
                await self.copies.put_off_growing(received, why=str(error))
                ended = Ended.POSTPONED
        telemetry.count("pipeline.outcomes", feed=message.feed, outcome=ended.value)
        return ended

    def _plan(self, message: MiningMessage) -> Plan:
        plan = self.plans.get(message.feed)
        if plan is None:
            raise BadMessage("unknown-feed", message.feed)
        return plan

    async def _work(self, plan: Plan, message: MiningMessage, received: Received) -> Ended:
        await self.pressure.note_wait(received)
        if message.is_tick:
            return await self._tick(plan, message, received)
        key = Key(message.user_id, message.feed, message.scope, Lane(message.lane))
        again = message.attempt > 0
        return await self._ring(plan, key, message.doorbell_id, again=again, crashed=received.seen_before)

    # ------------------------------------------------------------------------------------------------------ ticks

    async def _tick(self, plan: Plan, message: MiningMessage, received: Received) -> Ended:
        """Treat each (scope, lane) of the user by the table; the first chain opened is mined under this message."""
        if isinstance(plan.feed.scope, ChildOf):
            return await self._sweep(plan, message, plan.feed.scope.feed)
        found = await self.scopes.of(plan.feed, message.user_id)
        if isinstance(found, NoScopes):
            if found.retry_seconds:
                await self.copies.put_off(received, seconds=found.retry_seconds, why=found.why)
                return Ended.POSTPONED
            log.warning("no scopes of user %s for %s: %s", message.user_id, plan.feed.name, found.why)
            return Ended.NOTHING
        tick = _tick_of(message)
        lanes = (Lane.BACKFILL,) if tick.ordered else plan.rules.lanes
        keys = [Key(message.user_id, plan.feed.name, scope, lane) for scope in found for lane in lanes]
        mine: list[Key] = []  # two, if an earlier delivery opened one before the other was due
        held: list[Held] = []
        for key in await self._to_open(plan, keys, tick, redelivered=received.seen_before):
            doorbell = ids.lane_doorbell(tick.tick_id, key.scope, key.lane) if mine else None
            opening = await self.database.write(
                "open",
                transitions.open_by_tick,
                key,
                plan.feed,
                plan.rules,
                tick,
                plan.route,
                lane_doorbell=doorbell,
            )
            held += opening.held
            if opening.mine:
                mine.append(key)
        if received.seen_before:
            held = await self._left_over(keys)
        ended = Ended.NOTHING
        for key in mine:
            ended = await self._ring(plan, key, tick.tick_id, again=False, crashed=received.seen_before)
        # Only now, so that the other lanes begin below what this one has proven.
        await self.flusher.send(held)
        return ended

    async def _sweep(self, plan: Plan, message: MiningMessage, parent_feed: str) -> Ended:
        """Want the child scopes that nobody visited for long; a child feed's tick opens nothing else."""
        before = await self.database.now() - plan.rules.sweep_every * MICROS
        parents = await self.database.read(
            children.due_for_sweep,
            message.user_id,
            parent_feed,
            plan.feed.name,
            opened_before=before,
            limit=SWEPT_PARENTS,
        )
        child = Child(plan.feed, plan.rules, plan.queue)
        for parent in parents:
            held = await self.database.write("sweep", children.sweep, message.user_id, child, parent, SKEW_SECONDS)
            await self.flusher.send(held)
        return Ended.DONE if parents else Ended.NOTHING

    async def _to_open(self, plan: Plan, keys: Sequence[Key], tick: Tick, *, redelivered: bool) -> list[Key]:
        """Give the chains with anything to do, one that this very tick opened before first."""

        def choose(connection: Connection) -> list[Key]:
            return [key for key in keys if transitions.would_open(connection, key, plan.feed, plan.rules, tick)]

        chosen = await self.database.read(choose)
        if not redelivered:
            return chosen

        def opened_by_me(connection: Connection) -> set[Key]:
            rows = {key: chains.read(connection, key)[0] for key in chosen}
            return {key for key, row in rows.items() if row and row.live and row.doorbell_id == tick.tick_id}

        first = await self.database.read(opened_by_me)
        return sorted(chosen, key=lambda key: key not in first)

    async def _left_over(self, keys: Sequence[Key]) -> list[Held]:
        """Give all that the outbox still holds for these chains: an earlier delivery may have died before sending."""

        def read(connection: Connection) -> list[Held]:
            return [held for key in keys for held in outbox.of_chain(connection, key)]

        return await self.database.read(read)

    # --------------------------------------------------------------------------------------------------- doorbells

    async def _ring(self, plan: Plan, key: Key, doorbell_id: str, *, again: bool, crashed: bool) -> Ended:
        """Fetch pages while the doorbell is live and the budget lasts, then send what the commits froze."""
        held: list[Held] = []
        if again or crashed:
            held += await self._left_over([key])
        ended = await self._pages(plan, key, doorbell_id, held, again=again)
        if ended is Ended.STALE and not held:
            held += await self._left_over([key])
        await self.flusher.send(held)
        return ended

    async def _pages(self, plan: Plan, key: Key, doorbell_id: str, held: list[Held], *, again: bool) -> Ended:
        started = self.clock()
        expected: Chain | None = None
        context: Mapping[str, Any] = {}
        for page_number in range(1, self.settings.pages_per_message + 1):
            looked = await self._look(plan, key, doorbell_id, first=page_number == 1, again=again)
            context = looked.context or context
            if expected and not _same_place(looked.chain, expected):
                return await self._lost(plan, key, doorbell_id, held)
            if looked.verdict is Look.STALE or looked.chain is None:
                telemetry.count("pipeline.stale", feed=key.feed)
                return Ended.STALE
            if looked.verdict is Look.EARLY:
                unit = transitions.ring_when_due
                held += await self.database.write("lose", unit, key, doorbell_id, plan.feed, plan.route)
                return Ended.EARLY
            ready = await self._ready(plan, looked, looked.chain)
            if not isinstance(ready, Token):
                return await self._apply(plan, looked.chain, ready, held)
            page = await self._fetch(plan, looked, looked.chain, ready)
            if not isinstance(page, _Fetched):
                return await self._apply(plan, looked.chain, page.change, held, calls=page.calls, error=page.error)
            spent = self.clock() - started
            last = page_number == self.settings.pages_per_message
            yielding = last or spent > self.settings.message_time_budget_seconds
            committed = await self._commit(plan, looked, page, context, yielding=yielding)
            if committed is None:
                return await self._lost(plan, key, doorbell_id, held)
            held += committed.held
            if committed.chain.doorbell_id != doorbell_id:
                return await self._left(plan, looked.chain, committed.chain, held)
            expected = committed.chain
        raise AssertionError("the last page always yields")

    async def _look(self, plan: Plan, key: Key, doorbell_id: str, *, first: bool, again: bool) -> Looked:
        if first and again:
            return await self.database.write("look", transitions.look_again, key, doorbell_id, plan.feed)
        return await self.database.read(transitions.look, key, doorbell_id, plan.feed, with_context=first)

    async def _ready(self, plan: Plan, looked: Looked, chain: Chain) -> Token | Change:
        """Give the token to fetch with, or the change that parks the chain before any call is made."""
        settings, now = self.settings, looked.now
        if looked.brake:
            return _park(chain, now, settings.brake_recheck_seconds, "brake")
        if reason := await self.pressure.reason():
            log.info("%s waits: %s", chain.key, reason)
            return _park(chain, now, settings.backpressure_seconds, "backpressure")
        token = self.secret(chain.key.user_id, plan.feed.source, looked.token)
        if token is None:
            version = looked.token.version if looked.token else 0
            return _park(chain, now, settings.token_recheck_seconds, "token-dead", token_version=version)
        return token

    async def _fetch(self, plan: Plan, looked: Looked, chain: Chain, token: Token) -> _Fetched | _Stopped:
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
                return _Fetched(replace(answer, calls=calls), restarted)
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

    def _staged(self, looked: Looked, chain: Chain, pending: Pending) -> _Stopped:
        until = looked.now + int(pending.wait * MICROS)
        change = protocol.stage(chain, pending.cursor, until=until, now=looked.now, nonce=pages.nonce())
        return _Stopped(change, pending.calls, pending.detail)

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
    ) -> _Stopped:
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
        return _Stopped(change, calls, error)

    async def _commit(
        self, plan: Plan, looked: Looked, fetched: _Fetched, context: Mapping[str, Any], *, yielding: bool
    ) -> Committed | None:
        commit = partial(self._commit_read, plan, looked, fetched, context, yielding=yielding)
        try:
            return await commit(measure=False)
        except Unencodable as error:
            log.warning("%s: %s; its items are looked at one by one", looked.chain and looked.chain.key, error)
            return await commit(measure=True)

    async def _commit_read(
        self,
        plan: Plan,
        looked: Looked,
        fetched: _Fetched,
        context: Mapping[str, Any],
        *,
        measure: bool,
        yielding: bool,
    ) -> Committed | None:
        assert looked.chain
        chain, page, key = looked.chain, fetched.page, looked.chain.key
        read = read_page(plan.feed, page.items, observed=looked.now, context=context, measure=measure)
        known = await self._known(key, read)
        facts = PageFacts(
            protocol.Position(*read.last) if read.last else None, page.cursor, restarted=fetched.restarted
        )
        started = self.clock()
        committed = await self.database.write(
            "page",
            pages.commit_page,
            PageWork(
                chain=chain,
                feed=plan.feed,
                rules=plan.rules,
                route=plan.route,
                candidates=read.candidates,
                bad=read.bad,
                facts=facts,
                observed=looked.now,
                yielding=yielding,
                encode=lambda accepted, nonce: encode(plan.feed, plan.topic, chain, accepted, nonce),
                calls=page.calls,
                known=known,
                children=plan.children,
                wants_children=plan.wants_children,
            ),
        )
        telemetry.record("pipeline.commit.duration", self.clock() - started, feed=key.feed)
        if committed is not None:
            await self._note(plan, key, read, committed, looked.now)
        return committed

    async def _known(self, key: Key, read: ReadPage) -> frozenset[str]:
        """Ask the cache, for lanes that meet items again; history is new anyway."""
        if key.lane is Lane.GAP:
            return frozenset()
        return await self.cache.known(key, [item.id for item in read.candidates])

    async def _note(self, plan: Plan, key: Key, read: ReadPage, committed: Committed, now: int) -> None:
        if key.lane is not Lane.GAP:
            await self.cache.remember(key, [item.id for item in read.candidates])
        telemetry.count("pipeline.pages", feed=key.feed, lane=key.lane.value)
        for outcome, amount in (
            ("new", committed.new),
            ("changed", committed.changed),
            ("duplicate", committed.duplicate),
            ("quarantined", len(read.bad)),
        ):
            telemetry.count("pipeline.items", amount, feed=key.feed, outcome=outcome)
        if committed.new and read.candidates and key.lane is Lane.MAIN:
            newest = max(item.time for item in read.candidates)
            telemetry.record("pipeline.freshness", max(0.0, now / MICROS - newest), feed=key.feed)
        for bad in read.bad:
            telemetry.count("pipeline.quarantined", feed=key.feed, reason=bad.reason)
        log.info(
            "%s page %d: %d new, %d changed, %d duplicate, %d quarantined",
            key,
            committed.chain.seq,
            committed.new,
            committed.changed,
            committed.duplicate,
            len(read.bad),
        )

    async def _lost(self, plan: Plan, key: Key, doorbell_id: str, held: list[Held]) -> Ended:
        """Leave a copy of the doorbell if it is still live: this delivery lost to its twin (rule 7)."""
        telemetry.count("pipeline.lost", feed=key.feed)
        lock = int(self.settings.lock_seconds * MICROS)
        held += await self.database.write("lose", transitions.lose, key, doorbell_id, plan.feed, plan.route, lock)
        return Ended.LOST

    async def _apply(
        self, plan: Plan, chain: Chain, change: Change, held: list[Held], *, calls: int = 0, error: str = ""
    ) -> Ended:
        rows = await self.database.write(
            "apply", transitions.apply, chain, change, plan.feed, plan.route, calls=calls, error=error
        )
        if rows is None:
            return await self._lost(plan, chain.key, chain.doorbell_id, held)
        held += rows
        if change.chain.state is protocol.State.PARKED:
            telemetry.count("pipeline.parked", feed=chain.key.feed, reason=change.chain.reason)
            return Ended.PARKED
        if change.chain.state is protocol.State.HALTED:
            telemetry.count("pipeline.halted", feed=chain.key.feed, reason=change.chain.reason)
            return Ended.HALTED
        return Ended.YIELDED if change.chain.live else Ended.CLOSED

    async def _left(self, plan: Plan, before: Chain, after: Chain, held: list[Held]) -> Ended:
        """Say how a commit that took the doorbell away ended; a finished refresh looks for deletions."""
        if after.state is protocol.State.HALTED:
            telemetry.count("pipeline.halted", feed=after.key.feed, reason=after.reason)
            return Ended.HALTED
        if after.live and after.epoch == before.epoch:
            return Ended.YIELDED
        if plan.rules.ordered and plan.rules.marks(after.key.lane):
            held += await self._verify(plan, before)
        return Ended.DONE

    async def _verify(self, plan: Plan, chain: Chain) -> list[Held]:
        """
        Read by id what a finished refresh did not return; what is gone becomes a tombstone (rule 16).

        A crash in between loses nothing: the next refresh misses the same items again.
        """
        missing = await self.database.read(
            not_returned, chain.key, mark=protocol.mark_of(chain), lo=chain.lo, hi=chain.hi, limit=VERIFY_ITEMS
        )
        if not missing:
            return []
        now = await self.database.now()
        source = self.sources[plan.feed.source]
        sealed = await self.database.read(read_sealed, chain.key.user_id, plan.feed.source)
        token = self.secret(chain.key.user_id, plan.feed.source, sealed)
        found: list[Candidate] = []
        bad: list[Bad] = []
        for item_id, moment in missing if token else ():
            assert token
            answer = await source.fetch_item(plan.feed, chain.key.user_id, chain.key.scope, item_id, token)
            if isinstance(answer, Fault):
                if answer.kind is not FaultKind.GONE:
                    break
                found.append(deletion(item_id, moment))
            else:
                item = read_item(plan.feed, answer, observed=now)
                (found if isinstance(item, Candidate) else bad).append(item)  # type: ignore[arg-type]  # one of the two
        return await self.database.write(
            "verify",
            pages.commit_items,
            chain,
            plan.feed,
            found,
            bad,
            now,
            lambda accepted, nonce: encode(plan.feed, plan.topic, chain, accepted, nonce),
        )


@dataclass(frozen=True)
class _Fetched:
    page: Page
    restarted: bool


@dataclass(frozen=True)
class _Stopped:
    change: Change
    calls: int
    error: str


def _tick_of(message: MiningMessage) -> Tick:
    ordered = None
    if message.start_date is not None and message.end_date is not None:
        ordered = (message.start_date, message.end_date)
    return Tick(message.doorbell_id, message.tick, message.correlation_id, ordered)


def _same_place(found: Chain | None, expected: Chain) -> bool:
    return found is not None and (found.epoch, found.seq, found.doorbell_id) == (
        expected.epoch,
        expected.seq,
        expected.doorbell_id,
    )


def _park(chain: Chain, now: int, seconds: float, reason: str, *, token_version: int = 0) -> Change:
    until = now + int(seconds * MICROS)
    return protocol.park(chain, until=until, reason=reason, now=now, nonce=pages.nonce(), token_version=token_version)
