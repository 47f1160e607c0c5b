"""The faults of the Graph simulator: what each kind does to a call, a page, an item or the wire."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from typing import Any

from infra.local.graph.cursors import START, Position
from infra.local.graph.errors import GraphError
from infra.local.graph.http_server import Response
from infra.local.graph.reader import Context, Slice, cursor_of, dead_cursor, limit_of, link
from infra.local.graph.rules import Rule
from infra.local.graph.world import Body, Item

KINDS: dict[str, tuple[str, ...]] = {
    # instead of an answer
    "error": ("code", "subcode", "status", "message", "type", "transient", "extra"),
    "throttle": ("code", "subcode", "minutes", "status"),
    "reduce_data": ("limit",),
    "html500": ("status",),
    "ok_with_error": ("code", "subcode", "message"),
    "invalid_cursor": ("code",),
    "cursor_too_deep": ("depth",),
    "token_expires_after": ("calls", "subcode"),
    # the connection
    "slow": ("seconds",),
    "hang": (),
    "reset": (),
    "truncate": ("bytes", "how"),
    "slow_drip": ("seconds",),
    # the page
    "repeat_cursor": ("k",),
    "empty_with_next": (),
    "endless_empty": (),
    "short_page": ("items",),
    "pinned": ("index", "duplicate", "outside_window"),
    "dup_item_across_pages": (),
    "foreign_next": ("url",),
    # the items
    "malformed_item": ("how", "share", "ids", "index"),
    "oversize_item": ("characters", "share", "ids", "index"),
    "drop_item_field": ("field", "share", "ids"),
    "drift_new_field": ("field", "value"),
    "drift_type": ("field", "value"),
    "wrong_owner": ("id",),
    # the headers
    "old_version_header": ("version",),
    "usage": ("headers",),
    # report runs
    "job_fail": (),
    "job_stuck": (),
    "job_100_running": ("polls",),
    "job_not_ready": (),
    "result_error": (),
}

MALFORMED = (
    "id_missing", "id_number", "id_empty", "created_missing", "created_junk", "null_item", "not_object",
    "number_as_text", "lone_surrogate", "nul", "huge_int", "nan", "deep",
)  # fmt: skip
RAW_TEXTS = {
    "lone_surrogate": ("message", rb'"broken \ud800 text"'),
    "nul": ("message", rb'"a\u0000b"'),
    "huge_int": ("shares", b'{"count":' + b"9" * 5_000 + b"}"),
    "nan": ("shares", b'{"count":NaN}'),
    "deep": ("shares", b'{"count":' + b"[" * 5_000 + b"]" * 5_000 + b"}"),
}
"""What no JSON writer would write: the field it goes into and its bytes."""
HTML = (
    b"<!DOCTYPE html><html><head><title>Error</title></head><body><h1>Sorry, something went wrong.</h1></body></html>"
)
OVERSIZE_CHARACTERS = 300_000
FAMILIES = {"published_posts": "posts", "feed": "posts"}
"""Edges that list the same items are one edge to faults."""
JOB_KINDS = frozenset(kind for kind in KINDS if kind.startswith("job_"))
PAGE_KINDS = frozenset(
    {"reduce_data", "cursor_too_deep", "repeat_cursor", "empty_with_next", "endless_empty", "short_page", "pinned",
     "dup_item_across_pages", "foreign_next", "malformed_item", "oversize_item", "drop_item_field", "drift_new_field",
     "drift_type"}
)  # fmt: skip
ITEM_KINDS = frozenset({"malformed_item", "oversize_item", "drop_item_field", "drift_new_field", "drift_type"})
CURSOR_KINDS = frozenset({"invalid_cursor", "cursor_too_deep", "repeat_cursor", "dup_item_across_pages"})
_salt = itertools.count(1)


def beside(*, paged: bool, rows: bool, cursor: bool, creates_job: bool, result: bool) -> frozenset[str]:
    """Name the kinds that have nothing to do with such a call, so that it does not use them up."""
    kinds: frozenset[str] = frozenset()
    if not paged:
        kinds |= PAGE_KINDS - ITEM_KINDS - {"reduce_data"} if rows else PAGE_KINDS
    if not cursor:
        kinds |= CURSOR_KINDS
    if not creates_job:
        kinds |= JOB_KINDS
    return kinds if result else kinds | {"result_error"}


def before_answer(rules: list[Rule]) -> Response | None:
    """Give the answer of a fault that needs to know nothing; delays are added later."""
    for rule in rules:
        if rule.kind == "hang":
            return Response(hang=True)
        if rule.kind == "reset":
            return Response(reset=True)
        if rule.kind == "html500":
            status = int(rule.options.get("status", 500))
            return Response(status, HTML, [("content-type", "text/html; charset=utf-8")])
    return None


def error_of(rules: list[Rule], params: Mapping[str, str], *, paged: bool) -> GraphError | None:
    """Give the error a fault puts in the place of the answer."""
    for rule in rules:
        options = rule.options
        if rule.kind in {"error", "ok_with_error", "throttle"}:
            return _plain_error(rule)
        if rule.kind == "token_expires_after" and rule.matched > int(options.get("calls", 0)):
            return GraphError(190, subcode=int(options.get("subcode", 463)))
        if rule.kind == "reduce_data" and paged and limit_of(params, 10_000) > int(options.get("limit", 25)):
            return _reduce_data()
        if rule.kind == "invalid_cursor" and (params.get("after") or params.get("before")):
            code = int(options.get("code", 100))
            return GraphError(code) if code != 100 else dead_cursor("")
    return None


def _plain_error(rule: Rule) -> GraphError:
    options = rule.options
    defaults: dict[str, Any] = {"code": 4} if rule.kind == "throttle" else {"code": 2}
    wanted = {**defaults, **options}
    return GraphError(
        int(wanted["code"]),
        wanted.get("message"),
        subcode=wanted.get("subcode"),
        status=200 if rule.kind == "ok_with_error" else wanted.get("status"),
        type=wanted.get("type"),
        transient=wanted.get("transient"),
        extra=wanted.get("extra"),
    )


def _reduce_data() -> GraphError:
    return GraphError(1, "Please reduce the amount of data you're asking for, then retry your request")


def on_page(rules: list[Rule], context: Context, page: Slice, params: Mapping[str, str]) -> Slice:
    """Change which items a page has. Raises GraphError where the fault is an error that depends on the page."""
    later = bool(params.get("after") or params.get("before") or params.get("__paging_token"))
    for rule in rules:
        if rule.kind == "short_page" and len(page.items) > (count := max(1, int(rule.options.get("items", 1)))):
            page.items, page.has_next = page.items[:count], True
        elif rule.kind == "cursor_too_deep" and later and page.place >= int(rule.options.get("depth", 1000)):
            raise GraphError(100, "(#100) The After Cursor specified exceeds the max limit supported by this endpoint")
        elif rule.kind == "pinned":
            _pin(rule, page, params, first=not later)
        elif rule.kind == "dup_item_across_pages" and later:
            _repeat_last(context, page, params)
    return page


def on_body(rules: list[Rule], context: Context, page: Slice, path: str, params: Mapping[str, str], body: Body) -> None:
    """Change the paging of a written page."""
    for rule in rules:
        paging = body.get("paging")
        if rule.kind == "repeat_cursor" and params.get("after") and page.items:
            # the loop closes at one cursor and is walked as usual between; otherwise it would shrink to one page
            if rule.memory.setdefault(path, params["after"]) == params["after"]:
                cursor = _earlier_cursor(context, page, params["after"], int(rule.options.get("k", 1)))
                _set_cursors(context, page, path, params, body, after=cursor)
        elif rule.kind == "endless_empty" or (rule.kind == "empty_with_next" and page.items):
            position = _read(context, page, params.get("after", "")) or START
            cursor = context.cursors.write(page.edge.family, page.scope, position._replace(salt=next(_salt)))
            body["data"] = []
            _set_cursors(context, page, path, params, body, after=cursor, before=cursor)
        elif rule.kind == "foreign_next" and paging and "next" in paging:
            paging["next"] = str(rule.options.get("url", "https://graph.facebook.example/collect")) + "?after=x"


def on_items(rules: list[Rule], seed: int, data: list[Any], served: dict[str, str]) -> dict[bytes, bytes]:
    """Change items of a written page in place; gives byte texts to be put in after encoding."""
    raw: dict[bytes, bytes] = {}
    for rule in rules:
        if rule.kind in ITEM_KINDS:
            for index, item in enumerate(list(data)):
                if isinstance(item, dict) and chosen(rule, seed, name_of(item), index):
                    data[index] = _changed(rule, dict(item), raw, served)
    return raw


def name_of(item: Body) -> str:
    """Give an item's id; an insights row is named by ad and day."""
    return str(item.get("id") or f"{item.get('ad_id', '')}:{item.get('date_start', '')}")


