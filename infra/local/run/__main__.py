"""`python -m infra.local.run`: everything on this machine, in one command. Exit code 0 only if the truth matched."""

from __future__ import annotations

import asyncio
import os
import sys

from rich.console import Console

from infra.local.run import summary
from infra.local.run.choices import Choices, parse
from infra.local.run.lines import Lines
from infra.local.run.processes import DidNotStart
from infra.local.run.product import CommandFailed
from infra.local.run.session import Session, View
from infra.local.run.view import LiveView

MATCHED, WRONG, BROKEN, INTERRUPTED = 0, 1, 2, 130


def main() -> int:
    """Run as the command line says."""
    choices = parse(sys.argv[1:])
    session = Session(choices, _view(choices))
    try:
        report = asyncio.run(session.run())
    except (DidNotStart, CommandFailed) as error:
        sys.stderr.write(f"\nrun: {error}\n")
        return BROKEN
    except KeyboardInterrupt:
        return INTERRUPTED
    sys.stdout.write(summary.text(report, session.stack.places) + "\n")
    return MATCHED if report.matched else WRONG


def _view(choices: Choices) -> View:
    console = Console()
    plain = choices.plain or not console.is_terminal or os.environ.get("TERM") == "dumb"
    return Lines(sys.stdout) if plain else LiveView(console)


if __name__ == "__main__":
    sys.exit(main())
