"""Start the emulator: `python -m infra.local.servicebus --config Config.json`."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from infra.local.servicebus.config import OFFICIAL_CONNECTIONS, OFFICIAL_QUOTA_BYTES, Config, ConfigError
from infra.local.servicebus.config_file import load_config
from infra.local.servicebus.server import running

_LOGGER = logging.getLogger("servicebus")


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    try:
        config = _config(options)
    except (ConfigError, OSError) as error:
        problems = error.problems if isinstance(error, ConfigError) else [str(error)]
        for problem in problems:
            print(f"{options.config}: {problem}", file=sys.stderr)
        return 2
    try:
        asyncio.run(_serve(config, options.host, options.port, options.http_port))
    except OSError as error:
        print(f"servicebus: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m infra.local.servicebus",
        description="A local Azure Service Bus over AMQP 1.0. Not Microsoft's emulator; memory only.",
    )
    parser.add_argument("--config", type=Path, required=True, help="the official emulator's Config.json")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=5672, help="AMQP port; 0 takes a free one (default: %(default)s)")
    parser.add_argument("--http-port", type=int, default=5300, help="control port; 0 as above (default: %(default)s)")
    parser.add_argument("--relaxed", action="store_true", help="allow values outside the official bounds")
    parser.add_argument(
        "--official-bounds", action="store_true", help="also keep the official emulator's 100 MB and 10 connections"
    )
    parser.add_argument(
        "--key", default=os.environ.get("SERVICEBUS_EMULATOR_KEY"), help="refuse tokens signed with any other key"
    )
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    return parser


def _config(options: argparse.Namespace) -> Config:
    config = replace(load_config(options.config, relaxed=options.relaxed), key=options.key)
    if options.official_bounds:
        config = replace(config, quota_bytes=OFFICIAL_QUOTA_BYTES, max_connections=OFFICIAL_CONNECTIONS)
    return config


async def _serve(config: Config, host: str, port: int, http_port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    async with running(config, host=host, port=port, http_port=http_port) as server:
        print(f"servicebus: amqp {host}:{server.port} http {host}:{server.http_port}", flush=True)
        _LOGGER.info("a local emulator, not Microsoft's; memory only: nothing survives its end")
        await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
