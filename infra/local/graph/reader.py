"""Reads the world the way the API shows it: projections, expansions, pages of an edge."""

from __future__ import annotations

import calendar
import json
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from infra.local.graph import nodes
from infra.local.graph.clock import instant
from infra.local.graph.cursors import START, Cursors, Position
from infra.local.graph.errors import GraphError, invalid
from infra.local.graph.fields import Field, Fields, parse
from infra.local.graph.seeded import FANS, FIRST_FAN, REACTIONS
from infra.local.graph.world import MARKETING, Body, Item, Listing, World

DEFAULT_LIMIT = 25
RELATIVE_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800, "month": 2_592_000}
CURSOR_PARAMS = frozenset({"access_token", "after", "before", "__paging_token", "__previous", "method"})
HEAVY_EDGE_ERRORS = frozenset({"ads", "adsets", "campaigns", "adaccounts", "insights"})
"""Edges where a dead cursor is code 2642; elsewhere it is code 100."""
Params = Mapping[str, str]


@dataclass(slots=True)
class Context:
    """What an answer depends on beside the world: who asks, under which name, and how the API pages."""

    world: World
    cursors: Cursors
    base: str
    token: str
    page_token: Callable[[Item], str]
    time_paging: bool = False
    insights: Callable[[Item, Context, Params, str], Body] | None = None
    """Answers insights inside other nodes."""


@dataclass(slots=True)
class Slice:
    """One page of an edge before it is written: the items in the answer's order and where they stand."""

    items: list[Item]
    has_next: bool
    has_previous: bool
    limit: int
    place: int
    """How many items of the edge come before this page."""
    total: int
    listing: Listing
    ascending: bool
    edge: nodes.Edge
    scope: str
    strange: int = 0
    """So many items at the front are out of place."""
    window: tuple[float, float] = (float("-inf"), float("inf"))


def project(context: Context, item: Item, fields: Fields | None, *, through: str = "") -> Body:
    """Give the wanted fields of an item and its id; absent ones are left out, unknown ones raise code 100."""
    body = context.world.body(item)
    if fields is None:
        names = nodes.DEFAULT_FIELDS.get(through) or nodes.DEFAULT_FIELDS[item.kind]
        fields = tuple(Field(name) for name in names)
    result: Body = {}
    for wanted in fields:
        name = wanted.name
        if name in body and wanted.fields is None:
            result[wanted.output] = body[name]
        elif name in nodes.EDGES.get(item.kind, ()):
            result[wanted.output] = expansion(context, item, wanted)
        elif name == "insights" and context.insights is not None and item.kind in nodes.INSIGHT_NODES:
            params = dict(wanted.modifiers)
            if wanted.fields is not None:
                params["fields"] = _unparse(wanted.fields)
            rows = context.insights(item, context, params, f"{item.id}/insights")
            if rows["data"]:
                result[wanted.output] = rows
        elif name == "access_token" and item.kind == "page":
            result[wanted.output] = context.page_token(item)
        elif name in body:
            result[wanted.output] = _narrow(body[name], wanted.fields or ())
        elif not _is_known(context.world, item.kind, name):
            raise nonexisting(item.kind, name)
    if "id" not in result and "id" in body:
        result["id"] = body["id"]
    return result


def expansion(context: Context, item: Item, wanted: Field) -> Body:
    """Give an edge inside its parent, with its own paging and summary."""
    edge = nodes.EDGES[item.kind][wanted.name]
    params = dict(wanted.modifiers)
    if params.get("limit") == "0" and not params.get("since") and not params.get("until"):
        result: Body = {"data": []}
        if "summary" in params:
            result["summary"] = _summary(context, edge, params, total=_count(context, item, edge, params))
        return result
    page = select(context, item, wanted.name, params)
    data = [project(context, child, wanted.fields) for child in page.items]
    path = f"{item.id}/{wanted.name}"
    query = {**params}
    if wanted.fields is not None:
        query["fields"] = _unparse(wanted.fields)
    result = {"data": data}
    if page.items:
        result["paging"] = paging(context, page, path, query)
    if "summary" in params:
        result["summary"] = _summary(context, edge, params, total=page.total)
    return result


def wanted_fields(params: Params) -> Fields | None:
    """Read `fields`; None means the default ones."""
    return parse(params["fields"]) if params.get("fields") else None


def edge_body(context: Context, page: Slice, path: str, params: Params, data: list[Any] | None = None) -> Body:
    """Give the body of an edge call, made from its slice, or from `data` that is encoded already."""
    if data is None:
        fields = wanted_fields(params)
        through = page.edge.family if page.edge.family == "accounts" else ""
        data = [project(context, child, fields, through=through) for child in page.items]
    body: Body = {"data": data}
    if page.items:
        body["paging"] = paging(context, page, path, params)
    if params.get("summary", "false").lower() not in {"false", "0", ""}:
        body["summary"] = _summary(context, page.edge, params, total=page.total)
    return body