def chosen(rule: Rule, seed: int, item_id: str, index: int | None = None) -> bool:
    """Tell whether an item fault hits this item; by id or share it always hits the same ones."""
    options = rule.options
    if "ids" in options:
        return item_id in options["ids"]
    if "share" in options:
        digest = hashlib.blake2b(f"{seed}/{item_id}".encode(), digest_size=4).digest()
        return int.from_bytes(digest) < float(options["share"]) * 2**32
    if rule.kind in {"malformed_item", "oversize_item"}:
        return index is not None and index == int(options.get("index", 0))
    return True


def malformed_by(rules: list[Rule], seed: int, owner: str, item_id: str, edge: str) -> str | None:
    """Name how the faults in force spoil an item for good; None if they do not."""
    for rule in rules:
        lasting = rule.kind == "malformed_item" and ("ids" in rule.options or "share" in rule.options)
        if (
            lasting
            and rule.user in {None, owner}
            and rule.edge in {None, FAMILIES.get(edge, edge)}
            and chosen(rule, seed, item_id)
        ):
            return str(rule.options.get("how", "id_missing"))
    return None


def on_wire(rules: list[Rule], response: Response) -> None:
    """Change how the answer travels."""
    for rule in rules:
        options = rule.options
        if rule.kind == "slow":
            response.delay += float(options.get("seconds", 1.0))
        elif rule.kind == "slow_drip":
            response.drip = float(options.get("seconds", 1.0))
        elif rule.kind == "truncate":
            size = int(options.get("bytes", len(response.body) // 2))
            if options.get("how", "json") == "socket":
                response.cut = size
            else:
                response.body = response.body[:size]


def _changed(rule: Rule, item: Body, raw: dict[bytes, bytes], served: dict[str, str]) -> Any:
    options = rule.options
    if rule.kind == "drop_item_field":
        item.pop(str(options.get("field", "message")), None)
        return item
    if rule.kind == "drift_new_field":
        item[str(options.get("field", "new_field"))] = options.get("value", {"since": "v99"})
        return item
    if rule.kind == "drift_type":
        item[str(options.get("field", "shares"))] = options.get("value", 3)
        return item
    if rule.kind == "oversize_item":
        item["message"] = "x" * int(options.get("characters", OVERSIZE_CHARACTERS))
        return item
    how = str(options.get("how", "id_missing"))
    served[name_of(item)] = how
    return _malformed(how, item, raw)


def _malformed(how: str, item: Body, raw: dict[bytes, bytes]) -> Any:
    if how in RAW_TEXTS:
        name, text = RAW_TEXTS[how]
        item[name] = f"@@{how}@@"
        raw[f'"@@{how}@@"'.encode()] = text
        return item
    if how in {"null_item", "not_object"}:
        return None if how == "null_item" else "not an object"
    time_name = "created_time" if "created_time" in item else "date_start"
    changes: dict[str, Any] = {
        "id_number": {"id": 12345},
        "id_empty": {"id": ""},
        "created_junk": {time_name: "the day before yesterday"},
        "number_as_text": {"shares": {"count": "many"}, "like_count": "many"},
    }
    item.update(changes.get(how, {}))
    if how in {"id_missing", "created_missing"}:
        item.pop("id" if how == "id_missing" else time_name, None)
    return item


def _pin(rule: Rule, page: Slice, params: Mapping[str, str], *, first: bool) -> None:
    """Show an old item at the top of the first page, beside its own place (or, without `duplicate`, instead of it)."""
    items = page.listing.items
    if page.ascending or len(items) < 2 or page.limit < 2:
        return
    old = items[min(int(rule.options.get("index", 0)), len(items) - 1)]
    windowed = bool(params.get("since") or params.get("until"))
    if not rule.options.get("duplicate", True):
        page.items = [item for item in page.items if item is not old] or page.items
    if not first or (windowed and not rule.options.get("outside_window") and not _reaches(page, old)):
        return
    rest = [item for item in page.items if item is not old]
    page.items = [old, *rest]
    page.strange = 1
    if len(page.items) > page.limit:
        page.items.pop()
        page.has_next = True


def _reaches(page: Slice, item: Item) -> bool:
    return item in page.items or page.window[0] <= item.created <= page.window[1]


def _repeat_last(context: Context, page: Slice, params: Mapping[str, str]) -> None:
    position = _read(context, page, params.get("after", ""))
    index = page.listing.index(position[:2]) if position else None
    if index is None or page.limit < 2 or not page.items:
        return
    page.items.insert(0, page.listing.items[index])
    page.strange = 1
    if len(page.items) > page.limit:
        page.items.pop()
        page.has_next = True


def _read(context: Context, page: Slice, cursor: str) -> Position | None:
    return context.cursors.read(page.edge.family, page.scope, cursor) if cursor else None


def _earlier_cursor(context: Context, page: Slice, after: str, k: int) -> str:
    """Give the cursor handed out `k` pages ago: 1 is the very one that was asked for."""
    position = _read(context, page, after)
    index = page.listing.index(position[:2]) if position else None
    if index is None or k <= 1:
        return after
    step = (k - 1) * page.limit
    index = index - step if page.ascending else index + step
    if not 0 <= index < len(page.listing.items):
        return after
    return cursor_of(context, page, page.listing.items[index])


def _set_cursors(
    context: Context, page: Slice, path: str, params: Mapping[str, str], body: Body, *, after: str, before: str = ""
) -> None:
    paging = body.setdefault("paging", {})
    if "cursors" in paging or not paging:
        paging["cursors"] = {"before": before or paging.get("cursors", {}).get("before", after), "after": after}
    paging["next"] = link(context, page, path, params, after, forward=True)
