"""Orders to processes at failpoints, cells that were not tried yet first, and the matrix of what was carried out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from pathlib import Path
from typing import Any

ACTIONS = ("KILL", "TERM", "STOP", "FAIL")
NEW_SECONDS = 1.5
"""How long an order waits for a cell that was never carried out before it takes any."""

ANY_SECONDS = 2.0
POLL_SECONDS = 0.02


class Failpoints:
    """One order at a time. `file` is what `PIPELINE_FAILPOINTS=@file` names."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.done: Counter[tuple[str, str]] = Counter()
        self._lock = asyncio.Lock()

    def cells(self) -> list[tuple[str, str]]:
        """Give the feasible cells: every failpoint that any process passed, by every action that it can take."""
        seen = Path(f"{self.file}.seen")
        names = sorted(set(seen.read_text().split())) if seen.exists() else []
        return [(name, action) for name in names for action in ACTIONS if _feasible(name, action)]

    async def order(self, action: str) -> tuple[str, int] | None:
        """Have the next process that passes a failpoint do something; gives name and process, None if none came."""
        async with self._lock:
            names = [name for name, possible in self.cells() if possible == action]
            new = [name for name in names if not self.done[name, action]]
            taken = await self._carried_out(action, new, NEW_SECONDS)
            taken = taken or await self._carried_out(action, names, ANY_SECONDS)
            if taken:
                self.done[taken[0], action] += 1
            return taken

    async def _carried_out(self, action: str, names: list[str], seconds: float) -> tuple[str, int] | None:
        if not names:
            return None
        draft = self.file.with_suffix(".draft")
        draft.write_text(" ".join((action, *names)))
        draft.rename(self.file)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if taken := self._taken():
                return taken
            await asyncio.sleep(POLL_SECONDS)
        with contextlib.suppress(FileNotFoundError):
            self.file.unlink()
            return None
        return self._taken()

    def _taken(self) -> tuple[str, int] | None:
        head = f"{self.file.name}.done."
        for path in self.file.parent.glob(f"{head}*"):
            pid, _, name = path.name.removeprefix(head).partition(".")
            path.unlink()
            return name, int(pid)
        return None

    def report(self) -> dict[str, Any]:
        """Give the matrix."""
        cells = self.cells()
        matrix: dict[str, dict[str, int]] = {}
        for name, action in cells:
            matrix.setdefault(name, {})[action] = self.done[name, action]
        covered = sum(self.done[cell] > 0 for cell in cells)
        return {"names": len(matrix), "cells": len(cells), "carried_out": covered, "matrix": matrix}


def _feasible(name: str, action: str) -> bool:
    return action != "FAIL" or name.startswith("store.")
