"""`recover`: set going again what stopped, after the cause is gone."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pipeline.commands.base import OK, Command, Context, with_json
from pipeline.commands.text import table, to_json
from pipeline.operations.words import span

if TYPE_CHECKING:
    from pipeline.operations.recover import Step


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--dry-run", action="store_true", help="print the plan and change nothing")
    parser.add_argument("--user", help="only this user's chains")
    parser.add_argument("--feed", help="only this feed's chains")
    with_json(parser)


async def run(args: argparse.Namespace, context: Context) -> int:
    """Print the plan and, without --dry-run, carry it out."""
    from pipeline.operations.recover import Recovery

    done: dict[str, int] = {}
    async with context.pipeline() as pipeline:
        recovery = Recovery(pipeline.database, pipeline.flusher, pipeline.plans, pipeline.settings)
        steps = await recovery.plan(user=args.user, feed=args.feed)
        if not args.dry_run:
            done = dict(await recovery.carry_out(steps))
    if args.json:
        context.say(to_json({"plan": [_plain(step) for step in steps], "done": done}))
        return OK
    context.say(_text(steps) if steps else "nothing stands still")
    if done:
        context.say("\ndone: " + ", ".join(f"{count} {name}" for name, count in sorted(done.items())))
    return OK


def _plain(step: Step) -> dict[str, Any]:
    return {
        **step.key._asdict(),
        "state": step.state,
        "reason": step.reason,
        "last_error": step.last_error,
        "action": step.action.value,
        "why": step.why,
        "priority": step.priority,
        "pages_left": step.pages_left,
        "estimate_seconds": step.estimate_seconds,
    }


def _text(steps: list[Step]) -> str:
    rows = [
        (
            f"{step.key.user_id} {step.key.feed} {step.key.scope} {step.key.lane.value}",
            f"{step.state}: {step.reason or '-'}",
            step.action.value,
            step.why,
            step.priority,
            step.pages_left,
            "unknown" if step.estimate_seconds is None else span(step.estimate_seconds),
        )
        for step in steps
    ]
    return table(("chain", "reason", "action", "why", "priority", "pages left", "estimate"), rows)


COMMAND = Command("recover", "set going again what stopped; with --dry-run, show the plan", configure, run)
