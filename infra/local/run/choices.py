"""What the command line decides."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER, UP_FOLDER = Path(".local/run"), Path(".local/up")
USERS, POSTS, ADS, TRANSACTIONS = 50, 40, 4, 40
"""So small that all feeds of all users are done within two minutes on two slow cores; ask for more with options."""

SPREAD_DAYS = 60
SECONDS = 115.0


@dataclass(frozen=True, kw_only=True)
class Choices:
    """One run."""

    up: bool = False
    world: Path | None = None
    users: int = USERS
    posts: int = POSTS
    seed: int = 7
    seconds: float = SECONDS
    faults: bool = True
    plain: bool = False
    folder: Path = FOLDER
    workers: int = 2


def parse(argv: Sequence[str]) -> Choices:
    """Read the command line, or exit naming what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.local.run",
        description="Start the local stack, mine a seeded world with faults, and compare what arrived with the truth.",
    )
    add = parser.add_argument
    add("--up", action="store_true", help="keep everything running on real schedules until Ctrl-C")
    add("--world", type=_file, metavar="FILE.jsonl", help="serve this world instead of a seeded one")
    add("--users", type=_whole(1), default=USERS, help="users of the seeded world (default: %(default)s)")
    add("--posts", type=_whole(1), default=POSTS, help="posts of each user (default: %(default)s)")
    add("--seed", type=_whole(0), default=7, help="the seed of the world and its faults (default: %(default)s)")
    add("--seconds", type=float, default=SECONDS, help="when to give up (default: %(default)s)")
    add("--no-faults", dest="faults", action="store_false", help="an API that behaves")
    add("--plain", action="store_true", help="lines instead of the live view, as without a terminal")
    add("--folder", type=Path, help=f"where state and logs go; emptied first (default: {FOLDER}, {UP_FOLDER})")
    add("--workers", type=_whole(1), default=2, help="worker processes of the functions host (default: %(default)s)")
    given = parser.parse_args(argv)
    if given.folder is None:
        given.folder = UP_FOLDER if given.up else FOLDER
    return Choices(**vars(given))


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text!r}")
    return path.resolve()


def _whole(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} on; got {text!r}")
        return int(text)

    return read
