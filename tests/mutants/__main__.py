"""`python -m tests.mutants [id ...]`: apply each patch, run its tests, say who killed it. Exit 1 if one survives."""

from __future__ import annotations

import argparse
import sys

from tests.mutants.entries import read
from tests.mutants.runner import FAILED, PASSED, Runner, selections


def main() -> int:
    """Run the mutants that were asked for, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("ids", nargs="*", help="ids of tests/mutants.toml; none means all")
    parser.add_argument("--only-broken", action="store_true", help="do not run the tests on the unbroken source")
    parser.add_argument("--verbose", action="store_true", help="print what the tests of a survivor said")
    chosen = parser.parse_args()
    entries = read()
    unknown = set(chosen.ids) - set(entries)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    mutants = [one for one in entries.values() if not chosen.ids or one.id in chosen.ids]
    bad = 0
    with Runner() as runner:
        for env, tests in [] if chosen.only_broken else selections(mutants):
            result = runner.whole(tests, env, seconds=600)
            if result.code != PASSED:
                print(f"the unbroken source fails: {result.failed}\n{result.output[-3000:]}")
                return 1
        for mutant in mutants:
            if mutant.same_as:
                print(f"{mutant.id:24} as {mutant.same_as}")
                continue
            result = runner.broken(mutant)
            word = "killed" if result.code == FAILED else f"SURVIVES (exit {result.code})"
            print(
                f"{mutant.id:24} {word:8} {result.seconds:5.1f} s  {result.failed}\n{'':41}{result.reason[:100]}",
                flush=True,
            )
            if result.code != FAILED:
                bad += 1
                if chosen.verbose:
                    print(result.output[-3000:])
    print(f"{len(mutants)} entries, {bad} survivors")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
