"""`data-tests`: check the analytics tables and marts against what must hold for them."""

from __future__ import annotations

import argparse

from pipeline.commands.base import FAILED, OK, Command, Context, with_json
from pipeline.commands.text import table, to_json


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    with_json(parser)


async def run(args: argparse.Namespace, context: Context) -> int:
    """Run all data tests; tables and views that are missing are made first."""
    from pipeline.storage.data_tests import run_data_tests

    async with context.pipeline() as pipeline:
        results = await run_data_tests(pipeline.database, pipeline.analytics)
    failed = [result for result in results if result.failed]
    if args.json:
        context.say(to_json([result._asdict() for result in results]))
    else:
        if failed:
            context.say(table(("table", "test", "failed"), failed))
        context.say(f"{len(results) - len(failed)} of {len(results)} data tests passed")
    return FAILED if failed else OK


COMMAND = Command(
    "data-tests", "check the analytics tables and marts: unique, not null, relations, values", configure, run
)
