"""`python -m infra.local.run`: everything on this machine, in one command. Exit code 0 only if the truth matched."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

from rich.console import Console

from infra.local.run import summary
from infra.local.run.choices import Choices, parse
from infra.local.run.lines import Lines
from infra.local.run.processes import DidNotStart
from infra.local.run.product import CommandFailed
from infra.local.run.session import NotOurs, Session, View
from infra.local.run.up import Up
from infra.local.run.view import LiveView

MATCHED, WRONG, BROKEN, INTERRUPTED = 0, 1, 2, 130


def main() -> int:
    """Run as the command line says."""
    choices = parse(sys.argv[1:])
    try:
        return _keep_up(choices) if choices.up else _run_once(choices)
    except (DidNotStart, CommandFailed, NotOurs) as error:
        sys.stderr.write(f"run: {error}\n")
        return BROKEN
    except KeyboardInterrupt:
        return INTERRUPTED


def _run_once(choices: Choices) -> int:
    session = Session(choices, _view(choices))
    report = asyncio.run(session.run())
    sys.stdout.write(summary.text(report, session.stack.places) + "\n")
    return MATCHED if report.matched else WRONG


def _keep_up(choices: Choices) -> int:
    up = Up(choices, _view(choices))
    asyncio.run(_until_asked(up))
    sys.stdout.write(f"everything is stopped; state and logs are in {up.stack.places.folder}\n")
    return MATCHED


async def _until_asked(up: Up) -> None:
    """Run until SIGINT or SIGTERM."""
    task = asyncio.create_task(up.run())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _view(choices: Choices) -> View:
    console = Console()
    plain = choices.plain or not console.is_terminal or os.environ.get("TERM") == "dumb"
    return Lines(sys.stdout) if plain else LiveView(console)


if __name__ == "__main__":
    sys.exit(main())
