"""The Graph API's front: tokens, budgets, faults and routes; prebuilt pages leave by a fast path."""

from __future__ import annotations

import re
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson

from infra.local.graph import faults, nodes, reader
from infra.local.graph.budgets import Budgets, Charge, Verdict, throttle_headers
from infra.local.graph.calls import Calls
from infra.local.graph.clock import Clock
from infra.local.graph.control import Control
from infra.local.graph.cursors import Cursors
from infra.local.graph.errors import GraphError, invalid, missing
from infra.local.graph.fields import parse
from infra.local.graph.fragments import STEADY_KINDS, Fragments, is_steady
from infra.local.graph.http_server import Request, Response
from infra.local.graph.insights import Reports
from infra.local.graph.journal import Journal
from infra.local.graph.rules import Rule, Rules
from infra.local.graph.script import Script
from infra.local.graph.tokens import APP_ID, Grant, Tokens
from infra.local.graph.world import Body, Item, Listing, World

VERSION = re.compile(r"v(\d+)\.(\d+)")
VERSION_ENDS = {26: 4_102_444_800, 25: 1_848_268_800, 24: 1_834_444_800, 23: 1_822_953_600, 22: 1_810_771_200,
                21: 1_800_489_600}  # fmt: skip
"""When a version stops being served (unix time); an older one is silently served by the oldest usable."""
DEFAULT_VERSION = 26
MOST_IDS = 50
PAGED_EDGES = frozenset(name for edges in nodes.EDGES.values() for name in edges)
CACHE_BYTES = 256 * 1024 * 1024
JSON_TYPE = "application/json; charset=UTF-8"


class Prebuilt(NamedTuple):
    """A page as bytes, and what makes it stale."""

    epoch: int
    listing: Listing
    generation: int
    head: bytes
    body: bytes
    charges: tuple[Charge, ...]
    page_token: bool
    user: str
    owner: str
    edge: str
    scope: str
    token_in_query: bool
    items: int


@dataclass(slots=True)
class Exchange:
    """One call while it is answered."""

    request: Request
    path: str
    params: dict[str, str]
    token: str
    token_in_query: bool
    run: str
    base: str
    version: int
    grant: Grant | None = None
    user: str = ""
    owner: str = ""
    edge: str = ""
    scope: str = ""
    rules: list[Rule] = field(default_factory=list)
    verdict: Verdict = field(default_factory=lambda: Verdict(None, [], False))
    charges: tuple[Charge, ...] = ()
    items: int = 0
    page: reader.Slice | None = None
    cacheable: bool = False
    raw: dict[bytes, bytes] = field(default_factory=dict)


