"""`migrate`: bring the database to this code's schema."""

from __future__ import annotations

import argparse
import asyncio

from pipeline.commands.base import OK, Command, Context


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--sql", choices=("mssql", "sqlite"), help="print the script for a database and change nothing")


async def run(args: argparse.Namespace, context: Context) -> int:
    """Migrate, or print the script."""
    from pipeline.storage import migrate

    if args.sql:
        context.say(await asyncio.to_thread(migrate.sql_script, args.sql))
        return OK
    async with context.database() as database:
        revision = await asyncio.to_thread(migrate.upgrade, database)
    context.say(f"the database is at revision {revision}")
    return OK


COMMAND = Command("migrate", "bring the database to this code's schema (a step of every deployment)", configure, run)
