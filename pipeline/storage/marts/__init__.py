"""Views for people over the feeds' tables, one file each, with the tests that their data must pass."""

from __future__ import annotations

import importlib
import pkgutil

from pipeline.storage.marts.base import Mart


def load_marts() -> tuple[Mart, ...]:
    """Give all marts by name."""
    names = sorted(entry.name for entry in pkgutil.iter_modules(__path__) if entry.name != "base")
    return tuple(importlib.import_module(f"{__name__}.{name}").MART for name in names)
