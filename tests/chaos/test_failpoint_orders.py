"""Orders at failpoints, which the chaos run gives to running processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from pipeline.errors import ConfigurationError, StoreUnavailable
from pipeline.failpoints import VARIABLE, Orders, install_from_environment
from tests.chaos.failpoints import Failpoints

ROOT = Path(__file__).parents[2]
PASSES_THREE = (
    "import os; from pipeline import failpoints as f; f.install_from_environment(os.environ); "
    "[f.failpoint(name) for name in ('a.before', 'a.after', 'b.before')]; print('lived')"
)


def test_an_order_is_carried_out_once_by_the_process_that_passes_its_failpoint(tmp_path: Path) -> None:
    """Every worker reads the same file; one order must not kill them all."""
    file = tmp_path / "order"
    file.write_text("KILL a.after c.before")
    environment = {**os.environ, VARIABLE: f"@{file}"}
    run = [sys.executable, "-c", PASSES_THREE]

    first = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30, check=False)
    second = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30, check=False)

    assert (first.returncode, second.stdout) == (-signal.SIGKILL, "lived\n")
    assert not file.exists()
    assert [path.name.split(".", 3)[3] for path in tmp_path.glob("order.done.*")] == ["KILL.a.after"]
    assert set((tmp_path / "order.seen").read_text().split()) == {"a.before", "a.after", "b.before"}


def test_a_failing_failpoint_raises_what_a_lost_store_raises(tmp_path: Path) -> None:
    """After a commit it is the unknown outcome: done, and nobody heard."""
    file = tmp_path / "order"
    file.write_text("FAIL store.page.after")
    orders = Orders(file)
    orders.at("store.page.before")

    with pytest.raises(StoreUnavailable):
        orders.at("store.page.after")

    orders.at("store.page.after")


async def test_who_was_stopped_by_an_order_that_was_withdrawn_goes_on(tmp_path: Path) -> None:
    """It may have read the order a moment before, and hold the store's write lock: the whole box would stand still."""
    with subprocess.Popen(["sleep", "30"]) as child:
        child.send_signal(signal.SIGSTOP)
        points = Failpoints(tmp_path / "order", Random(1), _nothing)
        (tmp_path / "order.seen").write_text("store.page.before\n")
        (tmp_path / f"order.done.{child.pid}.STOP.store.page.before").touch()

        taken = await points.order("KILL")

        state = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0]
        child.kill()
    assert taken is None
    assert state == "S"
    assert points.done["store.page.before", "STOP"] == 1


async def _nothing(name: str) -> None:
    """Provoke nobody."""


def test_orders_are_refused_in_azure(tmp_path: Path) -> None:
    """A forgotten setting must not kill workers in production."""
    with pytest.raises(ConfigurationError):
        install_from_environment({VARIABLE: f"@{tmp_path}/order", "WEBSITE_SITE_NAME": "app"})
