"""
What a source is: an API that lists items page by page. Graph is one, a generic REST API another.

A source never raises for what an API may answer: it returns a `Page` or a `Fault`. The miner turns a fault into an
outcome of the chain. A source never sleeps longer than a second per quick retry, and never beyond `deadline`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from pydantic import SecretStr

from pipeline.feeds.base import Feed


class FaultKind(StrEnum):
    """What the caller should do about an answer that is not a page."""

    THROTTLED = "throttled"  # park until `wait` is over; the budget is already noted
    TOKEN_DEAD = "token-dead"  # noqa: S105 - a reason, not a secret; park until the user's token changes
    TRANSIENT = "api-down"  # quick retries are used up, or the breaker is open; park for `wait`
    INVALID_CURSOR = "invalid-cursor"  # re-seek by time (protocol, rule 6)
    TOO_MUCH = "too-much"  # ask again with a smaller limit
    GONE = "gone"  # the scope (or the item asked for) does not exist any more
    FORBIDDEN = "forbidden"  # permission is missing; halt
    REFUSED = "refused"  # our request is wrong, or an error nobody knows; halt


class Token(NamedTuple):
    """A user's credential for one source. `version` changes with each stored token."""

    value: SecretStr
    version: int


@dataclass(frozen=True, kw_only=True)
class BrokenItem:
    """
    Stands in a page's list for an item that is no usable JSON: a lone surrogate, NaN, a number beyond any double,
    nesting without end, bytes that are not UTF-8. No item model accepts it, so it goes to quarantine, alone.
    """

    reason: str
    text: str
    """What stood there, cut to `BROKEN_TEXT_CHARACTERS`; plain ASCII, so that it can be stored anywhere."""


BROKEN_TEXT_CHARACTERS = 65_536
"""Enough to see what is wrong with an item, little enough for a quarantine row."""


class Position(NamedTuple):
    """Time (whole seconds) and id of the last item committed, in the API's order."""

    time: int
    id: str


@dataclass(frozen=True, kw_only=True)
class PageRequest:
    """One page to fetch. Exactly one of `cursor` and a fresh start (`until` or the top) is used, cursor first."""

    feed: Feed
    user_id: str
    scope: str
    token: Token
    limit: int
    cursor: str | None = None
    until: int | None = None
    """Item time, inclusive; only for feeds that page by time."""
    after: Position | None = None
    """The last item committed; sources with page numbers look for it to notice shifts."""
    epoch: int = 0
    window: tuple[int, int] = (0, 0)
    """The chain's `[lo, hi)`, item time; staged feeds ask for a report over it."""
    now: int = 0
    """The database's time, microseconds: staged feeds write it into their cursor to notice a report that hangs."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """
    One page in the API's order. `items` are whatever JSON values stood in the list, malformed ones included; what
    is no JSON value is a `BrokenItem`.

    `cursor` is None exactly when the API gave no `next`: only then is the listing at its end. An empty page with a
    cursor is ordinary.
    """

    items: Sequence[Any]
    cursor: str | None
    limit: int
    """The limit that the answer was asked with."""
    calls: int = 1
    """API calls made for it, quick retries included."""
    bytes: int = 0
    api_version: str = ""


READ_STAGE = "read:"
"""Begins the cursor of a staged chain whose report is ready to be read, page by page."""


@dataclass(frozen=True, kw_only=True)
class Pending:
    """
    A staged feed's report is not there yet: ask again with `cursor`, after `wait` seconds (0: at once).

    A `cursor` of None says that the report failed or was lost, and must be created anew.
    """

    cursor: str | None
    wait: float
    calls: int = 1
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Why there is no page. `wait` is seconds until the next try makes sense; `detail` never holds a secret."""

    kind: FaultKind
    wait: float = 0.0
    code: str = ""
    detail: str = ""
    calls: int = 0
    """API calls made; 0 when the budget or the breaker refused before any."""


class ScopeRef(NamedTuple):
    """An object that edges hang on."""

    id: str
    name: str = ""


class Source(Protocol):
    """An API. One instance serves all users; it holds connections, never tokens."""

    name: str

    async def fetch(self, request: PageRequest) -> Page | Pending | Fault:
        """Fetch one page, or for a staged feed take its report one step on; budget and breaker are asked first."""
        ...

    async def fetch_item(self, feed: Feed, user_id: str, scope: str, item_id: str, token: Token) -> Any | Fault:
        """Read one item by id; `Fault(GONE)` when it does not exist any more."""
        ...

    async def discover(self, kind: str, user_id: str, token: Token) -> list[ScopeRef] | Fault:
        """List all scopes of a kind that the user has, following its pages."""
        ...

    def reseek(self, request: PageRequest) -> PageRequest | None:
        """
        Give the request to make instead after `INVALID_CURSOR`, or None if it must start from the top.

        A source that pages by time asks `until` the last item's time, inclusive; one with page numbers goes one
        page back first. The answer to the new request decides; a second invalid cursor starts from the top.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class UsageNote(NamedTuple):
    """What an answer said about a budget: share used (0..100+), and seconds to wait if it is blocked."""

    key: str
    """`app`, `{use case}:{object id}` or `user:{id}`, prefixed by the source's name."""
    percent: float
    wait: float = 0.0


class Budget(Protocol):
    """The call budget shared by all instances (`storage.budgets.SharedBudget`)."""

    async def wait(self, keys: Sequence[str]) -> float:
        """
        Seconds until a call under all these keys may be made; 0 when now.

        After a block whose end the API did not tell, the 0 is the right to the one call that finds out.
        """
        ...

    async def note(self, notes: Sequence[UsageNote]) -> None:
        """Remember what an answer said; never lowers a block that is still running."""
        ...

    async def passed(self, keys: Sequence[str]) -> None:
        """Note that a call under these keys was answered and none of them is used up: a guessed block is over."""
        ...


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Options that every source takes; durations in seconds."""

    base_url: str
    version: str = ""
    connect_timeout: float = 5.0
    read_timeout: float = 10.0
    total_timeout: float = 20.0
    max_answer_bytes: int = 8 * 1024 * 1024
    minute_seconds: float = 60.0
    """How long the API's minute lasts here; smaller only against a simulator with a time scale."""
    app_secret: SecretStr | None = None
    proxy_url: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
