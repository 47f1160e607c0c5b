"""`why`: why has this user no (new) data?"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pipeline.commands.base import FAILED, OK, Command, Context, WrongUse, with_json
from pipeline.commands.text import to_json

if TYPE_CHECKING:
    from pipeline.operations.why import FeedReport, UserReport

MAX_TOLD = 100
"""Chains told of one feed; `--json` gives all that were read."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("user")
    parser.add_argument("feed", nargs="?", help="only this feed")
    with_json(parser)


async def run(args: argparse.Namespace, context: Context) -> int:
    """Tell each chain's state in plain words; exit code 1 if there is no such user."""
    from pipeline.operations.why import explain
    from pipeline.storage import reports

    async with context.pipeline() as pipeline:
        if args.feed and args.feed not in pipeline.plans:
            known = ", ".join(sorted(pipeline.plans))
            raise WrongUse(f"FEED: {args.feed!r} is not an enabled feed; enabled are {known}")
        plans = [plan for plan in pipeline.plans.values() if args.feed in (None, plan.feed.name)]
        names = [plan.feed.name for plan in plans]
        story = await pipeline.database.read(reports.user_story, args.user, names)
        report = explain(args.user, story, plans, pipeline.settings)
    context.say(to_json(report) if args.json else _text(report))
    return OK if report.known else FAILED


def _text(report: UserReport) -> str:
    lines = [f"User {report.user}: {report.verdict}"]
    for feed in report.feeds:
        lines += ["", *_feed(feed)]
    if report.more_chains:
        lines.append("\nMore chains exist than were read; name a feed to see them.")
    return "\n".join(lines)


def _feed(feed: FeedReport) -> list[str]:
    run = f", next tick {feed.next_run:%Y-%m-%d %H:%M:%S} UTC" if feed.next_run else ""
    lines = [f"{feed.feed}: {feed.finished} finished{run}"]
    lines += [f"  ! {words}" for words in feed.obstacles]
    alike: dict[str, list[str]] = {}
    for chain in feed.chains:
        name = f" ({chain.scope_name})" if chain.scope_name else ""
        alike.setdefault(chain.words, []).append(f"{chain.scope}{name} {chain.lane}")
    told = [f"  {_names(names)}: {words}" for words, names in alike.items()]
    return lines + told[:MAX_TOLD] + ([f"  … and {len(told) - MAX_TOLD} more"] if len(told) > MAX_TOLD else [])


def _names(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} like it"


COMMAND = Command("why", "tell why a user has no data: each chain's state in plain words", configure, run)
