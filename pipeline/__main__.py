"""The command line: `python -m pipeline COMMAND`. Exit codes: 0 yes, 1 no or failed, 2 wrong use or setting."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import sys
from collections.abc import Sequence

from pipeline import redaction
from pipeline.commands.base import FAILED, WRONG_USE, Command, Context, WrongUse
from pipeline.errors import ConfigurationError, PipelineError

MODULES = (
    *("migrate", "doctor", "new_key", "users", "feeds", "mine", "status", "why"),
    *("quarantine", "recover", "republish", "reprocess", "data_tests"),
)


def commands() -> list[Command]:
    """Give all commands in the order of `--help`."""
    return [importlib.import_module(f"pipeline.commands.{name}").COMMAND for name in MODULES]


def main(arguments: Sequence[str] | None = None, context: Context | None = None) -> int:
    """Run one command and give its exit code; what is wrong stands on the error stream, naming what to correct."""
    context = context or Context()
    redaction.install()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=context.err)
    parser = argparse.ArgumentParser(
        prog="python -m pipeline", description="Operate the pipeline. App settings are read from the environment."
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in commands():
        subparser = subparsers.add_parser(command.name, help=command.help, description=command.help)
        command.configure(subparser)
        subparser.set_defaults(command=command)
    args = parser.parse_args(arguments)
    try:
        code: int = asyncio.run(args.command.run(args, context))
        return code
    except (WrongUse, ConfigurationError) as error:
        context.note(redaction.redact(f"{args.command.name}: {error}"))
        return WRONG_USE
    except PipelineError as error:
        context.note(redaction.redact(f"{args.command.name}: {error}"))
        return FAILED
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
