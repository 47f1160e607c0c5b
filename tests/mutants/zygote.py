"""
Runs pytest again and again in forked children, so that the libraries are imported once.

A script of its own, which imports nothing of the project: each child imports that from its working directory. Reads
JSON lines (`cwd`, `arguments`, `environment`, `output`, `seconds`), answers each with pytest's exit code; -1 is no end.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import time

LIBRARIES = (
    "pytest_asyncio.plugin pytest_timeout _hypothesis_pytestplugin hypothesis sqlalchemy sqlalchemy.dialects.sqlite "
    "sqlalchemy.dialects.mssql pydantic pydantic_settings orjson alembic.command httpx azure.servicebus.aio tenacity "
    "cryptography.fernet croniter isal.isal_zlib pytest"
).split()


def child(order: dict[str, object]) -> None:
    """Become one pytest run; does not return."""
    os.setsid()
    output = os.open(str(order["output"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(str(order["cwd"]))
    os.environ.update(order["environment"])  # type: ignore[call-overload]  # from JSON
    sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in os.environ
    sys.path.insert(0, os.getcwd())
    import pytest

    sys.exit(int(pytest.main(order["arguments"])))  # type: ignore[arg-type]  # from JSON


def wait(pid: int, seconds: float) -> int:
    """Give a child's exit code; one that has no end is killed with all it started."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -1


def main() -> None:
    """Serve orders until the input ends."""
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            print(f"not loaded beforehand: {error}", file=sys.stderr)
    gc.freeze()
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            child(order)
        print(json.dumps(wait(pid, order["seconds"])), flush=True)


if __name__ == "__main__":
    main()
