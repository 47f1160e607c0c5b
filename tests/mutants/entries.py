"""The list of mutants, read from `tests/mutants.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
LIST = ROOT / "tests" / "mutants.toml"


class Hunk(NamedTuple):
    """One replacement in one file; `old` stands there exactly once."""

    file: str
    old: str
    new: str


class Mutant(NamedTuple):
    """One broken rule. `same_as` names the entry that breaks the same line; then there is nothing to run."""

    id: str
    breaks: str
    workload: str
    hunks: tuple[Hunk, ...]
    tests: tuple[str, ...]
    env: Mapping[str, str]
    same_as: str = ""


def read() -> dict[str, Mutant]:
    """Give all entries by id. Raises ValueError if the list itself is wrong."""
    found: dict[str, Mutant] = {}
    for raw in tomllib.loads(LIST.read_text())["mutant"]:
        one = _mutant(raw)
        if one.id in found:
            raise ValueError(f"{one.id} stands twice in {LIST.name}")
        found[one.id] = one
    for one in found.values():
        if one.same_as and (one.same_as not in found or found[one.same_as].same_as):
            raise ValueError(f"{one.id}: {one.same_as!r} is no entry with a patch")
    return found


def _mutant(raw: Mapping[str, Any]) -> Mutant:
    if "same_as" in raw:
        return Mutant(raw["id"], raw["breaks"], raw.get("workload", ""), (), (), {}, raw["same_as"])
    hunks = tuple(Hunk(**one) for one in raw["patch"])
    if not hunks or not raw["tests"] or any(one.old == one.new for one in hunks):
        raise ValueError(f"{raw['id']}: a patch that changes something and tests are needed")
    return Mutant(raw["id"], raw["breaks"], raw["workload"], hunks, tuple(raw["tests"]), raw.get("env", {}))