class GraphApp:
    """The simulator: answers calls about one world, and keeps what tests ask afterwards."""

    def __init__(
        self,
        make_world: Callable[[], World],
        *,
        public_url: str = "",
        time_paging: bool = False,
        proof_required: bool = False,
        throttle_status: int = 400,
        job_polls: int = 2,
        journal: Journal | None = None,
    ) -> None:
        self.note = (journal or Journal(None)).note
        self._make_world = make_world
        self._proof_required = proof_required
        self._job_polls = job_polls
        self._populate()
        self.clock: Clock = self.world.clock
        self.cursors = Cursors(self.world.seed)
        self.budgets = Budgets(self.clock, status=throttle_status)
        self.faults = Rules(faults.KINDS, seed=self.world.seed)
        self.calls = Calls()
        self.served_malformed: dict[str, str] = {}
        self.control = Control(self)
        self._public_url = public_url.rstrip("/")
        self._time_paging = time_paging
        self._epoch = 0
        self._cache: OrderedDict[tuple[bytes, bytes, bytes], Prebuilt] = OrderedDict()
        self._cache_bytes = 0
        self._answered = 0

    def fast(self, head: bytes) -> tuple[bytes, bytes] | None:
        """Serve a page from the cache if nothing stands against it."""
        if (self.faults.active and self.faults.live) or self.script.steps or self.reveal():
            return None
        end = head.find(b" HTTP/1.1\r\n")
        lowered = head.lower()
        if end < 0 or b"\r\nif-none-match:" in lowered or b"\r\nconnection: close" in lowered:
            return None
        key = (head[4:end], _header(head, lowered, b"\r\nauthorization:"), _header(head, lowered, b"\r\nhost:"))
        page = self._cache.get(key)
        if page is None or page.epoch != self._epoch + self.tokens.generation:
            return None
        if page.generation != page.listing.generation:
            return None
        if self.budgets.limits and not self.budgets.passes(page.charges):
            return None
        verdict = self.budgets.charge(page.charges, page_token=page.page_token) if self.budgets.limits else None
        self._answered += 1
        self.calls.record(
            at=self.clock.now(), run=_header(head, lowered, b"\r\nx-sim-run:").decode("latin-1"), method="GET",
            target=key[0].decode("latin-1"), user=page.user, owner=page.owner, edge=page.edge, scope=page.scope,
            status=200, token_in_query=page.token_in_query, items=page.items, size=len(page.body),
        )  # fmt: skip
        usage = b"".join(f"{n}: {v}\r\n".encode() for n, v in verdict.headers) if verdict else b""
        trace = b"x-fb-trace-id: A%09d\r\n\r\n" % self._answered
        return page.head + b"date: " + self.clock.http_date() + b"\r\n" + usage + trace, page.body

    def handle(self, request: Request) -> Response:
        """Answer any call; the world's time stands meanwhile."""
        with self.clock.standing():
            return self.control.handle(request) if request.path.startswith("/__sim") else self._called(request)

    def reveal(self) -> bool:
        """Show what has become visible; True if anything has."""
        if not self.world.is_due():
            return False
        with self.clock.standing():
            self.note("reveal")
            self.world.reveal()
        return True

    def _called(self, request: Request) -> Response:
        self.reveal()
        call = self._open(request)
        if self.script.steps and self.script.before_call(f"{request.method} {request.target}", self._pointed_at(call)):
            self._aim(call)
        call.rules = self._matching(call)
        response = faults.before_answer(call.rules)
        status = response.status if response else 200
        code = 0
        if response is None:
            try:
                body = self._answer(call)
                response = self._written(call, body)
                status = response.status
            except GraphError as error:
                response = self._error(call, error)
                status, code = response.status, error.code
        faults.on_wire(call.rules, response)
        self.calls.record(
            at=self.clock.now(), run=call.run, method=request.method, target=request.target, user=call.user,
            owner=call.owner, edge=call.edge, scope=call.scope, status=0 if response.reset or response.hang else status,
            code=code, fault=",".join(rule.kind for rule in call.rules), blocked=call.verdict.while_blocked,
            token_in_query=call.token_in_query, items=call.items, size=len(response.body),
        )  # fmt: skip
        return response

    def reset(self, what: frozenset[str]) -> None:
        """Start parts of the simulator again; a new world brings new tokens, and no changes and jobs."""
        if "calls" in what:
            self.calls.clear()
        if "faults" in what:
            self.faults.remove()
            self.served_malformed.clear()
        if "script" in what:
            self.script.steps.clear()
        if "budgets" in what:
            self.budgets.clear()
        if "jobs" in what:
            self.reports.clear()
        if "world" in what:
            self._populate()
        self._epoch += 1
        self._cache.clear()
        self._cache_bytes = 0

    def context(self, user_id: str, base: str = "http://localhost") -> reader.Context:
        """Give what reading as a user's own app depends on."""
        token = self.tokens.of_user(self.world.users[user_id]).token
        return reader.Context(self.world, self.cursors, base, token, self.tokens.page_token, self._time_paging)

    def prebuild(self, fields: str) -> None:
        """Encode every post with these fields, so that not even the first walk has to. Raises ValueError."""
        try:
            wanted = parse(fields)
            if not is_steady("post", wanted):
                raise ValueError(f"only plain fields and limit(0) expansions can be prebuilt; got {fields!r}")
            for user in self.world.users.values():
                for page in user.pages.items:
                    posts = self.world.edge(page, "posts").items
                    self._fragments.of(self.context(user.id), posts, wanted)
        except GraphError as error:
            raise ValueError(error.message) from error

    def _populate(self) -> None:
        self.world: World = self._make_world()
        self.tokens = Tokens(self.world, self.world.clock, self.note, proof_required=self._proof_required)
        self.script = Script(self.world, self.note)
        self.reports = Reports(self.world, self.note, polls=self._job_polls)
        self._fragments = Fragments()

    def _open(self, request: Request) -> Exchange:
        params = dict(parse_qsl(request.query, keep_blank_values=True))
        token_in_query = "access_token" in params
        content_type = request.headers.get("content-type", "")
        if request.body and "json" in content_type:
            params.update(_json_params(request.body))
        elif request.body:
            params.update(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        token = bearer.strip() if scheme.lower() in {"bearer", "oauth"} else params.get("access_token", "")
        path = request.path.strip("/")
        first, _, rest = path.partition("/")
        match = VERSION.fullmatch(first)
        host = self._public_url or f"http://{request.headers.get('host', 'localhost')}"
        call = Exchange(
            request=request,
            path=rest if match else path,
            params=params,
            token=token,
            token_in_query=token_in_query,
            run=request.headers.get("x-sim-run", ""),
            base=f"{host}/{first}" if match else host,
            version=self._served(int(match[1])) if match else DEFAULT_VERSION,
        )
        call.grant = self.tokens.grant(token)
        call.user = (call.grant.user if call.grant else None) or ""
        self._aim(call)
        return call

    def _served(self, wanted: int) -> int:
        usable = [version for version, end in VERSION_ENDS.items() if end > self.clock.now()]
        if wanted in usable or wanted > DEFAULT_VERSION:
            return wanted  # one that does not exist yet is refused later
        return min(usable, default=DEFAULT_VERSION)

    def _aim(self, call: Exchange) -> None:
        """Find out whose data a call wants, before anything may refuse it: budgets and the log need it."""
        node, _, edge = call.path.partition("/")
        call.edge = edge or ("node" if node else "ids")
        if node == "me" and call.grant:
            node = call.grant.page or call.grant.user or ""
        call.scope = node
        item = self.world.visible(node)
        kind = item.kind if item else ""
        if (run := self.reports.find(node)) is not None:
            item, kind = run.account, run.account.kind
        call.owner = item.owner if item else node if node in self.world.users else ""
        charges = [Charge("app", APP_ID)]
        if call.user:
            charges.append(Charge("user", call.user))
        if item and kind in {"page", "post", "comment"}:
            page = item.id.partition("_")[0] if kind == "post" else item.id
            if kind == "comment":
                page = self.world.items[item.parent].parent
            charges.append(Charge("page", page))
        if item and kind in nodes.INSIGHT_NODES:
            account = item.id if kind == "account" else item.parent
            use_case = "insights" if edge == "insights" or run else "ad_account"
            charges.append(Charge(use_case, account.removeprefix("act_")))
        call.charges = tuple(charges)

    def _matching(self, call: Exchange) -> list[Rule]:
        if not self.faults.active:
            return []
        line = f"{call.request.method} {call.request.target}"
        reads = call.request.method != "POST"
        beside = faults.beside(
            paged=reads and call.edge in PAGED_EDGES,
            rows=reads and call.edge == "insights",
            cursor=bool(call.params.get("after") or call.params.get("before") or call.params.get("__paging_token")),
            creates_job=not reads and call.edge == "insights",
            result=reads and call.edge == "insights",
        )
        return self.faults.hits(
            line=line, user=call.user, edge=faults.FAMILIES.get(call.edge, call.edge), beside=beside
        )

    def _pointed_at(self, call: Exchange) -> Item | None:
        """Find the item that the call's cursor points at, so that a script can delete just that one."""
        family, cursor = call.edge, call.params.get("after", "")
        position = self.cursors.read(faults.FAMILIES.get(family, family), call.scope, cursor) if cursor else None
        item = self.world.visible(call.scope)
        if position is None or item is None or call.edge not in nodes.EDGES.get(item.kind, {}):
            return None
        listing = self.world.children(item, nodes.EDGES[item.kind][call.edge].listing)
        index = listing.index(position[:2])
        return None if index is None else listing.items[index]

    def _answer(self, call: Exchange) -> Body | list[Any]:
        if call.version > DEFAULT_VERSION:
            raise GraphError(2500, f"Unknown path components: /v{call.version}.0")
        method = call.params.pop("method", call.request.method).upper()
        if call.path in {"debug_token", "oauth/access_token"}:
            return self._token_call(call)
        forced = faults.error_of(call.rules, call.params, paged="/" in call.path)
        if forced:
            raise forced
        if call.path.startswith("me") and not call.token:
            raise GraphError(2500)
        call.grant = self.tokens.check(call.token, call.params)
        ids = call.params.get("ids", "") if not call.path else ""
        self._spend(call, max(1, len(ids.split(","))))
        if method in {"GET", "HEAD"}:
            return self._read_many(call, ids) if ids else self._read(call)
        if method == "POST" and call.path.endswith("/insights"):
            return self.reports.create(self._seen(call, call.scope), call.params, call.rules)
        raise missing(call.path, method.lower())

    def _token_call(self, call: Exchange) -> Body:
        if call.path == "oauth/access_token":
            return self.tokens.exchange(call.params)
        grant = self.tokens.check(call.token, call.params)
        wanted = call.params.get("input_token", "")
        if grant.user is not None and wanted != call.token:
            raise GraphError(100, "(#100) You must provide an app access token, or a user access token of a developer")
        return self.tokens.debug(wanted)

    def _spend(self, call: Exchange, count: int) -> None:
        if self.budgets.limits:
            page_token = bool(call.grant and call.grant.page)
            call.verdict = self.budgets.charge(call.charges, count, page_token=page_token)
            if call.verdict.error:
                raise call.verdict.error

    def _read_many(self, call: Exchange, ids: str) -> Body:
        wanted = [part.strip() for part in ids.split(",") if part.strip()]
        if not wanted or len(wanted) > MOST_IDS:
            raise invalid(f"Too many IDs. Maximum: {MOST_IDS}. Provided: {len(wanted)}.", blame="ids")
        fields = parse(call.params["fields"]) if call.params.get("fields") else None
        found = {}
        for item_id in wanted:
            if self.world.visible(item_id) is None and item_id not in self.world.users:
                raise GraphError(803, f"(#803) Some of the aliases you requested do not exist: {item_id}")
            found[item_id] = self._node(call, item_id, fields)
        call.items = len(found)
        return found

    def _read(self, call: Exchange) -> Body:
        node, _, edge = call.path.partition("/")
        if not node:
            raise GraphError(2500, "Unsupported get request: the root has nothing to read", status=400)
        run = self.reports.find(call.scope)
        if run is not None:
            self._seen(call, run.account.id)
            body = self.reports.read(run, edge, self._context(call), call.params, call.rules, call.path)
            return self._spoiled(call, body) if edge else body
        if not edge:
            fields = parse(call.params["fields"]) if call.params.get("fields") else None
            body = self._node(call, call.scope, fields)
            wrong = next((rule for rule in call.rules if rule.kind == "wrong_owner"), None)
            return body | {"id": str(wrong.options.get("id", "666"))} if wrong else body
        item = self._seen(call, call.scope)
        if edge == "insights" and item.kind in nodes.INSIGHT_NODES:
            return self._spoiled(call, self.reports.now(item, self._context(call), call.params, call.path))
        if edge not in nodes.EDGES.get(item.kind, {}):
            if "/" in edge:
                raise GraphError(2500, f"Unknown path components: /{edge}")
            raise reader.nonexisting(item.kind, edge)
        return self._edge(call, item, edge)

    def _edge(self, call: Exchange, item: Item, edge: str) -> Body:
        context = self._context(call)
        page = reader.select(context, item, edge, call.params)
        page = faults.on_page(call.rules, context, page, call.params)
        fields = reader.wanted_fields(call.params)
        steady = not call.rules and is_steady(page.edge.kind, fields)
        data = self._fragments.of(context, page.items, fields) if steady else None
        body = reader.edge_body(context, page, call.path, call.params, data)
        faults.on_body(call.rules, context, page, call.path, call.params, body)
        self._spoiled(call, body)
        call.page = page
        timeless = "insights" not in call.params.get("fields", "")
        call.cacheable = not call.rules and timeless and page.edge.kind in STEADY_KINDS
        return body

    def _spoiled(self, call: Exchange, body: Body) -> Body:
        before = len(self.served_malformed)
        call.raw = faults.on_items(call.rules, self.world.seed, body["data"], self.served_malformed)
        if len(self.served_malformed) > before:
            self.note("served_malformed", items=dict(islice(self.served_malformed.items(), before, None)))
        call.items = len(body["data"])
        return body

    def _node(self, call: Exchange, item_id: str, fields: Any) -> Body:
        return reader.project(self._context(call), self._seen(call, item_id), fields)

    def _seen(self, call: Exchange, item_id: str) -> Item:
        """Give an item the token may see. Raises as the API does for what is foreign, gone or unknown."""
        if item_id in self.world.users:
            item = self._user_item(item_id)
        else:
            found = self.world.visible(item_id)
            if found is None:
                raise missing(item_id)
            item = found
        grant = call.grant
        if grant is None or grant.user is None or grant.user == item.owner:
            return item
        if "/" in call.path and item.kind in {"account", "campaign", "adset", "ad"}:
            raise GraphError(200)
        if "/" in call.path and item.kind in {"page", "post", "comment"}:
            raise GraphError(10)
        raise missing(item_id)

    def _user_item(self, user_id: str) -> Item:
        item = Item("user", user_id, owner=user_id, parent="", created=0, number=0)
        item._body = {"id": user_id, "name": self.world.users[user_id].name}
        return item

    def _context(self, call: Exchange) -> reader.Context:
        return reader.Context(
            world=self.world,
            cursors=self.cursors,
            base=call.base,
            token=call.token,
            page_token=self.tokens.page_token,
            time_paging=self._time_paging,
            insights=self.reports.now,
        )

    def _written(self, call: Exchange, body: Body | list[Any]) -> Response:
        encoded = orjson.dumps(body)
        for marker, text in call.raw.items():
            encoded = encoded.replace(marker, text)
        etag = f'"{zlib.crc32(encoded):08x}{len(encoded):x}"'  # a real digest would cost more than building the page
        headers = [("content-type", JSON_TYPE), ("etag", etag), *self._common(call)]
        if call.request.headers.get("if-none-match") == etag:
            return Response(304, b"", [*headers, *self._varying(call)])
        if call.cacheable and call.request.method == "GET" and not call.request.body:
            self._keep(call, encoded, headers)
        return Response(200, encoded, [*headers, *self._varying(call)])

    def _error(self, call: Exchange, error: GraphError) -> Response:
        self._answered += 1
        trace = f"A{self._answered:09d}"
        headers = [("content-type", JSON_TYPE), *self._common(call), *self._varying(call, trace)]
        if error.status != 200:
            headers.append(("www-authenticate", error.challenge))
        for rule in call.rules:
            if rule.kind == "throttle":
                key = call.scope.removeprefix("act_") or APP_ID
                headers += throttle_headers(error.code, int(rule.options.get("minutes", 5)), key)
        return Response(error.status, orjson.dumps(error.envelope(trace)), headers)

    def _common(self, call: Exchange) -> list[tuple[str, str]]:
        old = next((rule for rule in call.rules if rule.kind == "old_version_header"), None)
        version = str(old.options.get("version", "v21.0")) if old else f"v{call.version}.0"
        return [("facebook-api-version", version), ("x-fb-rev", "1029384756"), ("cache-control", "private, no-store")]

    def _varying(self, call: Exchange, trace: str = "") -> list[tuple[str, str]]:
        if not trace:
            self._answered += 1
            trace = f"A{self._answered:09d}"
        usage = list(call.verdict.headers)
        for rule in call.rules:
            if rule.kind == "usage":
                forced = rule.options.get("headers", {})
                usage += [(str(n), v if isinstance(v, str) else orjson.dumps(v).decode()) for n, v in forced.items()]
        ids = [("x-fb-trace-id", trace), ("x-fb-request-id", trace), ("x-fb-debug", f"{trace}=")]
        return [("date", self.clock.http_date().decode()), *usage, *ids]

    def _keep(self, call: Exchange, body: bytes, headers: list[tuple[str, str]]) -> None:
        """Keep a page for the fast path, the oldest going when there are too many bytes."""
        assert call.page is not None
        if call.params.keys() & {"appsecret_time"} or any(
            reader.is_relative(call.params.get(name, "")) for name in ("since", "until")
        ):
            return
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        head = f"HTTP/1.1 200 OK\r\n{lines}content-length: {len(body)}\r\n".encode("latin-1")
        request = call.request
        key = tuple(
            request_part.encode("latin-1")
            for request_part in (
                request.target, request.headers.get("authorization", ""), request.headers.get("host", "")
            )
        )  # fmt: skip
        listing = call.page.listing
        page_token = bool(call.grant and call.grant.page)
        entry = Prebuilt(
            self._epoch + self.tokens.generation, listing, listing.generation, head, body, call.charges, page_token,
            call.user, call.owner, call.edge, call.scope, call.token_in_query, call.items,
        )  # fmt: skip
        old = self._cache.pop((key[0], key[1], key[2]), None)
        self._cache[(key[0], key[1], key[2])] = entry
        self._cache_bytes += len(body) - (len(old.body) if old else 0)
        while self._cache_bytes > CACHE_BYTES:
            self._cache_bytes -= len(self._cache.popitem(last=False)[1].body)


def _header(head: bytes, lowered: bytes, name: bytes) -> bytes:
    start = lowered.find(name)
    if start < 0:
        return b""
    start += len(name)
    return head[start : head.index(b"\r\n", start)].strip()


def _json_params(body: bytes) -> Mapping[str, str]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}  # the API reads what it can
    if not isinstance(value, dict):
        return {}
    return {name: item if isinstance(item, str) else orjson.dumps(item).decode() for name, item in value.items()}
