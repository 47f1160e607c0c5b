"""Orders to processes at failpoints, cells that were not tried yet first, and the matrix of what was carried out."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.cells import LEFT_OUT, Cell, cells
from tests.chaos.scene import send_signal

NEW_SECONDS = 3.5
"""How long an order waits for a cell that was never carried out before it takes any; commands start slowly."""

ANY_SECONDS = 2.0
POLL_SECONDS = 0.02

Provoke = Callable[[str], Awaitable[None]]
"""Have some process pass the failpoint of that name soon."""


class Failpoints:
    """One order at a time. `file` is what `PIPELINE_FAILPOINTS=@file` names."""

    def __init__(self, file: Path, chance: Random, provoke: Provoke) -> None:
        self.file = file
        self.done: Counter[Cell] = Counter()
        self._chance = chance
        self._provoke = provoke
        self._lock = asyncio.Lock()
        self._provoking: set[asyncio.Task[None]] = set()

    def cells(self) -> list[Cell]:
        """Give the cells that make sense."""
        seen = Path(f"{self.file}.seen")
        return cells(seen.read_text().split() if seen.exists() else ())

    async def order(self, action: str) -> tuple[str, int] | None:
        """
        Have the next process that passes a failpoint do something; gives name and process, None if none came.

        Failpoints at which it was never done come first, and one of them is provoked.
        """
        async with self._lock:
            names = [name for name, possible in self.cells() if possible == action]
            new = [name for name in names if not self.done[name, action]]
            if new:
                self._keep(self._provoke(self._chance.choice(new)))
            taken = await self._carried_out(action, new, NEW_SECONDS)
            taken = taken or await self._carried_out(action, names, ANY_SECONDS)
            if taken:
                self.done[taken[0], action] += 1
            return taken

    def _keep(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._provoking.add(task)
        task.add_done_callback(self._provoking.discard)

    async def settle(self) -> None:
        """Wait for what was provoked; each has limits of its own."""
        await asyncio.gather(*self._provoking)

    async def _carried_out(self, action: str, names: list[str], seconds: float) -> tuple[str, int] | None:
        if not names:
            return None
        self._give(action, names)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if taken := self._taken(action):
                return taken
            if not self.file.exists():  # taken for an order that was withdrawn a moment ago
                self._give(action, names)
            await asyncio.sleep(POLL_SECONDS)
        with contextlib.suppress(FileNotFoundError):
            self.file.unlink()
            return None
        return self._taken(action)

    def _give(self, action: str, names: list[str]) -> None:
        draft = self.file.with_suffix(".draft")
        draft.write_text(" ".join((action, *names)))
        draft.rename(self.file)

    def _taken(self, action: str) -> tuple[str, int] | None:
        """Give who carried out the order. One that was withdrawn too late counts as well, and is undone here."""
        head = f"{self.file.name}.done."
        for path in self.file.parent.glob(f"{head}*"):
            pid, did, name = path.name.removeprefix(head).split(".", 2)
            path.unlink()
            if did == action:
                return name, int(pid)
            self.done[name, did] += 1
            if did == "STOP":  # nobody waits for it, and it may hold the store's write lock
                send_signal(int(pid), signal.SIGCONT)
        return None

    def report(self) -> dict[str, Any]:
        """Give the matrix: how often each cell was carried out."""
        possible = self.cells()
        matrix: dict[str, dict[str, int]] = {}
        for name, action in possible:
            matrix.setdefault(name, {})[action] = self.done[name, action]
        covered = sum(self.done[cell] > 0 for cell in possible)
        return {
            "names": len(matrix),
            "cells": len(possible),
            "carried_out": covered,
            "share": round(covered / len(possible), 3),
            "missing": [f"{action} {name}" for name, action in possible if not self.done[name, action]],
            "left_out": LEFT_OUT,
            "matrix": matrix,
        }
