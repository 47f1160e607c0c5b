"""Which scopes a user has for a feed: the user itself, or what the source's discovery finds, kept in SQL for a day."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pipeline.chains.protocol import Key
from pipeline.feeds.base import ChildOf, Discovered, Feed
from pipeline.settings import Settings
from pipeline.sources.base import Fault, FaultKind, Source
from pipeline.storage import directory
from pipeline.storage.database import Database
from pipeline.storage.directory import ScopeRow
from pipeline.storage.tokens import SqlTokens, read_sealed

if TYPE_CHECKING:
    from pipeline.miners.tools import Secret


class NoScopes(NamedTuple):
    """Why nothing can be said; `retry_seconds` 0 leaves it to the next tick."""

    why: str
    retry_seconds: float = 0.0


class Scopes:
    """Resolves scopes, before any transaction."""

    def __init__(
        self, database: Database, sources: dict[str, Source], tokens: SqlTokens, secret: Secret, settings: Settings
    ) -> None:
        self._database = database
        self._sources = sources
        self._tokens = tokens
        self._secret = secret
        self._settings = settings

    async def of(self, feed: Feed, user_id: str) -> list[str] | NoScopes:
        """Give the scope ids. A discovery that fails falls back on what is known, however old."""
        if isinstance(feed.scope, ChildOf):
            return NoScopes("its scopes are opened by their parents")
        if not isinstance(feed.scope, Discovered):
            return [user_id] if await self._known_to(feed, user_id) else NoScopes(f"no token for {feed.source}")
        kind = feed.scope.kind
        age = int(self._settings.scopes_max_age_seconds)
        rows = await self._database.read(directory.read_scopes, user_id, kind, max_age_seconds=age)
        if rows is not None:
            return [row.scope for row in rows]
        found = await self._discover(feed, kind, user_id)
        if isinstance(found, NoScopes):
            known = await self._database.read(directory.open_scopes, user_id, kind)
            return [row.scope for row in known] or found
        await self._database.write("scopes", directory.put_scopes, user_id, kind, found)
        return [row.scope for row in found]

    async def close(self, feed: Feed, key: Key) -> None:
        """Close a scope that the API says is gone."""
        if isinstance(feed.scope, Discovered):
            await self._database.write("scopes", directory.close_scope, key.user_id, feed.scope.kind, key.scope)

    async def _known_to(self, feed: Feed, user_id: str) -> bool:
        """Whether the user ever had a token for the feed's source, dead or not: others are not its business."""
        sealed = await self._database.read(read_sealed, user_id, feed.source)
        return sealed is not None or self._secret(user_id, feed.source, None) is not None

    async def _discover(self, feed: Feed, kind: str, user_id: str) -> list[ScopeRow] | NoScopes:
        sealed = await self._database.read(read_sealed, user_id, feed.source)
        token = self._secret(user_id, feed.source, sealed)
        if token is None:
            return NoScopes("no token, or it is dead")
        answer = await self._sources[feed.source].discover(kind, user_id, token)
        if not isinstance(answer, Fault):
            return [ScopeRow(ref.id, ref.name) for ref in answer]
        if answer.kind is FaultKind.TOKEN_DEAD:
            await self._tokens.mark_dead(user_id, feed.source, token.version)
        if answer.kind in (FaultKind.THROTTLED, FaultKind.TRANSIENT):
            wait = answer.wait or self._settings.api_down_seconds
            return NoScopes(f"discovery of {kind}: {answer.kind.value}", min(wait, 3600.0))
        return NoScopes(f"discovery of {kind}: {answer.kind.value} {answer.code}")
