"""The truth about the world, whatever the paging code says: every item, its version, its hash, its fate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from infra.local.graph.clock import iso
from infra.local.graph.fields import Fields
from infra.local.graph.insights import Reports
from infra.local.graph.world import Body, Item, User, World, content_hash

EDGES = ("posts", "comments", "ads", "adsets", "campaigns", "accounts", "adaccounts", "insights")


@dataclass(frozen=True)
class Wanted:
    """What is asked: empty texts mean all; `since` and `until` are inclusive, as in the API."""

    edges: tuple[str, ...]
    user: User | None = None
    scope: str = ""
    since: int | None = None
    until: int | None = None
    fields: Fields | None = None
    with_items: bool = False


def rows(
    world: World,
    reports: Reports,
    wanted: Wanted,
    project: Callable[[Item, Fields], Body],
    malformed: Callable[[str, str, str], str | None],
) -> Iterator[dict[str, Any]]:
    """Give one row per item; with `fields` the hash is over the item as those fields would show it."""
    users = [wanted.user] if wanted.user else list(world.users.values())
    for user in users:
        for edge in wanted.edges:
            if edge == "insights":
                for row in _insight_rows(world, reports, user, wanted):
                    yield row | {"malformed": malformed(user.id, row["id"], edge) or False}
                continue
            for scope, item in _items(world, user, edge, wanted.scope):
                body = world.body(item) if wanted.fields is None else project(item, wanted.fields)
                yield _row(
                    world, user, scope, edge, item, body, malformed(user.id, item.id, edge), with_item=wanted.with_items
                )


def expected(found: list[dict[str, Any]], wanted: Wanted) -> list[str]:
    """Give the ids that a reader of the window would see now."""
    low = float("-inf") if wanted.since is None else wanted.since
    high = float("inf") if wanted.until is None else wanted.until
    return [row["id"] for row in found if row["visible"] and low <= row["created"] <= high]


def _items(world: World, user: User, edge: str, scope: str) -> Iterator[tuple[str, Item]]:
    if edge in {"accounts", "adaccounts"}:
        listing = user.pages if edge == "accounts" else user.accounts
        yield from ((user.id, item) for item in listing.everything() if scope in {"", user.id, item.id})
        return
    parents = user.pages if edge in {"posts", "comments"} else user.accounts
    for parent in parents.everything():
        if edge != "comments":
            if scope in {"", parent.id}:
                yield from ((parent.id, item) for item in world.edge(parent, edge).everything())
            continue
        for post in list(world.edge(parent, "posts").everything()):
            if scope in {"", post.id, parent.id}:
                yield from ((post.id, item) for item in world.children(post, "comments").everything())


def _row(
    world: World, user: User, scope: str, edge: str, item: Item, body: Body, malformed: str | None, *, with_item: bool
) -> dict[str, Any]:
    pending = world.is_pending(item)
    full = world.body(item)
    row = {
        "user": user.id,
        "scope": scope,
        "edge": edge,
        "id": item.id,
        "version": item.version,
        "hash": content_hash(body),
        "created": item.created,
        "created_time": full.get("created_time", iso(item.created)),
        "updated_time": full.get("updated_time"),
        "visible_at": None if item.visible_at is None or item.visible_at == float("inf") else item.visible_at,
        "visible": item.deleted_at is None and not pending and not world.is_hidden(item),
        "deleted": item.deleted_at is not None,
        "deleted_at": item.deleted_at,
        "malformed": malformed or False,
    }
    return row | ({"item": body} if with_item else {})


def _insight_rows(world: World, reports: Reports, user: User, wanted: Wanted) -> Iterator[dict[str, Any]]:
    now = world.clock.now()
    first = wanted.since if wanted.since is not None else world.end - 31 * 86_400
    since, until = _day(first), _day(wanted.until if wanted.until is not None else now)
    for account in user.accounts.items:
        if wanted.scope not in {"", account.id}:
            continue
        for row in reports.truth(account, since, until):
            day = date.fromisoformat(row["date_start"])
            names = [field.name for field in wanted.fields] if wanted.fields else list(row)
            shown = {name: row[name] for name in row if name in {*names, "date_start", "date_stop"}}
            made = {
                "user": user.id, "scope": account.id, "edge": "insights", "id": f"{row['ad_id']}:{row['date_start']}",
                "ad_id": row["ad_id"], "date_start": row["date_start"], "version": 1, "hash": content_hash(shown),
                "created": int((datetime(day.year, day.month, day.day, tzinfo=UTC) - EPOCH) / timedelta(seconds=1)),
                "visible": True, "deleted": False,
            }  # fmt: skip
            yield made | ({"item": shown} if wanted.with_items else {})


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _day(seconds: float) -> date:
    return datetime.fromtimestamp(seconds, UTC).date()
