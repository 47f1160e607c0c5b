"""The control endpoints, `/__sim/…`: the truth, the call log, faults, changes, tokens, budgets, the clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import orjson

from infra.local.graph import faults, reader, truth
from infra.local.graph.clock import instant, iso
from infra.local.graph.fields import Fields, parse
from infra.local.graph.http_server import Request, Response
from infra.local.graph.rules import BadRule
from infra.local.graph.script import BadChange
from infra.local.graph.tokens import ACTIONS, APP_ID, APP_SECRET, APP_TOKEN
from infra.local.graph.world import Body, Item, User

if TYPE_CHECKING:
    from infra.local.graph.app import GraphApp

RESETS = ("calls", "faults", "script", "budgets", "jobs", "world")
Answer = dict[str, Any] | list[Any]


class Refused(ValueError):
    """A control call that makes no sense: the text says why."""


REFUSALS = (Refused, BadRule, BadChange, ValueError, TypeError, KeyError, AttributeError, OverflowError)
"""What a control call with a strange body may raise; whoever starts on a state file meets it again."""


class Control:
    """Answers control calls; every refusal is a 400 with its reason."""

    def __init__(self, app: GraphApp) -> None:
        self._app = app
        self._routes: dict[tuple[str, str], Callable[[dict[str, str], Any], Answer]] = {
            ("GET", "world"): self.world,
            ("GET", "truth"): self.truth,
            ("GET", "calls"): self.calls,
            ("GET", "faults"): self.faults,
            ("POST", "faults"): self.add_faults,
            ("DELETE", "faults"): self.remove_faults,
            ("POST", "mutate"): self.mutate,
            ("DELETE", "mutate"): self.forget_script,
            ("GET", "budgets"): self.budgets,
            ("POST", "budgets"): self.set_budgets,
            ("GET", "clock"): self.clock,
            ("POST", "clock"): self.set_clock,
            ("POST", "reset"): self.reset,
        }

    def handle(self, request: Request) -> Response:
        """Answer one control call."""
        parts = request.path.strip("/").split("/")[1:]
        query = dict(parse_qsl(request.query))
        try:
            body = orjson.loads(request.body) if request.body else {}
            if len(parts) == 3 and (parts[0], parts[2], request.method) == ("users", "token", "POST"):
                self._note(request, body)
                answer: Answer = self.token(parts[1], body)
            elif route := self._routes.get((request.method, "/".join(parts))):
                self._note(request, body)
                answer = route(query, body)
            else:
                return _json(404, {"refused": f"no control endpoint {request.method} {request.path}"})
        except REFUSALS as error:
            return _json(400, {"refused": str(error)})
        return _json(200, answer)

    def _note(self, request: Request, body: Any) -> None:
        """Take down what may change something, refused or not: a refused list of changes may be half made."""
        if request.method != "GET":
            self._app.note("control", method=request.method, target=request.target, body=body)

    def world(self, query: dict[str, str], body: Any) -> Answer:
        """Who there is: users with tokens, pages, ad accounts and counts."""
        app = self._app
        users: list[dict[str, Any]] = []
        chosen = [self._user(query["user"])] if query.get("user") else list(app.world.users.values())
        for user in chosen:
            grant = app.tokens.of_user(user)
            pages = [
                {"id": page.id, "name": app.world.body(page).get("name"), "token": app.tokens.page_token(page),
                 "posts": len(app.world.edge(page, "posts").items)}
                for page in user.pages.items
            ]  # fmt: skip
            accounts = [
                {"id": account.id, "account_id": account.id.removeprefix("act_"),
                 "ads": len(app.world.edge(account, "ads").items)}
                for account in user.accounts.items
            ]  # fmt: skip
            users.append(
                {"id": user.id, "name": user.name, "token": grant.token, "token_valid": grant.dead is None,
                 "pages": pages, "ad_accounts": accounts}
            )  # fmt: skip
        counts = {
            "users": len(app.world.users),
            "pages": sum(len(user["pages"]) for user in users),
            "ad_accounts": sum(len(user["ad_accounts"]) for user in users),
            "posts": sum(page["posts"] for user in users for page in user["pages"]),
            "ads": sum(account["ads"] for user in users for account in user["ad_accounts"]),
        }
        return {
            "seed": app.world.seed, "now": iso(app.clock.now()), "end": iso(app.world.end), "counts": counts,
            "app": {"id": APP_ID, "secret": APP_SECRET, "token": APP_TOKEN}, "users": users,
        }  # fmt: skip

    def truth(self, query: dict[str, str], body: Any) -> Answer:
        """Every item that matches `user`, `scope`, `edge`; `expected` for `since` and `until`."""
        app = self._app
        edges = tuple((query.get("edge") or "posts").split(","))
        edges = truth.EDGES if edges == ("all",) else edges
        if unknown := [edge for edge in edges if edge not in truth.EDGES]:
            raise Refused(f"edge must be all or some of {', '.join(truth.EDGES)}; got {unknown[0]!r}")
        wanted = truth.Wanted(
            edges=edges,
            user=self._user(query["user"]) if query.get("user") else None,
            scope=query.get("scope", ""),
            since=_time(query, "since"),
            until=_time(query, "until"),
            fields=parse(query["fields"]) if query.get("fields") else None,
            with_items=query.get("items", "") in {"1", "true"},
        )
        app.reveal()
        found = list(truth.rows(app.world, app.reports, wanted, self._project, self._malformed))
        for row in found:
            row["malformed_served"] = app.served_malformed.get(row["id"], False)
        return {"now": app.clock.now(), "rows": found, "expected": truth.expected(found, wanted)}

    def calls(self, query: dict[str, str], body: Any) -> Answer:
        """What was called: `run`, `user`, `edge`, `scope`, `status`, `code`, `log=1`, `limit`."""
        only: dict[str, str] = {
            name: query[name] for name in ("edge", "scope", "status", "code", "owner") if name in query
        }
        if query.get("user"):
            only["user"] = self._user(query["user"]).id
        limit = query.get("limit", "1000")
        if not limit.isdigit():
            raise Refused(f"limit must be a whole number; got {limit!r}")
        return self._app.calls.view(
            run=query.get("run"), log=query.get("log", "") in {"1", "true"}, limit=int(limit), **only
        )

    def faults(self, query: dict[str, str], body: Any) -> Answer:
        """The faults in force with how often each matched and fired."""
        return {"faults": [rule.view() for rule in self._app.faults.active], "kinds": sorted(faults.KINDS)}

    def add_faults(self, query: dict[str, str], body: Any) -> Answer:
        """Put one fault, or a list of them, in force."""
        added = []
        for wanted in body if isinstance(body, list) else [body]:
            if not isinstance(wanted, dict):
                raise Refused("a fault is an object with a kind")
            how = wanted.get("how", "id_missing")
            if wanted.get("kind") == "malformed_item" and how not in faults.MALFORMED:
                raise Refused(f"how must be one of {', '.join(faults.MALFORMED)}; got {how!r}")
            user = self._user(str(wanted["user"])).id if wanted.get("user") is not None else None
            edge = str(wanted["edge"]) if wanted.get("edge") is not None else None
            rule = self._app.faults.add({**wanted, "edge": edge and faults.FAMILIES.get(edge, edge)}, user=user)
            added.append(rule.view())
        return {"faults": added}

    def remove_faults(self, query: dict[str, str], body: Any) -> Answer:
        """Lift the fault `id`, or all."""
        wanted = query.get("id")
        if wanted is not None and not wanted.isdigit():
            raise Refused(f"id must be a fault's number; got {wanted!r}")
        return {"removed": self._app.faults.remove(int(wanted) if wanted else None)}

    def mutate(self, query: dict[str, str], body: Any) -> Answer:
        """Change the world now, or at a call; gives the truth of what was touched."""
        touched: list[Item] = []
        changes = body if isinstance(body, list) else [body]
        for change in changes:
            if not isinstance(change, dict):
                raise Refused("a change is an object with `do`")
            touched += self._app.script.plan(change)
        rows = [
            {"id": item.id, "user": item.owner, "scope": item.parent, "version": item.version,
             "created": item.created, "deleted": item.deleted_at is not None,
             "updated_time": self._app.world.body(item).get("updated_time")}
            for item in touched
        ]  # fmt: skip
        return {"rows": rows, "waiting": len(self._app.script.steps)}

    def forget_script(self, query: dict[str, str], body: Any) -> Answer:
        """Forget the changes that wait for a call."""
        forgotten = len(self._app.script.steps)
        self._app.script.steps.clear()
        return {"removed": forgotten}

    def budgets(self, query: dict[str, str], body: Any) -> Answer:
        """The budgets and their state."""
        return self._app.budgets.view()

    def set_budgets(self, query: dict[str, str], body: Any) -> Answer:
        """Set calls per hour by kind; 0 lifts one."""
        if not isinstance(body, dict):
            raise Refused("budgets are an object of calls per hour by kind")
        self._app.budgets.set(body)
        return self._app.budgets.view()

    def clock(self, query: dict[str, str], body: Any) -> Answer:
        """The world's time."""
        return {"now": self._app.clock.now(), "iso": iso(self._app.clock.now())}

    def set_clock(self, query: dict[str, str], body: Any) -> Answer:
        """Advance by `advance` seconds, or go to `now` (ISO or unix; `fixed` lets it stand)."""
        if not isinstance(body, dict) or not {"advance", "now"} & body.keys():
            raise Refused("give advance (seconds) or now (an instant)")
        if "advance" in body:
            seconds = instant(body["advance"])
            if seconds is None:
                raise Refused(f"advance must be seconds; got {body['advance']!r}")
            self._app.clock.advance(seconds)
        else:
            moment = instant(body["now"])
            if moment is None:
                raise Refused(f"now must be an instant; got {body['now']!r}")
            self._app.clock.set(moment, fixed=bool(body.get("fixed", True)))
        return self.clock(query, body)

    def reset(self, query: dict[str, str], body: Any) -> Answer:
        """Start again: everything, or what the list `what` names."""
        what = body.get("what", list(RESETS)) if isinstance(body, dict) else []
        if unknown := [name for name in what if name not in RESETS]:
            raise Refused(f"what must be some of {', '.join(RESETS)}; got {unknown[0]!r}")
        self._app.reset(frozenset(what))
        return {"reset": sorted(what)}

    def token(self, name: str, body: Any) -> Answer:
        """Rotate, revoke, expire or revive a user's token."""
        action = body.get("action", "rotate") if isinstance(body, dict) else ""
        if action not in ACTIONS:
            raise Refused(f"action must be one of {', '.join(ACTIONS)}; got {action!r}")
        user = self._user(name)
        grant = self._app.tokens.change(user, action, subcode=body.get("subcode"))
        return {"user": user.id, "token": grant.token, "token_valid": grant.dead is None}

    def _user(self, name: str) -> User:
        user = self._app.world.user(name)
        if user is None:
            raise Refused(f"there is no user {name!r}")
        return user

    def _project(self, item: Item, fields: Fields) -> Body:
        return reader.project(self._app.context(item.owner), item, fields)

    def _malformed(self, owner: str, item_id: str, edge: str) -> str | None:
        return faults.malformed_by(self._app.faults.active, self._app.world.seed, owner, item_id, edge)


def _time(query: dict[str, str], name: str) -> int | None:
    if not query.get(name):
        return None
    moment = instant(query[name])
    if moment is None:
        raise Refused(f"{name} must be unix seconds or an ISO instant; got {query[name]!r}")
    return int(moment)


def _json(status: int, body: Answer) -> Response:
    return Response(status, orjson.dumps(body), [("content-type", "application/json")])
