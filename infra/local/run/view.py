"""The live view in a terminal, drawn by rich."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from infra.local.run.progress import FeedLine, Picture, Queue

NOTES_SHOWN = 6
BAR_WIDTH = 20


class LiveView:
    """Draws pictures over each other; leaves the last one standing."""

    def __init__(self, console: Console) -> None:
        self._live = Live(Text("starting"), console=console, auto_refresh=False, transient=False)

    def start(self) -> None:
        """Take over the terminal's lower lines."""
        self._live.start()

    def show(self, picture: Picture) -> None:
        """Draw."""
        self._live.update(draw(picture), refresh=True)

    def stop(self) -> None:
        """Give the terminal back."""
        self._live.stop()


def draw(picture: Picture) -> RenderableType:
    """Give the whole view."""
    parts: list[RenderableType] = [_head(picture), _feeds(picture.feeds)]
    parts.append(_queues(picture.queues))
    parts.append(_api(picture))
    parts += [Text(f"  {note}", style="cyan") for note in picture.notes[-NOTES_SHOWN:]]
    return Group(*parts)


def _head(picture: Picture) -> Text:
    head = Text(f"{picture.seconds:5.1f} s  ", style="bold")
    head.append(picture.phase)
    if picture.verdict is not None:
        head.append("   truth: ", style="dim")
        behind = sum(map(len, picture.verdict.faults().values()))
        head.append("equal" if picture.verdict.matched else f"{behind:,} to go", style="green" if not behind else "")
    return head


def _feeds(feeds: Sequence[FeedLine]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column("feed")
    table.add_column("arrived", width=BAR_WIDTH)
    for name in ("of truth", "pages", "new", "changed", "duplicate", "quarantined", "working", "parked", "halted"):
        table.add_column(name, justify="right")
    for line in feeds:
        bar = ProgressBar(total=max(line.expected, 1), completed=min(line.arrived, line.expected), width=BAR_WIDTH)
        table.add_row(
            line.feed,
            bar,
            f"{line.arrived:,}/{line.expected:,}" if line.expected else f"{line.arrived:,}",
            *(f"{value:,}" for value in (line.pages, line.new, line.changed, line.duplicate)),
            _if_any(line.quarantined, "yellow"),
            f"{line.working:,}",
            _if_any(line.parked, "yellow"),
            _if_any(line.halted, "red"),
        )
    return table


def _queues(queues: Sequence[Queue]) -> Text:
    text = Text("queues  ", style="bold")
    for queue in queues:
        busy = queue.waiting + queue.locked
        if not (busy or queue.scheduled or queue.dead):
            continue
        text.append(f"{queue.name.removesuffix('-queue')} {busy:,}", style="" if busy else "dim")
        if queue.scheduled:
            text.append(f" (+{queue.scheduled:,} later)", style="dim")
        if queue.dead:
            text.append(f" dead {queue.dead:,}", style="bold red")
        text.append("   ")
    if len(text) == len("queues  "):
        text.append("all empty", style="dim")
    return text


def _api(picture: Picture) -> Text:
    text = Text("api     ", style="bold")
    text.append(f"{picture.calls:,} calls, {picture.throttled:,} throttled", style="")
    survived = ", ".join(f"{name} {count}" for name, count in sorted(picture.faults.items()))
    text.append(f"   faults survived: {survived or 'none yet'}", style="dim")
    if picture.restarts:
        again = ", ".join(f"{name} {count}" for name, count in picture.restarts.items())
        text.append(f"   started again: {again}", style="yellow")
    return text


def _if_any(count: int, style: str) -> Text:
    return Text(f"{count:,}", style=style if count else "dim")
