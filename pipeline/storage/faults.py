"""
Which database errors pass by themselves. Classified by the native number, never by exception class: the SQL Server
driver reports throttling as `ProgrammingError` and a failover at login as a plain `Error`.
"""

from __future__ import annotations

import re
import sqlite3

from sqlalchemy import exc

TRANSIENT_NUMBERS = frozenset(
    {1205, 1222, 3960, 2601, 2627, 4060, 40197, 40501, 40540, 40613, 49918, 49919, 49920, 4221, 615, 926}
    | {10928, 10929, 10936, 10053, 10054, 10060, 233, 64, 121, 20, 8645, 8651, 701, 42108, 42109}
)
"""SQL Server errors that a fresh try of the whole unit may not meet again. 2601 and 2627 are lost insert races."""

_SQLSTATES = ("08S01", "08001", "08007", "HYT00", "HYT01", "40001")
_SQLITE_TRANSIENT = ("locked", "busy", "disk i/o error")
_NUMBER = re.compile(r"\((-?\d+)\) \(SQL")


def is_transient(error: BaseException) -> bool:
    """Tell whether running the whole unit of work again may succeed."""
    if isinstance(error, exc.TimeoutError):  # the pool had no connection in time
        return True
    if not isinstance(error, exc.DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    original = error.orig
    if isinstance(original, sqlite3.Error):
        text = str(original).lower()
        return isinstance(original, sqlite3.OperationalError) and any(word in text for word in _SQLITE_TRANSIENT)
    arguments = [str(part) for part in getattr(original, "args", ())]
    if arguments and arguments[0] in _SQLSTATES:
        return True
    return any(number in TRANSIENT_NUMBERS for number in native_numbers(" ".join(arguments)))


def native_numbers(text: str) -> list[int]:
    """Read SQL Server's own error numbers out of an ODBC message, e.g. `… (40501) (SQLExecDirectW)`."""
    return [int(number) for number in _NUMBER.findall(text)]
