"""What working on a mining message needs; built once by the composition root."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.miners.copies import Copies
from pipeline.miners.plan import Plans
from pipeline.miners.pressure import Pressure
from pipeline.miners.scopes import Scopes
from pipeline.settings import Settings
from pipeline.sources.base import Source, Token
from pipeline.storage.cache import Cache
from pipeline.storage.database import Database
from pipeline.storage.flush import Flusher
from pipeline.storage.tokens import SealedToken, SqlTokens

Secret = Callable[[str, str, SealedToken | None], Token | None]
"""(user, source, the row) -> the token, or None if there is none or it is dead."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """`clock` is this process's monotonic time, for budgets only."""

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
