"""Changes the world, at once or at a call to come: new items, edits, deletes, items that show up late."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from infra.local.graph.clock import instant, iso
from infra.local.graph.journal import Note
from infra.local.graph.seeded import COMMENTS_A_POST
from infra.local.graph.world import Body, Item, World

ACTIONS = ("create", "edit", "delete", "show", "churn")
EDGES = {"posts": "post", "comments": "comment", "ads": "ad"}
PICKS = ("newest", "oldest", "random", "last_cursor")
MOST_ITEMS = 100_000
KEYS = frozenset(
    {"do", "edge", "user", "scope", "id", "pick", "item", "count", "created_time", "age_seconds", "visible_in",
     "visible_at_call", "at_call", "match", "seed"}
)  # fmt: skip


class BadChange(ValueError):
    """A change that cannot be made: the text says why."""


@dataclass(slots=True)
class Step:
    """A change that waits for a call: the `at_call`-th of those that `match`."""

    at_call: int
    change: dict[str, Any]
    match: re.Pattern[str] | None
    seen: int = 0


class Script:
    """Makes changes, and keeps those that wait."""

    def __init__(self, world: World, note: Note) -> None:
        self._world = world
        self._note = note
        self._random = Random(f"{world.seed}/changes")
        self.steps: list[Step] = []

    def plan(self, change: Mapping[str, Any]) -> list[Item]:
        """Make a change now, or note it when it has `at_call`; gives the items it touched. Raises BadChange."""
        if unknown := sorted(change.keys() - KEYS):
            raise BadChange(f"a change has no {unknown[0]!r}; it has {', '.join(sorted(KEYS))}")
        if change.get("do") not in ACTIONS:
            raise BadChange(f"do must be one of {', '.join(ACTIONS)}; got {change.get('do')!r}")
        if change.get("at_call") is None:
            return self._make(change)
        try:
            match = re.compile(change["match"]) if change.get("match") else None
        except re.error as error:
            raise BadChange(f"match is not a regular expression: {error}") from error
        rest = {name: value for name, value in change.items() if name not in {"at_call", "match"}}
        self.steps.append(Step(_whole(change, "at_call"), rest, match))
        return []

    def before_call(self, line: str, cursor_item: Item | None) -> bool:
        """Make the changes that are due before this call is answered; True if there were any."""
        due = []
        for step in self.steps:
            if step.match is None or step.match.search(line):
                step.seen += 1
                if step.seen >= step.at_call:
                    due.append(step)
        for step in due:
            number = next(place for place, waiting in enumerate(self.steps) if waiting is step)
            self._note("step", number=number, cursor_item=cursor_item.id if cursor_item else None)
            self.make_step(number, cursor_item)
        return bool(due)

    def make_step(self, number: int, cursor_item: Item | None) -> None:
        """Make a change that waited. Raises BadChange; it waits no longer all the same."""
        self._make(self.steps.pop(number).change, cursor_item)

    def _make(self, change: Mapping[str, Any], cursor_item: Item | None = None) -> list[Item]:
        action = change["do"]
        if action == "churn":
            return self._churn(change)
        if action == "create":
            count = _whole(change, "count") if "count" in change else 1
            return [self._create(change) for _ in range(min(count, MOST_ITEMS))]
        if change.get("edge") == "insights":
            self._edit_insight(change)
            return []
        item = self._target(change, cursor_item)
        if item is None:
            return []
        if action == "delete":
            self._world.delete(item)
        elif action == "show":
            self._world.show(item)
        else:
            self._edit(item, change.get("item"))
        return [item]

    def _create(self, change: Mapping[str, Any]) -> Item:
        kind = EDGES.get(str(change.get("edge", "posts")))
        if kind is None:
            raise BadChange(f"edge must be one of {', '.join(EDGES)}; got {change.get('edge')!r}")
        parent = self._parent(kind, change)
        created = self._created(change)
        number = self._number(kind, parent)
        given = change.get("item") or {}
        if not isinstance(given, dict):
            raise BadChange("item must be an object")
        head = parent.id.partition("_")[2] or parent.id
        usual = {"post": f"{parent.id}_{number}", "comment": f"{head}_{number}", "ad": str(number)}[kind]
        item_id = str(given.get("id", usual))
        if self._world.find(item_id) is not None:
            raise BadChange(f"there is an item {item_id!r} already")
        item = Item(kind, item_id, owner=parent.owner, parent=parent.id, created=created, number=number)
        body = _new_body(kind, item, parent, self._world) | given | {"id": item_id}
        body.setdefault("created_time", iso(created))
        if given.get("created_time") and (moment := instant(given["created_time"])) is not None:
            item.created = int(moment)
        visible_at = self._world.clock.now() + float(change["visible_in"]) if "visible_in" in change else None
        if "visible_at_call" in change:
            visible_at = math.inf
            self.steps.append(Step(_whole(change, "visible_at_call"), {"do": "show", "id": item_id}, None))
        self._world.put(item, body, visible_at=visible_at)
        if kind == "comment" and visible_at is None:
            self._world.touch(parent)
        return item

    def _edit(self, item: Item, changes: object) -> None:
        if changes is None:
            name = "name" if item.kind in {"ad", "adset", "campaign", "account"} else "message"
            name = "about" if item.kind == "page" else name
            changes = {name: f"edited, version {item.version + 1}"}
        if not isinstance(changes, dict):
            raise BadChange("item must be an object with the fields to change; null removes a field")
        self._world.touch(item, changes)

    def _edit_insight(self, change: Mapping[str, Any]) -> None:
        key, row = str(change.get("id", "")), change.get("item")
        if not re.fullmatch(r"[^:]+:\d{4}-\d\d-\d\d", key) or not isinstance(row, dict):
            raise BadChange("an insights edit needs id '{ad id}:YYYY-MM-DD' and an item with the numbers as text")
        self._world.insight_edits[key] = {**self._world.insight_edits.get(key, {}), **row}

    def _target(self, change: Mapping[str, Any], cursor_item: Item | None) -> Item | None:
        if change.get("id"):
            item = self._world.find(str(change["id"]))
            if item is None:
                raise BadChange(f"there is no item {change['id']!r}")
            return item
        pick = change.get("pick")
        if pick not in PICKS:
            raise BadChange(f"name the item by id, or by pick: {', '.join(PICKS)}; got {pick!r}")
        if pick == "last_cursor":
            return cursor_item
        items = self._candidates(change)
        if not items:
            return None
        return items[-1] if pick == "newest" else items[0] if pick == "oldest" else self._random.choice(items)

    def _candidates(self, change: Mapping[str, Any]) -> list[Item]:
        kind = EDGES.get(str(change.get("edge", "posts")), "post")
        if kind == "comment" and not change.get("scope"):
            posts = self._candidates({**change, "edge": "posts"})
            return [comment for post in posts for comment in self._world.children(post, "comments").items]
        return list(self._world.children(self._parent(kind, change), f"{kind}s").items)

    def _parent(self, kind: str, change: Mapping[str, Any]) -> Item:
        scope = str(change.get("scope", ""))
        if not scope and change.get("user") is not None:
            user = self._world.user(str(change["user"]))
            if user is None:
                raise BadChange(f"there is no user {change['user']!r}")
            listing = (user.accounts if kind == "ad" else user.pages).items
            if kind == "comment":
                listing = self._world.edge(listing[0], "posts").items[-1:] if listing else []
            scope = listing[0].id if listing else ""
        parent = self._world.find(scope) if scope else None
        wanted = {"post": "page", "comment": "post", "ad": "account"}[kind]
        if parent is None or parent.kind != wanted or parent.deleted_at is not None:
            raise BadChange(f"a {kind} needs a scope that is a {wanted}, or a user that has one; got {scope!r}")
        return parent

    def _created(self, change: Mapping[str, Any]) -> int:
        if "created_time" in change:
            moment = instant(change["created_time"])
            if moment is None:
                raise BadChange(f"created_time is not a time: {change['created_time']!r}")
            return int(moment)
        return int(self._world.clock.now() - float(change.get("age_seconds", 0)))

    def _number(self, kind: str, parent: Item) -> int:
        edge = f"{kind}s"
        numbers = self._world.numbers
        key = (parent.id, kind)
        if key not in numbers:
            first = parent.number * COMMENTS_A_POST if kind == "comment" else parent.number * 1_000_000_000
            numbers[key] = max((item.number for item in self._world.children(parent, edge).everything()), default=first)
            if kind == "ad":
                numbers[key] = max((i.number for i in self._world.items.values() if i.kind == "ad"), default=first)
        numbers[key] += 1
        while kind == "ad" and str(numbers[key]) in self._world.items:
            numbers[key] += 1
        return numbers[key]

    def _churn(self, change: Mapping[str, Any]) -> list[Item]:
        """Make a mixture of changes: half edits, a third new items, the rest deletes."""
        random = Random(f"{self._world.seed}/{change['seed']}") if "seed" in change else self._random
        touched = []
        common = {name: change[name] for name in ("edge", "user", "scope") if name in change}
        for _ in range(min(_whole(change, "count") if "count" in change else 10, MOST_ITEMS)):
            users = list(self._world.users)
            aim = common if {"user", "scope"} & common.keys() else {**common, "user": random.choice(users)}
            draw = random.random()
            if draw < 0.33:
                touched += self._make({**aim, "do": "create", "age_seconds": random.choice([0, 0, 0, 3600, 86_400])})
                continue
            items = self._candidates(aim)
            if items:
                item = random.choice(items)
                touched += self._make({"do": "edit" if draw < 0.83 else "delete", "id": item.id})
        return touched


def _new_body(kind: str, item: Item, parent: Item, world: World) -> Body:
    moment = iso(item.created)
    if kind == "ad":
        return {
            "id": item.id, "name": f"ad {item.id}", "account_id": parent.id.removeprefix("act_"), "status": "ACTIVE",
            "configured_status": "ACTIVE", "effective_status": "ACTIVE", "created_time": moment, "updated_time": moment,
            "creative": {"id": f"9{item.id}"},
        }  # fmt: skip
    if kind == "comment":
        return {
            "id": item.id, "created_time": moment, "message": f"new comment {item.number}", "like_count": 0,
            "comment_count": 0, "is_hidden": False, "from": {"id": "20000001", "name": "Fan 1"},
        }  # fmt: skip
    return {
        "id": item.id, "created_time": moment, "updated_time": moment, "message": f"new post {item.number}",
        "from": {"id": parent.id, "name": str(world.body(parent).get("name", parent.id))},
        "permalink_url": f"https://www.facebook.com/{parent.id}/posts/{item.number}",
        "status_type": "mobile_status_update", "is_published": True, "is_hidden": False,
    }  # fmt: skip


def _whole(change: Mapping[str, Any], name: str) -> int:
    value = change.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadChange(f"{name} must be a whole number from 1 on; got {value!r}")
    return value
