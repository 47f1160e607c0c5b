"""Access tokens: whose they are, and why they no longer work."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.local.graph.clock import Clock
from infra.local.graph.errors import GraphError, invalid
from infra.local.graph.journal import Note
from infra.local.graph.world import Item, User, World

APP_ID = "4200000000"
APP_SECRET = "simulator-app-secret"  # noqa: S105 - the simulator's own, public by design
APP_TOKEN = f"{APP_ID}|{APP_SECRET}"
PROOF_SECONDS = 300
SCOPES = ("pages_show_list", "pages_read_engagement", "pages_read_user_content", "ads_read", "public_profile")
LONG_LIVED_SECONDS = 5_183_944
ACTIONS = ("rotate", "revoke", "expire", "revive")


@dataclass(slots=True)
class Grant:
    """One token: its user (None for the app's own), its page if it is a page's, and the subcode that killed it."""

    token: str
    user: str | None
    page: str | None = None
    dead: int | None = None
    issued: int = 0


class Tokens:
    """Every token of the world."""

    def __init__(self, world: World, clock: Clock, note: Note, *, proof_required: bool = False) -> None:
        self._world = world
        self._note = note
        self._clock = clock
        self._proof_required = proof_required
        self._grants: dict[str, Grant] = {APP_TOKEN: Grant(APP_TOKEN, None)}
        self._current: dict[str, str] = {}
        self._issued = 0
        self.generation = 0
        for user in world.users.values():
            self._issue(user.id, f"tok-{user.alias}")
        self._grants["tok-expired"] = Grant("tok-expired", None, dead=463)
        self._grants["tok-revoked"] = Grant("tok-revoked", None, dead=467)

    def grant(self, token: str) -> Grant | None:
        """Give what a token stands for, dead or alive."""
        found = self._grants.get(token)
        if found is None and "-page-" in token:
            owner, _, page_id = token.partition("-page-")
            page, user = self._world.items.get(page_id), self._grants.get(owner)
            if page is not None and page.kind == "page" and user is not None and user.user == page.owner:
                found = self._grants[token] = Grant(token, page.owner, page_id, issued=user.issued)
        return found

    def of_user(self, user: User) -> Grant:
        """Give a user's present token."""
        return self._grants[self._current[user.id]]

    def page_token(self, page: Item) -> str:
        """Give the token of a page; it lives and dies with its user's token."""
        return f"{self._current[page.owner]}-page-{page.id}"

    def check(self, token: str, params: Mapping[str, str]) -> Grant:
        """Give the grant of a token that may be used now. Raises GraphError 104, 190 or 100."""
        if not token:
            raise GraphError(104)
        grant = self.grant(token)
        if grant is None:
            raise GraphError(190, "Invalid OAuth access token - Cannot parse access token")
        dead = grant.dead
        if dead is None and grant.page is not None:
            dead = self._grants[token.partition("-page-")[0]].dead
        if dead is not None:
            raise GraphError(190, subcode=dead)
        self._check_proof(token, params)
        return grant

    def change(self, user: User, action: str, *, subcode: int | None = None) -> Grant:
        """Rotate, revoke, expire or revive a user's token; gives the user's present grant."""
        grant = self.of_user(user)
        if action == "rotate":
            grant.dead = subcode or 460
            self._issued += 1
            grant = self._issue(user.id, f"tok-{user.alias}-r{self._issued}")
        elif action == "revoke":
            grant.dead = subcode or 467
        elif action == "expire":
            grant.dead = subcode or 463
        elif action == "revive":
            grant.dead = None
        else:
            raise ValueError(f"action must be one of {', '.join(ACTIONS)}, not {action!r}")
        self.generation += 1
        return grant

    def exchange(self, params: Mapping[str, str]) -> dict[str, Any]:
        """Answer `oauth/access_token`."""
        if params.get("client_id") != APP_ID or params.get("client_secret") != APP_SECRET:
            raise GraphError(1, "Error validating client secret.", status=400, transient=False)
        kind = params.get("grant_type", "")
        if kind == "client_credentials":
            return {"access_token": APP_TOKEN, "token_type": "bearer"}
        if kind != "fb_exchange_token":
            raise invalid("Invalid grant_type", blame="grant_type")
        grant = self.check(params.get("fb_exchange_token", ""), {})
        if grant.user is None or grant.page:
            raise invalid("Only user tokens can be exchanged", blame="fb_exchange_token")
        self._note("exchange", user=grant.user)
        fresh = self.add_long_lived(grant.user)
        return {"access_token": fresh.token, "token_type": "bearer", "expires_in": LONG_LIVED_SECONDS}

    def add_long_lived(self, user_id: str) -> Grant:
        """Issue one more token beside the user's present one."""
        self._issued += 1
        alias = self._world.users[user_id].alias
        fresh = Grant(f"tok-{alias}-x{self._issued}", user_id, issued=int(self._clock.now()))
        self._grants[fresh.token] = fresh
        return fresh

    def debug(self, token: str) -> dict[str, Any]:
        """Answer `debug_token`."""
        grant = self.grant(token)
        if grant is None:
            error = {"code": 190, "message": "Invalid OAuth access token."}
            return {"data": {"error": error, "is_valid": False, "scopes": []}}
        kind = "APP" if token == APP_TOKEN else "PAGE" if grant.page else "USER"
        data: dict[str, Any] = {
            "app_id": APP_ID,
            "type": kind,
            "application": "Simulator",
            "data_access_expires_at": int(self._clock.now()) + 90 * 86_400,
            "expires_at": 0,
            "is_valid": grant.dead is None,
            "issued_at": grant.issued,
            "scopes": list(SCOPES),
            "granular_scopes": [{"scope": scope} for scope in SCOPES],
        }
        if grant.user:
            data["user_id"] = grant.user
        if grant.page:
            data["profile_id"] = grant.page
        if grant.dead is not None:
            error_text = GraphError(190, subcode=grant.dead).message
            data["error"] = {"code": 190, "message": error_text, "subcode": grant.dead}
            data["expires_at"] = int(self._clock.now()) - 60 if grant.dead == 463 else 0
        return {"data": data}

    def _issue(self, user_id: str, token: str) -> Grant:
        grant = Grant(token, user_id, issued=int(self._clock.now()))
        self._grants[token] = grant
        self._current[user_id] = token
        return grant

    def _check_proof(self, token: str, params: Mapping[str, str]) -> None:
        proof, moment = params.get("appsecret_proof"), params.get("appsecret_time")
        if proof is None:
            if self._proof_required:
                raise GraphError(100, "API calls from the server require an appsecret_proof argument")
            return
        message = token if moment is None else f"{token}|{moment}"
        expected = hmac.new(APP_SECRET.encode(), message.encode(), hashlib.sha256).hexdigest()
        stale = moment is not None and not (
            re.fullmatch(r"\d{1,12}", moment) and abs(self._clock.now() - int(moment)) <= PROOF_SECONDS
        )
        if stale or not hmac.compare_digest(proof.encode(), expected.encode()):
            raise GraphError(100, "Invalid appsecret_proof provided in the API argument", type="GraphMethodException")
