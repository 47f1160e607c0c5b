"""The matrix of failpoints by what happens at them: every name in the product's source, less those left out by name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pipeline

ACTIONS = ("KILL", "TERM", "STOP", "FAIL")
Cell = tuple[str, str]

LEFT_OUT = {
    "store.reprocess": "a person's order after a feed's code has changed; unchanged code revises nothing, so it never "
    "writes in the box (tests/integration/subscribers/test_reprocess.py)",
}
"""Failpoints that no process of the box passes, by the unit's name, with the reason."""

FAIL_ONLY_AT = "store."
"""FAIL means that the store is out of reach; sends, caches, sources and the lake have faults of their own kinds."""

_NAMED = re.compile(r'\bfailpoint\(\s*"([a-z_.]+)"')
_UNITS = re.compile(r'\.write\(\s*"([a-z_.]+)"')


@cache
def in_source() -> frozenset[str]:
    """Give every failpoint's name, read out of the product's source."""
    text = "\n".join(path.read_text() for path in Path(pipeline.__file__).parent.rglob("*.py"))
    units = (f"store.{unit}.{side}" for unit in _UNITS.findall(text) for side in ("before", "after"))
    return frozenset(_NAMED.findall(text)).union(units)


def cells(passed: Iterable[str] = ()) -> list[Cell]:
    """Give the cells that make sense: of the source's names, and of any other that a process passed."""
    names = sorted({name for name in in_source().union(passed) if name.rpartition(".")[0] not in LEFT_OUT})
    return [(name, action) for name in names for action in ACTIONS if _makes_sense(name, action)]


def _makes_sense(name: str, action: str) -> bool:
    return action != "FAIL" or name.startswith(FAIL_ONLY_AT)
