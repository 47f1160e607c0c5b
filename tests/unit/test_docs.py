"""What the docs name exists: commands with their arguments, files, names, settings."""

from __future__ import annotations

import argparse
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from pipeline import topology
from pipeline.__main__ import commands
from pipeline.bus.messages import MiningMessage
from pipeline.feeds import load_feeds
from pipeline.operations.why import STOPS, WAITS
from pipeline.settings import Settings
from pipeline.subscribers import load_subscribers

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")])
EXAMPLES = {"FEED": "posts", "USER": "u1", "ID": "7", "FILE": "users.csv", "TIME": "7d", "NAME": "TOKEN"}

TO_BE_WRITTEN = {"pipeline/feeds/campaigns.py"}
"""What the README's reader makes by following it."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(exit_on_error=False)
    subparsers = parser.add_subparsers(required=True)
    for command in commands():
        command.configure(subparsers.add_parser(command.name))
    return parser


def _command_lines() -> list[tuple[str, str]]:
    """Every `python -m pipeline …` of the docs, in a block or in a sentence, with the page it stands on."""
    found = []
    for page in PAGES:
        text = page.read_text()
        blocks = re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        spans = [span.replace("\n", " ") for span in re.findall(r"`([^`]+)`", prose)]
        for line in [*spans, *(line for block in blocks for line in block.splitlines())]:
            for command in re.findall(r"python -m pipeline ((?!--help)[a-z][^|#>;…)]*)", line):
                found.append((page.name, command.split("  ")[0].strip()))
    return sorted(set(found))


@pytest.mark.parametrize(("page", "line"), _command_lines(), ids=lambda value: value)
def test_every_command_in_the_docs_can_be_run(page: str, line: str) -> None:
    """A runbook whose command does not exist is found out at three in the morning."""
    words = [EXAMPLES.get(word, word) for word in shlex.split(line)]

    try:
        _parser().parse_args(words)
    except (SystemExit, argparse.ArgumentError) as error:
        pytest.fail(f"{page}: python -m pipeline {line}: {error}")


def test_the_runbook_names_every_command() -> None:
    """A command that stands nowhere is found by nobody."""
    told = (ROOT / "docs" / "runbook.md").read_text()

    assert [command.name for command in commands() if f"python -m pipeline {command.name}" not in told] == []


@pytest.mark.parametrize("reason", sorted([*WAITS, *STOPS]))
def test_the_runbook_has_every_reason_for_which_a_chain_waits_or_stops(reason: str) -> None:
    """The reason on the status page is the word that a person will look for."""
    assert f"`{reason}`" in (ROOT / "docs" / "runbook.md").read_text()


def _our_names() -> list[str]:
    """The names in the third column of docs/names.md."""
    names = []
    for line in (ROOT / "docs" / "names.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and set(cells[0]) != {"-"}:
            names += re.findall(r"`([^`]+)`", cells[2])
    return sorted(set(names))


@cache
def _known() -> set[str]:
    feeds = load_feeds()
    wanted = topology.topology(feeds, load_subscribers())
    fields = {field.alias or name for name, field in MiningMessage.model_fields.items()}
    settings = {"MINER_AZURE_SERVICE_BUS__fullyQualifiedNamespace", *(name.upper() for name in Settings.model_fields)}
    contract = set(re.findall(r'"(\w+)"', (ROOT / "docs/contracts/posts.json").read_text()))
    return {*wanted.queues, *wanted.topics, *settings, *topology.schedules(feeds), *fields, *contract}


@pytest.mark.parametrize("name", _our_names())
def test_each_of_our_names_in_the_map_exists(name: str) -> None:
    """A map to places that have moved is worse than none."""
    path, _, inside = name.partition(":")
    if "/" not in path:
        assert name in _known()
        return
    assert (ROOT / path).exists()
    assert not inside or re.search(rf"\b{re.escape(inside)}\b", (ROOT / path).read_text())


def test_no_page_names_a_file_that_is_not_there() -> None:
    """Links in a repository rot silently."""
    lost = []
    for page in PAGES:
        text = page.read_text()
        lost += [
            (page.name, to) for to in re.findall(r"\]\((?!https?:|#)([^)#]+)", text) if not (page.parent / to).exists()
        ]
        named = re.findall(r"`((?:pipeline|infra|tests|docs)/[\w./-]+\.\w+)`", text)
        lost += [(page.name, to) for to in named if not (ROOT / to).exists() and to not in TO_BE_WRITTEN]

    assert lost == []
