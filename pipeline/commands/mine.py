"""`mine`: have a feed mined now, for all users or one, from where it stands or over an ordered time."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pipeline.commands.base import FAILED, OK, Command, Context, WrongUse
from pipeline.commands.text import instant
from pipeline.feeds.base import ChildOf, Kind

if TYPE_CHECKING:
    from pipeline.bootstrap import Pipeline
    from pipeline.miners.plan import Plan


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("feeds", nargs="+", metavar="FEED", help="the feed's name, see `feeds`; several may be named")
    parser.add_argument("--user", help="only this user")
    parser.add_argument("--since", type=instant, metavar="TIME", help="mine this time again: ISO 8601 or an age (7d)")
    parser.add_argument("--until", type=instant, metavar="TIME", help="the end of the ordered time; default: now")


async def run(args: argparse.Namespace, context: Context) -> int:
    """Send one message per user and feed; the functions do the work. All is checked before anything is sent."""
    async with context.pipeline() as pipeline:
        plans = [the_plan(pipeline, feed) for feed in dict.fromkeys(args.feeds)]
        orders = [(plan, await _window(args, plan, pipeline)) for plan in plans]
        for plan, window in orders:
            sent = await pipeline.fan_out.ordered(plan, only_user=args.user, window=window)
            if not sent:
                who = f"no active user {args.user!r}" if args.user else "no active user"
                context.note(f"nothing was sent: {who} (see `users list`, MINING_USER_ALLOWLIST)")
                return FAILED
            context.say(f"ordered {plan.feed.name} for {sent} user{'s' if sent != 1 else ''} on {plan.queue}")
    return OK


def the_plan(pipeline: Pipeline, feed: str) -> Plan:
    """Give an enabled feed. Raises WrongUse naming the argument."""
    plan = pipeline.plans.get(feed)
    if plan is None:
        raise WrongUse(f"FEED: {feed!r} is not an enabled feed; enabled are {', '.join(sorted(pipeline.plans))}")
    return plan


async def _window(args: argparse.Namespace, plan: Plan, pipeline: Pipeline) -> tuple[int, int] | None:
    if args.since is None and args.until is None:
        return None
    if plan.feed.kind is Kind.SNAPSHOT:
        raise WrongUse(f"--since: {plan.feed.name!r} is listed whole each time; leave --since and --until away")
    if isinstance(plan.feed.scope, ChildOf):
        raise WrongUse(f"--since: {plan.feed.name!r} hangs on {plan.feed.scope.feed!r}: order the time there")
    if args.since is None:
        raise WrongUse("--until needs --since")
    now = await pipeline.database.now() // 1_000_000
    low, high = int(args.since.timestamp()), int(args.until.timestamp()) if args.until else now
    if low >= high:
        raise WrongUse("--since must be before --until")
    return low, high


COMMAND = Command("mine", "have a feed mined now, for all users or one", configure, run)
