"""The world: users, their pages and ad accounts, and every item with its history. Knows nothing of paging."""

from __future__ import annotations

import hashlib
import heapq
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from infra.local.graph.clock import Clock, instant, iso

Body = dict[str, Any]
HIDDEN_STATUSES = frozenset({"DELETED", "ARCHIVED"})
"""Ads in these states are listed only on request."""
MARKETING = frozenset({"ad", "adset", "campaign"})


class Item:
    """One node of the graph. The body is made on demand until something changes it; most posts never are changed."""

    __slots__ = (
        "_body", "created", "deleted_at", "edges", "id", "kind", "number", "owner", "parent", "version", "visible_at",
    )  # fmt: skip

    def __init__(self, kind: str, id: str, *, owner: str, parent: str, created: int, number: int) -> None:
        self.kind = kind
        self.id = id
        self.owner = owner
        self.parent = parent
        self.created = created
        self.number = number
        self.version = 1
        self.deleted_at: int | None = None
        self.visible_at: float | None = None
        self.edges: dict[str, Listing] | None = None
        self._body: Body | None = None

    @property
    def key(self) -> tuple[int, int]:
        """The order of listings: time, then number."""
        return self.created, self.number


class Listing:
    """The visible items of one edge in ascending order, and those that are gone or not yet visible."""

    __slots__ = ("generation", "hidden", "items")

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.hidden: list[Item] = []
        self.generation = 0

    def show(self, item: Item) -> None:
        """Put an item where it belongs."""
        if item in self.hidden:
            self.hidden.remove(item)
        self.items.insert(bisect_left(self.items, item.key, key=_key), item)
        self.generation += 1

    def hide(self, item: Item) -> None:
        """Take an item out; the truth keeps it."""
        index = self.index(item.key)
        if index is not None:
            del self.items[index]
            self.generation += 1
        if item not in self.hidden:
            self.hidden.append(item)

    def index(self, key: tuple[int, int]) -> int | None:
        """Give the place of a visible item, None if it is not there (any more)."""
        index = bisect_left(self.items, key, key=_key)
        found = index < len(self.items) and self.items[index].key == key
        return index if found else None

    def everything(self) -> Iterator[Item]:
        """Visible or not."""
        yield from self.items
        yield from self.hidden


def _key(item: Item) -> tuple[int, int]:
    return item.key


@dataclass
class User:
    """An account holder: what the token of one user may see."""

    id: str
    name: str
    alias: str
    pages: Listing = field(default_factory=Listing)
    accounts: Listing = field(default_factory=Listing)


class Maker(Protocol):
    """Makes what was not written down: the bodies and children of seeded items."""

    def body(self, item: Item) -> Body:
        """Give the body of an item that nobody changed."""

    def comments(self, post: Item) -> list[Item]:
        """Give the comments a post had at the start, in order."""

    def counts(self, item: Item) -> tuple[int, int, int]:
        """Give how many comments, replies among them, and reactions an item had at the start."""

    def post_of_comment(self, comment_id: str) -> str | None:
        """Give the id of the post that a comment id may belong to."""


