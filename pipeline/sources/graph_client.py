"""Calls to the Graph API as any part of the source makes them: paths, token, proof, budgets, versions, pages."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode

from pipeline.chains.budget import hold
from pipeline.sources.base import Fault, FaultKind, Page, PageRequest, SourceOptions, Token, UsageNote
from pipeline.sources.budget import Draws
from pipeline.sources.calls import Call, Caller, Tally
from pipeline.sources.graph_errors import classify
from pipeline.sources.graph_listing import Listing
from pipeline.sources.graph_usage import usage
from pipeline.sources.http import Answer, Connections
from pipeline.sources.limits import PageLimits
from pipeline.sources.verdicts import Verdict, retry_after

if TYPE_CHECKING:
    from pipeline.sources.base import Budget

logger = logging.getLogger(__name__)

MAX_VERSIONS = 100
"""Different wrong versions that we count; a header full of junk must not fill memory."""

NAME = "graph"

ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-:.]{0,127}")
"""What may stand in a path without changing its meaning."""

_VERSION = re.compile(r"v[0-9]{1,3}\.[0-9]{1,2}")


class Answered(NamedTuple):
    """A good answer that is no listing."""

    body: Any
    calls: int


class GraphClient:
    """Speaks the Graph API's dialect for all users of a process; holds connections and page limits, no tokens."""

    def __init__(
        self,
        options: SourceOptions,
        budget: Budget,
        *,
        connections: Connections | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises `ConfigurationError` if the base URL must not be called."""
        self.options = options
        self.connections = connections or Connections(options, setting="GRAPH_BASE_URL")
        self._caller = Caller(options, budget, self.connections, self)
        self._limits = PageLimits()
        self._clock = clock
        self._prefix = f"/{options.version.strip('/')}" if options.version else ""
        self.other_versions: dict[str, int] = {}
        """Answers served by another version than asked for: an expired version is replaced without an error."""

    def path(self, template: str, scope: str, user_id: str) -> str | None:
        """Fill in an edge's path; None if an id could change the meaning of a URL."""
        if not ID.fullmatch(scope) or not (ID.fullmatch(user_id) or "{user}" not in template):
            return None
        return self._prefix + template.replace("{scope}", scope).replace("{user}", user_id)

    def call(
        self,
        name: str,
        path: str,
        parameters: Mapping[str, str],
        drawn: Draws,
        token: Token,
        *,
        method: str = "GET",
    ) -> Call:
        """Describe a call; `name` is what spans may show of the path."""
        secret = token.value.get_secret_value()
        query = urlencode(parameters, quote_via=quote, safe=",():")
        target = f"{path}?{query}" if query else path
        proof = self.options.app_secret
        return Call(
            name=name,
            method=method,
            target=(lambda: target) if proof is None else (lambda: self._with_proof(target, secret)),
            headers={"Authorization": f"Bearer {secret}"},
            keys=drawn.keys(NAME),
            draws=drawn,
            secrets=(secret,) if proof is None else (secret, proof.get_secret_value()),
        )

    async def ask(self, call: Call) -> Answered | Fault:
        """Make a call whose answer is no listing."""
        tally = Tally()
        outcome = await self._caller.ask(call, tally)
        return outcome if isinstance(outcome, Fault) else Answered(outcome.body, tally.calls)

    async def page(
        self,
        request: PageRequest,
        make: Callable[[int], Call],
        read: Callable[[Any], Listing | Verdict],
        *,
        fresh: bool,
    ) -> Page | Fault:
        """Ask for a listing's page, with the API's own cursor of the next one in it."""
        key = (request.user_id, request.feed.name, request.scope)
        tally = Tally()
        limit = self._limits.limit(key, request.limit, fresh=fresh)
        outcome = await self._caller.ask_page(make, limit, self._limits, key, tally)
        if isinstance(outcome, Fault):
            return outcome
        reply, limit = outcome
        listing = read(reply.body)
        if isinstance(listing, Verdict):
            return fault(listing, tally.calls)
        self._limits.learn(key, listing.items, limit, id_field=request.feed.id_field, fresh=fresh)
        return Page(
            items=listing.items,
            cursor=listing.after,
            limit=limit,
            calls=tally.calls,
            bytes=reply.bytes,
            api_version=_served_version(reply.headers),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self.connections.close()

    def judge(self, call: Call, answer: Answer, body: Any) -> Verdict | None:
        """Classify an answer (part of `Dialect`)."""
        return classify(
            answer.status,
            body,
            secrets=call.secrets,
            minute_seconds=self.options.minute_seconds,
            retry_after=retry_after(answer.headers),
        )

    def notes(self, call: Call, answer: Answer, verdict: Verdict | None) -> Sequence[UsageNote]:
        """Read usage from any answer; a throttle blocks what it blames and, to be sure, finds the call again."""
        self._watch_version(answer)
        notes = usage(NAME, answer.headers, call.draws, minute_seconds=self.options.minute_seconds)
        if verdict is not None and verdict.kind is FaultKind.THROTTLED:
            own = call.draws.keys(NAME)[1]
            blamed = call.draws.blamed(NAME, verdict.blames)
            keys = {blamed} if blamed in call.keys else {blamed, own}
            hint = max([verdict.wait, *(note.wait for note in notes if note.key in keys)])
            notes += [UsageNote(key, 100.0, hint) for key in keys]
        return [note for note in notes if hold(note.percent, note.wait)]

    def _with_proof(self, target: str, token: str) -> str:
        """
        Add the proof that whoever calls also knows the app's secret. It is no credential by itself, but is kept out
        of logs and spans all the same. The API takes it from the query only.
        """
        assert self.options.app_secret is not None
        key = self.options.app_secret.get_secret_value().encode()
        mark = "&" if "?" in target else "?"
        if self.options.extra.get("appsecret_proof") != "timed":
            return f"{target}{mark}appsecret_proof={hmac.new(key, token.encode(), hashlib.sha256).hexdigest()}"
        now = int(self._clock())
        proof = hmac.new(key, f"{token}|{now}".encode(), hashlib.sha256).hexdigest()
        return f"{target}{mark}appsecret_proof={proof}&appsecret_time={now}"

    def _watch_version(self, answer: Answer) -> None:
        served = _served_version(answer.headers)
        wanted = self.options.version.strip("/")
        if not served or not wanted or served == wanted:
            return
        if served not in self.other_versions and len(self.other_versions) < MAX_VERSIONS:
            self.other_versions[served] = 0
            logger.warning("asked for API version %s, served %s: raise GRAPH_API_VERSION", wanted, served)
        if served in self.other_versions:
            self.other_versions[served] += 1


def fault(verdict: Verdict, calls: int) -> Fault:
    """Make a fault of what was found in a good answer."""
    return Fault(kind=verdict.kind, code=verdict.code, detail=verdict.detail, calls=calls)


def bad_id() -> Fault:
    """Refuse to ask: no call is made."""
    return Fault(kind=FaultKind.REFUSED, code="bad-id", detail="an id that cannot stand in a URL")


def _served_version(headers: Mapping[str, str]) -> str:
    served = headers.get("facebook-api-version", "")
    return served if _VERSION.fullmatch(served) else ""
