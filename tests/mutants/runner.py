"""Run tests in a broken copy of the project and see whether they notice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.mutants import tree
from tests.mutants.entries import Mutant

SECONDS = 90.0
"""One run; the tests named for a mutant take a few."""

PASSED, FAILED = 0, 1
OPTIONS = "-x -q -p no:cacheprovider -p no:xdist -W ignore::pytest.PytestAssertRewriteWarning --tb=line".split()


class Result(NamedTuple):
    """How a run ended."""

    code: int
    seconds: float
    failed: str
    """The first test that failed."""
    reason: str
    """What it said."""
    output: str


class Runner:
    """A copy of the project and a process that runs tests in it; a context manager."""

    def __enter__(self) -> Self:
        """Make the copy and start the process."""
        self._folder = tempfile.TemporaryDirectory(prefix="mutants-")
        self.place = Path(self._folder.name) / "project"
        self.place.mkdir()
        tree.make(self.place)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        script = Path(__file__).with_name("zygote.py")
        self._zygote = subprocess.Popen(
            [sys.executable, "-P", str(script)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=self.place, env=environment,
        )  # fmt: skip
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop the process and remove the copy."""
        self._zygote.kill()
        self._zygote.communicate()
        self._folder.cleanup()

    def broken(self, mutant: Mutant) -> Result:
        """Run a mutant's tests with its patch applied; FAILED is what is hoped for."""
        with tree.applied(self.place, mutant.hunks):
            return self._run(mutant.tests, {**mutant.env, "PYTHONDONTWRITEBYTECODE": "1"}, SECONDS)

    def whole(self, tests: Sequence[str], env: Mapping[str, str], *, seconds: float = SECONDS) -> Result:
        """Run tests in the unbroken copy; anything but PASSED makes the kills worth nothing."""
        return self._run(tests, env, seconds)

    def _run(self, tests: Sequence[str], env: Mapping[str, str], seconds: float) -> Result:
        started = time.monotonic()
        output = self.place.parent / "output"
        order = {
            "cwd": str(self.place),
            "arguments": [*OPTIONS, f"--basetemp={self.place.parent / 'temporary'}", *tests],
            "environment": dict(env),
            "output": str(output),
            "seconds": seconds,
        }
        assert self._zygote.stdin
        assert self._zygote.stdout
        self._zygote.stdin.write(json.dumps(order) + "\n")
        self._zygote.stdin.flush()
        code = json.loads(self._zygote.stdout.readline())
        text = output.read_text(errors="replace")
        lines = text.splitlines()
        failed = next((line.split()[1] for line in lines if line.startswith(("FAILED ", "ERROR "))), "")
        reason = next((line[1:].strip() for line in lines if line.startswith("E  ")), "")
        return Result(code, time.monotonic() - started, failed, reason, text)


def selections(mutants: Sequence[Mutant]) -> list[tuple[Mapping[str, str], list[str]]]:
    """Give all tests that the mutants name, each once per environment it is run in."""
    found: dict[tuple[tuple[str, str], ...], dict[str, None]] = {}
    for mutant in mutants:
        if not mutant.same_as:
            found.setdefault(tuple(sorted(mutant.env.items())), {}).update(dict.fromkeys(mutant.tests))
    return [(dict(env), list(tests)) for env, tests in found.items()]
