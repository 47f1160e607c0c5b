"""Who is mined, with which tokens. A token stored for a user wakes what waited for it, and only that (rule 17)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

from pydantic import SecretStr
from sqlalchemy.engine import Connection

from pipeline.errors import ConfigurationError, PipelineError
from pipeline.feeds.base import Feed
from pipeline.miners.plan import Plans
from pipeline.sources import SOURCES
from pipeline.storage import directory, tokens, transitions
from pipeline.storage.database import Database
from pipeline.storage.flush import Flusher
from pipeline.storage.outbox import Held
from pipeline.storage.tokens import TokenKeys
from pipeline.storage.transitions import Route

MAX_USER_ID_BYTES = 64
MAX_TOKEN_CHARACTERS = 4096
BATCH = 200
"""Users of one transaction: an import of 100,000 holds the write lock for moments only."""

TOKEN_DEAD = "token-dead"  # noqa: S105 - the reason of a parked chain, not a secret


class BadUser(PipelineError):
    """Correct a user's id, token, source or priority; the text names the field, never a token."""


class NewUser(NamedTuple):
    """A user to add, or to change: what is None stays as it is."""

    user_id: str
    token: SecretStr | None = None
    source: str = "graph"
    priority: int | None = None

    def check(self) -> None:
        """Raise BadUser if a field cannot be stored."""
        if not 0 < len(self.user_id.encode()) <= MAX_USER_ID_BYTES or not self.user_id.isprintable():
            raise BadUser(f"user id {self.user_id[:80]!r}: 1 to {MAX_USER_ID_BYTES} printable characters")
        if self.user_id != self.user_id.strip():
            raise BadUser(f"user id {self.user_id!r}: space at an end")
        if self.source not in SOURCES:
            raise BadUser(f"source {self.source[:40]!r}: known are {', '.join(SOURCES)}")
        if self.priority is not None and not -32_768 <= self.priority <= 32_767:
            raise BadUser(f"priority {self.priority}: from -32768 to 32767")
        if self.token is not None:
            text = self.token.get_secret_value()
            if not 0 < len(text) <= MAX_TOKEN_CHARACTERS or not text.isascii() or not text.isprintable():
                raise BadUser(f"the token of {self.user_id!r}: 1 to {MAX_TOKEN_CHARACTERS} plain characters")


class Added(NamedTuple):
    """What adding did. `unsent` tells that the bus was out of reach: the relay rings the woken chains later."""

    users: int = 0
    tokens: int = 0
    woken: int = 0
    unsent: bool = False


class Users:
    """Adds users and stores their tokens, sealed."""

    def __init__(self, database: Database, flusher: Flusher, plans: Plans, keys: TokenKeys | None) -> None:
        self._database = database
        self._flusher = flusher
        self._plans = plans
        self._keys = keys

    async def add(self, users: Iterable[NewUser]) -> Added:
        """
        Add or change users, batch by batch; each batch is one transaction.

        Raises BadUser before anything of a batch is written, ConfigurationError if a token comes without TOKEN_KEY.
        """
        total = Added()
        for batch in _batches(users):
            held = await self._database.write("users", self._put, [(user, self._sealed(user)) for user in batch])
            added, rows = held
            sent = await self._flusher.send(rows)
            total = Added(
                total.users + added.users,
                total.tokens + added.tokens,
                total.woken + added.woken,
                total.unsent or not sent,
            )
        return total

    async def disable(self, user_id: str) -> bool:
        """Stop scheduling a user; what is under way ends by itself. False if there is no such user."""
        return await self._database.write("users", directory.disable_user, user_id)

    def _sealed(self, user: NewUser) -> bytes | None:
        user.check()
        if user.token is None:
            return None
        if self._keys is None:
            raise ConfigurationError("TOKEN_KEY is missing: tokens are stored sealed (python -m pipeline new-key)")
        return self._keys.seal(user.user_id, user.source, user.token)

    def _put(self, connection: Connection, batch: Sequence[tuple[NewUser, bytes | None]]) -> tuple[Added, list[Held]]:
        new = stored = 0
        held: list[Held] = []
        for user, sealed in batch:
            new += directory.put_user(connection, user.user_id, priority=user.priority)
            if sealed is None:
                continue
            tokens.store(connection, user.user_id, user.source, sealed)
            stored += 1
            held += transitions.wake(connection, user.user_id, TOKEN_DEAD, self._feeds_of(user.source))
        return Added(new, stored, len(held)), held

    def _feeds_of(self, source: str) -> dict[str, tuple[Feed, Route]]:
        return {name: (plan.feed, plan.route) for name, plan in self._plans.items() if plan.feed.source == source}


def _batches(users: Iterable[NewUser]) -> Iterable[Sequence[NewUser]]:
    left = iter(users)
    while batch := tuple(islice(left, BATCH)):
        yield batch
