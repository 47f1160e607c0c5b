"""Reads a world from a file: one JSON object a line, `{"user", "scope"?, "edge", "item"}`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson

from infra.local.graph.clock import Clock, instant
from infra.local.graph.seeded import FIRST_ACCOUNT, FIRST_PAGE, SeededMaker, Shape
from infra.local.graph.world import Body, Item, User, World

EDGES = ("posts", "published_posts", "feed", "comments", "ads", "insights", "profile")
USER_ID = re.compile(r"[A-Za-z0-9._:@-]{1,128}")
MOST_LINE_BYTES = 8 * 1024 * 1024


class BadWorld(ValueError):
    """A line of a world file that cannot be served: the text names the line and the reason."""


def load(path: Path, *, seed: int, clock: Clock) -> World:
    """Make the world that a file describes. Raises BadWorld for the first line that is wrong, OSError if unreadable."""
    end = int(clock.now())
    world = World(seed=seed, clock=clock, maker=_NoMaker(Shape(seed=seed, users=0), end), end=end)
    reader = _Reader(world)
    late: list[tuple[int, dict[str, Any]]] = []
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            if raw.strip():
                line = _parsed(number, raw)
                if line["edge"] in {"comments", "insights"}:
                    late.append((number, line))  # they hang on what may come further down
                    reader.user(line["user"])
                else:
                    _guarded(number, reader.add, line)
    for number, line in late:
        _guarded(number, reader.add, line)
    if not world.users:
        raise BadWorld(f"{path.name}: there is no line in it")
    reader.finish()
    return world


class _NoMaker(SeededMaker):
    """A world file says everything; nothing is made up beside it."""

    def body(self, item: Item) -> Body:
        """Give the body of an item that the file did not describe, such as the page of a user."""
        if item.kind == "page":
            return {"id": item.id, "name": f"Page {item.id}", "category": "Community", "tasks": ["ANALYZE"]}
        return super().body(item)

    def counts(self, item: Item) -> tuple[int, int, int]:
        """Give no seeded comments and reactions."""
        return 0, 0, 0

    def post_of_comment(self, comment_id: str) -> str | None:
        """Know no comments but those of the file."""
        return None


def _parsed(number: int, raw: bytes) -> dict[str, Any]:
    if len(raw) > MOST_LINE_BYTES:
        raise BadWorld(f"line {number}: longer than {MOST_LINE_BYTES} bytes")
    try:
        line = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadWorld(f"line {number}: not JSON ({error})") from error
    if not isinstance(line, dict):
        raise BadWorld(f"line {number}: not an object")
    if unknown := sorted(line.keys() - {"user", "scope", "edge", "item"}):
        raise BadWorld(f"line {number}: unknown key {unknown[0]!r}; a line has user, scope, edge and item")
    user = line.get("user")
    if not isinstance(user, str) or not USER_ID.fullmatch(user):
        raise BadWorld(f"line {number}: user must be text of letters, digits and ._:@-; got {user!r}")
    if "scope" in line and (not isinstance(line["scope"], str) or not USER_ID.fullmatch(line["scope"])):
        raise BadWorld(f"line {number}: scope must be text of letters, digits and ._:@-; got {line['scope']!r}")
    if line.get("edge") not in EDGES:
        raise BadWorld(f"line {number}: edge must be one of {', '.join(EDGES)}; got {line.get('edge')!r}")
    if not isinstance(line.get("item"), dict):
        raise BadWorld(f"line {number}: item must be an object")
    return line


def _guarded(number: int, add: Callable[[dict[str, Any]], None], line: dict[str, Any]) -> None:
    try:
        add(line)
    except ValueError as error:
        raise BadWorld(f"line {number}: {error}") from error


class _Reader:
    """Adds lines to a world; pages and ad accounts come into being when a line names them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._number = 0

    def user(self, user_id: str) -> User:
        return self._world.users.setdefault(user_id, User(id=user_id, name=user_id, alias=user_id))

    def add(self, line: dict[str, Any]) -> None:
        user, edge, item, scope = self.user(line["user"]), line["edge"], line["item"], line.get("scope", "")
        if edge == "profile":
            page = self._node(user, "page", scope or str(item.get("id", "")))
            page._body = {**self._world.body(page), **item, "id": page.id}
            self._know("page", item)
        elif edge == "insights":
            self._insight(user, scope, item)
        elif edge == "comments":
            post = self._world.items.get(scope or str(item.get("post_id", "")))
            if post is None or post.kind != "post":
                raise ValueError(f"comments need a scope that is the id of a post in this file; got {scope!r}")
            if post.owner != user.id:
                raise ValueError(f"the post {post.id!r} belongs to the user {post.owner!r}, not to {user.id!r}")
            self._item("comment", post, item)
        elif edge == "ads":
            self._item("ad", self._node(user, "account", scope), item)
        else:
            page = self._node(user, "page", scope)
            author = item.get("from")
            if isinstance(author, dict) and author.get("id", page.id) != page.id:
                self._world.known_fields["visitor posts"] = {"yes"}
            self._item("post", page, item)

    def finish(self) -> None:
        """Give every user a page and an ad account, so that each edge answers."""
        for user in self._world.users.values():
            self._node(user, "page", "")
            self._node(user, "account", "")

    def _item(self, kind: str, parent: Item, body: Body) -> None:
        item_id = body.get("id")
        if not isinstance(item_id, str) or not item_id:
            raise ValueError(f"item.id must be text; got {item_id!r}")
        if item_id in self._world.items or item_id in self._world.users:
            raise ValueError(f"item.id {item_id!r} is there already")
        created = instant(body.get("created_time"))
        if created is None and not (kind == "ad" and "created_time" not in body):
            raise ValueError(f"item.created_time must be a time; got {body.get('created_time')!r}")
        self._number += 1
        seconds = int(created if created is not None else self._world.end)
        item = Item(kind, item_id, owner=parent.owner, parent=parent.id, created=seconds, number=self._number)
        self._world.put(item, body, visible_at=float(seconds))
        self._know(kind, body)

    def _insight(self, user: User, scope: str, row: Body) -> None:
        account = self._node(user, "account", scope)
        if not isinstance(row.get("ad_id"), str) or not re.fullmatch(r"\d{4}-\d\d-\d\d", str(row.get("date_start"))):
            raise ValueError("an insights item needs ad_id (text) and date_start (YYYY-MM-DD)")
        full = {"account_id": account.id.removeprefix("act_"), "date_stop": row["date_start"], **row}
        self._world.insight_rows.setdefault(account.id, []).append(full)

    def _node(self, user: User, kind: str, scope: str) -> Item:
        """Find or make a page or an ad account; without a scope it is the user's first."""
        listing = user.pages if kind == "page" else user.accounts
        if not scope and listing.items:
            return listing.items[0]
        first = FIRST_PAGE if kind == "page" else FIRST_ACCOUNT
        number = first + list(self._world.users).index(user.id) if not scope else 0
        node_id = scope or (str(number) if kind == "page" else f"act_{number}")
        while not scope and node_id in self._world.items:
            number += 100_000
            node_id = str(number) if kind == "page" else f"act_{number}"
        if kind == "account" and not node_id.startswith("act_"):
            node_id = f"act_{node_id}"
        found = self._world.items.get(node_id)
        if found is None:
            self._number += 1
            created = self._world.end
            found = Item(kind, node_id, owner=user.id, parent=user.id, created=created, number=self._number)
            self._world.put(found)
        if found.kind != kind:
            raise ValueError(f"scope {node_id!r} is the id of a {found.kind}")
        if found.owner != user.id:
            raise ValueError(f"scope {node_id!r} belongs to the user {found.owner!r}, not to {user.id!r}")
        return found

    def _know(self, kind: str, body: Iterable[str]) -> None:
        self._world.known_fields.setdefault(kind, set()).update(body)
