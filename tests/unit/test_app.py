"""What is deployed: the files that `.funcignore` leaves, what loads with them, and the functions they declare."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pathspec
import pytest

from pipeline.feeds import load_feeds
from pipeline.subscribers import load_subscribers

ROOT = Path(__file__).parents[2]
SETTINGS = {"REST_BASE_URL": "https://rest.example", "ENVIRONMENT": "local"}
LATE = ("azure.servicebus azure.identity azure.storage sqlalchemy alembic redis aiohttp azure.monitor").split()
"""What only the first invocation may import: together they take two seconds, and Flex limits the start."""

HTTP_LEVELS = {"status": "FUNCTION", "health": "FUNCTION"}
"""Every HTTP function with its level. A webhook that Facebook calls is `FUNCTION` too: its key stands in the URL."""


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with what `func azure functionapp publish` would send."""
    folder = tmp_path_factory.mktemp("zip")
    ignored = pathspec.GitIgnoreSpec.from_lines((ROOT / ".funcignore").read_text().splitlines())
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, timeout=60, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if not ignored.match_file(name) and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def indexed(deployed: Path) -> dict[str, list[dict[str, Any]]]:
    """The bindings of each function, as Microsoft's own worker code indexes the deployed files."""
    done = subprocess.run(
        [sys.executable, "-m", "infra.local.host", "--app", str(deployed), "--index"],
        cwd=ROOT,
        env={**os.environ, **SETTINGS},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {one["name"]: one["bindings"] for one in json.loads(done.stdout)}


def test_the_zip_holds_the_app_and_nothing_else(deployed: Path) -> None:
    """Tests and the local stack in the cloud cost start time, and are one more thing to break into."""
    assert sorted(path.name for path in deployed.iterdir()) == [
        "function_app.py",
        "host.json",
        "pipeline",
        "requirements.txt",
    ]


def test_importing_the_app_opens_nothing_and_loads_no_client_library(deployed: Path) -> None:
    """The host imports it at every cold start and to list the functions, where no setting may be there yet."""
    code = (
        "import sys, socket\n"
        "def refuse(*a, **k): raise AssertionError('opened a socket')\n"
        "socket.socket.connect = refuse\n"
        "import function_app\n"
        f"print([name for name in {LATE!r} if name in sys.modules])"
    )
    bare = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=deployed, env=bare, capture_output=True, text=True, timeout=100, check=False
    )

    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_each_feed_has_all_its_functions(indexed: dict[str, list[dict[str, Any]]]) -> None:
    """A feed without its scheduler is never mined, and one without its dead-letter function loses silently."""
    wanted = {"watchdog", "relay", "upkeep", *HTTP_LEVELS}
    for feed in load_feeds().values():
        name = feed.name.replace("-", "_")
        wanted |= {f"{name}_scheduler", f"{name}_miner", f"{name}_dead_letters"}
        if feed.parser_queue:
            wanted |= {f"{name}_parser", f"{name}_parser_dead_letters"}
    for subscriber in load_subscribers().values():
        name = subscriber.name.replace("-", "_")
        wanted |= {name, f"{name}_dead_letters"}

    assert set(indexed) == wanted


def test_every_http_function_has_the_level_that_was_agreed(indexed: dict[str, list[dict[str, Any]]]) -> None:
    """A new endpoint is named here before anybody can call it, and none is anonymous."""
    levels = {
        name: str(binding["authLevel"]).upper()
        for name, bindings in indexed.items()
        for binding in bindings
        if binding["type"] == "httpTrigger"
    }

    assert levels == HTTP_LEVELS
    assert "ANONYMOUS" not in levels.values()


def test_every_name_in_percent_signs_is_in_the_settings_file(indexed: dict[str, list[dict[str, Any]]]) -> None:
    """The host disables a function whose setting is missing, and says so in one line that nobody reads."""
    known = json.loads((ROOT / "local.settings.json.example").read_text())["Values"]
    named = set(re.findall(r"%(\w+)%", json.dumps(indexed)))

    assert named - known.keys() == set()
