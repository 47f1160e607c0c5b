"""
When the next call under a budget key may be made: a pure rule, shared by every implementation of `Budget`.

A key is blocked until the time that an answer told (a hint) or, where the API tells none, implied: five minutes, and
twice the last pause each time that the key turns out to be still full. Such a pause is a guess: when it is over, one
call finds out, and the others wait for its answer. What the API never told cannot be known, so that call may meet a
block that still runs; the growing pauses keep such calls to about the logarithm of the block's length.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

SLOW_PERCENT = 75.0
"""Below this share of the allowance calls run at full speed."""

BLOCK_PERCENT = 95.0
"""From here on no call is made: calls against a full budget lengthen the API's block."""

SLOWEST_MINUTES = 1.0
"""How long a key waits after an answer that said just under `BLOCK_PERCENT`."""

BLOCK_MINUTES = 5.0
"""The least block; the API's own hint counts when it is longer."""

LONGEST_PAUSE_MINUTES = 60.0
"""How far pauses without a hint grow: the API's windows roll over an hour. An ended pause is remembered as long."""

PROBE_MINUTES = 1.0
"""How long the others wait for the one call that finds out; longer than any call takes, for it may never come back."""

LONGEST_MINUTES = 24 * 60.0
"""No hint holds a key longer: a wrong number must not stop a user for ever."""


def hold(percent: float, wait: float = 0.0, *, minute_seconds: float = 60.0) -> float:
    """
    Give the seconds for which no call should be made under a key; 0 means full speed.

    `percent` is the share of the allowance used (0..100 and above), `wait` the seconds that the API says the block
    lasts, already in real seconds; it counts in full at any share. `minute_seconds` is how long the API's minute
    lasts here.
    """
    share = (percent - SLOW_PERCENT) / (BLOCK_PERCENT - SLOW_PERCENT)
    pause = BLOCK_MINUTES if share >= 1.0 else max(0.0, share) * SLOWEST_MINUTES
    return min(max(wait, pause * minute_seconds), LONGEST_MINUTES * minute_seconds)


class Block(NamedTuple):
    """What is remembered of a key; instants and lengths in seconds, by whatever clock the store has."""

    until: float
    """No call before."""
    since: float
    """When it began."""
    pause: float
    """Its length if the API told no end, and `until` is a guess; else 0."""


FREE = Block(0.0, 0.0, 0.0)


class Said(Protocol):
    """What an answer said about a budget (`sources.base.UsageNote`)."""

    @property
    def key(self) -> str: ...
    @property
    def percent(self) -> float: ...
    @property
    def wait(self) -> float: ...


class Load(NamedTuple):
    """The worst that one answer said about one key."""

    percent: float
    wait: float


def worst(notes: Iterable[Said]) -> dict[str, Load]:
    """Join what an answer said about each key: several headers may speak of one."""
    found: dict[str, Load] = {}
    for note in notes:
        known = found.get(note.key, Load(0.0, 0.0))
        found[note.key] = Load(max(known.percent, note.percent), max(known.wait, note.wait))
    return found


def blocked(block: Block, now: float, load: Load, *, minute_seconds: float = 60.0) -> Block:
    """Give what to remember after an answer; the same block if it says nothing new. Never ends sooner than before."""
    length = hold(*load, minute_seconds=minute_seconds)
    if load.percent >= BLOCK_PERCENT and not load.wait:
        if block.pause and now < block.since + block.pause:
            return block  # an answer to a call that was under way when the block began
        remembered = block.pause and now < block.until + LONGEST_PAUSE_MINUTES * minute_seconds
        length = min(2 * block.pause, LONGEST_PAUSE_MINUTES * minute_seconds) if remembered else length
        return Block(max(block.until, now + length), now, length)
    return Block(now + length, now, 0.0) if length and now + length > block.until else block


def slowed(block: Block, now: float, load: Load, *, within: float, minute_seconds: float = 60.0) -> bool:
    """
    Tell whether an answer asks for nothing but slower calls, and the block has them wait so long already.

    "So long" is taken within `within` seconds: calls that were under way together get such answers within milliseconds,
    and each would write to the same row.
    """
    if load.percent >= BLOCK_PERCENT or load.wait:
        return False
    return block.until >= now + hold(*load, minute_seconds=minute_seconds) - within


def must_probe(block: Block, now: float, *, minute_seconds: float = 60.0) -> bool:
    """Tell whether the key's pause is over and was a guess, so that only one call may go and find out."""
    forgotten = block.until + LONGEST_PAUSE_MINUTES * minute_seconds
    return bool(block.pause) and block.until <= now < forgotten


def probing(block: Block, now: float, *, minute_seconds: float = 60.0) -> Block:
    """Give what to remember while that one call is under way."""
    return block._replace(until=now + PROBE_MINUTES * minute_seconds)


def passed(block: Block, now: float) -> Block:
    """Give what to remember after a call was answered that was no throttle: a guessed block that has ended is over."""
    return FREE if block.pause and now >= block.since + block.pause else block
