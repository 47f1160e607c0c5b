"""The Graph API as a source: cursors, usage headers, error codes. The reference for codes is in `graph_errors`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigurationError
from pipeline.feeds.base import Kind
from pipeline.sources.base import Fault, FaultKind, Page, PageRequest, Pending, ScopeRef, SourceOptions, Token
from pipeline.sources.budget import Draws
from pipeline.sources.calls import Call
from pipeline.sources.graph_client import ID, NAME, GraphClient, bad_id, fault
from pipeline.sources.graph_listing import Listing, Start, read_listing, read_start
from pipeline.sources.graph_reports import Reports
from pipeline.sources.graph_usage import draws
from pipeline.sources.verdicts import Verdict

if TYPE_CHECKING:
    from pipeline.feeds.base import Feed
    from pipeline.sources.base import Budget

DISCOVERIES: Mapping[str, tuple[str, str]] = {
    "page": ("/me/accounts", "id,name"),
    "ad-account": ("/me/adaccounts", "id,name"),
}
"""What can be discovered: the edge that lists it, and the fields to ask."""

DISCOVERY_LIMIT = 100
MAX_DISCOVERY_PAGES = 100
"""Ten thousand scopes of one user; what has more is not listed in one go."""


class GraphSource:
    """Fetches pages of any edge of the Graph API. One instance for all users of a process."""

    name = NAME

    def __init__(
        self,
        options: SourceOptions,
        budget: Budget,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises `ConfigurationError` if the base URL must not be called."""
        self.client = GraphClient(options, budget, clock=clock)
        self._reports = Reports(self.client)

    async def fetch(self, request: PageRequest) -> Page | Pending | Fault:
        """Fetch one page; a page too heavy for the API is asked again with half the limit, while there is time."""
        feed, client = request.feed, self.client
        if feed.kind is Kind.STAGED:
            return await self._reports.fetch(request)
        path = client.path(feed.path, request.scope, request.user_id)
        if path is None:
            return bad_id()
        start = _start(request)
        drawn = draws(feed.path, request.scope, request.user_id)

        def make(limit: int) -> Call:
            return client.call(feed.path, path, _parameters(request, start, limit), drawn, request.token)

        def read(body: Any) -> Listing | Verdict:
            return _read_node(body, request) if _is_node(feed) else read_listing(body, start.after)

        page = await client.page(request, make, read, fresh=start == Start(None, None))
        return page if isinstance(page, Fault) else replace(page, cursor=start.cursor(page.cursor))

    async def fetch_item(self, feed: Feed, user_id: str, scope: str, item_id: str, token: Token) -> Any | Fault:
        """Read one item by id; `Fault(GONE)` when it does not exist any more."""
        path = self.client.path("/{scope}", item_id, user_id)
        if path is None:
            return bad_id()
        parameters = {"fields": feed.fields} if feed.fields else {}
        call = self.client.call(feed.path + "/{item}", path, parameters, draws(feed.path, scope, user_id), token)
        outcome = await self.client.ask(call)
        if isinstance(outcome, Fault):
            return outcome
        if not isinstance(outcome.body, dict) or str(outcome.body.get(feed.id_field)) != item_id:
            return fault(Verdict(FaultKind.REFUSED, "wrong-item"), outcome.calls)
        return outcome.body

    async def discover(self, kind: str, user_id: str, token: Token) -> list[ScopeRef] | Fault:
        """List all scopes of a kind that the user has, following its pages; all or nothing."""
        if kind not in DISCOVERIES:
            raise ConfigurationError(f"the Graph API cannot discover {kind!r}; it can: {', '.join(DISCOVERIES)}")
        edge, fields = DISCOVERIES[kind]
        found: dict[str, ScopeRef] = {}
        parameters = {"fields": fields, "limit": str(DISCOVERY_LIMIT)}
        path = self.client.path(edge, user_id, user_id)
        if path is None:
            return bad_id()
        for _ in range(MAX_DISCOVERY_PAGES):
            outcome = await self.client.ask(
                self.client.call(edge, path, parameters, Draws("me", user_id, user_id), token)
            )
            if isinstance(outcome, Fault):
                return outcome
            listing = read_listing(outcome.body, parameters.get("after"))
            if isinstance(listing, Verdict):
                return fault(listing, outcome.calls)
            found |= {ref.id: ref for ref in map(_scope, listing.items) if ref is not None}
            if listing.after is None:
                return list(found.values())
            parameters["after"] = listing.after
        return fault(Verdict(FaultKind.REFUSED, "too-many-scopes"), MAX_DISCOVERY_PAGES)

    def reseek(self, request: PageRequest) -> PageRequest | None:
        """Ask `until` the last item's time, inclusive; from the top if nothing is committed or time is no handle."""
        if request.after is None or not request.feed.pages_by_time:
            return None
        return replace(request, cursor=None, until=request.after.time)

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()


def _parameters(request: PageRequest, start: Start, limit: int) -> dict[str, str]:
    """The query of a page of an edge, or of an object."""
    parameters = dict(request.feed.params)
    if request.feed.fields:
        parameters["fields"] = request.feed.fields
    if not _is_node(request.feed):
        parameters["limit"] = str(limit)
    return parameters | start.parameters()


def _start(request: PageRequest) -> Start:
    return read_start(request.cursor, request.until if request.feed.pages_by_time else None)


def _is_node(feed: Feed) -> bool:
    """Whether a feed reads the object itself, not one of its edges: then the answer is the one item."""
    return "/" not in feed.path.strip("/")


def _read_node(body: Any, request: PageRequest) -> Listing | Verdict:
    """Give an object as a listing of one; another object than asked for must not be stored under its scope."""
    item_id = body.get(request.feed.id_field) if isinstance(body, dict) else None
    if isinstance(item_id, str) and request.feed.path.strip("/") == "{scope}" and item_id != request.scope:
        return Verdict(FaultKind.REFUSED, "wrong-item")
    return Listing([body], None)


def _scope(item: Any) -> ScopeRef | None:
    """Read a discovered scope; one without a usable id cannot be asked for anything."""
    if not isinstance(item, dict) or not isinstance(item.get("id"), str) or not ID.fullmatch(item["id"]):
        return None
    name = item.get("name")
    return ScopeRef(item["id"], name[:200] if isinstance(name, str) else "")
