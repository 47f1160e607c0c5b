"""The REST simulator: `GET /transactions?page=N&per_page=M` with a key per user, and its control endpoints."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import parse_qsl

import orjson

from infra.local.graph import arguments
from infra.local.graph.calls import Calls
from infra.local.graph.clock import Clock
from infra.local.graph.control import REFUSALS
from infra.local.graph.http_server import Request, Response, listening
from infra.local.graph.journal import BadState, Event, Journal
from infra.local.graph.rules import Rule, Rules
from infra.local.rest import transactions
from infra.local.rest.transactions import Ledger, Transaction, truth

KINDS = {
    "throttle": ("retry_after", "silent"),
    "error500": ("status",),
    "malformed_item": ("share", "ids", "index"),
    "slow": ("seconds",),
    "reset": (),
    "html500": (),
    "truncate": ("bytes",),
}
DEFAULT_PER_PAGE, MOST_PER_PAGE = 20, 100
PATH = re.compile(r"(?:/v1)?(?:/users/(?P<user>[^/]+))?/transactions(?:/(?P<id>\d{1,18}))?")
"""The listing or one transaction; the key says whose, and a user in the path must be the same."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Everything the command line can say."""

    seed: int = 7
    users: int = 50
    transactions: int = 200
    spread: int = 365 * 86_400
    calls_per_minute: int = 0
    """Per key; above it 429. 0: no limit."""
    time_scale: float = 1.0
    now: Any = None
    state: Path | None = None


@dataclass(frozen=True)
class RestSimulator:
    """A running simulator; its parts may be used directly, beside the control endpoints."""

    url: str
    app: RestApp


@dataclass(slots=True)
class Window:
    """The calls of one key in its present minute."""

    minute: int = -1
    count: int = 0
    blocked_until: float = 0.0
    silent: bool = False
    """Whether the block is not told."""


