"""Where the product executes SQL: every call in its source that hands a statement to a connection."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_METHODS = {"execute", "exec_driver_sql"}

SQLITE_ONLY = {
    ("pipeline/storage/analytics.py", "self.sqlite_statement"): "rows one by one, where SQL Server takes one JSON text",
    ("pipeline/storage/analytics.py", "_SQLITE_VIEW"): "SQL Server has CREATE OR ALTER VIEW",
    ("pipeline/storage/analytics.py", "f'DROP VIEW IF EXISTS {mart.view}'"): "SQL Server has CREATE OR ALTER VIEW",
    ("pipeline/storage/analytics.py", "f'CREATE VIEW {body}'"): "SQL Server has CREATE OR ALTER VIEW",
    ("pipeline/storage/database.py", "f'PRAGMA {pragma}'"): "settings of SQLite's own",
    (
        "pipeline/storage/database.py",
        "'BEGIN' if reading else 'BEGIN IMMEDIATE'",
    ): "SQL Server's driver begins by itself",
    ("pipeline/storage/items.py", "_inserted_statement()"): "SQL Server's insert returns what it inserted",
    ("pipeline/storage/dialect.py", "text"): "a Prepared statement; its callers are the sites",
}
"""What SQL Server never gets, by file and first argument, each with the reason."""


class Site(NamedTuple):
    """A call that executes a statement."""

    file: str
    first: int
    last: int
    statement: str

    def covers(self, file: str, line: int) -> bool:
        """Whether a line of a file belongs to this call."""
        return file == self.file and self.first <= line <= self.last

    def __str__(self) -> str:
        return f"{self.file}:{self.first} ({self.statement[:60]})"


def all_sites() -> list[Site]:
    """Give every place of the product that executes a statement on SQL Server."""
    found = [site for path in sorted((ROOT / "pipeline").rglob("*.py")) for site in _sites(path)]
    return [site for site in found if (site.file, site.statement) not in SQLITE_ONLY]


def _sites(path: Path) -> list[Site]:
    name = path.relative_to(ROOT).as_posix()
    if "/migrations/" in name:  # checked as one script
        return []
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [
        Site(name, call.lineno, call.end_lineno or call.lineno, statement)
        for call in calls
        if (statement := _statement(call))
    ]


def _statement(call: ast.Call) -> str:
    """Tell what a call executes, empty if it executes nothing."""
    if not call.args:
        return ""
    if isinstance(call.func, ast.Attribute):
        return ast.unparse(call.args[0]) if call.func.attr in _METHODS else ""
    given = call.args[0]
    prepared = isinstance(call.func, ast.Call) or (isinstance(call.func, ast.Name) and call.func.id.isupper())
    return ast.unparse(call.func) if prepared and isinstance(given, ast.Name) and given.id == "connection" else ""