@dataclass
class World:
    """Everything there is. `end` is the instant at which the seeded history ends."""

    seed: int
    clock: Clock
    maker: Maker
    end: int
    users: dict[str, User] = field(default_factory=dict)
    items: dict[str, Item] = field(default_factory=dict)
    insight_edits: dict[str, Body] = field(default_factory=dict)
    insight_rows: dict[str, list[Body]] = field(default_factory=dict)
    """Rows of a world file by ad account; without any, rows are computed."""
    numbers: dict[tuple[str, str], int] = field(default_factory=dict)
    """The last number given to a new item, by parent and kind."""
    known_fields: dict[str, set[str]] = field(default_factory=dict)
    """Fields that a world file's items brought along, by kind."""
    _pending: list[tuple[float, int, Item]] = field(default_factory=list)

    def user(self, name: str) -> User | None:
        """Find a user by id or by alias (the number in its token)."""
        return self.users.get(name) or next((user for user in self.users.values() if user.alias == name), None)

    def find(self, item_id: str) -> Item | None:
        """Find an item, deleted ones too."""
        item = self.items.get(item_id)
        if item is None and (post_id := self.maker.post_of_comment(item_id)) is not None:
            post = self.items.get(post_id)
            if post is not None:
                self.children(post, "comments")
                item = self.items.get(item_id)
        return item

    def visible(self, item_id: str) -> Item | None:
        """Find an item that can be seen now."""
        item = self.find(item_id)
        return item if item and item.deleted_at is None and not self.is_pending(item) else None

    def is_pending(self, item: Item) -> bool:
        """Tell whether an item exists but is not visible yet."""
        return item.visible_at is not None and item.visible_at > self.clock.now()

    def is_hidden(self, item: Item) -> bool:
        """Tell whether an ad's state keeps it out of plain listings."""
        return item.kind in MARKETING and self.body(item).get("effective_status") in HIDDEN_STATUSES

    def show(self, item: Item) -> None:
        """Make an item visible that was waiting."""
        if item.deleted_at is None and item.visible_at is not None:
            item.visible_at = self.clock.now()
            self.home(item).show(item)
            if item.kind == "comment":
                self.touch(self.items[item.parent])

    def body(self, item: Item) -> Body:
        """Give the current fields of an item; not to be changed in place."""
        return item._body if item._body is not None else self.maker.body(item)

    def edge(self, item: Item, name: str) -> Listing:
        """Give a listing that is kept with the item."""
        if item.edges is None:
            item.edges = {}
        return item.edges.setdefault(name, Listing())

    def children(self, item: Item, name: str) -> Listing:
        """Give a listing, with the seeded comments of a post made at first use."""
        if name == "comments" and item.kind == "post" and (item.edges is None or "comments" not in item.edges):
            listing = self.edge(item, "comments")
            for comment in self.maker.comments(item):
                self.items[comment.id] = comment
                listing.items.append(comment)
                if item.deleted_at is not None:
                    comment.deleted_at = item.deleted_at
            if item.deleted_at is not None:
                listing.hidden, listing.items = listing.items, []
        return self.edge(item, name)

    def comment_counts(self, item: Item) -> tuple[int, int]:
        """Give how many comments can be seen, and how many of them are replies."""
        if item.edges is not None and "comments" in item.edges:
            listed = item.edges["comments"].items
            return len(listed), sum("parent" in self.body(comment) for comment in listed)
        comments, replies, _ = self.maker.counts(item)
        return comments, replies

    def reaction_count(self, item: Item) -> int:
        """Give how many reactions an item has."""
        return self.maker.counts(item)[2]

    def home(self, item: Item) -> Listing:
        """Give the listing an item belongs to."""
        if item.kind == "page":
            return self.users[item.owner].pages
        if item.kind == "account":
            return self.users[item.owner].accounts
        return self.children(self.items[item.parent], HOMES[item.kind])

    def put(self, item: Item, body: Body | None = None, *, visible_at: float | None = None) -> None:
        """Add an item to the world; from `visible_at` on it can be seen."""
        self.items[item.id] = item
        item._body = body
        if visible_at is not None and visible_at > self.clock.now():
            item.visible_at = visible_at
            self.home(item).hidden.append(item)
            if visible_at != float("inf"):
                heapq.heappush(self._pending, (visible_at, item.number, item))
        else:
            self.home(item).show(item)

    def is_due(self) -> bool:
        """Tell whether anything has become visible that nobody was shown yet."""
        return bool(self._pending) and self._pending[0][0] <= self.clock.now()

    def reveal(self) -> None:
        """Show what has become visible."""
        while self._pending and self._pending[0][0] <= self.clock.now():
            item = heapq.heappop(self._pending)[2]
            if item.deleted_at is None:
                self.show(item)

    def touch(self, item: Item, changes: Body | None = None) -> None:
        """Make a new version of an item: None removes a field, anything else sets it."""
        body = dict(self.body(item))
        if "updated_time" in body:
            body["updated_time"] = iso(self.clock.now())
        for name, value in (changes or {}).items():
            if value is None:
                body.pop(name, None)
            else:
                body[name] = value
        listing = self.home(item)
        moved = instant((changes or {}).get("created_time"))
        if moved is not None and listing.index(item.key) is not None:
            del listing.items[listing.index(item.key) or 0]
            item.created = int(moved)
            listing.show(item)
        item._body = body
        item.version += 1
        listing.generation += 1
        if item.kind == "comment":
            self.home(self.items[item.parent]).generation += 1  # pages of posts may show it
        if item.kind in MARKETING and item.deleted_at is None and not self.is_pending(item):
            listed = listing.index(item.key) is not None
            if body.get("effective_status") in HIDDEN_STATUSES and listed:
                listing.hide(item)
            elif body.get("effective_status") not in HIDDEN_STATUSES and not listed:
                listing.show(item)

    def delete(self, item: Item) -> None:
        """Delete an item and the comments that hang on it."""
        if item.deleted_at is not None:
            return
        for child in list(self.children(item, "comments").everything()) if item.kind == "post" else ():
            self._remove(child)
        self._remove(item)
        if item.kind == "comment":
            self.touch(self.items[item.parent])

    def _remove(self, item: Item) -> None:
        if item.deleted_at is None:
            item.deleted_at = int(self.clock.now())
            item.version += 1
            self.home(item).hide(item)


HOMES = {"post": "posts", "comment": "comments", "ad": "ads", "adset": "adsets", "campaign": "campaigns"}
"""The edge of the parent on which an item of each kind is listed."""


def content_hash(value: object) -> str:
    """Give the sha256 of the canonical JSON: sorted keys, no spaces, UTF-8."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()
