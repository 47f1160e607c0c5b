"""The README says only what is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.feeds import load_feeds
from pipeline.settings import NAMESPACE, SCHEDULE_SUFFIX, Settings
from pipeline.topology import ROOT

README = (ROOT / "README.md").read_text()
OTHERS = {"WORLD", "SEED", "SCALE", "PYTHON", "MIT", "CI"}
"""Words in capitals that are no settings."""


def test_every_setting_it_names_is_one_the_code_reads():
    """A setting that does nothing costs a reader an hour."""
    known = {name.upper() for name in Settings.model_fields} | {NAMESPACE, "PIPELINE_FAILPOINTS"}
    named = set(re.findall(r"`([A-Z][A-Z_]{3,})(?:=[^`]*)?`", README)) - OTHERS

    assert {name for name in named if name not in known and not name.endswith(SCHEDULE_SUFFIX)} == set()


@pytest.mark.parametrize("command", sorted(set(re.findall(r"python -m pipeline ([a-z][a-z-]+)", README))))
def test_every_command_it_names_exists(command: str):
    """The first command a newcomer copies must work."""
    helped = subprocess.run(
        [sys.executable, "-m", "pipeline", command, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    assert helped.returncode == 0, helped.stderr


def test_every_make_target_it_names_exists():
    """`make` must not answer that it knows no rule."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))

    assert set(re.findall(r"make ([a-z-]+)`", README)) <= targets
    assert set(re.findall(r"^\$ make ([a-z-]+)", README, re.M)) <= targets


def test_every_page_it_links_to_exists():
    """Links rot first."""
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_its_example_feed_is_a_feed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """'One file and one command' is shown with a complete file; here it is loaded as it stands."""
    example = re.search(r"```python\n(.*?)```", README, re.S)
    assert example
    package = tmp_path / "readers_feeds"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "campaigns.py").write_text(example[1])
    monkeypatch.syspath_prepend(str(tmp_path))

    feeds = load_feeds("readers_feeds")

    assert feeds["campaigns"].queue == "campaigns-mining-queue"