def select(context: Context, item: Item, edge_name: str, params: Params) -> Slice:
    """Choose the items of one page: window, then cursor, then limit."""
    edge = nodes.EDGES[item.kind][edge_name]
    item = _carrier(context, item, edge)
    listing = _listing(context, item, edge)
    keep = _filter(context, item, edge_name, edge, params)
    items: Sequence[Item] = listing.items
    if keep is not None:
        wants_hidden = edge.kind in MARKETING and (
            "effective_status" in params or "effective_status" in params.get("filtering", "")
        )
        items = [child for child in _candidates(context.world, listing, hidden=wants_hidden) if keep(child)]
    limit = limit_of(params, edge.max_limit)
    low, high = _window(context.world, items, params)
    ascending = not edge.newest_first
    if edge.kind == "comment" and params.get("order") == "reverse_chronological":
        ascending = False
    first, last = low, high
    after, before = _cursor(context, params, "after", edge, item.id), _cursor(context, params, "before", edge, item.id)
    for position, forward in ((after, True), (before, False)):
        if position is None or position[:2] == START[:2]:
            continue
        if listing.index(position[:2]) is None:
            raise dead_cursor(edge.family)
        if forward == ascending:
            first = max(first, bisect_right(items, position[:2], key=lambda child: child.key))
        else:
            last = min(last, bisect_left(items, position[:2], key=lambda child: child.key))
    backwards = before is not None and after is None
    if ascending != backwards:
        chosen = slice(first, max(first, min(last, first + limit)))
    else:
        chosen = slice(max(first, last - limit), max(first, last))
    picked = list(items[chosen])
    if not ascending:
        picked.reverse()
    older, newer = chosen.start > low, chosen.stop < high
    return Slice(
        items=picked,
        has_next=newer if ascending else older,
        has_previous=older if ascending else newer,
        limit=limit,
        place=chosen.start - low if ascending else high - chosen.stop,
        total=len(items),
        listing=listing,
        ascending=ascending,
        edge=edge,
        scope=item.id,
        window=(
            float("-inf") if (since := time_param(context.world, params, "since")) is None else since,
            float("inf") if (until := time_param(context.world, params, "until")) is None else until,
        ),
    )


def paging(context: Context, page: Slice, path: str, params: Params) -> Body:
    """Give the `paging` object: cursors always, links only where there is more."""
    first = cursor_of(context, page, page.items[page.strange if page.strange < len(page.items) else 0])
    last = cursor_of(context, page, page.items[-1])
    links: Body = (
        {} if context.time_paging and page.edge.kind == "post" else {"cursors": {"before": first, "after": last}}
    )
    if page.has_previous:
        links["previous"] = link(context, page, path, params, first, forward=False)
    if page.has_next:
        links["next"] = link(context, page, path, params, last, forward=True)
    return links


def link(context: Context, page: Slice, path: str, params: Params, cursor: str, *, forward: bool) -> str:
    """Give a `next` or `previous` URL: the same call, with the token in it as the real API has it."""
    query = {name: value for name, value in params.items() if name not in CURSOR_PARAMS}
    query = {"access_token": context.token, **query, "limit": str(page.limit)}
    if context.time_paging and page.edge.kind == "post":
        if page.items:
            query["until" if forward else "since"] = str(page.items[-1 if forward else 0].created)
        query["__paging_token"] = cursor
        if not forward:
            query["__previous"] = "1"
    else:
        query["after" if forward else "before"] = cursor
    return f"{context.base}/{path}?{urlencode(query)}"


def cursor_of(context: Context, page: Slice, item: Item, *, salt: int = 0) -> str:
    """Give the cursor of an item on a page."""
    return context.cursors.write(page.edge.family, page.scope, Position(item.created, item.number, salt))


def limit_of(params: Params, most: int) -> int:
    """Read `limit`; more than the edge allows is an error, as on the Page edges."""
    text = params.get("limit", "")
    if not text:
        return DEFAULT_LIMIT
    try:
        limit = int(text)
    except ValueError:
        raise invalid("Param limit must be an integer", blame="limit") from None
    if limit < 0:
        raise invalid("Param limit must be greater than or equal to 0", blame="limit")
    if limit > most:
        raise invalid(f"The parameter limit must not be greater than {most}", blame="limit")
    return limit


def time_param(world: World, params: Params, name: str) -> int | None:
    """Read `since` or `until`: unix time, ISO text, or the commoner words of strtotime."""
    text = params.get(name, "").strip()
    if not text:
        return None
    seconds = instant(text)
    if seconds is None:
        seconds = _spoken(text.lower(), world.clock.now())
    if seconds is None:
        raise invalid(f"Param {name} must be a valid date/time, got {text[:40]!r}", blame=name)
    return int(seconds)


