"""`doctor`: know before the first tick whether everything is in place."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pipeline.commands.base import FAILED, OK, Command, Context, with_json
from pipeline.commands.text import table, to_json
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.bootstrap import Pipeline
    from pipeline.operations.doctor import Finding

MARKS = {"ok": "ok", "warn": "look", "fail": "FAIL", "skip": "skipped"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    with_json(parser)


async def run(args: argparse.Namespace, context: Context) -> int:
    """Check everything that can be checked from here; exit code 1 if anything fails."""
    findings = await _examine(context)
    if args.json:
        context.say(to_json({"ok": not any(one.failed for one in findings), "findings": findings}))
    else:
        context.say(table(("", "what", "finding"), [(MARKS[one.state], one.what, one.detail) for one in findings]))
    return FAILED if any(one.failed for one in findings) else OK


async def _examine(context: Context) -> list[Finding]:
    from pipeline.operations import doctor

    try:
        settings = context.settings
        findings = doctor.examine_settings(settings, context.environment)
    except PipelineError as error:
        return [doctor.fail("settings", str(error))]
    if any(one.failed for one in findings):
        return [*findings, doctor.skip("everything else", "needs the settings")]
    try:
        async with context.pipeline() as pipeline:
            return findings + await _parts(pipeline)
    except PipelineError as error:
        return [*findings, doctor.fail("start", str(error))]


async def _parts(pipeline: Pipeline) -> list[Finding]:
    from pipeline.operations import doctor
    from pipeline.subscribers import load_subscribers
    from pipeline.topology import EMULATOR_BOUNDS, QUEUE, topology

    wanted = topology(pipeline.feeds, load_subscribers(pipeline.settings.subscribers_package))
    settings = pipeline.settings
    expected = doctor.Expected(
        queues=tuple(settings.entity(name) for name in wanted.queues),
        topics={
            settings.entity(topic): {name: settings.entity(f"{name}-queue") for name in names}
            for topic, names in wanted.topics.items()
        },
        properties=QUEUE if settings.in_azure or not settings.servicebus_control_url else {**QUEUE, **EMULATOR_BOUNDS},
    )
    return [
        *await doctor.examine_database(pipeline.database),
        *await doctor.examine_bus(pipeline.entities, expected),
        await doctor.examine_redis(pipeline.cache),
        await doctor.examine_lake(pipeline.lake),
        *await doctor.examine_users(pipeline.database, pipeline.keys, settings),
        *await doctor.examine_budgets(pipeline.budget),
    ]


COMMAND = Command("doctor", "check settings, database, bus, Redis, lake and tokens", configure, run)
