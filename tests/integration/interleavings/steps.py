"""Coroutines driven by hand: each `point` is a place where something else may happen first."""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from sqlalchemy.engine import Connection, Engine

from pipeline.chains.protocol import Key
from pipeline.errors import StoreUnavailable
from pipeline.storage.cache import Cache
from pipeline.storage.database import Database

R = TypeVar("R")


class Violation(AssertionError):
    """An invariant does not hold."""


class WorkerKilled(BaseException):
    """The process that works on a message is gone; nothing may catch this."""


@types.coroutine
def point(label: str) -> Generator[str, None, None]:
    """Give the scheduler the word."""
    yield label


def run_alone(work: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine to its end with nothing in between."""
    try:
        for _ in range(100_000):
            work.send(None)
    except StopIteration as ended:
        result: R = ended.value
        return result
    raise Violation("livelock: a handler never ends")


class InlineDatabase(Database):
    """
    Runs each unit in the calling thread, with a choice point before it.

    `after` is called with the unit's name after each commit. `unknown` makes the next commit's outcome unknown to the
    handler although it happened; `refuse` makes the next commit fail before it happens.
    """

    after: Callable[[str, Any], None] = staticmethod(lambda unit, result: None)
    unknown = False
    refuse = False

    async def _run(self, at_once: Callable[[Engine], R], patiently: Callable[[], R], *, now: bool) -> R:
        await point("sql")
        return patiently()

    def write_here(self, unit: str, work: Any, *args: Any, **kwargs: Any) -> Any:
        """Commit, then let the checks look."""
        if self.refuse:
            self.refuse = False
            raise StoreUnavailable("refused by the test")
        result = super().write_here(unit, work, *args, **kwargs)
        self.after(unit, result)
        if self.unknown:
            self.unknown = False
            raise StoreUnavailable("the outcome of a commit is unknown")
        return result

    def scalar(self, sql: str) -> Any:
        """Read one value, for tests."""
        return self.read_here(lambda connection: _scalar(connection, sql))


def _scalar(connection: Connection, sql: str) -> Any:
    return connection.exec_driver_sql(sql).scalar()


class HintCache(Cache):
    """Redis as the handlers see it, without a network: positives that may be flushed at any time."""

    def __init__(self) -> None:
        super().__init__(None, "test")
        self.ids: set[tuple[str, str, str]] = set()

    async def known(self, key: Key, ids: Any) -> frozenset[str]:
        """Answer from memory."""
        await point("cache")
        return frozenset(item for item in ids if (key.feed, key.scope, item) in self.ids)

    async def remember(self, key: Key, ids: Any) -> None:
        """Keep in memory."""
        await point("cache")
        self.ids |= {(key.feed, key.scope, item) for item in ids}
