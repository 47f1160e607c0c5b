"""
`make test-tsql`: every statement that the product would send to SQL Server, and the migrations, through Microsoft's
own parser. Exit code 0: all are good, or the parser cannot be had here (said in one line); 1: a fault, with its place;
3: no fault, but a place in the source that executes SQL was not reached.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline.storage import migrate
from tests.tsql import scenario
from tests.tsql.fetch import Missing, driver_library, openssl_folder, parser_program
from tests.tsql.parser import Fault, Parser
from tests.tsql.recorder import Recorded, Recorder
from tests.tsql.sites import ROOT, all_sites

WORKLOADS = ("unit/storage", "integration/commands", "integration/operations", "integration/subscribers")
"""Tests that use the storage layer as the product does."""

NOT_REACHED = 3
NO_TESTS = 5
"""pytest's exit code when the whole file is skipped: no ODBC library."""

DRIVER_SECONDS = 300
SEPARATOR = "\nGO\n"


def main() -> int:
    """Record, parse and report."""
    try:
        program, openssl = parser_program(), openssl_folder()
    except Missing as reason:
        print(f"skipped: {reason}")
        return 0
    recorder = Recorder(all_sites())
    with recorder.recording(), tempfile.TemporaryDirectory() as folder:
        tests = [str(ROOT / "tests" / name) for name in WORKLOADS]
        quick = ["-m", "not slow", "-p", "no:cacheprovider", "-p", "no:xdist"]
        pytest.main(["-q", "--no-header", *quick, *tests])
        scenario.run(Path(folder), recorder)
    unseen = recorder.unseen()
    for site in unseen:
        print(f"never executed, so not checked: {site}; give it a step in tests/tsql/scenario.py")
    with Parser(program, openssl) as parser:
        known = [fault.text for fault in parser.faults("SELEC 1 FROM\nGO\nSELECT a FROM b LIMIT 5\n")]
        if len(known) != 2:
            print(f"the parser does not find known faults: {known}")
            return 1
        faults = check(list(recorder.statements), parser)
        migrations = parser.faults(migrate.sql_script("mssql"))
    for one, fault in faults:
        print(f"{one.file}:{one.line}: {fault.text}\n    {one.text}")
    for fault in migrations:
        print(f"migrations, line {fault.line + 1} of the script: {fault.text}")
    print(
        f"{len(recorder.statements)} statements of {len(all_sites())} places and the migrations: "
        f"{len(faults) + len(migrations)} faults, {len(unseen)} places not reached"
    )
    if not _driver_works() or faults or migrations:
        return 1
    return NOT_REACHED if unseen else 0


def _driver_works() -> bool:
    """Run our code through Microsoft's ODBC driver against a server that speaks TDS; True if it cannot be had here."""
    try:
        driver_library()
    except Missing as reason:
        print(f"skipped: {reason}")
        return True
    tests = ["-m", "pytest", "-q", "-rs", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [sys.executable, *tests, str(ROOT / "tests" / "tsql" / "test_driver.py")],
        cwd=ROOT, timeout=DRIVER_SECONDS, check=False,
    )  # fmt: skip
    return done.returncode in (0, NO_TESTS)


def check(statements: list[Recorded], parser: Parser) -> list[tuple[Recorded, Fault]]:
    """Parse all statements as one script; give each fault with the statement it is in."""
    script, starts = "", []
    for one in statements:
        starts.append(script.count("\n"))
        script += one.text + SEPARATOR
    found = []
    for fault in parser.faults(script):
        owner = max(index for index, start in enumerate(starts) if start <= fault.line)
        found.append((statements[owner], fault))
    return found


if __name__ == "__main__":
    sys.exit(main())
