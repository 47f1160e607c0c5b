"""Command-line values that say what is wrong with them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from datetime import UTC, datetime

from infra.local.graph.clock import instant

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800, "y": 365 * 86_400}


def whole(least: int, most: int = 10**9) -> Callable[[str], int]:
    """Make a reader of whole numbers within bounds."""

    def read(text: str) -> int:
        if not re.fullmatch(r"-?\d{1,12}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}; got {text!r}")
        return int(text)

    return read


def duration(text: str) -> int:
    """Read a length of time such as 90s, 15m, 12h, 365d or 2y; gives seconds."""
    match = re.fullmatch(r"(\d{1,9})([smhdwy])", text)
    if not match or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"must be a length of time such as 90s, 15m, 12h or 365d; got {text!r}")
    return int(match[1]) * UNITS[match[2]]


def scale(text: str) -> float:
    """Read a factor from 1 on."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 1_000_000:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 1000000; got {text!r}")
    return value


def moment(text: str) -> datetime:
    """Read an ISO instant (UTC unless it says otherwise) or unix seconds."""
    seconds = instant(text)
    if seconds is None or not 0 <= seconds < 253_402_300_800:
        raise argparse.ArgumentTypeError(f"must be an ISO instant such as 2026-01-31T12:00:00Z; got {text!r}")
    return datetime.fromtimestamp(seconds, UTC)
