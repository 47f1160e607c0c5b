"""`reprocess`: run the lake's raw items through the processor again, after a feed or its model has changed."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from pipeline.commands.base import OK, Command, Context, WrongUse, with_json
from pipeline.commands.text import instant, table, to_json


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("feed")
    parser.add_argument("--since", type=instant, metavar="TIME", required=True, help="item time: ISO 8601 or an age")
    parser.add_argument("--until", type=instant, metavar="TIME", help="item time, exclusive; default: now")
    parser.add_argument("--user", help="only this user's items")
    with_json(parser)


async def run(args: argparse.Namespace, context: Context) -> int:
    """Commit as new revisions what comes out differently today."""
    from pipeline.operations.reprocess import reprocess

    until = args.until or datetime.now(UTC)
    if args.since >= until:
        raise WrongUse("--since must be before --until")
    async with context.pipeline() as pipeline:
        if args.feed not in pipeline.plans:
            known = ", ".join(sorted(pipeline.plans))
            raise WrongUse(f"FEED: {args.feed!r} is not an enabled feed; enabled are {known}")
        counts = await reprocess(pipeline, args.feed, args.since, until, args.user)
    context.say(to_json(counts._asdict()) if args.json else table(("what", "count"), list(counts._asdict().items())))
    return OK


COMMAND = Command("reprocess", "run the lake's items through the processor again, after it changed", configure, run)
