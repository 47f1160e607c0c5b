"""`python -m infra.local.run.query FILE.db 'SELECT …'`: look at the tables without any other tool."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

MOST_ROWS = 200
PIPED_WIDTH = 240
NAMES = "SELECT type, name FROM sqlite_master WHERE substr(name, 1, 5) IN ('data_', 'mart_') ORDER BY type, name"


def main() -> int:
    """Print what a query finds, or the tables and marts when none is given."""
    if len(sys.argv) not in (2, 3) or not Path(sys.argv[1]).is_file():
        sys.stderr.write("usage: python -m infra.local.run.query FILE.db ['SELECT …']\n")
        return 2
    names = (
        "SELECT type, name FROM sqlite_master WHERE name LIKE 'data!_%' ESCAPE '!' OR name LIKE 'mart!_%' ESCAPE '!'"
    )
    query = sys.argv[2] if len(sys.argv) == 3 else names
    connection = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
    try:
        found = connection.execute(query)
        shown = Table(*(column[0] for column in found.description or ()))
        for row in found.fetchmany(MOST_ROWS):
            shown.add_row(*(str(value) for value in row))
    except sqlite3.Error as error:
        sys.stderr.write(f"query: {error}\n")
        return 1
    finally:
        connection.close()
    Console(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
