"""`python -m infra.local.host --app DIR`: run an Azure Functions app on this machine."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TextIO

from infra.local.host.host import Choices, Host
from infra.local.host.indexing import index
from infra.local.host.processes import LoadFailed
from infra.local.host.web import ANSWER_LIMIT_SECONDS

log = logging.getLogger("host")


def main() -> int:
    arguments = _arguments()
    _log_to_console(sys.stderr if arguments.index else sys.stdout, verbose=arguments.verbose)
    app = Path(arguments.app).resolve()
    if not app.is_dir():
        log.error("--app: %s is not a folder", app)
        return 2
    try:
        if arguments.index:
            functions = asyncio.run(index(app, os.environ, sys.stderr))
            print(json.dumps(functions, indent=2))
            return 0
        return asyncio.run(_serve(_choices(arguments, app)))
    except LoadFailed as failed:
        # The traceback first, the reason last: that is where a terminal's reader looks.
        log.error("%s", "\n".join(filter(None, (failed.trace.rstrip(), f"host: {failed}"))))  # noqa: TRY400 - the app's trace, not ours
        return 1
    except (ValueError, TypeError, OSError) as wrong:
        log.error("host: %s", wrong)  # noqa: TRY400 - a wrong file or a taken port needs no trace
        return 2


async def _serve(choices: Choices) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _asked_to_stop, stop)
    host = Host(choices, os.environ)
    try:
        print(await host.start())
        print(f"host: http {host.address}", flush=True)
        stopping = asyncio.create_task(stop.wait())
        breaking = asyncio.create_task(host.broken())
        await asyncio.wait([stopping, breaking], return_when=asyncio.FIRST_COMPLETED)
        if breaking.done():
            breaking.result()
        for task in (stopping, breaking):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    finally:
        await host.stop()
    print("host: stopped", flush=True)
    return 0


def _asked_to_stop(stop: asyncio.Event) -> None:
    if stop.is_set():
        # Asked twice: whoever waits at the terminal wants it now. Workers follow their host.
        os._exit(130)
    stop.set()


def _choices(arguments: argparse.Namespace, app: Path) -> Choices:
    names = [name.strip() for name in (arguments.functions or "").split(",") if name.strip()]
    return Choices(
        app=app,
        state=Path(arguments.state).resolve(),
        port=arguments.port,
        address=arguments.address,
        only=frozenset(names) if arguments.functions is not None else None,
        workers=arguments.workers,
        enforce_keys=arguments.enforce_keys,
        answer_limit_seconds=arguments.answer_limit,
        drain_seconds=arguments.drain,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.local.host", description=__doc__)
    parser.add_argument("--app", default=".", help="folder of function_app.py and host.json")
    parser.add_argument("--port", type=int, default=7071, help="HTTP port; 0 takes a free one and prints it")
    parser.add_argument("--address", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--functions", help="run only these, separated by commas")
    parser.add_argument("--workers", type=int, help="worker processes (FUNCTIONS_WORKER_PROCESS_COUNT, else 1)")
    parser.add_argument("--enforce-keys", action="store_true", help="ask for function keys, as Azure does")
    parser.add_argument("--state", default=".local/host", help="where timers remember their runs")
    parser.add_argument("--drain", type=float, default=60.0, metavar="SECONDS", help="how long a stop waits")
    parser.add_argument(
        "--answer-limit", type=float, default=ANSWER_LIMIT_SECONDS, metavar="SECONDS", help="longest HTTP answer"
    )
    parser.add_argument("--index", action="store_true", help="print the functions as JSON and exit")
    parser.add_argument("--verbose", action="store_true", help="one line per invocation")
    return parser.parse_args()


def _log_to_console(stream: TextIO, *, verbose: bool) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logging.getLogger().addHandler(handler)
    log.setLevel(logging.DEBUG if verbose else logging.INFO)
    # The client logs every broken link by itself; the listeners say what it means.
    logging.getLogger("azure").setLevel(logging.CRITICAL)


if __name__ == "__main__":
    sys.exit(main())
