"""State machines over real SQLite: revisions of items, and leases."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pipeline.chains.protocol import Key, Lane
from pipeline.storage import items, leases, migrate
from pipeline.storage.database import Database
from pipeline.storage.items import Candidate, Writing, deletion
from tests.fakes import ManualClock
from tests.unit.storage.candidates import candidate

KEY = Key("user", "posts", "page", Lane.MAIN)
IDS = st.sampled_from("abc")


@functools.cache
def _database() -> tuple[Database, ManualClock]:
    """One database for all runs; each run empties it."""
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="machines-", dir=memory if memory.is_dir() else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    clock = ManualClock()
    database = Database(f"sqlite:///{folder}/machines.db", threads=1, clock=clock)
    migrate.upgrade(database)
    return database, clock


class Revisions(RuleBasedStateMachine):
    """
    Observers see versions of items at instants and report them in any order, alone or in pages, with wrong hints.

    The truth's versions only grow, so what is stored last must be the latest one that was reported.
    """

    def __init__(self) -> None:
        super().__init__()
        self.database, _ = _database()
        self.database.write_here("reset", lambda connection: connection.exec_driver_sql("DELETE FROM items"))
        self.now = 0
        self.history: dict[str, list[tuple[int, str | None]]] = {}
        """id -> (since when, content or None for deleted), ascending."""
        self.reported: dict[str, int] = {}
        """id -> the latest instant at which it was observed and reported."""
        self.revisions: dict[str, int] = {}
        self.published: dict[str, list[str | None]] = {}

    def content_at(self, item: str, moment: int) -> tuple[bool, str | None]:
        """Whether the item was there at an instant, and its content."""
        found = [content for since, content in self.history.get(item, []) if since <= moment]
        return bool(found), found[-1] if found else None

    @rule(item=IDS, content=st.sampled_from(["A", "B", None]))
    def change(self, item: str, content: str | None) -> None:
        """The truth changes; A-B-A happens."""
        self.now += 1
        if content is not None or item in self.history:
            self.history.setdefault(item, []).append((self.now, content))

    @rule(found=st.lists(IDS, min_size=1, max_size=4), ago=st.integers(0, 6), known=st.sets(IDS))
    def report(self, found: list[str], ago: int, known: set[str]) -> None:
        """A page that was observed some time ago is committed now."""
        self.now += 1
        observed = max(0, self.now - ago)
        page: list[Candidate] = []
        for item in found:
            there, content = self.content_at(item, observed)
            if there:
                page.append(deletion(item, 5) if content is None else candidate(item, content))
        writing = Writing(observed, self.now, f"m{self.now}")
        accepted, _ = self.database.write_here("page", items.accept, KEY, page, writing, known=frozenset(known))
        assert len({one.item.id for one in accepted}) == len(accepted)
        for one in accepted:
            item = one.item.id
            assert one.revision == self.revisions.get(item, 0) + 1, "S5: revisions grow by one"
            self.revisions[item] = one.revision
            content = None if one.item.deleted else str((one.item.raw or {})["message"])
            before = self.published.setdefault(item, [])
            assert not before or before[-1] != content, "an unchanged item was published"
            before.append(content)
        for item in {one.id for one in page}:
            there, content = self.content_at(item, observed)
            if item in self.revisions and (content is not None or item in self.published):
                self.reported[item] = max(self.reported.get(item, -1), observed)

    @invariant()
    def the_latest_observation_stands(self) -> None:
        """S5, S16: no older page overwrites a newer one, no deletion is undone by it."""
        for item, contents in self.published.items():
            if item in self.reported:
                _, expected = self.content_at(item, self.reported[item])
                assert contents[-1] == expected, (item, contents, self.reported[item], self.history[item])


class Leases(RuleBasedStateMachine):
    """Holders that sleep, die and come back; at each instant at most one of them may write."""

    def __init__(self) -> None:
        super().__init__()
        self.database, self.clock = _database()
        self.database.write_here("reset", lambda connection: connection.exec_driver_sql("DELETE FROM leases"))
        self.tokens: dict[str, int] = {}
        """What each holder believes."""
        self.until: dict[str, int] = {}
        self.greatest = 0

    @rule(holder=IDS, seconds=st.integers(1, 20))
    def acquire(self, holder: str, seconds: int) -> None:
        """A holder asks."""
        token = self.database.write_here("lease", leases.acquire, "lease", holder, seconds=seconds)
        others = [other for other, until in self.until.items() if other != holder and until > self.clock.now]
        if others:
            assert token is None
            return
        assert token is not None
        kept = self.until.get(holder, 0) > self.clock.now
        assert token == self.greatest if kept else token > self.greatest
        self.greatest = token
        self.tokens[holder], self.until[holder] = token, self.clock.now + seconds * 1_000_000

    @rule(holder=IDS)
    def release(self, holder: str) -> None:
        """A holder gives back what it believes to hold."""
        token = self.tokens.get(holder)
        if token is not None:
            done = self.database.write_here("lease", leases.release, "lease", holder, token)
            assert done == (token == self.greatest)
            if done:
                self.until[holder] = 0

    @rule(seconds=st.integers(1, 15))
    def time(self, seconds: int) -> None:
        """Time passes; a holder may sleep through it."""
        self.clock.advance(seconds)

    @invariant()
    def only_the_newest_number_may_write(self) -> None:
        """S15: a write with an old number changes nothing."""
        for holder, token in self.tokens.items():
            held = self.database.read_here(leases.holds, "lease", holder, token)
            assert held == (token == self.greatest)


Revisions.TestCase.settings = settings(max_examples=120, stateful_step_count=25, deadline=None)
Leases.TestCase.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
TestRevisions = Revisions.TestCase
TestLeases = Leases.TestCase
