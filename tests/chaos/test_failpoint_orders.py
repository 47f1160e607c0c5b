"""Orders at failpoints, which the chaos run gives to running processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import ConfigurationError, StoreUnavailable
from pipeline.failpoints import VARIABLE, Orders, install_from_environment

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
    assert [path.name.split(".", 3)[3] for path in tmp_path.glob("order.done.*")] == ["a.after"]
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


def test_orders_are_refused_in_azure(tmp_path: Path) -> None:
    """A forgotten setting must not kill workers in production."""
    with pytest.raises(ConfigurationError):
        install_from_environment({VARIABLE: f"@{tmp_path}/order", "WEBSITE_SITE_NAME": "app"})
