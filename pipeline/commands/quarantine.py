"""`quarantine`: look at what could not be used, replay it after a fix, or set it aside."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import TYPE_CHECKING, Any

from pipeline.commands.base import FAILED, OK, Command, Context, WrongUse, with_json
from pipeline.commands.text import instant, table, to_json
from pipeline.operations.words import moment

if TYPE_CHECKING:
    from pipeline.bootstrap import Pipeline
    from pipeline.operations.quarantine import Done, Quarantine
    from pipeline.storage.quarantine import Choice, Kept

STATES = ("waiting", "replayed", "discarded", "all")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="list rows")
    _filters(listed)
    listed.add_argument("--state", choices=STATES, default="waiting")
    listed.add_argument("--limit", type=int, default=100, help="at most so many (default: 100)")
    with_json(listed)
    show = actions.add_parser("show", help="show one row with its body, which is a user's data")
    show.add_argument("id", type=int)
    with_json(show)
    for name, text in (
        ("replay", "send rows through the processor as it is now, or messages back to their queue"),
        ("discard", "set rows aside; they stay in the table"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("ids", nargs="*", type=int, metavar="ID", help="these rows")
        _filters(action)
        action.add_argument("--all", action="store_true", help="everything that waits")
        with_json(action)


def _filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--feed")
    parser.add_argument("--user")
    parser.add_argument("--reason")
    parser.add_argument("--kind", choices=("item", "message"))
    parser.add_argument("--version", type=int, help="the feed's version that refused it")
    parser.add_argument("--since", type=instant, metavar="TIME", help="kept at or after: ISO 8601 or an age (2h)")
    parser.add_argument("--until", type=instant, metavar="TIME", help="kept before")


async def run(args: argparse.Namespace, context: Context) -> int:
    """Do what the action says."""
    async with context.pipeline() as pipeline:
        quarantine = _quarantine(pipeline)
        if args.action == "list":
            return await _list(args, context, quarantine)
        if args.action == "show":
            return await _show(args, context, quarantine)
        if not (args.ids or args.all or _given(args)):
            raise WrongUse(f"{args.action}: name rows by ID, by a filter, or all of them with --all")
        act = quarantine.replay if args.action == "replay" else quarantine.discard
        done = await act(_choice(args, ids=tuple(args.ids)))
    return _told(args, context, done)


def _quarantine(pipeline: Pipeline) -> Quarantine:
    from pipeline.operations.quarantine import Quarantine

    return Quarantine(pipeline.database, pipeline.flusher, pipeline.plans)


def _given(args: argparse.Namespace) -> bool:
    return any(
        getattr(args, name) is not None for name in ("feed", "user", "reason", "kind", "version", "since", "until")
    )


def _choice(args: argparse.Namespace, *, ids: tuple[int, ...] = (), state: str | None = "waiting") -> Choice:
    from pipeline.storage.quarantine import Choice

    return Choice(
        feed=args.feed,
        user=args.user,
        reason=args.reason,
        kind=args.kind,
        version=args.version,
        since=int(args.since.timestamp() * 1_000_000) if args.since else None,
        until=int(args.until.timestamp() * 1_000_000) if args.until else None,
        state=state,
        ids=ids,
    )


async def _list(args: argparse.Namespace, context: Context, quarantine: Quarantine) -> int:
    rows = await quarantine.find(_choice(args, state=None if args.state == "all" else args.state), limit=args.limit)
    if args.json:
        context.say(to_json([_summary(row) for row in rows]))
        return OK
    cells = [
        (r.id, r.key.user_id, r.key.feed, r.kind, r.item_id, r.stage, r.reason, r.detail[:60], r.attempts,
         moment(r.created_at), r.state)
        for r in rows
    ]  # fmt: skip
    heads = ("id", "user", "feed", "kind", "item", "stage", "reason", "detail", "attempts", "kept (UTC)", "state")
    context.say(table(heads, cells))
    return OK


async def _show(args: argparse.Namespace, context: Context, quarantine: Quarantine) -> int:
    from pipeline.storage.quarantine import Choice

    rows = await quarantine.find(Choice(state=None, ids=(args.id,)), limit=1)
    if not rows:
        context.note(f"quarantine: there is no row {args.id}")
        return FAILED
    whole = _summary(rows[0]) | {"properties": rows[0].properties, "body": rows[0].body}
    if args.json:
        context.say(to_json(whole))
        return OK
    body = whole.pop("body").decode("utf-8", "backslashreplace")
    context.say(table(("field", "value"), [(name, value) for name, value in whole.items()]))
    context.say("\n" + "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in body))
    return OK


def _summary(row: Kept) -> dict[str, Any]:
    plain = row._asdict()
    key = plain.pop("key")
    for name in ("body", "properties", "fingerprint"):
        plain.pop(name)
    times = {name: moment(plain.pop(name)) for name in ("observed", "created_at", "closed_at")}
    return {"id": plain.pop("id"), **key._asdict(), **plain, **times}


def _told(args: argparse.Namespace, context: Context, done: list[Done]) -> int:
    """Exit code 1 if a row that was meant still waits."""
    counts = Counter(one.outcome.value for one in done)
    if args.json:
        context.say(to_json({"counts": dict(counts), "rows": [one._asdict() for one in done]}))
    else:
        for one in done:
            if one.detail:
                context.say(f"row {one.id}: {one.outcome.value}: {one.detail}")
        context.say(", ".join(f"{count} {name}" for name, count in counts.most_common()) or "no row was meant")
    return FAILED if counts.get("still-bad") or counts.get("feed-off") else OK


COMMAND = Command("quarantine", "look at, replay or set aside what could not be used", configure, run)