def dead_cursor(family: str) -> GraphError:
    """Make the error for a cursor whose item is gone, or that never was one."""
    if family in HEAVY_EDGE_ERRORS:
        return GraphError(2642)
    return invalid("Invalid cursors values", blame="after")


def _cursor(context: Context, params: Params, name: str, edge: nodes.Edge, scope: str) -> Position | None:
    text = params.get(name, "")
    if not text and params.get("__paging_token"):
        text = params["__paging_token"] if (name == "before") == (params.get("__previous") == "1") else ""
    if not text:
        return None
    position = context.cursors.read(edge.family, scope, text)
    if position is None:
        raise dead_cursor(edge.family)
    return position


def _carrier(context: Context, item: Item, edge: nodes.Edge) -> Item:
    """A user's posts are those of the user's first page; ads of a campaign hang on its account."""
    if item.kind == "user" and edge.kind == "post":
        pages = context.world.users[item.id].pages.items
        return pages[0] if pages else item
    if item.kind in {"campaign", "adset"}:
        return context.world.items[item.parent]
    return item


def _listing(context: Context, item: Item, edge: nodes.Edge) -> Listing:
    world = context.world
    if edge.family == "accounts":
        return world.users[item.id].pages
    if edge.family == "adaccounts":
        return world.users[item.id].accounts
    if edge.kind == "reaction":
        return _reactions(world, item)
    if item.kind == "comment":
        return world.children(world.items[item.parent], "comments")
    return world.children(item, edge.listing)


def _filter(
    context: Context, item: Item, edge_name: str, edge: nodes.Edge, params: Params
) -> Callable[[Item], bool] | None:
    world = context.world
    if edge.kind == "post":
        if edge_name == "feed" or not context.world.known_fields.get("visitor posts"):
            return None
        return lambda child: world.body(child).get("from", {}).get("id", child.parent) == child.parent
    if edge.kind == "comment":
        return _comment_filter(world, item, params)
    if edge.kind in {"ad", "adset", "campaign"}:
        return _marketing_filter(world, params)
    return None


def _candidates(world: World, listing: Listing, *, hidden: bool) -> Sequence[Item]:
    """Give the listed items, with those whose state hides them when a status was asked for."""
    if not hidden:
        return listing.items
    more = [item for item in listing.hidden if item.deleted_at is None and not world.is_pending(item)]
    return sorted([*listing.items, *more], key=lambda item: item.key)


def _comment_filter(world: World, item: Item, params: Params) -> Callable[[Item], bool] | None:
    if params.get("filter", "toplevel") not in {"toplevel", "stream"}:
        raise invalid("Param filter must be one of {toplevel, stream}", blame="filter")
    if params.get("order", "chronological") not in {"chronological", "reverse_chronological", "ranked"}:
        raise invalid("Param order must be one of {chronological, reverse_chronological, ranked}", blame="order")
    if item.kind == "comment":
        return lambda child: world.body(child).get("parent", {}).get("id") == item.id
    if params.get("filter") == "stream":
        return None
    return lambda child: "parent" not in world.body(child)


def _marketing_filter(world: World, params: Params) -> Callable[[Item], bool] | None:
    tests: list[Callable[[Body], bool]] = []
    if params.get("effective_status"):
        wanted = _json_list(params["effective_status"], "effective_status")
        tests.append(lambda body: body.get("effective_status") in wanted)
    if params.get("updated_since"):
        since = time_param(world, params, "updated_since") or 0
        tests.append(lambda body: (instant(body.get("updated_time")) or 0) >= since)
    for rule in _json_list(params.get("filtering", "[]"), "filtering"):
        if not isinstance(rule, dict) or not {"field", "operator", "value"} <= rule.keys():
            raise invalid("Param filtering must be an array of {field, operator, value}", blame="filtering")
        tests.append(_rule(rule))
    if not tests:
        return None
    return lambda child: all(test(world.body(child)) for test in tests)


def _rule(rule: Mapping[str, Any]) -> Callable[[Body], bool]:
    name, operator, value = str(rule["field"]).rpartition(".")[2], rule["operator"], rule["value"]

    def number(of: object) -> float:
        return instant(of) or 0.0

    compare: dict[str, Callable[[Any], bool]] = {
        "EQUAL": lambda found: found == value,
        "NOT_EQUAL": lambda found: found != value,
        "GREATER_THAN": lambda found: number(found) > number(value),
        "LESS_THAN": lambda found: number(found) < number(value),
        "GREATER_THAN_OR_EQUAL": lambda found: number(found) >= number(value),
        "LESS_THAN_OR_EQUAL": lambda found: number(found) <= number(value),
        "IN": lambda found: found in value,
        "NOT_IN": lambda found: found not in value,
        "CONTAIN": lambda found: str(value) in str(found),
        "NOT_CONTAIN": lambda found: str(value) not in str(found),
        "IN_RANGE": lambda found: number(value[0]) <= number(found) <= number(value[1]),
    }
    if operator not in compare:
        raise invalid(f"Param filtering[0][operator] must be one of {{{', '.join(compare)}}}", blame="filtering")
    return lambda body: compare[operator](body.get(name))


