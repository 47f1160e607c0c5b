"""The pipeline's own command line, as a person would use it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Any

from infra.local.run.places import ROOT

COMMAND_SECONDS = 60.0


class CommandFailed(Exception):
    """A command of the pipeline ended with an error; the text holds what it said."""


class Product:
    """Runs `python -m pipeline ...` in the app's environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)

    async def run(self, *arguments: str, answer_codes: tuple[int, ...] = (0,)) -> str:
        """Run a command and give what it printed; raises CommandFailed."""
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pipeline", *arguments,
            cwd=ROOT, env=self._environment,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = await asyncio.wait_for(child.communicate(), COMMAND_SECONDS)
        except TimeoutError:
            child.kill()
            await child.wait()
            raise CommandFailed(f"pipeline {arguments[0]}: no end within {COMMAND_SECONDS:.0f} s") from None
        if child.returncode not in answer_codes:
            said = err.decode(errors="replace").strip() or out.decode(errors="replace").strip()
            raise CommandFailed(f"pipeline {' '.join(arguments[:2])}: exit code {child.returncode}: {said[-1500:]}")
        return out.decode(errors="replace")

    async def status(self) -> Any:
        """Give what `status --json` says, whatever its exit code means."""
        return json.loads(await self.run("status", "--json", answer_codes=(0, 1)))
