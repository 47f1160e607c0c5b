"""
A plain REST API as a source: page numbers, an API key, HTTP status codes, `Retry-After`.

What differs from API to API is in the options' `extra`: `key_header` (X-Api-Key), `items_field` (data, items or
results), `page_parameter` (page), `size_parameter` (per_page), `private_network` (refused; `allowed` for an API in an
own one).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from pipeline.errors import ConfigurationError
from pipeline.sources.base import Fault, FaultKind, Page, PageRequest, ScopeRef, SourceOptions, Token, UsageNote
from pipeline.sources.budget import Draws
from pipeline.sources.calls import Call, Caller, Tally
from pipeline.sources.http import Answer, Connections
from pipeline.sources.limits import PageLimits
from pipeline.sources.rest_errors import classify
from pipeline.sources.rest_paging import Place, Window, following, has_more, overlapping, place_behind, read_cursor
from pipeline.sources.verdicts import Verdict, retry_after

if TYPE_CHECKING:
    from pipeline.feeds.base import Feed
    from pipeline.sources.base import Budget

ITEMS_FIELDS = ("data", "items", "results")
"""Where such APIs put the list; one that sends the list alone is read, too."""

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-:.@]{0,127}")


class RestSource:
    """Fetches pages by number. It cannot page by time: `until` is ignored, and such feeds have one lane."""

    name = "rest"

    def __init__(self, options: SourceOptions, budget: Budget, *, connections: Connections | None = None) -> None:
        """Raises `ConfigurationError` if the base URL must not be called."""
        self._options = options
        self._connections = connections or Connections(options, setting="REST_BASE_URL")
        self._caller = Caller(options, budget, self._connections, self)
        self._limits = PageLimits()
        self._prefix = f"/{options.version.strip('/')}" if options.version else ""
        self._key_header = options.extra.get("key_header", "X-Api-Key")
        self._items_fields = (options.extra["items_field"],) if "items_field" in options.extra else ITEMS_FIELDS
        self._parameters = (
            options.extra.get("page_parameter", "page"),
            options.extra.get("size_parameter", "per_page"),
        )

    async def fetch(self, request: PageRequest) -> Page | Fault:
        """
        Fetch what follows the items read so far.

        Only items behind the last one read are given: what stands before it on the page is known. The cursor names
        that item; a cursor that does not (one page back, see `reseek`) needs `request.after`.
        """
        path = self._path(request.feed.path, request.scope, request.user_id)
        place = read_cursor(request.cursor)
        if path is None:
            return _bad_id()
        if place is None:
            return Fault(kind=FaultKind.INVALID_CURSOR, code="foreign-cursor")
        key = (request.user_id, request.feed.name, request.scope)
        limit = self._limits.limit(key, request.limit, fresh=place.read == 0)
        tally = Tally()
        outcome = await self._caller.ask_page(
            lambda limit: self._page_call(request, path, overlapping(place.read, limit)),
            limit,
            self._limits,
            key,
            tally,
        )
        if isinstance(outcome, Fault):
            gone_behind_end = (
                outcome.kind is FaultKind.GONE and place.read > 0
            )  # some APIs say 404 behind the last page
            return replace(outcome, kind=FaultKind.INVALID_CURSOR) if gone_behind_end else outcome
        reply, limit = outcome
        items = self._items(reply.body)
        if items is None:
            return _fault(Verdict(FaultKind.REFUSED, "no-list"), tally)
        window = overlapping(place.read, limit)
        served = reply.body.get(self._parameters[1]) if isinstance(reply.body, dict) else None
        if isinstance(served, int) and served != window.size:
            return _fault(Verdict(FaultKind.REFUSED, "page-size", detail=f"the API serves {served} at most"), tally)
        last_id = place.last_id or (request.after.id if request.after and place.read else "")
        begin = following(items, request.feed.id_field, last_id) if last_id else 0
        if begin is None:
            return _fault(Verdict(FaultKind.INVALID_CURSOR, "shifted"), tally)
        self._limits.learn(key, items, limit, id_field=request.feed.id_field, fresh=place.read == 0)
        more = has_more(reply.body, window, len(items))
        return Page(
            items=items[begin:],
            cursor=place_behind(items, window, request.feed.id_field).cursor() if more else None,
            limit=limit,
            calls=tally.calls,
            bytes=reply.bytes,
        )

    async def fetch_item(self, feed: Feed, user_id: str, scope: str, item_id: str, token: Token) -> Any | Fault:
        """Read one item by id, below its listing; `Fault(GONE)` when it does not exist any more."""
        path = self._path(feed.path, scope, user_id)
        if path is None or not _ID.fullmatch(item_id):
            return _bad_id()
        tally = Tally()
        call = self._call(feed.path + "/{item}", f"{path}/{item_id}", {}, Draws("api", scope, user_id), token)
        outcome = await self._caller.ask(call, tally)
        if isinstance(outcome, Fault):
            return outcome
        body = outcome.body
        if isinstance(body, dict):  # some wrap the one item as they wrap a list
            body = next((body[name] for name in self._items_fields if name in body), body)
        if not isinstance(body, dict) or str(body.get(feed.id_field)) != item_id:
            return _fault(Verdict(FaultKind.REFUSED, "wrong-item"), tally)
        return body

    async def discover(self, kind: str, user_id: str, token: Token) -> list[ScopeRef] | Fault:
        """Nothing can be discovered: feeds of this source hang on the user, or on a parent feed."""
        raise ConfigurationError(f"a feed of the source 'rest' asks to discover {kind!r}; it can only use FromUser")

    def reseek(self, request: PageRequest) -> PageRequest | None:
        """One page back, as far as that goes; the second time the caller starts from the top."""
        place = read_cursor(request.cursor)
        if request.after is None or place is None or not place.last_id or place.read <= request.limit:
            return None
        return replace(request, cursor=Place(place.read - request.limit).cursor(), until=None)

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.close()

    def judge(self, call: Call, answer: Answer, body: Any) -> Verdict | None:
        """Classify an answer (part of `Dialect`)."""
        return classify(answer.status, body, secrets=call.secrets, wait=retry_after(answer.headers))

    def notes(self, call: Call, answer: Answer, verdict: Verdict | None) -> Sequence[UsageNote]:
        """There are no usage headers; a throttle blocks the user's key."""
        if verdict is None or verdict.kind is not FaultKind.THROTTLED:
            return ()
        return (UsageNote(call.draws.blamed(self.name, "user"), 0.0 if verdict.wait else 100.0, verdict.wait),)

    def _path(self, template: str, scope: str, user_id: str) -> str | None:
        """Fill in the path of a listing; None if an id could change the meaning of a URL."""
        if not _ID.fullmatch(scope) or not _ID.fullmatch(user_id):
            return None
        return self._prefix + template.replace("{scope}", scope).replace("{user}", user_id)

    def _page_call(self, request: PageRequest, path: str, window: Window) -> Call:
        number, size = self._parameters
        parameters = {**request.feed.params, number: str(window.number), size: str(window.size)}
        drawn = Draws("api", request.scope, request.user_id)
        return self._call(request.feed.path, path, parameters, drawn, request.token)

    def _call(self, name: str, path: str, parameters: Mapping[str, str], drawn: Draws, token: Token) -> Call:
        secret = token.value.get_secret_value()
        target = f"{path}?{urlencode(parameters, quote_via=quote)}" if parameters else path
        return Call(
            name=name,
            target=lambda: target,
            headers={self._key_header: secret},
            keys=drawn.keys(self.name),
            draws=drawn,
            secrets=(secret,),
            list_fields=self._items_fields,
        )

    def _items(self, body: Any) -> list[Any] | None:
        found = body
        if isinstance(body, dict):
            found = next((body[name] for name in self._items_fields if name in body), None)
        return found if isinstance(found, list) else None


def _fault(verdict: Verdict, tally: Tally) -> Fault:
    return Fault(kind=verdict.kind, code=verdict.code, detail=verdict.detail, calls=tally.calls)


def _bad_id() -> Fault:
    return Fault(kind=FaultKind.REFUSED, code="bad-id", detail="an id that cannot stand in a URL")
