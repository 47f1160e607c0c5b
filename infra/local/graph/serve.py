"""Runs a simulator as a process of its own until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from infra.local.graph.http_server import Application, listening
from infra.local.graph.journal import owned


def serve(name: str, make: Callable[[], Application], *, host: str, port: int, state: Path | None) -> int:
    """
    Serve until SIGINT or SIGTERM; prints `{name}: http HOST:PORT`. Gives the exit code.

    `state` is the file that nobody else may write meanwhile.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(owned(state))
            application = make()
        except (ValueError, OSError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        try:
            asyncio.run(_serve(name, application, host, port))
        except OSError as error:
            print(f"{name}: cannot listen on {host}:{port}: {error.strerror}", file=sys.stderr)
            return 1
    return 0


async def _serve(name: str, application: Application, host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with listening(application, host=host, port=port) as found:
        print(f"{name}: http {host}:{found}", flush=True)
        await stop.wait()
