"""When the next call under a budget key may be made: a pure rule, shared by every implementation of `Budget`."""

from __future__ import annotations

SLOW_PERCENT = 75.0
"""Below this share of the allowance calls run at full speed."""

BLOCK_PERCENT = 95.0
"""From here on no call is made: calls against a full budget lengthen the API's block."""

SLOWEST_MINUTES = 1.0
"""How long a key waits after an answer that said just under `BLOCK_PERCENT`."""

BLOCK_MINUTES = 5.0
"""The least block; the API's own hint counts when it is longer."""

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
