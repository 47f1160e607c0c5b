"""The checker as a process of its own. Exit code 0: all is well; 1: it is not; 3: the negative control stayed green."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.checker.judge import Verdict, control, judge, read_received, read_truth


def main(arguments: list[str] | None = None) -> int:
    """Judge each received file against the truth and print a JSON verdict for each, one a line."""
    parser = argparse.ArgumentParser(prog="python -m tests.checker", description=__doc__)
    parser.add_argument("--truth", type=Path, required=True, help="the answer of GET /__sim/truth")
    parser.add_argument("--received", type=Path, required=True, nargs="+", help="JSON lines of messages")
    parser.add_argument("--deletions", action="store_true", help="deleted items must have been published as deleted")
    parser.add_argument("--seed", type=int, default=0, help="which row the negative control drops")
    chosen = parser.parse_args(arguments)
    truth = read_truth(json.loads(chosen.truth.read_text()))
    code = 0
    for path in chosen.received:
        verdict = Verdict()
        with path.open() as lines:
            arrivals = read_received(lines, verdict)
        judge(truth, arrivals, verdict, deletions=chosen.deletions)
        red = control(truth, arrivals, chosen.seed, deletions=chosen.deletions)
        print(json.dumps({"file": path.name, **verdict.as_json(), "control": "red" if red else "green"}))
        if not verdict.valid:
            code = 1
        elif not red:
            code = 3
    return code


if __name__ == "__main__":
    sys.exit(main())