@dataclass
class RestApp:
    """Answers calls about one ledger."""

    options: Options
    clock: Clock = field(init=False)
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        self.clock = Clock(fixed=self.options.now, scale=self.options.time_scale)
        self.faults = Rules(KINDS, seed=self.options.seed)
        self.calls = Calls()
        self._random = Random(f"{self.options.seed}/changes")
        self._windows: dict[str, Window] = {}
        self._spoiled: set[int] = set()
        self._journal = Journal(self.options.state)
        with self.clock.standing(self._journal.born):
            self._journal.begin(self.clock, self._made_from())
            self._populate()
        self._journal.replay(self.clock, self._repeat)

    def fast(self, head: bytes) -> tuple[bytes, bytes] | None:
        """Have every call parsed: this API is here for its manners, not for speed."""
        return None

    def handle(self, request: Request) -> Response:
        """Answer any call; the world's time stands meanwhile."""
        query = dict(parse_qsl(request.query))
        with self.clock.standing():
            return self._control(request, query) if request.path.startswith("/__sim/") else self._called(request, query)

    def _called(self, request: Request, query: dict[str, str]) -> Response:
        user = self._keys.get(request.headers.get("x-api-key", ""), "")
        line = f"{request.method} {request.target}"
        rules = self.faults.hits(line=line, user=user, edge="transactions") if self.faults.active else []
        blocked = bool(user) and self._is_blocked(user)
        response, items = self._answer(request, query, user, rules)
        response.headers += [("content-type", "application/json"), ("date", self.clock.http_date().decode())]
        self.calls.record(
            at=self.clock.now(), run=request.headers.get("x-sim-run", ""), method=request.method,
            target=request.target, user=user, owner=user, edge="transactions", scope=user, status=response.status,
            fault=",".join(rule.kind for rule in rules), blocked=blocked, items=items, size=len(response.body),
            token_in_query="key" in request.query.lower(),
        )  # fmt: skip
        return response

    def _answer(self, request: Request, query: dict[str, str], user: str, rules: list[Rule]) -> tuple[Response, int]:
        wanted = PATH.fullmatch(request.path.rstrip("/"))
        if wanted is None:
            return _error(404, "not_found", "no such resource"), 0
        if request.method != "GET":
            return _error(405, "method_not_allowed", "transactions can only be read"), 0
        if not user:
            return _error(401, "unauthorized", "a valid X-Api-Key is required"), 0
        if wanted["user"] not in {None, user}:
            return _error(403, "forbidden", "the key is another user's"), 0
        for rule in rules:
            if rule.kind == "throttle":
                wait, silent = float(rule.options.get("retry_after", 1)), bool(rule.options.get("silent"))
                return self._throttled(user, wait, silent=silent), 0
            if rule.kind == "reset":
                return Response(reset=True), 0
            if rule.kind == "html500":
                return Response(500, b"<html><body>Internal Server Error</body></html>"), 0
            if rule.kind == "error500":
                return _error(int(rule.options.get("status", 500)), "internal", "something went wrong"), 0
        if (wait := self._spend(user)) > 0:
            return self._throttled(user, wait, silent=self._windows[user].silent), 0
        return self._one(int(wanted["id"]), user) if wanted["id"] else self._page(query, user, rules)

    def _one(self, transaction_id: int, user: str) -> tuple[Response, int]:
        found = self.ledger.find(transaction_id)
        if found is None or found[0] != user or found[1].deleted_at is not None:
            return _error(404, "not_found", "no such transaction"), 0
        return Response(200, orjson.dumps(found[1].item)), 1

    def _page(self, query: dict[str, str], user: str, rules: list[Rule]) -> tuple[Response, int]:
        page, size = query.get("page", "1"), query.get("per_page", str(DEFAULT_PER_PAGE))
        if not page.isdigit() or int(page) < 1:
            return _error(400, "bad_request", "page must be a whole number from 1 on"), 0
        if not size.isdigit() or not 1 <= int(size) <= MOST_PER_PAGE:
            return _error(400, "bad_request", f"per_page must be a whole number from 1 to {MOST_PER_PAGE}"), 0
        listed = self.ledger.listed(user)
        start = (int(page) - 1) * int(size)
        chosen = listed[start : start + int(size)]
        items = [self._spoil(rules, entry, index) for index, entry in enumerate(chosen)]
        has_more = len(listed) > start + int(size)
        body = orjson.dumps({"items": items, "page": int(page), "per_page": int(size), "has_more": has_more})
        response = Response(200, body)
        for rule in rules:
            if rule.kind == "slow":
                response.delay = float(rule.options.get("seconds", 1))
            if rule.kind == "truncate":
                response.body = body[: int(rule.options.get("bytes", len(body) // 2))]
        return response, len(items)

    def _spoil(self, rules: list[Rule], entry: Transaction, index: int) -> dict[str, Any]:
        for rule in rules:
            if rule.kind == "malformed_item" and self._spoils(rule, entry, index):
                if entry.item["id"] not in self._spoiled:
                    self._journal.note("served_malformed", id=entry.item["id"])
                    self._spoiled.add(entry.item["id"])
                return entry.item | {"created_at": "not a time", "amount": "NaN"}
        return entry.item

    def _spoils(self, rule: Rule, entry: Transaction, index: int | None) -> bool:
        if "ids" in rule.options:
            return entry.item["id"] in rule.options["ids"]
        if "share" in rule.options:
            digest = hashlib.blake2b(f"{self.options.seed}/{entry.item['id']}".encode(), digest_size=4).digest()
            return int.from_bytes(digest) < float(rule.options["share"]) * 2**32
        return index == int(rule.options.get("index", 0))

    def _throttled(self, user: str, wait: float, *, silent: bool) -> Response:
        """Refuse with `Retry-After` in whole seconds of real time, or without it."""
        window = self._windows.setdefault(user, Window())
        window.silent = silent
        window.blocked_until = max(window.blocked_until, self.clock.elapsed() + wait)
        response = _error(429, "too_many_requests", "slow down")
        if not silent:
            response.headers.append(("retry-after", str(max(1, -(-int(1000 * wait / self.clock.scale) // 1000)))))
        return response

    def _is_blocked(self, user: str) -> bool:
        return self.clock.elapsed() < self._windows.setdefault(user, Window()).blocked_until

    def _spend(self, user: str) -> float:
        """Count a call; gives the seconds to wait when the minute is used up or a wait is not over."""
        window, now = self._windows.setdefault(user, Window()), self.clock.elapsed()
        if now < window.blocked_until:
            return window.blocked_until - now
        minute = int(now // 60)
        window.silent = False
        if window.minute != minute:
            window.minute, window.count = minute, 0
        window.count += 1
        over = self.options.calls_per_minute and window.count > self.options.calls_per_minute
        return (minute + 1) * 60 - now if over else 0.0

    def _populate(self) -> None:
        shape = self.options
        self.ledger = transactions.build(
            self.clock, seed=shape.seed, users=shape.users, transactions=shape.transactions, spread=shape.spread
        )
        self._keys = {f"key-{index}": user for index, user in enumerate(self.ledger.users)}

    def _made_from(self) -> dict[str, object]:
        """Give all that decides what the ledger is like before anything happens to it."""
        shape = {name: value for name, value in asdict(self.options).items() if name not in {"state", "now"}}
        return {**shape, "now": self.options.now.isoformat() if self.options.now else None}

    def _repeat(self, event: Event) -> None:
        """Make one change again; what was refused is refused again. Raises BadState."""
        if event["do"] == "served_malformed":
            self._spoiled.add(event["id"])
        elif event["do"] == "control":
            with contextlib.suppress(*REFUSALS):
                self.control(event["name"], event["query"], event["body"])
        else:
            raise BadState(f"the state file tells of {event['do']!r}, which this simulator does not know")

    def _control(self, request: Request, query: dict[str, str]) -> Response:
        name = f"{request.method} {request.path.removeprefix('/__sim/')}"
        try:
            body = orjson.loads(request.body) if request.body else {}
            if request.method != "GET":
                self._journal.note("control", name=name, query=query, body=body)
            return Response(200, orjson.dumps(self.control(name, query, body)), [("content-type", "application/json")])
        except REFUSALS as error:
            return _error(400, "refused", str(error))

    def control(self, name: str, query: dict[str, str], body: Any) -> dict[str, Any]:
        """Answer a control call such as `GET truth`. Raises ValueError with the reason of a refusal."""
        users = [self._user(query["user"])] if query.get("user") else list(self.ledger.users)
        match name:
            case "GET world":
                keys = {user: key for key, user in self._keys.items()}
                listed = [{"id": u, "key": keys[u], "transactions": len(self.ledger.listed(u))} for u in users]
                return {"seed": self.options.seed, "now": self.clock.now(), "users": listed}
            case "GET truth":
                rows = [self._truth(user, entry) for user in users for entry in self.ledger.users[user]]
                expected = [row["id"] for row in rows if row["visible"]]
                return {"now": self.clock.now(), "rows": rows, "expected": expected}
            case "GET calls":
                only: dict[str, Any] = {"user": users[0]} if query.get("user") else {}
                return self.calls.view(run=query.get("run"), log=query.get("log") == "1", **only)
            case "GET faults":
                return {"faults": [rule.view() for rule in self.faults.active], "kinds": sorted(KINDS)}
            case "POST faults":
                wanted = body if isinstance(body, list) else [body]
                added = [self.faults.add(f, user=self._user(f["user"]) if f.get("user") else None) for f in wanted]
                return {"faults": [rule.view() for rule in added]}
            case "DELETE faults":
                return {"removed": self.faults.remove(int(query["id"]) if "id" in query else None)}
            case "POST mutate":
                changes = body if isinstance(body, list) else [body]
                return {"rows": [row for change in changes for row in self._mutate(change)]}
            case "POST reset":
                self._populate()
                self.calls.clear()
                self.faults.remove()
                self._windows.clear()
                self._spoiled.clear()
                return {"reset": True}
        raise ValueError(f"no control endpoint {name}")

    def _mutate(self, change: dict[str, Any]) -> list[dict[str, Any]]:
        """Create (`user`, `count`, `age_seconds`, `item`), edit (`id`, `item`) or delete (`id`)."""
        if change.get("do") == "create":
            user = self._user(change.get("user", ""))
            created = self.clock.now() - float(change.get("age_seconds", 0))
            count = int(change.get("count", 1))
            made = [self.ledger.add(user, created, change.get("item", {}), self._random) for _ in range(count)]
            return [self._truth(user, entry) for entry in made]
        if change.get("do") not in {"edit", "delete"}:
            raise ValueError(f"do must be create, edit or delete; got {change.get('do')!r}")
        found = self.ledger.find(change.get("id", 0))
        if found is None:
            raise ValueError(f"there is no transaction {change.get('id')!r}")
        user, entry = found
        entry.version += 1
        if change["do"] == "delete":
            entry.deleted_at = int(self.clock.now())
        else:
            entry.item = {**entry.item, **change.get("item", {"amount": entry.item["amount"] + 1})}
        return [self._truth(user, entry)]

    def _truth(self, user: str, entry: Transaction) -> dict[str, Any]:
        lasting = [rule for rule in self.faults.active if rule.kind == "malformed_item"]
        malformed = any(rule.user in {None, user} and self._spoils(rule, entry, None) for rule in lasting)
        return truth(user, entry) | {"malformed": malformed, "malformed_served": entry.item["id"] in self._spoiled}

    def _user(self, name: str) -> str:
        user = self._keys.get(f"key-{name}", str(name))
        if user not in self.ledger.users:
            raise ValueError(f"there is no user {name!r}")
        return user


def _error(status: int, code: str, message: str) -> Response:
    return Response(status, orjson.dumps({"error": {"code": code, "message": message}}))


def build(options: Options) -> RestApp:
    """Make the simulator without a port."""
    return RestApp(options)


@contextlib.asynccontextmanager
async def running(
    options: Options | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[RestSimulator]:
    """Serve in the current loop; a blocking client needs a thread or a process of its own."""
    app = build(options or Options())
    async with listening(app, host=host, port=port) as found:
        yield RestSimulator(f"http://{host}:{found}", app)


def parse(argv: Sequence[str]) -> tuple[Options, str, int]:
    """Read a command line; gives options, host and port, or exits naming the value that is wrong."""
    whole, usual = arguments.whole, Options()
    parser = argparse.ArgumentParser(prog="python -m infra.local.rest", description="A REST API, simulated.")
    add = parser.add_argument
    add("--port", type=whole(0, 65_535), default=8081, help="0 takes a free one (default 8081)")
    add("--host", default="127.0.0.1")
    add("--seed", type=whole(0), default=usual.seed)
    add("--users", type=whole(1, 100_000), default=usual.users)
    add("--transactions", type=whole(0, 100_000), default=usual.transactions, help="per user")
    add("--spread", type=arguments.duration, default=usual.spread, help="how far back they go (default 365d)")
    add("--calls-per-minute", type=whole(0), default=0, help="per key; 0: no limit")
    add("--time-scale", type=arguments.scale, default=1.0, help="a minute of waiting lasts 60/SCALE seconds")
    add("--now", type=arguments.moment, help="fix the world's clock at this instant")
    add("--state", type=Path, metavar="FILE", help="keep what happens to the ledger here, and go on from there")
    given = parser.parse_args(argv)
    names = ("seed", "users", "transactions", "spread", "calls_per_minute", "time_scale", "now", "state")
    return Options(**{name: getattr(given, name) for name in names}), given.host, given.port
