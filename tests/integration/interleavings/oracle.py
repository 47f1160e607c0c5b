"""What must hold: after every transaction, at every message that reaches a topic, and when all is quiet."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.bus.messages import Outgoing
from tests.fakes import MICROS
from tests.integration.interleavings.steps import Violation

if TYPE_CHECKING:
    from tests.integration.interleavings.world import World

CHAINS = "SELECT user_id, feed, scope, lane, epoch, seq, state, position_time, opener, doorbell_id, rerings FROM chains"
Row = tuple[Any, ...]


class ChainRow(NamedTuple):
    """What the checks need of a chain."""

    epoch: int
    seq: int
    state: str
    position: int | None
    opener: int
    doorbell_id: str
    rerings: int


class Oracle:
    """Reads the database by its own statements and the world's truth; knows nothing of the pipeline's decisions."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chains: dict[tuple[str, ...], ChainRow] = {}
        self.openings: dict[tuple[tuple[str, ...], int], int] = {}
        self.received: dict[tuple[str, str, str], dict[int, int | None]] = {}
        """(user, scope, item) -> revision -> version of the content; None is a deletion."""
        self.commits = self.copies = self.reads = 0
        self.last_unit = ""

    # ------------------------------------------------------------------------------------- after each transaction

    def after(self, unit: str, result: Any) -> None:
        """Look at what a committed unit left."""
        self.last_unit = unit
        if unit == "page" and result is not None:
            self.commits += 1
        if unit == "lose" and result:
            self.copies += 1
        if unit in ("page", "open", "apply", "watch", "lose", "verify", "live"):
            self._chains()
        if unit == "page":
            self.honest()

    def _rows(self, sql: str) -> list[Row]:
        return self.world.database.read_here(lambda connection: [tuple(row) for row in connection.exec_driver_sql(sql)])

    def _chains(self) -> None:
        for *key, epoch, seq, state, position, opener, doorbell, rerings in self._rows(CHAINS):
            name, new = tuple(key), ChainRow(epoch, seq, state, position, opener, doorbell, rerings)
            old = self.chains.get(name)
            self.chains[name] = new
            if old is not None and old != new:
                self._moved(name, old, new)
            if (old is None or new.epoch > old.epoch) and name[1] != "replies":
                count = self.openings[name, new.opener] = self.openings.get((name, new.opener), 0) + 1
                if count > 1:
                    raise Violation(f"one tick opened two chains {name}")
            if (new.state in ("done", "halted")) == bool(new.doorbell_id):
                raise Violation(f"a chain that is {new.state} has doorbell {new.doorbell_id!r}")

    def _moved(self, name: tuple[str, ...], old: ChainRow, new: ChainRow) -> None:
        if new.epoch < old.epoch:
            raise Violation(f"S6: the epoch of {name} fell")
        if new.epoch > old.epoch:
            child = name[1] == "replies"
            if old.state in ("open", "parked") and not child:
                raise Violation(f"S6: {name} was opened over an open chain")
            if new.opener <= old.opener and not child:
                raise Violation(f"an older tick opened {name}")
            return
        if new.seq not in (old.seq, old.seq + 1):
            raise Violation(f"S7: {name} went from page {old.seq} to {new.seq}")
        if old.position is not None and (new.position is None or new.position > old.position):
            raise Violation(f"S7: the position of {name} rose from {old.position} to {new.position}")

    def honest(self) -> None:
        """Coverage never claims an instant at which something is, or may still appear, that is not stored (S8)."""
        stored = {(row[0], row[1]) for row in self._rows("SELECT scope, item_id FROM items")}
        spans = {row[0]: json.loads(row[1]) for row in self._rows("SELECT scope, spans FROM coverage")}
        for (scope, item_id), item in self.world.truth.items():
            if item.deleted or item.hidden or (scope, item_id) in stored:
                continue
            for lo, hi in spans.get(scope, ()):
                if lo <= item.time < hi:
                    raise Violation(f"S8: coverage [{lo}, {hi}) of {scope} lies about {item_id} at {item.time}")

    def after_watchdog(self) -> None:
        """While healing, one re-ring must bring each chain back, where the world says so."""
        if self.world.config.one_ring and any(
            row.rerings > 1 and row.state in ("open", "parked") for row in self.chains.values()
        ):
            raise Violation("a re-ring was swallowed")

    # ------------------------------------------------------------------------------------------------- what arrives

    def published(self, message: Outgoing) -> None:
        """Look at a message that reached a topic."""
        body = json.loads(zlib.decompress(message.body))
        for item in body["jsonDataArray"]:
            name = (body["userId"], body["scope"], item["id"])
            version = None if item["op"] == "delete" else item["raw"]["v"]
            revisions = self.received.setdefault(name, {})
            if item["revision"] in revisions:
                raise Violation(f"S2: {name} revision {item['revision']} was published twice")
            for revision, other in revisions.items():
                newer = revision > item["revision"]
                if version is not None and other is not None and newer != (other > version):
                    raise Violation(f"S5: {name}: content {other} is revision {revision}, {version} {item['revision']}")
            revisions[item["revision"]] = version
            truth = self.world.truth.get((body["scope"], item["id"]))
            if truth is None or truth.hidden or (version is not None and version > truth.version):
                raise Violation(f"S1: {name} was invented")
            if version is None and not truth.deleted:
                raise Violation(f"S16: {name} is not deleted")

    # ------------------------------------------------------------------------------------------------------ the end

    def calm(self) -> bool:
        """Whether nothing is under way."""
        self._chains()
        done = all(row.state == "done" for row in self.chains.values())
        return done and not self.world.slots and not self._rows("SELECT 1 FROM outbox WHERE sent_at IS NULL LIMIT 1")

    def final(self) -> None:
        """Check everything that must hold once the world is quiet."""
        if self._rows("SELECT 1 FROM outbox WHERE sent_at IS NULL LIMIT 1"):
            raise Violation("S4: the outbox is not drained")
        self._chains()
        for name, row in self.chains.items():
            if row.state != "done":
                raise Violation(f"S9: {name} is stuck: {row}")
        self._nothing_lost()
        self._ledger()
        self._calls()
        self.honest()
        if self.world.config.covered:
            self._covered()

    def _nothing_lost(self) -> None:
        world, scopes = self.world, {name[1:]: name for name in self.received}
        for (scope, item_id), item in world.truth.items():
            name = scopes.get((scope, item_id))
            if item.need is not None:
                parent = self.received.get(("u0", "u0", item.need[0]), {})
                if name is None and any((version or 0) >= item.need[1] for version in parent.values()):
                    raise Violation(f"lost reply {item_id} of {scope}")
                continue
            if item.deleted or item.hidden:
                continue
            if name is None:
                raise Violation(f"S4: lost item {item_id} of {scope} at {item.time}")
            revisions = self.received[name]
            if world.config.final_content and revisions[max(revisions)] != item.version:
                raise Violation(f"stale: {name} is at {revisions}, the truth at {item.version}")
        if world.config.final_content:
            for name, revisions in self.received.items():
                if world.truth[name[1:]].deleted and revisions[max(revisions)] is not None:
                    raise Violation(f"{name} was deleted, nobody was told: {revisions}")

    def _ledger(self) -> None:
        """Stored and published are the same, revision by revision; the counters account for all that was received."""
        stored = {tuple(row[:3]): row[3] for row in self._rows("SELECT user_id, scope, item_id, revision FROM items")}
        for name, revision in stored.items():
            if set(self.received.get(name, ())) != set(range(1, revision + 1)):
                raise Violation(f"S4: {name} is stored at revision {revision}, published {self.received.get(name)}")
        for name in self.received:
            if name not in stored:
                raise Violation(f"S3: {name} was published, never stored")
        if self.world.config.cache:
            for _, scope, item_id in self.world.cache.ids:
                if not any(key[1:] == (scope, item_id) for key in stored):
                    raise Violation(f"S12: the cache knows {item_id} of {scope}, the database does not")
        new, changed = self._rows("SELECT coalesce(sum(total_new), 0), coalesce(sum(total_changed), 0) FROM chains")[0]
        if not self.world.config.stored and not self.reads and new != len(stored):
            raise Violation(f"S14: counted {new} new items, stored {len(stored)}")
        if not self.world.config.stored and not self.reads and new + changed != sum(map(len, self.received.values())):
            raise Violation(f"S14: counted {new} new and {changed} changed items, published otherwise")

    def _calls(self) -> None:
        world, config = self.world, self.world.config
        surplus = world.calls - self.commits
        if config.most_wasted is not None and surplus > config.most_wasted + self.copies:
            raise Violation(f"S11: {surplus} calls brought no page, {self.copies} copies")
        if config.most_calls is not None and world.calls > config.most_calls:
            raise Violation(f"S11: {world.calls} calls")
        if config.most_reads is not None and self.reads > config.most_reads:
            raise Violation(f"S11: {self.reads} items were read by id")
        if config.most_wasted == 0 and config.workers and world.dropped:
            raise Violation(f"{world.dropped} messages were sent twice without a fault")

    def _covered(self) -> None:
        oldest = self.world.clock.now // MICROS - 24 * 60
        spans = {row[0]: json.loads(row[1]) for row in self._rows("SELECT user_id, spans FROM coverage")}
        for user in range(self.world.config.users):
            covered = spans.get(f"u{user}", [])
            if not covered or covered[0][0] > 0 or covered[0][1] < min(oldest, covered[0][1] + 1):
                raise Violation(f"the history of u{user} is not covered: {covered}")
