"""The Graph API as a source: cursors, usage headers, error codes. The reference for codes is in `graph_errors`."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from pipeline.chains.budget import hold
from pipeline.errors import ConfigurationError
from pipeline.sources.base import Fault, FaultKind, Page, PageRequest, ScopeRef, SourceOptions, Token, UsageNote
from pipeline.sources.budget import Draws
from pipeline.sources.calls import Call, Caller, Tally
from pipeline.sources.graph_errors import classify
from pipeline.sources.graph_listing import Listing, Start, read_listing, read_start
from pipeline.sources.graph_usage import draws, usage
from pipeline.sources.http import Answer, Connections
from pipeline.sources.limits import PageLimits
from pipeline.sources.verdicts import Verdict, retry_after

if TYPE_CHECKING:
    from pipeline.feeds.base import Feed
    from pipeline.sources.base import Budget

logger = logging.getLogger(__name__)

DISCOVERIES: Mapping[str, tuple[str, str]] = {
    "page": ("/me/accounts", "id,name"),
    "ad-account": ("/me/adaccounts", "id,name"),
}
"""What can be discovered: the edge that lists it, and the fields to ask."""

DISCOVERY_LIMIT = 100
MAX_DISCOVERY_PAGES = 100
"""Ten thousand scopes of one user; what has more is not listed in one go."""

MAX_VERSIONS = 100
"""Different wrong versions that we count; a header full of junk must not fill memory."""

_VERSION = re.compile(r"v[0-9]{1,3}\.[0-9]{1,2}")
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-:.]{0,127}")


class GraphSource:
    """Fetches pages of any edge of the Graph API. One instance for all users of a process."""

    name = "graph"

    def __init__(
        self,
        options: SourceOptions,
        budget: Budget,
        *,
        connections: Connections | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises `ConfigurationError` if the base URL must not be called."""
        self._options = options
        self._connections = connections or Connections(options, setting="GRAPH_BASE_URL")
        self._caller = Caller(options, budget, self._connections, self)
        self._limits = PageLimits()
        self._clock = clock
        self._prefix = f"/{options.version.strip('/')}" if options.version else ""
        self.other_versions: dict[str, int] = {}
        """Answers served by another version than asked for: an expired version is replaced without an error."""

    async def fetch(self, request: PageRequest) -> Page | Fault:
        """Fetch one page; a page too heavy for the API is asked again with half the limit, while there is time."""
        path = self._path(request.feed.path, request.scope, request.user_id)
        if path is None:
            return _bad_id()
        key = (request.user_id, request.feed.name, request.scope)
        fresh = request.cursor is None and request.until is None
        limit = self._limits.limit(key, request.limit, fresh=fresh)
        tally = Tally()
        outcome = await self._caller.ask_page(
            lambda limit: self._page_call(request, path, limit), limit, self._limits, key, tally
        )
        if isinstance(outcome, Fault):
            return outcome
        reply, limit = outcome
        start = _start(request)
        listing = _read_node(reply.body, request) if _is_node(request.feed) else read_listing(reply.body, start.after)
        if isinstance(listing, Verdict):
            return _fault(listing, tally)
        self._limits.learn(key, listing.items, limit, id_field=request.feed.id_field, fresh=fresh)
        return Page(
            items=listing.items,
            cursor=start.cursor(listing.after),
            limit=limit,
            calls=tally.calls,
            bytes=reply.bytes,
            api_version=_served_version(reply.headers),
        )

    async def fetch_item(self, feed: Feed, user_id: str, scope: str, item_id: str, token: Token) -> Any | Fault:
        """Read one item by id; `Fault(GONE)` when it does not exist any more."""
        path = self._path("/{scope}", item_id, user_id)
        if path is None:
            return _bad_id()
        parameters = {"fields": feed.fields} if feed.fields else {}
        call = self._call(feed.path + "/{item}", path, parameters, draws(feed.path, scope, user_id), token)
        tally = Tally()
        outcome = await self._caller.ask(call, tally)
        if isinstance(outcome, Fault):
            return outcome
        if not isinstance(outcome.body, dict) or str(outcome.body.get(feed.id_field)) != item_id:
            return _fault(Verdict(FaultKind.REFUSED, "wrong-item"), tally)
        return outcome.body

    async def discover(self, kind: str, user_id: str, token: Token) -> list[ScopeRef] | Fault:
        """List all scopes of a kind that the user has, following its pages; all or nothing."""
        if kind not in DISCOVERIES:
            raise ConfigurationError(f"the Graph API cannot discover {kind!r}; it can: {', '.join(DISCOVERIES)}")
        edge, fields = DISCOVERIES[kind]
        found: dict[str, ScopeRef] = {}
        parameters = {"fields": fields, "limit": str(DISCOVERY_LIMIT)}
        tally = Tally()
        for _ in range(MAX_DISCOVERY_PAGES):
            call = self._call(edge, self._prefix + edge, parameters, Draws("me", user_id, user_id), token)
            outcome = await self._caller.ask(call, tally)
            if isinstance(outcome, Fault):
                return outcome
            listing = read_listing(outcome.body, parameters.get("after"))
            if isinstance(listing, Verdict):
                return _fault(listing, tally)
            found |= {ref.id: ref for ref in map(_scope, listing.items) if ref is not None}
            if listing.after is None:
                return list(found.values())
            parameters["after"] = listing.after
        return _fault(Verdict(FaultKind.REFUSED, "too-many-scopes"), tally)

    def reseek(self, request: PageRequest) -> PageRequest | None:
        """Ask `until` the last item's time, inclusive; from the top if nothing is committed or time is no handle."""
        if request.after is None or not request.feed.pages_by_time:
            return None
        return replace(request, cursor=None, until=request.after.time)

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.close()

    def judge(self, call: Call, answer: Answer, body: Any) -> Verdict | None:
        """Classify an answer (part of `Dialect`)."""
        return classify(
            answer.status,
            body,
            secrets=call.secrets,
            minute_seconds=self._options.minute_seconds,
            retry_after=retry_after(answer.headers),
        )

    def notes(self, call: Call, answer: Answer, verdict: Verdict | None) -> Sequence[UsageNote]:
        """Read usage from any answer; a throttle blocks what it blames and, to be sure, finds the call again."""
        self._watch_version(answer)
        notes = usage(self.name, answer.headers, call.draws, minute_seconds=self._options.minute_seconds)
        if verdict is not None and verdict.kind is FaultKind.THROTTLED:
            own = call.draws.keys(self.name)[1]
            blamed = call.draws.blamed(self.name, verdict.blames)
            keys = {blamed} if blamed in call.keys else {blamed, own}
            hint = max([verdict.wait, *(note.wait for note in notes if note.key in keys)])
            notes += [UsageNote(key, 100.0, hint) for key in keys]
        return [note for note in notes if hold(note.percent, note.wait)]

    def _path(self, template: str, scope: str, user_id: str) -> str | None:
        """Fill in an edge's path; None if an id could change the meaning of a URL."""
        if not _ID.fullmatch(scope) or not (_ID.fullmatch(user_id) or "{user}" not in template):
            return None
        return self._prefix + template.replace("{scope}", scope).replace("{user}", user_id)

    def _page_call(self, request: PageRequest, path: str, limit: int) -> Call:
        feed = request.feed
        parameters = dict(feed.params)
        if feed.fields:
            parameters["fields"] = feed.fields
        if not _is_node(feed):
            parameters["limit"] = str(limit)
        parameters |= _start(request).parameters()
        drawn = draws(feed.path, request.scope, request.user_id)
        return self._call(feed.path, path, parameters, drawn, request.token)

    def _call(self, name: str, path: str, parameters: Mapping[str, str], drawn: Draws, token: Token) -> Call:
        secret = token.value.get_secret_value()
        query = urlencode(parameters, quote_via=quote, safe=",{}():")
        target = f"{path}?{query}" if query else path
        proof = self._options.app_secret
        return Call(
            name=name,
            target=(lambda: target) if proof is None else (lambda: self._with_proof(target, secret)),
            headers={"Authorization": f"Bearer {secret}"},
            keys=drawn.keys(self.name),
            draws=drawn,
            secrets=(secret,) if proof is None else (secret, proof.get_secret_value()),
        )

    def _with_proof(self, target: str, token: str) -> str:
        """
        Add the proof that whoever calls also knows the app's secret. It is no credential by itself, but is kept out
        of logs and spans all the same. The API takes it from the query only.
        """
        assert self._options.app_secret is not None
        key = self._options.app_secret.get_secret_value().encode()
        mark = "&" if "?" in target else "?"
        if self._options.extra.get("appsecret_proof") != "timed":
            return f"{target}{mark}appsecret_proof={hmac.new(key, token.encode(), hashlib.sha256).hexdigest()}"
        now = int(self._clock())
        proof = hmac.new(key, f"{token}|{now}".encode(), hashlib.sha256).hexdigest()
        return f"{target}{mark}appsecret_proof={proof}&appsecret_time={now}"

    def _watch_version(self, answer: Answer) -> None:
        served = _served_version(answer.headers)
        wanted = self._options.version.strip("/")
        if not served or not wanted or served == wanted:
            return
        if served not in self.other_versions and len(self.other_versions) < MAX_VERSIONS:
            self.other_versions[served] = 0
            logger.warning("asked for API version %s, served %s: raise GRAPH_API_VERSION", wanted, served)
        if served in self.other_versions:
            self.other_versions[served] += 1


def _served_version(headers: Mapping[str, str]) -> str:
    served = headers.get("facebook-api-version", "")
    return served if _VERSION.fullmatch(served) else ""


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
    if not isinstance(item, dict) or not isinstance(item.get("id"), str) or not _ID.fullmatch(item["id"]):
        return None
    name = item.get("name")
    return ScopeRef(item["id"], name[:200] if isinstance(name, str) else "")


def _fault(verdict: Verdict, tally: Tally) -> Fault:
    return Fault(kind=verdict.kind, code=verdict.code, detail=verdict.detail, calls=tally.calls)


def _bad_id() -> Fault:
    return Fault(kind=FaultKind.REFUSED, code="bad-id", detail="an id that cannot stand in a URL")
