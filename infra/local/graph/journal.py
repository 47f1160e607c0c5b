"""
What happened to a simulator's world, one JSON object a line, so that a killed process finds the world as it was.

A line is written before the change is made, and so before anybody is told of it. Each holds the world's time `at`
which it happened and the machine's time `wall`; the same changes at the same times make the same world again.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import orjson

from infra.local.graph.clock import Clock

log = logging.getLogger(__name__)

Event = dict[str, Any]
MADE = "made"


class BadState(ValueError):
    """A state file that cannot be gone on with: the text says why."""


class Note(Protocol):
    """Takes down what is about to happen."""

    def __call__(self, do: str, **what: object) -> None: ...


class Journal:
    """
    One world's file. Without a path nothing is kept and there is no past.

    Writes end in the machine's page cache: they outlive the process, not the machine.
    """

    def __init__(self, path: Path | None, *, wall: Callable[[], float] = time.time) -> None:
        """Read what is there; raises BadState, OSError. A last line that was torn is cut off: nobody was told of it."""
        self._path = path
        self._wall = wall
        self._clock: Clock | None = None
        self._size = 0
        self.past: list[Event] = [] if path is None else self._read(path)

    @property
    def born(self) -> float | None:
        """The world's time at which the world was made; None if it is new."""
        return float(self.past[0]["at"]) if self.past else None

    def begin(self, clock: Clock, made_from: Mapping[str, object]) -> None:
        """Say what the world is made from. Raises BadState if the file is about another world."""
        if not self.past:
            self._clock = clock
            self.note(MADE, **made_from)
            return
        first = self.past[0]
        for name, value in made_from.items():
            if first.get(name) != value:
                raise BadState(f"{self._path}: that world was made with {name} {first.get(name)!r}, not {value!r}")

    def replay(self, clock: Clock, repeat: Callable[[Event], None]) -> None:
        """
        Have everything happen again, each at its own time, let the clock catch up with the time since, and write from
        now on.
        """
        for event in self.past:
            with clock.standing(float(event["at"])):
                if event["do"] != MADE:
                    repeat(event)
        if self.past:
            clock.catch_up(max(0.0, self._wall() - float(self.past[-1]["wall"])))
        self.past.clear()
        self._clock = clock

    def note(self, do: str, **what: object) -> None:
        """Take down what is about to happen. Raises OSError, and then nothing of it is in the file."""
        if self._path is None or self._clock is None:
            return
        event = {"do": do, "at": self._clock.now(), "wall": self._wall(), **what}
        line = orjson.dumps(event) + b"\n"
        with self._path.open("ab", buffering=0) as file:
            written = file.write(line)
        if written != len(line):
            os.truncate(self._path, self._size)
            raise OSError(f"{self._path}: {written} of {len(line)} bytes were written")
        self._size += len(line)

    def _read(self, path: Path) -> list[Event]:
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) != len(data):
            log.warning("%s: the last line is torn (%d bytes) and left out", path, len(data) - len(whole))
            os.truncate(path, len(whole))
        self._size = len(whole)
        past = [_event(path, number, line) for number, line in enumerate(whole.splitlines(), start=1)]
        if past and past[0]["do"] != MADE:
            raise BadState(f"{path}: line 1 does not say what the world was made from")
        return past


@contextmanager
def owned(path: Path | None) -> Iterator[None]:
    """Keep other processes from a state file; raises BadState if one has it. A killed process has it no more."""
    if path is None:
        yield
        return
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadState(f"{path}: another simulator writes it") from error
        yield


def _event(path: Path, number: int, line: bytes) -> Event:
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadState(f"{path}: line {number}: not JSON ({error})") from error
    if not isinstance(event, dict) or not {"do", "at", "wall"} <= event.keys():
        raise BadState(f"{path}: line {number}: not an object with do, at and wall")
    return event
