"""`republish`: send kept messages again, after a bus lost its memory."""

from __future__ import annotations

import argparse

from pipeline.commands.base import OK, Command, Context, with_json
from pipeline.commands.text import instant, to_json


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--since", type=instant, metavar="TIME", help="frozen at or after: ISO 8601 or an age (10m)")
    with_json(parser)


async def run(args: argparse.Namespace, context: Context) -> int:
    """Send again what OUTBOX_RETENTION_SECONDS kept."""
    from pipeline.operations.republish import republish

    since = int(args.since.timestamp() * 1_000_000) if args.since else 0
    async with context.pipeline() as pipeline:
        done = await republish(pipeline.database, pipeline.flusher, pipeline.settings, since=since)
    if args.json:
        context.say(to_json(done._asdict()))
        return OK
    rest = f"; the relay sends the other {done.unsent - done.sent}" if done.sent < done.unsent else ""
    context.say(f"{done.sent} messages sent again{rest}")
    return OK


COMMAND = Command("republish", "send kept messages again, after a bus lost its memory", configure, run)