def _json_list(text: str, name: str) -> list[Any]:
    try:
        value = json.loads(text)
    except ValueError:
        raise invalid(f"Param {name} must be a JSON array", blame=name) from None
    if not isinstance(value, list):
        raise invalid(f"Param {name} must be an array", blame=name)
    return value


def _window(world: World, items: Sequence[Item], params: Params) -> tuple[int, int]:
    since, until = time_param(world, params, "since"), time_param(world, params, "until")
    if params.get("__paging_token"):
        return 0, len(items)  # the token knows the place better than the second beside it
    if since is not None and until is not None and since > until:
        raise invalid("Param since must not be after until", blame="since")
    low = 0 if since is None else bisect_left(items, since, key=lambda child: child.created)
    high = len(items) if until is None else bisect_right(items, until, key=lambda child: child.created)
    return low, max(low, high)


def is_relative(text: str) -> bool:
    """Tell whether a time means something else a second later."""
    return bool(text) and instant(text) is None


def _spoken(text: str, now: float) -> float | None:
    midnight = now - now % 86_400
    words = {"now": now, "today": midnight, "yesterday": midnight - 86_400, "tomorrow": midnight + 86_400}
    if text in words:
        return words[text]
    parts = text.lstrip("+-").split()
    if len(parts) in {2, 3} and parts[0].isdigit() and (unit := RELATIVE_UNITS.get(parts[1].rstrip("s"))):
        past = text.startswith("-") or parts[2:] == ["ago"]
        return now + (-1 if past else 1) * int(parts[0]) * unit
    try:
        return float(calendar.timegm(time.strptime(text, "%d %B %Y")))  # "1 January 2026"
    except ValueError:
        return None


def _count(context: Context, item: Item, edge: nodes.Edge, params: Params) -> int:
    """Count an edge without making its items, where that is possible: pages of posts ask for it by the hundred."""
    if edge.kind == "comment" and item.kind == "post":
        comments, replies = context.world.comment_counts(item)
        return comments if params.get("filter") == "stream" else comments - replies
    if edge.kind == "reaction":
        return context.world.reaction_count(item)
    return select(context, item, edge.listing, {**params, "limit": "1"}).total


def _summary(context: Context, edge: nodes.Edge, params: Params, *, total: int) -> Body:
    if edge.kind == "comment":
        return {"order": params.get("order", "chronological"), "total_count": total, "can_comment": False}
    if edge.kind == "reaction":
        return {"total_count": total, "viewer_reaction": "NONE"}
    return {"total_count": total}


def _reactions(world: World, item: Item) -> Listing:
    listing = Listing()
    for index in range(world.reaction_count(item)):
        fan = (item.number * 31 + index * 97) % FANS
        reaction = Item("reaction", str(FIRST_FAN + fan), owner=item.owner, parent=item.id, created=0, number=index)
        reaction._body = {"id": reaction.id, "name": f"Fan {fan}", "type": REACTIONS[(fan + index) % len(REACTIONS)]}
        listing.items.append(reaction)
    return listing


def _narrow(value: object, fields: Fields) -> object:
    if isinstance(value, dict):
        if set(value) == {"data"} and isinstance(value["data"], list):
            return {"data": _narrow(value["data"], fields)}
        return {wanted.output: value[wanted.name] for wanted in fields if wanted.name in value}
    if isinstance(value, list):
        return [_narrow(entry, fields) for entry in value]
    return value


def _unparse(fields: Fields) -> str:
    return ",".join(
        wanted.name
        + "".join(f".{name}({value})" for name, value in wanted.modifiers)
        + ("" if wanted.fields is None else "{" + _unparse(wanted.fields) + "}")
        for wanted in fields
    )


def _is_known(world: World, kind: str, name: str) -> bool:
    return name in nodes.KNOWN_FIELDS.get(kind, ()) or name in world.known_fields.get(kind, ())


def nonexisting(kind: str, name: str) -> GraphError:
    """Make the error for a field or an edge that a kind of node does not have."""
    node_type = {"adset": "AdCampaign", "campaign": "AdCampaignGroup", "ad": "Adgroup", "account": "AdAccount"}
    title = node_type.get(kind, kind.capitalize())
    return GraphError(100, f"(#100) Tried accessing nonexisting field ({name}) on node type ({title})")
