"""The composition root, where it fails."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pipeline.bootstrap import bootstrap
from pipeline.errors import MigrateFirst
from pipeline.settings import load
from tests.fakes import FakeBus, ManualClock


async def test_a_start_that_fails_leaves_no_thread_behind(tmp_path: Path) -> None:
    """A worker tries again with each message until its database answers: it must not drown in the attempts."""
    settings = load({"DATABASE_URL": f"sqlite:///{tmp_path}/empty.db", "ENVIRONMENT": "local"})

    for _ in range(3):
        with pytest.raises(MigrateFirst):
            await bootstrap(settings, bus=FakeBus(ManualClock()))

    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("sql")]
