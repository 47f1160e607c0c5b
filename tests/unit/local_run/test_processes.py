"""Child processes of the box: what a person is told when one does not start, and that none is left behind."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from infra.local.run.processes import DidNotStart, Process


async def _yes() -> bool:
    return True


async def _no() -> bool:
    return False


def _process(folder: Path, code: str, *, ready: bool = True) -> Process:
    return Process(
        "thing", [sys.executable, "-c", code], environment=dict(os.environ), folder=folder,
        log=folder / "logs" / "thing.log", ready=_yes if ready else _no,
    )  # fmt: skip


async def test_a_process_that_ends_at_once_is_told_with_the_end_of_its_log(tmp_path: Path):
    """The reason stands in its last lines; nobody should have to look for the file."""
    process = _process(tmp_path, "raise SystemExit('port 5672 is taken')", ready=False)

    with pytest.raises(DidNotStart, match="port 5672 is taken"):
        await process.start()


async def test_a_killed_process_is_lost_until_it_is_started_again(tmp_path: Path):
    """The stack that stays up watches exactly this."""
    process = _process(tmp_path, "import time; time.sleep(60)")
    await process.start()

    await process.kill()

    assert (process.runs, process.lost) == (False, True)
    await process.start()
    assert (process.runs, process.lost, process.starts) == (True, False, 2)
    await process.stop()
    assert (process.runs, process.lost) == (False, False)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
async def test_children_die_with_a_runner_that_is_killed(tmp_path: Path):
    """A stack without its runner would keep its ports for ever."""
    runner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _RUNNER.format(folder=str(tmp_path)), stdout=asyncio.subprocess.PIPE, cwd=Path.cwd()
    )
    assert runner.stdout is not None
    child = int(await asyncio.wait_for(runner.stdout.readline(), 20))

    runner.kill()
    await runner.wait()

    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"process {child} lives on")


_RUNNER = """
import asyncio, os, sys
from pathlib import Path
from infra.local.run.processes import Process

async def ready():
    return True

async def main():
    folder = Path({folder!r})
    process = Process("thing", [sys.executable, "-c", "import time; time.sleep(60)"], environment=dict(os.environ),
                      folder=folder, log=folder / "thing.log", ready=ready)
    await process.start()
    await asyncio.sleep(0.5)
    print(process.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""
