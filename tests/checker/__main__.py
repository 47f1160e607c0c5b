"""The checker as a process of its own. Exit code 0: all is well; 1: it is not; 3: the negative control stayed green."""

from __future__ import annotations

import argparse
import json
import sys
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.checker.judge import Hashes, Verdict, control, hashes, judge, read_received, read_truth

TIMEOUT_SECONDS = 30
LOOK = "look"


def main(arguments: list[str] | None = None, commands: Iterable[str] = sys.stdin) -> int:
    """Judge each received file against the truth and print a JSON verdict for each, one a line."""
    parser = argparse.ArgumentParser(prog="python -m tests.checker", description=__doc__)
    parser.add_argument("--truth", required=True, help="GET /__sim/truth: its URL, or a file with its answer")
    parser.add_argument("--received", type=Path, default=[], nargs="*", help="JSON lines of messages")
    parser.add_argument(
        "--follow",
        action="store_true",
        help=f"take orders from standard input, one a line: {LOOK}, to note what is true now, or a received file",
    )
    parser.add_argument("--deletions", action="store_true", help="deleted items must have been published as deleted")
    parser.add_argument("--seed", type=int, default=0, help="which row the negative control drops")
    chosen = parser.parse_args(arguments)
    if chosen.follow == bool(chosen.received):
        parser.error("give either --received or --follow")
    code = 0
    if not chosen.follow:
        answer = tell(chosen.truth)
        for path in chosen.received:
            code = check(answer, path, chosen) or code
        return code
    seen: list[Hashes] = []
    for line in commands:
        answer = tell(chosen.truth)  # of this very moment
        if line.strip() == LOOK:
            seen.append(hashes(answer))
            print(json.dumps({"looked": len(answer["rows"])}), flush=True)
        else:
            code = check(answer, Path(line.strip()), chosen, seen) or code
            seen.clear()
    return code


def tell(where: str) -> dict[str, Any]:
    """Ask the simulator for the truth, or read what it said."""
    if where.startswith("http://"):
        with urllib.request.urlopen(where, timeout=TIMEOUT_SECONDS) as answer:
            text = answer.read()
    else:
        text = Path(where).read_bytes()
    found: dict[str, Any] = json.loads(text)
    return found


def check(answer: dict[str, Any], path: Path, chosen: argparse.Namespace, seen: Iterable[Hashes] = ()) -> int:
    """Print the verdict on one received file; gives the exit code for it. `seen` is what was true before."""
    truth = read_truth(answer, seen)
    verdict = Verdict()
    with path.open() as lines:
        arrivals = read_received(lines, verdict)
    judge(truth, arrivals, verdict, deletions=chosen.deletions)
    red = control(truth, arrivals, chosen.seed, deletions=chosen.deletions)
    print(json.dumps({"file": path.name, **verdict.as_json(), "control": "red" if red else "green"}), flush=True)
    if not verdict.valid:
        return 1
    return 0 if red else 3


if __name__ == "__main__":
    sys.exit(main())
