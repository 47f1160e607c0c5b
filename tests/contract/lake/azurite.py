"""Azurite, Microsoft's emulator of Blob Storage, as a child process on a free port."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# Public and the same for every Azurite.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

START_SECONDS = 30.0


def command() -> str:
    """Give the path of Azurite's blob service; without one, skip at a desk and fail in CI."""
    beside = Path(__file__).parents[3] / ".local" / "node_modules" / ".bin" / "azurite-blob"
    found = shutil.which("azurite-blob") or (str(beside) if beside.exists() else None)
    if found:
        return found
    if os.environ.get("CI"):
        pytest.fail("Azurite is missing: npm install --prefix .local azurite")
    pytest.skip("Azurite is missing: npm install --prefix .local azurite")


@contextmanager
def running() -> Iterator[str]:
    """Run an empty Azurite, which keeps its blobs in memory; gives its connection string."""
    arguments = ["--inMemoryPersistence", "--blobHost", "127.0.0.1", "--blobPort", "0"]
    process = subprocess.Popen(
        [command(), *arguments, "--skipApiVersionCheck", "--disableTelemetry"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        url = _listening(process)
        yield f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={KEY};BlobEndpoint={url}"
    finally:
        process.terminate()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def _listening(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    said, ends = b"", time.monotonic() + START_SECONDS
    while time.monotonic() < ends and process.poll() is None:
        if not select.select([process.stdout], [], [], 0.5)[0]:
            continue
        said += os.read(process.stdout.fileno(), 4096)
        found = re.search(rb"successfully (?:listens|listening) (?:on|at) (http://127\.0\.0\.1:\d+)", said)
        if found:
            return f"{found[1].decode()}/devstoreaccount1"
    raise AssertionError(f"Azurite did not start: {said.decode(errors='replace')[-500:]}")
