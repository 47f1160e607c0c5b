"""Progress as plain lines, for logs and pipes."""

from __future__ import annotations

from typing import TextIO

from infra.local.run.progress import Picture

EVERY_SECONDS = 5.0


class Lines:
    """Prints a line now and then, and every note once."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._last = -EVERY_SECONDS
        self._notes = 0

    def start(self) -> None:
        """Nothing to prepare."""

    def show(self, picture: Picture) -> None:
        """Print what is new."""
        for note in picture.notes[self._notes :]:
            self._say(note)
        self._notes = len(picture.notes)
        if picture.seconds - self._last < EVERY_SECONDS:
            return
        self._last = picture.seconds
        feeds = ", ".join(f"{line.feed} {line.arrived}/{line.expected}" for line in picture.feeds)
        waiting = sum(queue.waiting + queue.locked for queue in picture.queues)
        quarantined = sum(line.quarantined for line in picture.feeds)
        parked = sum(line.parked for line in picture.feeds)
        self._say(
            f"{picture.seconds:5.1f} s  {feeds}; {waiting} waiting, {parked} parked, {quarantined} quarantined; "
            f"{picture.calls} calls, {picture.throttled} throttled, {sum(picture.faults.values())} faults"
        )

    def stop(self) -> None:
        """Nothing to give back."""

    def _say(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()
