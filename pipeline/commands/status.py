"""`status`: how everything stands."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pipeline.commands.base import FAILED, OK, Command, Context, with_json
from pipeline.commands.text import table, to_json

if TYPE_CHECKING:
    from pipeline.operations.status import Status


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    with_json(parser)


async def run(args: argparse.Namespace, context: Context) -> int:
    """Print the status; exit code 1 if something needs a person."""
    from pipeline.operations.alerts import Level
    from pipeline.operations.status import read_status

    async with context.pipeline() as pipeline:
        status = await read_status(
            pipeline.database, pipeline.plans, pipeline.entities, pipeline.budget, pipeline.settings
        )
    context.say(to_json(status) if args.json else _text(status))
    return FAILED if status.level is Level.BAD else OK


def _text(status: Status) -> str:
    lines = [status.verdict, *(f"  ! {alert.what}: {alert.action}" for alert in status.alerts), ""]
    feeds = [
        (f.feed, f.scopes, f.complete, f.covered_to, f.gaps, f.open, f.parked, f.halted, f.items, f.pages)
        for f in status.feeds
    ]
    heads = ("feed", "scopes", "complete", "covered to (UTC)", "gaps", "open", "parked", "halted", "items", "pages")
    lines += [table(heads, feeds), ""]
    queues = [(q.queue, _known(q.active), _known(q.scheduled), _known(q.dead_letters)) for q in status.queues]
    lines += [table(("queue", "waiting", "scheduled", "dead letters"), queues), ""]
    waiting = [(w.feed, w.state, w.reason, w.chains, w.next_at) for w in status.waiting]
    if waiting:
        lines += [table(("feed", "state", "reason", "chains", "first due (UTC)"), waiting), ""]
    if status.quarantine:
        kept = [(q.feed or "-", q.reason, q.kind, q.rows) for q in status.quarantine]
        lines += [table(("quarantine", "reason", "kind", "rows"), kept), ""]
    lines.append(f"outbox: {status.outbox_rows} unsent; users: {status.users_active} active")
    return "\n".join(lines)


def _known(value: int | None) -> object:
    return "unknown" if value is None else value


COMMAND = Command("status", "show completeness, chains, queues, errors, quarantine and what to do", configure, run)
